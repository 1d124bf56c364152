package main

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	// Class is what spec.loadBalancerClass may say besides nothing.
	Class = "xk8s.local/externalip"
	// Asked is the annotation with the addresses that a Service wants, one per family.
	Asked = "xk8s.local/load-balancer-ips"
)

// Service is the part of a Kubernetes Service that matters here.
type Service struct {
	Metadata struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace"`
		UID               string            `json:"uid"`
		ResourceVersion   string            `json:"resourceVersion"`
		CreationTimestamp string            `json:"creationTimestamp"`
		Annotations       map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Type              string   `json:"type"`
		IPFamilies        []Family `json:"ipFamilies"`
		ExternalIPs       []string `json:"externalIPs"`
		LoadBalancerIP    string   `json:"loadBalancerIP"`
		LoadBalancerClass string   `json:"loadBalancerClass"`
	} `json:"spec"`
	Status struct {
		LoadBalancer struct {
			Ingress []Ingress `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
}

// Ingress is one entry of status.loadBalancer.ingress.
type Ingress struct {
	IP       string `json:"ip,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	IPMode   string `json:"ipMode,omitempty"`
}

// ServiceList is what the API server answers with.
type ServiceList struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Items []Service `json:"items"`
}

// Family is IPv4 or IPv6, as in spec.ipFamilies.
type Family string

func familyOf(address netip.Addr) Family {
	if address.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// Key is namespace/name.
func (s *Service) Key() string { return s.Metadata.Namespace + "/" + s.Metadata.Name }

// version grows with each change of the Service; 0 for none.
func (s *Service) version() uint64 {
	version, _ := strconv.ParseUint(s.Metadata.ResourceVersion, 10, 64)
	return version
}

// Ours says whether the Service gets its addresses here.
func (s *Service) Ours() bool {
	class := s.Spec.LoadBalancerClass
	return s.Spec.Type == "LoadBalancer" && (class == "" || class == Class)
}

// Requests are the addresses that the Service asks for, by family; problem says why they
// cannot be understood.
func (s *Service) Requests() (asked map[Family]netip.Addr, problem string) {
	text := s.Metadata.Annotations[Asked]
	if strings.TrimSpace(text) == "" {
		text = s.Spec.LoadBalancerIP
	}
	asked = map[Family]netip.Addr{}
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		address, ok := parse(word)
		if !ok {
			return nil, quote(word) + " is no IP address"
		}
		family := familyOf(address)
		if _, twice := asked[family]; twice {
			return nil, "two " + string(family) + " addresses are asked for: " + text
		}
		if !slices.Contains(s.Spec.IPFamilies, family) {
			return nil, address.String() + " is asked for, but the Service has no " + string(family)
		}
		asked[family] = address
	}
	return asked, ""
}

// parse takes what Kubernetes takes: leading zeros of IPv4 and IPv4 written as IPv6 too.
func parse(text string) (netip.Addr, bool) {
	parts := strings.Split(text, ".")
	for i, part := range parts {
		if trimmed := strings.TrimLeft(part, "0"); trimmed != part && len(parts) == 4 {
			parts[i] = trimmed
			if trimmed == "" {
				parts[i] = "0"
			}
		}
	}
	address, err := netip.ParseAddr(strings.Join(parts, "."))
	return address.Unmap(), err == nil && address.Zone() == ""
}

func quote(text string) string { return "\"" + text + "\"" }
