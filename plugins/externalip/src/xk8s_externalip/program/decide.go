package main

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Decision is what one Service of ours is to have.
type Decision struct {
	Service *Service
	// Addresses are in the order of the Service's families; none is a decision too.
	Addresses []netip.Addr
	// Problem says why an address is missing; empty when none is.
	Problem string
}

// Ingress is the status that says so.
func (d *Decision) Ingress() []Ingress {
	ingress := []Ingress{}
	for _, address := range d.Addresses {
		ingress = append(ingress, Ingress{IP: address.String(), IPMode: "VIP"})
	}
	return ingress
}

// slot is the place for one family's address of one Service.
type slot struct {
	decision *Decision
	family   Family
	address  netip.Addr
	asked    netip.Addr
}

// Decide is all there is of state and policy: from the Services as they are to the addresses
// that they should have. What a Service has it keeps, as long as it may have it: older Services
// go first. externalIPs come before all else, since nobody can be kept from setting them.
func Decide(services []Service, pool *Pool) []*Decision {
	all := make([]*Service, len(services))
	for i := range services {
		all[i] = &services[i]
	}
	slices.SortFunc(all, func(a, b *Service) int {
		return cmp.Or(
			strings.Compare(a.Metadata.CreationTimestamp, b.Metadata.CreationTimestamp),
			strings.Compare(a.Key(), b.Key()),
		)
	})
	used := usage{taken: map[netip.Addr]string{}, external: map[netip.Addr][]string{}}
	var decisions []*Decision
	var slots []*slot
	for _, service := range all {
		for _, text := range service.Spec.ExternalIPs {
			if address, ok := parse(text); ok {
				used.external[address] = append(used.external[address], service.Key())
			}
		}
		if !service.Ours() || foreign(service, pool) {
			for _, entry := range service.Status.LoadBalancer.Ingress {
				if address, ok := parse(entry.IP); ok {
					used.taken[address] = service.Key()
				}
			}
			continue
		}
		decision := &Decision{Service: service}
		decisions = append(decisions, decision)
		asked, problem := service.Requests()
		if decision.Problem = problem; problem != "" {
			continue
		}
		for _, family := range service.Spec.IPFamilies {
			slots = append(slots, &slot{decision: decision, family: family, asked: asked[family]})
		}
	}
	for _, s := range slots {
		s.keep(pool, &used)
	}
	for _, s := range slots {
		s.fulfil(pool, &used)
	}
	for _, s := range slots {
		s.fill(pool, &used)
	}
	for _, s := range slots {
		if s.address.IsValid() {
			s.decision.Addresses = append(s.decision.Addresses, s.address)
		}
	}
	return decisions
}

// foreign says whether somebody else gave the Service its status: a name, or an address that
// is not of the pool. Two that correct each other would never end.
func foreign(service *Service, pool *Pool) bool {
	return slices.ContainsFunc(service.Status.LoadBalancer.Ingress, func(entry Ingress) bool {
		address, ok := parse(entry.IP)
		return !ok || !pool.Has(address)
	})
}

// usage is who has which address.
type usage struct {
	taken    map[netip.Addr]string
	external map[netip.Addr][]string
}

// by says who has the address, other than the Service itself; empty when nobody has.
func (u *usage) by(address netip.Addr, key string) string {
	// First what does not depend on decisions: else the answer changes (and is another event) when
	// the Service with that externalIP gets it as its own.
	for _, owner := range u.external[address] {
		if owner != key {
			return owner + " (externalIPs)"
		}
	}
	return u.taken[address]
}

// keep lets the Service have what it has.
func (s *slot) keep(pool *Pool, used *usage) {
	key := s.decision.Service.Key()
	for _, entry := range s.decision.Service.Status.LoadBalancer.Ingress {
		address, ok := parse(entry.IP)
		if !ok || familyOf(address) != s.family || s.asked.IsValid() && s.asked != address {
			continue
		}
		if pool.Refusal(address) == "" && used.by(address, key) == "" {
			s.take(address, used)
			return
		}
	}
}

// fulfil gives the Service what it asks for.
func (s *slot) fulfil(pool *Pool, used *usage) {
	if s.address.IsValid() || !s.asked.IsValid() {
		return
	}
	if refusal := pool.Refusal(s.asked); refusal != "" {
		s.fail(refusal)
	} else if owner := used.by(s.asked, s.decision.Service.Key()); owner != "" {
		s.fail(s.asked.String() + " is an address of " + owner)
	} else {
		s.take(s.asked, used)
	}
}

// fill gives the Service any address.
func (s *slot) fill(pool *Pool, used *usage) {
	if s.address.IsValid() || s.asked.IsValid() {
		return
	}
	// Not even the Service's own externalIPs: it has those already.
	taken := map[netip.Addr]string{}
	for address := range used.external {
		taken[address] = "externalIPs"
	}
	for address, owner := range used.taken {
		taken[address] = owner
	}
	if address, problem := pool.Free(s.family, taken); problem != "" {
		s.fail(problem)
	} else {
		s.take(address, used)
	}
}

func (s *slot) take(address netip.Addr, used *usage) {
	s.address = address
	used.taken[address] = s.decision.Service.Key()
}

func (s *slot) fail(problem string) {
	if s.decision.Problem != "" {
		problem = s.decision.Problem + "; " + problem
	}
	s.decision.Problem = problem
}
