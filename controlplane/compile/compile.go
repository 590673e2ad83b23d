package compile

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// DefaultProblemTypeBase is the prefix of problem types where the control
// plane's configuration names none.
const DefaultProblemTypeBase = "https://seawall-mesh.github.io/problems/"

// DefaultEdge is the name of the edge that Options.Listen makes.
const DefaultEdge = "default"

// DefaultRoute is the route under which a service without a ResiliencePolicy
// is counted.
const DefaultRoute = "default"

// Timeouts of a service without a policy: the defaults of policy.Timeout.
const (
	defaultTimeoutNS     = 15_000_000_000
	defaultIdleTimeoutNS = 300_000_000_000
)

// Options are what a policy set does not say itself.
type Options struct {
	// ProblemTypeBase is the prefix of problem types; "" = DefaultProblemTypeBase.
	// A missing final slash is added.
	ProblemTypeBase string
	// Listen is "" or host:port, host being an IP address or localhost. Where
	// the set has no Edge, an edge "default" that serves every service listens
	// there.
	Listen string
	// Overrides are what operators force upon breakers, at most one for each.
	// One whose breaker the set does not have, or that has expired by Now, is
	// left out.
	Overrides []Override
	Now       time.Time
}

// Override holds a breaker in a state until a moment.
type Override struct {
	Service, Route string
	State          string // open | closed
	NotAfter       time.Time
}

func (o Options) override(service, route string) *contract.Override {
	for _, v := range o.Overrides {
		if v.Service == service && v.Route == route && v.NotAfter.After(o.Now) {
			return &contract.Override{State: v.State, NotAfterNS: v.NotAfter.UnixNano()}
		}
	}
	return nil
}

// Compile turns a set that policy.Load found free of errors into the model that
// is served. Without an Edge in the set and without Options.Listen the model is
// empty. An error names the object and means that the set was not validated, or
// that Options are wrong.
func Compile(set *policy.Set, opt Options) (*ir.Model, error) {
	base := opt.ProblemTypeBase
	if base == "" {
		base = DefaultProblemTypeBase
	}
	if !strings.HasSuffix(base, "/") {
		base += "/"
	}
	edges, err := edgesOf(set, opt.Listen)
	if err != nil {
		return nil, err
	}
	model := &ir.Model{PolicyHash: set.Hash, Edges: make([]ir.Edge, 0, len(edges))}
	for _, e := range edges {
		edge, err := compileEdge(set, e, base, opt)
		if err != nil {
			return nil, fmt.Errorf("edge %s: %w", e.Metadata.Name, err)
		}
		model.Edges = append(model.Edges, edge)
	}
	slices.SortFunc(model.Edges, func(a, b ir.Edge) int { return strings.Compare(a.Name, b.Name) })
	return model, nil
}

func edgesOf(set *policy.Set, listen string) ([]policy.Edge, error) {
	if len(set.Edges) > 0 || listen == "" {
		return set.Edges, nil
	}
	host, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: %w", listen, err)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: the host must be an IP address or localhost", listen)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("listen address %q: the port must be 1 to 65535", listen)
	}
	return []policy.Edge{{
		Metadata: policy.Metadata{Name: DefaultEdge},
		Spec: policy.EdgeSpec{
			Listeners:   []policy.Listener{{Address: addr.String(), Port: int(port)}},
			FailureMode: policy.FailureModeOpen,
		},
	}}, nil
}

// served is a service of an edge with its policy, nil where it has none.
type served struct {
	service *policy.Service
	policy  *policy.ResiliencePolicy
}

func (s served) name() string { return s.service.Metadata.Name }

func compileEdge(set *policy.Set, e policy.Edge, base string, opt Options) (ir.Edge, error) {
	services, err := servicesOf(set, e)
	if err != nil {
		return ir.Edge{}, err
	}
	edge := ir.Edge{
		Name:            e.Metadata.Name,
		Nodes:           ir.NodeSelector{Cluster: e.Spec.Nodes.Cluster, ID: e.Spec.Nodes.ID},
		ProblemTypeBase: base,
		HTTP:            ir.HTTP{TrustedHops: uint32(e.Spec.TrustedHops), RequestTimeoutNS: bodyTimeout(services), MaxBodyBytes: int64(e.Spec.MaxBody)},
	}
	for _, l := range e.Spec.Listeners {
		edge.Listeners = append(edge.Listeners, ir.Listener{
			Name:    fmt.Sprintf("%s-%s-%d", e.Metadata.Name, l.Address, l.Port),
			Address: l.Address,
			Port:    uint32(l.Port),
			TLS:     listenerTLS(l.TLS),
		})
	}
	slices.SortFunc(edge.Listeners, func(a, b ir.Listener) int {
		if c := strings.Compare(a.Address, b.Address); c != 0 {
			return c
		}
		return int(a.Port) - int(b.Port)
	})
	for _, s := range services {
		cluster, err := compileCluster(s)
		if err != nil {
			return ir.Edge{}, fmt.Errorf("service %s: %w", s.name(), err)
		}
		edge.Clusters = append(edge.Clusters, cluster)
	}
	if edge.VirtualHosts, err = virtualHosts(services, e.Spec.Probes); err != nil {
		return ir.Edge{}, err
	}
	edge.HTTP.ShorterBodies = shorterBodies(services)
	if edge.Filter, err = compileFilter(set, e, services, base, opt); err != nil {
		return ir.Edge{}, err
	}
	return edge, nil
}

func servicesOf(set *policy.Set, e policy.Edge) ([]served, error) {
	policies := make(map[string]*policy.ResiliencePolicy, len(set.Policies))
	for i := range set.Policies {
		policies[set.Policies[i].Spec.Service] = &set.Policies[i]
	}
	byName := make(map[string]*policy.Service, len(set.Services))
	for i := range set.Services {
		byName[set.Services[i].Metadata.Name] = &set.Services[i]
	}
	names := slices.Clone(e.Spec.Services)
	if len(names) == 0 {
		for name := range byName {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var list []served
	for _, name := range slices.Compact(names) {
		s := byName[name]
		if s == nil {
			return nil, fmt.Errorf("service %s does not exist", name)
		}
		list = append(list, served{service: s, policy: policies[name]})
	}
	return list, nil
}

// bodyTimeout is the time that clients have to send a request, 0 = no limit.
// Envoy has one for all routes of a listener: the longest that one asks for. The
// filter sees to shorter ones.
func bodyTimeout(services []served) int64 {
	longest := policy.Duration(0)
	for _, s := range services {
		if s.policy == nil {
			longest = max(longest, policy.EdgeBodyTime)
			continue
		}
		for i := range s.policy.Spec.Routes {
			body := s.policy.Spec.Routes[i].Timeout.BodyTime()
			if body == 0 {
				return 0
			}
			longest = max(longest, body)
		}
	}
	return int64(cmp.Or(longest, policy.EdgeBodyTime)) // an edge without services answers 404
}

// shorterBodies reports whether a route gives less than bodyTimeout.
func shorterBodies(services []served) bool {
	most := bodyTimeout(services)
	for _, s := range services {
		if s.policy == nil {
			continue
		}
		for i := range s.policy.Spec.Routes {
			r := &s.policy.Spec.Routes[i]
			if ownBodyTime(r, most) > 0 {
				return true
			}
		}
	}
	return false
}

// ownBodyTime is a route's time for bodies where it is less than that of all,
// else 0. An upgrade's stream has none.
func ownBodyTime(r *policy.Route, most int64) int64 {
	own := int64(r.Timeout.Body)
	if own > 0 && (most == 0 || own < most) && len(r.Upgrades) == 0 {
		return own
	}
	return 0
}

func listenerTLS(t *policy.ListenerTLS) *ir.ListenerTLS {
	if t == nil {
		return nil
	}
	return &ir.ListenerTLS{CertFile: t.CertFile, KeyFile: t.KeyFile}
}
