package telemetry

import (
	"fmt"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/filter/contract"
)

const (
	// maxAhead is how far a filter's clock may be ahead of ours. What it counts
	// meanwhile goes into our current minute; a batch beyond is refused.
	maxAhead = 10 * time.Minute

	// vmLimit bounds the VMs whose node is remembered.
	vmLimit = 100_000
)

// guard tells batches and rows that cannot be true from those that can.
type guard struct {
	mu      sync.Mutex
	routes  map[Route]bool  // that the policies have or had, or that counts are kept of
	told    bool            // by a policy: until then all routes are believed
	learned bool            // from the store, likewise
	vms     map[string]vmOf // by VM
}

type vmOf struct {
	node  string
	heard time.Time
}

func (g *guard) init() { g.routes, g.vms = map[Route]bool{}, map[string]vmOf{} }

// SetRoutes names all routes of the policy in force. Requests of other routes
// are not counted, unless an earlier policy had them or counts of them are kept:
// a VM may tell of a route that has just gone. Before the first call all are.
func (i *Ingest) SetRoutes(routes []Route) {
	i.guard.mu.Lock()
	defer i.guard.mu.Unlock()
	i.guard.told = true
	i.guard.add(routes)
}

// learn takes in the routes that counts are kept of.
func (g *guard) learn(routes []Route) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.learned = true
	g.add(routes)
}

// add also knows each service's requests that match no route.
func (g *guard) add(routes []Route) {
	for _, r := range routes {
		g.routes[r], g.routes[Route{Service: r.Service}] = true, true
	}
}

// admit returns why a batch cannot be true: it is from the future, or its VM
// has spoken for another node.
func (g *guard) admit(b *contract.Batch, now time.Time) error {
	latest := now.Add(maxAhead)
	if ahead := time.Unix(0, b.AtNS).Sub(now); ahead > maxAhead {
		return fmt.Errorf("atNs is %s in the future: the filter's clock or the control plane's is wrong", ahead.Round(time.Second))
	}
	for n := range b.Rows {
		if b.Rows[n].Minute > latest.Unix()/60 {
			return fmt.Errorf("rows[%d]: minute %d is in the future: the filter's clock or the control plane's is wrong", n, b.Rows[n].Minute)
		}
	}
	for n := range b.Events {
		if b.Events[n].AtNS > latest.UnixNano() {
			return fmt.Errorf("events[%d]: atNs is in the future: the filter's clock or the control plane's is wrong", n)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	v, known := g.vms[b.VM]
	switch {
	case known && v.node != b.Node:
		return fmt.Errorf("VM %s is of node %q, not %q", b.VM, v.node, b.Node)
	case !known && len(g.vms) >= vmLimit:
		g.forget(now)
		if len(g.vms) >= vmLimit {
			return nil
		}
	}
	g.vms[b.VM] = vmOf{b.Node, now}
	return nil
}

// forget drops the VMs that have been silent for as long as makes them expire
// in the store.
func (g *guard) forget(now time.Time) {
	for vm, v := range g.vms {
		if now.Sub(v.heard) > vmKept {
			delete(g.vms, vm)
		}
	}
}

// leftOut are requests that are not counted.
type leftOut struct {
	unknown uint64 // of routes that nobody knows
	old     uint64 // of minutes that are not kept any more
}

// sift takes out the rows that are not to be counted: those of unknown routes
// and of minutes before from.
func (g *guard) sift(b *contract.Batch, from int64) (left leftOut) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var kept []contract.Row
	for n := range b.Rows {
		r := &b.Rows[n]
		known := !g.told || !g.learned || g.routes[Route{r.Service, r.Route}]
		if known && r.Minute >= from {
			if kept != nil {
				kept = append(kept, *r)
			}
			continue
		}
		if kept == nil { // the first to go: what was sent stays as it is
			kept = append(make([]contract.Row, 0, len(b.Rows)), b.Rows[:n]...)
		}
		for _, c := range r.Counts {
			if known {
				left.old += c.N
			} else {
				left.unknown += c.N
			}
		}
	}
	if kept != nil {
		b.Rows = kept
	}
	return left
}
