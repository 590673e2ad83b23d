package compile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// anyHost is the domain that takes every host.
const anyHost = "*"

// binding is one place at which a service is served: a path under a domain.
type binding struct {
	served
	rank int    // how specifically the service's host takes the domain
	path string // whole-segment prefix, without a final slash unless "/"
}

// virtualHosts makes one virtual host for each domain that some service names,
// and "*" in any case. Domains that serve the same share one.
func virtualHosts(services []served, probes []string) ([]ir.VirtualHost, error) {
	domains := []string{anyHost}
	for _, s := range services {
		for _, h := range s.service.Spec.Hosts {
			domains = append(domains, strings.ToLower(h))
		}
	}
	slices.Sort(domains)
	domains = slices.Compact(domains)

	var hosts []ir.VirtualHost
	same := map[string]int{} // bindings → index in hosts
	for _, domain := range domains {
		bindings := bindingsOf(services, domain)
		key := bindingsKey(bindings)
		if i, ok := same[key]; ok && domain != anyHost && !slices.Contains(hosts[i].Domains, anyHost) {
			hosts[i].Domains = append(hosts[i].Domains, domain)
			continue
		}
		routes, err := routesOf(bindings)
		if err != nil {
			return nil, err
		}
		routes = append(probeRoutes(probes), routes...)
		same[key] = len(hosts)
		hosts = append(hosts, ir.VirtualHost{Name: domain, Domains: []string{domain}, Routes: routes})
	}
	return hosts, nil
}

// bindingsOf lists what is served under domain, first match first: the most
// specific host, then the longest path.
func bindingsOf(services []served, domain string) []binding {
	var list []binding
	for _, s := range services {
		best := -1
		for _, h := range s.service.Spec.Hosts {
			best = max(best, ir.DomainRank(strings.ToLower(h), domain))
		}
		if best < 0 {
			continue
		}
		paths := s.service.Spec.Paths
		if len(paths) == 0 {
			paths = []string{"/"}
		}
		for _, p := range paths {
			list = append(list, binding{served: s, rank: best, path: cleanPrefix(p)})
		}
	}
	slices.SortFunc(list, func(a, b binding) int {
		return cmp.Or(
			cmp.Compare(b.rank, a.rank),
			cmp.Compare(len(b.path), len(a.path)),
			strings.Compare(a.path, b.path),
			strings.Compare(a.name(), b.name()))
	})
	return slices.CompactFunc(list, func(a, b binding) bool { return a.name() == b.name() && a.path == b.path })
}

// bindingsKey is equal for domains that serve the same. Ranks are left out:
// they have already decided the order.
func bindingsKey(list []binding) string {
	var key strings.Builder
	for _, b := range list {
		fmt.Fprintf(&key, "%s %s\n", b.name(), b.path)
	}
	return key.String()
}

// routesOf writes the routes of the bindings one after the other and closes
// with one that takes all the rest.
func routesOf(bindings []binding) ([]ir.Route, error) {
	var routes []ir.Route
	for _, b := range bindings {
		own, err := bindingRoutes(b)
		if err != nil {
			return nil, err
		}
		routes = append(routes, own...)
		if b.path == "/" {
			return routes, nil // nothing gets past a service's last route
		}
	}
	name := ""
	if owner := soleService(bindings); owner != "" {
		name = owner + "/"
	}
	return append(routes, notFound(name, "/")), nil
}

// soleService is the service that has the domain alone, "" where several or
// none have it.
func soleService(bindings []binding) string {
	name := ""
	for _, b := range bindings {
		if name != "" && name != b.name() {
			return ""
		}
		name = b.name()
	}
	return name
}

// probeRoutes answer a load balancer, whatever the host, before any service.
func probeRoutes(paths []string) []ir.Route {
	var routes []ir.Route
	for _, p := range slices.Compact(slices.Sorted(slices.Values(paths))) {
		routes = append(routes, ir.Route{
			Match: ir.RouteMatch{Path: ir.Path{Kind: ir.PathExact, Value: p}}, DirectStatus: 200, Probe: true,
		})
	}
	return routes
}

func notFound(name, prefix string) ir.Route {
	return ir.Route{Name: name, Match: ir.RouteMatch{Path: ir.Path{Kind: ir.PathPrefix, Value: prefix}}, DirectStatus: 404}
}

// cleanPrefix drops a final slash: prefixes are matched by whole segments.
func cleanPrefix(p string) string {
	if p = strings.TrimRight(p, "/"); p == "" {
		return "/"
	}
	return p
}
