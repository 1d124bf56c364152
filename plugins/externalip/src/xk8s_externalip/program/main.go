// kube-loadbalancer gives Services of type LoadBalancer addresses of a pool.
//
// It has no state of its own: what each Service is to have is computed from all Services each
// time one changes, and whatever differs is written to its status, which kube-proxy serves.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
)

const program = "kube-loadbalancer"

func main() {
	log.SetFlags(0) // the journal has the time
	pool := Pool{Prefixes: map[Family]netip.Prefix{}, OnRequest: map[netip.Addr]bool{}}
	flag.Func("pool", "prefix that addresses are taken of; once per family", pool.add)
	flag.Func("reserved", "prefix whose addresses are never given; many times", pool.reserve)
	flag.Func("on-request", "address for those alone who ask for it; many times", pool.onRequest)
	server := flag.String("server", "https://127.0.0.1:6443", "URL of the API server")
	ca := flag.String("ca", "", "file with the authority's certificate")
	certificate := flag.String("cert", "", "file with the client's certificate")
	key := flag.String("key", "", "file with its key")
	dryRun := flag.Bool("dry-run", false, "ask no server: read lists of Services (as JSON, one\n"+
		"after the other) from standard input and print what each Service would get")
	flag.Parse()
	if flag.NArg() > 0 || len(pool.Prefixes) == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if *dryRun {
		if err := preview(os.Stdin, os.Stdout, &pool); err != nil {
			log.Fatal(err)
		}
		return
	}
	connect := func() (*API, error) { return NewAPI(*server, *ca, *certificate, *key) }
	if _, err := connect(); err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	newController(connect, &pool).Run(ctx)
}

// preview prints, for each list, one JSON object: key of the Service -> addresses and problem.
func preview(in io.Reader, out io.Writer, pool *Pool) error {
	type outcome struct {
		Addresses []string `json:"addresses"`
		Problem   string   `json:"problem"`
	}
	lists, lines := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var list ServiceList
		if err := lists.Decode(&list); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		found := map[string]outcome{}
		for _, decision := range Decide(list.Items, pool) {
			one := outcome{Addresses: []string{}, Problem: decision.Problem}
			for _, address := range decision.Addresses {
				one.Addresses = append(one.Addresses, address.String())
			}
			found[decision.Service.Key()] = one
		}
		if err := lines.Encode(found); err != nil {
			return err
		}
	}
}

func (p *Pool) add(text string) error {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return err
	}
	family := familyOf(prefix.Addr())
	if _, twice := p.Prefixes[family]; twice {
		return fmt.Errorf("a second pool of %s addresses", family)
	}
	p.Prefixes[family] = prefix.Masked()
	return nil
}

func (p *Pool) reserve(text string) error {
	prefix, err := netip.ParsePrefix(text)
	p.Reserved = append(p.Reserved, prefix.Masked())
	return err
}

func (p *Pool) onRequest(text string) error {
	address, err := netip.ParseAddr(text)
	p.OnRequest[address] = true
	return err
}
