package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	// settle is how long changes are collected before they are acted on.
	settle  = 50 * time.Millisecond
	minWait = time.Second
	maxWait = 15 * time.Second
)

type controller struct {
	// connect reads the keys anew: they may have been changed.
	connect func() (*API, error)
	api     *API
	pool    *Pool
	// services is the cluster as it was last seen, by UID.
	services map[string]Service
	// told is the problem that was last said of a Service, by UID.
	told   map[string]string
	status string
}

func newController(connect func() (*API, error), pool *Pool) *controller {
	return &controller{connect: connect, pool: pool, told: map[string]string{}}
}

// Run works until the context is done; whatever goes wrong, it begins anew with a list.
func (c *controller) Run(ctx context.Context) {
	wait, said := minWait, ""
	for {
		began := time.Now()
		err := c.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil || time.Since(began) > 2*maxWait {
			wait, said = minWait, ""
		}
		if err == nil {
			continue
		}
		if text := err.Error(); text != said {
			log.Printf("will be tried again: %s", text)
			said = text
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, maxWait)
	}
}

// follow lists, then watches until the server ends it.
func (c *controller) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	api, err := c.connect()
	if err != nil {
		return err
	}
	defer api.Close()
	c.api = api
	list, err := api.List(ctx)
	if err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	c.services = map[string]Service{}
	for _, service := range list.Items {
		c.services[service.Metadata.UID] = service
	}
	if err := c.reconcile(ctx); err != nil {
		return err
	}
	notify("READY=1")
	changes, ended := make(chan Change), make(chan error, 1)
	go func() { ended <- api.Watch(ctx, list.Metadata.ResourceVersion, changes) }()
	var due <-chan time.Time
	for {
		select {
		case change := <-changes:
			if c.note(change) && due == nil {
				due = time.After(settle)
			}
		case <-due:
			due = nil
			if err := c.reconcile(ctx); err != nil {
				return err
			}
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("watching Services: %w", err)
			}
			return nil
		}
	}
}

// note remembers a change; false for one that cannot matter. One that is older than what our own
// patch brought back would make a given address look free.
func (c *controller) note(change Change) bool {
	uid := change.Service.Metadata.UID
	before := c.services[uid]
	if change.Service.version() < before.version() {
		return false
	}
	if change.Type == "DELETED" {
		delete(c.services, uid)
		delete(c.told, uid)
	} else {
		c.services[uid] = change.Service
	}
	for _, service := range []*Service{&before, &change.Service} {
		if service.Spec.Type == "LoadBalancer" || len(service.Spec.ExternalIPs) > 0 {
			return true
		}
	}
	return false
}

// reconcile writes what is to change. One Service's error keeps no other one from its address.
func (c *controller) reconcile(ctx context.Context) error {
	decisions := Decide(slices.Collect(maps.Values(c.services)), c.pool)
	var failed []error
	missing := 0
	for _, decision := range decisions {
		if err := c.carryOut(ctx, decision); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", decision.Service.Key(), err))
		}
		if decision.Problem != "" {
			missing++
		}
	}
	status := fmt.Sprintf("%d Services, %d of them lack an address", len(decisions), missing)
	if status != c.status {
		c.status = status
		notify("STATUS=" + status)
	}
	return errors.Join(failed...)
}

func (c *controller) carryOut(ctx context.Context, decision *Decision) error {
	service := decision.Service
	uid := service.Metadata.UID
	if same := slices.EqualFunc(service.Status.LoadBalancer.Ingress, decision.Ingress(),
		func(a, b Ingress) bool { return a.IP == b.IP }); !same {
		now, err := c.api.Give(ctx, decision)
		var refused *StatusError
		if errors.As(err, &refused) &&
			(refused.Code == http.StatusNotFound || refused.Code == http.StatusConflict) {
			return nil // gone or changed: the watch tells
		}
		if err != nil {
			return err
		}
		c.services[uid] = now
		c.tell(ctx, service, "Normal", "AddressAssigned", "addresses: "+texts(decision))
	}
	if decision.Problem != c.told[uid] {
		c.told[uid] = decision.Problem
		if decision.Problem != "" {
			c.tell(ctx, service, "Warning", "NoAddress", decision.Problem)
		}
	}
	return nil
}

// tell says it to the journal and to the cluster; an Event that is not made stops nothing.
func (c *controller) tell(ctx context.Context, service *Service, kind, reason, message string) {
	log.Printf("%s: %s", service.Key(), message)
	if err := c.api.Tell(ctx, service, kind, reason, message); err != nil {
		log.Printf("%s: the Event was not made: %s", service.Key(), err)
	}
}

func texts(decision *Decision) string {
	words := []string{}
	for _, address := range decision.Addresses {
		words = append(words, address.String())
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// notify speaks to systemd, if that started us.
func notify(text string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	socket, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		log.Printf("systemd: %s", err)
		return
	}
	defer socket.Close()
	if _, err := socket.Write([]byte(text)); err != nil {
		log.Printf("systemd: %s", err)
	}
}
