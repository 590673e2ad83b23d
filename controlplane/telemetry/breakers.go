package telemetry

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/filter/contract"
)

const (
	// nodeLimit and breakerLimit bound what is remembered of all nodes.
	nodeLimit    = 10_000
	breakerLimit = 200_000

	// nodeKept is for how long a silent node's breakers are listed.
	nodeKept = 5 * time.Minute
)

// Route names one route of one service.
type Route struct{ Service, Route string }

// Breaker is the newest state of one breaker in one Envoy: a member of GET
// breakers.
type Breaker struct {
	Service string     `json:"service"`
	Route   string     `json:"route"`
	Node    string     `json:"node"`    // "" while no node has been heard of
	State   string     `json:"state"`   // closed | open | half-open
	Forced  bool       `json:"forced"`  // an operator holds it in State
	Since   *time.Time `json:"since"`   // by the filter's clock; nil: never left closed
	RetryAt *time.Time `json:"retryAt"` // when probes start; nil unless open
	Cause   string     `json:"cause"`   // what tripped it: an outcome, failure-rate or slow-calls; "" when none has
	Reason  string     `json:"reason"`  // why it is forced, "" when it is not; not known to the data plane
	Until   *time.Time `json:"until"`   // when that ends by itself; nil when it is not forced
}

// Breakers is the newest state of every breaker in the nodes heard of in the
// last five minutes, sorted by service, route and node. A breaker that never
// left closed is listed as closed.
func (i *Ingest) Breakers() []Breaker { return i.breakers.list(i.now()) }

// breakers are the states of all nodes' breakers.
type breakers struct {
	mu      sync.Mutex
	known   []Route // nil until a policy has been set: all are listed then
	nodes   map[string]*nodeBreakers
	size    int // states in all nodes
	dropped uint64
}

// nodeBreakers are those of one Envoy process.
type nodeBreakers struct {
	boot   string
	bootNS int64
	heard  time.Time
	states map[Route]contract.BreakerState
}

func (s *breakers) init() { s.nodes = map[string]*nodeBreakers{} }

func (s *breakers) droppedCount() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

func (s *breakers) setKnown(known []Route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = append([]Route{}, known...)
}

// heard takes in what a batch says of breakers. The order of batches does not
// matter: of one process the highest Gen holds, of several the one that was
// born last.
func (s *breakers) heard(b *contract.Batch, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[b.Node]
	switch {
	case n == nil:
		if len(s.nodes) >= nodeLimit {
			s.expire(at)
		}
		if len(s.nodes) >= nodeLimit {
			s.dropped += uint64(len(b.Breakers))
			return
		}
		n = &nodeBreakers{boot: b.Boot, bootNS: b.BootNS, states: map[Route]contract.BreakerState{}}
		s.nodes[b.Node] = n
	case n.boot != b.Boot && b.BootNS <= n.bootNS:
		return
	case n.boot != b.Boot:
		s.size -= len(n.states)
		*n = nodeBreakers{boot: b.Boot, bootNS: b.BootNS, states: map[Route]contract.BreakerState{}}
	}
	if at.After(n.heard) {
		n.heard = at
	}
	for _, state := range b.Breakers {
		r := Route{state.Service, state.Route}
		if now, ok := n.states[r]; !ok || state.Gen >= now.Gen {
			s.put(n, r, state)
		}
	}
	// An event may be newer than any record that came: it left before the VM
	// that tells it read the record again.
	for _, e := range b.Events {
		if (e.Kind != "breaker" && e.Kind != "breaker-reset") || !breakerState(e.To) {
			continue
		}
		r := Route{e.Service, e.Route}
		now, ok := n.states[r]
		if ok && e.Gen <= now.Gen {
			continue
		}
		cause := e.Cause
		if cause == "" && e.To != "closed" {
			cause = now.Cause
		}
		s.put(n, r, contract.BreakerState{
			Service: e.Service, Route: e.Route, State: e.To, Gen: e.Gen, SinceNS: e.AtNS, Cause: cause,
		})
	}
}

func (s *breakers) put(n *nodeBreakers, r Route, state contract.BreakerState) {
	if _, ok := n.states[r]; !ok {
		if s.size >= breakerLimit {
			s.dropped++
			return
		}
		s.size++
	}
	n.states[r] = state
}

// expire forgets nodes that have been silent.
func (s *breakers) expire(now time.Time) {
	for name, n := range s.nodes {
		if now.Sub(n.heard) > nodeKept {
			s.size -= len(n.states)
			delete(s.nodes, name)
		}
	}
}

func (s *breakers) list(now time.Time) []Breaker {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	known := make(map[Route]bool, len(s.known))
	for _, r := range s.known {
		known[r] = true
	}
	all := []Breaker{}
	for node, n := range s.nodes {
		for r, state := range n.states {
			if s.known == nil || known[r] {
				all = append(all, breaker(node, state))
			}
		}
		for r := range known {
			if _, ok := n.states[r]; !ok {
				all = append(all, closed(node, r))
			}
		}
	}
	if len(s.nodes) == 0 {
		for r := range known {
			all = append(all, closed("", r))
		}
	}
	slices.SortFunc(all, func(a, b Breaker) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Route, b.Route), cmp.Compare(a.Node, b.Node))
	})
	return all
}

func closed(node string, r Route) Breaker {
	return Breaker{Service: r.Service, Route: r.Route, Node: node, State: "closed"}
}

func breaker(node string, s contract.BreakerState) Breaker {
	b := Breaker{Service: s.Service, Route: s.Route, Node: node, State: s.State, Cause: s.Cause, Forced: s.Forced}
	if s.SinceNS > 0 {
		b.Since = instantOf(s.SinceNS)
	}
	if s.State == "open" && s.RetryAtNS > 0 {
		b.RetryAt = instantOf(s.RetryAtNS)
	}
	return b
}

func instantOf(ns int64) *time.Time {
	t := time.Unix(0, ns).UTC()
	return &t
}
