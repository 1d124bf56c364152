package main

import "net/netip"

// Pool is what can be given.
type Pool struct {
	// Prefixes has at most one per family.
	Prefixes map[Family]netip.Prefix
	// Reserved are parts of the prefixes that belong to somebody: nodes' networks, say.
	Reserved []netip.Prefix
	// OnRequest are given to those who ask for them only.
	OnRequest map[netip.Addr]bool
}

// Has says whether the address is inside of the pool, reserved or not.
func (p *Pool) Has(address netip.Addr) bool {
	prefix, ok := p.Prefixes[familyOf(address)]
	return ok && prefix.Contains(address)
}

// Refusal says why an address can be given to nobody; empty when it can.
func (p *Pool) Refusal(address netip.Addr) string {
	prefix, ok := p.Prefixes[familyOf(address)]
	if !ok {
		return noPool(familyOf(address))
	}
	if !prefix.Contains(address) {
		return address.String() + " is not in the pool " + prefix.String()
	}
	// A prefix of one or two addresses has neither a network's nor a broadcast address.
	if prefix.Addr().BitLen()-prefix.Bits() > 1 {
		if address == prefix.Addr() || address.Is4() && address == last(prefix) {
			return address.String() + " is no host's address in " + prefix.String()
		}
	}
	for _, reserved := range p.Reserved {
		if reserved.Contains(address) {
			return address.String() + " belongs to the network " + reserved.String()
		}
	}
	return ""
}

// Free is the lowest address of the family that is neither taken nor on request only.
func (p *Pool) Free(family Family, taken map[netip.Addr]string) (netip.Addr, string) {
	prefix, ok := p.Prefixes[family]
	if !ok {
		return netip.Addr{}, noPool(family)
	}
	for address := prefix.Addr(); prefix.Contains(address); address = p.next(address) {
		if _, used := taken[address]; !used && !p.OnRequest[address] && p.Refusal(address) == "" {
			return address, ""
		}
	}
	return netip.Addr{}, "no address is free in the pool " + prefix.String()
}

// next steps over whole reserved networks: some have more addresses than could be tried.
func (p *Pool) next(address netip.Addr) netip.Addr {
	for _, reserved := range p.Reserved {
		if reserved.Contains(address) {
			return last(reserved).Next()
		}
	}
	return address.Next()
}

func noPool(family Family) string { return "there is no pool of " + string(family) + " addresses" }

// last is the highest address of a prefix.
func last(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Addr().AsSlice()
	for i := range bytes {
		if host := prefix.Bits() - 8*i; host <= 0 {
			bytes[i] = 0xff
		} else if host < 8 {
			bytes[i] |= 0xff >> host
		}
	}
	address, _ := netip.AddrFromSlice(bytes)
	return address
}
