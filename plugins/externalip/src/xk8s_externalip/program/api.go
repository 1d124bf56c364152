package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

// The watch ends and the list is made anew after this time, whatever may have been missed.
const resync = 10 * time.Minute

// API is the little of a Kubernetes client that is needed: client-go would be most of the
// program's memory.
type API struct {
	Server string
	http   *http.Client
}

// StatusError is an answer that is none of success.
type StatusError struct {
	Code    int
	Message string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%d %s", e.Code, e.Message) }

// NewAPI reads the files.
func NewAPI(server, ca, certificate, key string) (*API, error) {
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if text, err := os.ReadFile(ca); err != nil {
		return nil, err
	} else if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in it", ca)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	config.Certificates = []tls.Certificate{pair}
	transport := &http.Transport{
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		IdleConnTimeout:       10 * time.Second,
		// HTTP/1 alone: the other needs memory, and there are two requests at a time.
		Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true)
	return &API{Server: server, http: &http.Client{Transport: transport}}, nil
}

// Close lets go of connections that are not in use.
func (a *API) Close() { a.http.CloseIdleConnections() }

// List is all Services of the cluster.
func (a *API) List(ctx context.Context) (list ServiceList, err error) {
	err = a.do(ctx, http.MethodGet, "/api/v1/services", nil, &list)
	return list, err
}

// Change is one event of a watch.
type Change struct {
	Type    string
	Service Service
}

// Watch sends what changes after the version, and returns when the server ends it: nil when
// that was time. It does not close the channel.
func (a *API) Watch(ctx context.Context, version string, changes chan<- Change) error {
	query := url.Values{
		"watch":           {"1"},
		"resourceVersion": {version},
		"timeoutSeconds":  {fmt.Sprint(int(resync.Seconds()))},
	}
	// Should the server fall silent without closing the connection.
	ctx, cancel := context.WithTimeout(ctx, resync+time.Minute)
	defer cancel()
	answer, err := a.request(ctx, http.MethodGet, "/api/v1/services?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	events := json.NewDecoder(answer.Body)
	for {
		var event struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := events.Decode(&event); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if event.Type == "ERROR" {
			return statusError(0, event.Object)
		}
		change := Change{Type: event.Type}
		if err := json.Unmarshal(event.Object, &change.Service); err != nil {
			return err
		}
		select {
		case changes <- change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Give sets the Service's addresses, if it is still as it was seen: else a 409, and the watch
// will tell the change. The answer is the Service as it is then.
func (a *API) Give(ctx context.Context, decision *Decision) (now Service, err error) {
	meta := &decision.Service.Metadata
	patch := map[string]any{
		"metadata": map[string]string{"uid": meta.UID, "resourceVersion": meta.ResourceVersion},
		"status":   map[string]any{"loadBalancer": map[string]any{"ingress": decision.Ingress()}},
	}
	path := fmt.Sprintf("/api/v1/namespaces/%s/services/%s/status", meta.Namespace, meta.Name)
	err = a.do(ctx, http.MethodPatch, path, patch, &now)
	return now, err
}

// Tell makes an Event, which `kubectl describe` shows.
func (a *API) Tell(ctx context.Context, service *Service, kind, reason, message string) error {
	meta := &service.Metadata
	now := time.Now().UTC().Format(time.RFC3339)
	event := map[string]any{
		"metadata": map[string]string{"generateName": "load-balancer-", "namespace": meta.Namespace},
		"involvedObject": map[string]string{
			"apiVersion": "v1", "kind": "Service", "name": meta.Name,
			"namespace": meta.Namespace, "uid": meta.UID,
		},
		"type": kind, "reason": reason, "message": message,
		"source":         map[string]string{"component": program},
		"firstTimestamp": now, "lastTimestamp": now, "count": 1,
	}
	return a.do(ctx, http.MethodPost, "/api/v1/namespaces/"+meta.Namespace+"/events", event, nil)
}

// do is for all but a watch: an answer that is whole.
func (a *API) do(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	answer, err := a.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

func (a *API) request(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, a.Server+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", program)
	if method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	} else if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := a.http.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 300 {
		defer answer.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
		return nil, statusError(answer.StatusCode, text)
	}
	return answer, nil
}

// statusError makes an error of a metav1.Status, or of whatever it is.
func statusError(code int, text []byte) error {
	var status struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(text, &status) != nil || status.Message == "" {
		return &StatusError{Code: code, Message: string(text)}
	}
	if code == 0 {
		code = status.Code
	}
	return &StatusError{Code: code, Message: status.Message}
}
