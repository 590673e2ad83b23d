package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// edges checks the Edges against the services and against each other.
func (w *world) edges() {
	var before []*object
	for _, o := range w.objects {
		if o.kind != KindEdge {
			continue
		}
		e := spec[Edge](o)
		for i, name := range e.Spec.Services {
			w.service(o, fmt.Sprintf("spec.services[%d]", i), name)
		}
		portsWithin(o, e)
		for _, other := range before {
			edgesApart(o, other)
		}
		before = append(before, o)
	}
	w.noLoops(before)
}

func portsWithin(o *object, e Edge) {
	for i, l := range e.Spec.Listeners {
		for j, earlier := range e.Spec.Listeners[:i] {
			if l.overlaps(earlier) && !o.isBad("spec.listeners") {
				o.fail(diag.PortCollision, fmt.Sprintf("spec.listeners[%d].port", i), "", "port %d on %s is already taken by listeners[%d]", l.Port, l.Address, j)
				break
			}
		}
	}
}

// noLoops warns of services whose endpoint is a listener of an edge that serves
// them, on one machine.
func (w *world) noLoops(edges []*object) {
	type taken struct {
		edge    *object
		address string
		serves  []string
	}
	ports := map[int][]taken{}
	for _, o := range edges {
		e := spec[Edge](o).Spec
		for _, l := range e.Listeners {
			if !o.isBad("spec.listeners") {
				ports[l.Port] = append(ports[l.Port], taken{o, l.Address, e.Services})
			}
		}
	}
	for _, s := range w.objects {
		if s.kind != KindService {
			continue
		}
		for i, endpoint := range spec[Service](s).Spec.Endpoints {
			path := fmt.Sprintf("spec.endpoints[%d]", i)
			at := slices.IndexFunc(ports[endpoint.Port], func(t taken) bool {
				here := endpoint.Address == t.address || unspecified(t.address) && loopback(endpoint.Address)
				return here && (len(t.serves) == 0 || slices.Contains(t.serves, s.name))
			})
			if at >= 0 && !s.isBad(path) {
				edge := ports[endpoint.Port][at].edge
				s.fail(diag.EndpointLoop, path, "", "%s port %d is where edge %q listens itself (%s)", endpoint.Address, endpoint.Port, edge.name, edge.place("spec.listeners"))
			}
		}
	}
}

// edgesApart reports what keeps two edges from being served: the same nodes,
// or one port where an Envoy of each may run on one machine.
func edgesApart(o, other *object) {
	a, b := spec[Edge](o), spec[Edge](other)
	if o.isBad("spec.nodes") || other.isBad("spec.nodes") {
		return
	}
	if a.Spec.Nodes == b.Spec.Nodes {
		o.fail(diag.SameNodes, "spec.nodes", "", "edge %q at %s selects the same nodes", other.name, other.place("metadata.name"))
		return
	}
	if a.Spec.Nodes.disjoint(b.Spec.Nodes) {
		return
	}
	for i, l := range a.Spec.Listeners {
		for _, m := range b.Spec.Listeners {
			if l.overlaps(m) && !o.isBad("spec.listeners") && !other.isBad("spec.listeners") {
				o.fail(diag.PortCollision, fmt.Sprintf("spec.listeners[%d].port", i), "", "port %d on %s is already taken by edge %q at %s, which may select the same nodes", l.Port, l.Address, other.name, other.place("metadata.name"))
				break
			}
		}
	}
}

// disjoint reports whether no Envoy can match both.
func (n NodeSelector) disjoint(m NodeSelector) bool {
	differ := func(a, b string) bool {
		return a != "" && b != "" && a != b && !strings.Contains(a+b, "*")
	}
	return differ(n.Cluster, m.Cluster) || differ(n.ID, m.ID)
}

func (l Listener) overlaps(m Listener) bool {
	if l.Port != m.Port {
		return false
	}
	return l.Address == m.Address || unspecified(l.Address) || unspecified(m.Address)
}

func unspecified(address string) bool {
	addr, err := netip.ParseAddr(address)
	return err == nil && addr.IsUnspecified()
}

func loopback(address string) bool {
	addr, err := netip.ParseAddr(address)
	return err == nil && addr.IsLoopback()
}

// reservedPrefix begins the names of the clusters of Envoy's bootstrap: a
// service of such a name could not be pushed.
const reservedPrefix = "seawall-"

// serviceRules checks the Services alone and against each other.
func (w *world) serviceRules() {
	type place struct {
		o    *object
		path string
	}
	taken := map[string]place{} // by host and path
	for _, o := range w.objects {
		if o.kind != KindService {
			continue
		}
		s := spec[Service](o).Spec
		if strings.HasPrefix(o.name, reservedPrefix) {
			o.fail(diag.ReservedName, "metadata.name", "", "service names that begin with %q are taken by Seawall's own clusters", reservedPrefix)
		}
		oneUpstream(o, s)
		if r := s.Rewrite; r != nil && r.Host == "" && r.Prefix == "" && !o.isBad("spec.rewrite") {
			o.fail(diag.MissingField, "spec.rewrite", "", "rewrite needs host, prefix or both")
		}
		if o.isBad("spec.hosts") || o.isBad("spec.paths") {
			continue
		}
		for h, host := range s.Hosts {
			for p, path := range s.Paths {
				key := host + " " + path
				at := place{o, fmt.Sprintf("spec.paths[%d]", p)}
				if o.root.child("spec").value.child("paths") == nil {
					at.path = fmt.Sprintf("spec.hosts[%d]", h)
				}
				other, twice := taken[key]
				if !twice {
					taken[key] = at
					continue
				}
				o.fail(diag.PathCollision, at.path, "", "host %s with path %s already belongs to service %q at %s", host, path, other.o.name, other.o.place(other.path))
			}
		}
	}
}

func oneUpstream(o *object, s ServiceSpec) {
	if o.isBad("spec.endpoints") || o.isBad("spec.dns") {
		return
	}
	switch {
	case len(s.Endpoints) == 0 && s.DNS == nil:
		o.fail(diag.NotExactlyOne, "spec.endpoints", "", "a service needs endpoints or dns")
	case len(s.Endpoints) > 0 && s.DNS != nil:
		o.fail(diag.NotExactlyOne, "spec.dns", "", "a service has endpoints or dns, not both")
	}
	seen := map[Endpoint]int{}
	for i, e := range s.Endpoints {
		path := fmt.Sprintf("spec.endpoints[%d]", i)
		if first, twice := seen[e]; twice {
			o.fail(diag.RepeatedItem, path, "", "%s port %d is already listed in line %d", e.Address, e.Port, first)
			continue
		}
		seen[e] = o.place(path).Line
	}
}
