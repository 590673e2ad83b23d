package scenario

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// Ledger is what the accepted batches say together.
type Ledger struct {
	Batches     []contract.Batch                 // accepted, each once
	Counts      map[string]map[string]uint64     // by "service/route" and outcome
	Attempts    map[string]uint64                // tries that the upstream was sent, by "service/route"
	Breakers    map[string]contract.BreakerState // by "service/route"
	Events      []contract.Event                 // in order of time
	Counters    map[string]contract.Counters     // by vm
	Pools       map[string]map[string]PoolWord   // by "service/pool" and vm
	Undelivered bool                             // the last batch of some VM was not accepted
}

// Read decodes deliveries strictly, and holds the filter to what a Batch
// promises: one (node, vm, seq) has one content for ever, and no gaps. The
// error names the delivery.
func Read(deliveries []Delivery) (*Ledger, error) {
	l := &Ledger{Counts: map[string]map[string]uint64{}, Attempts: map[string]uint64{}, Breakers: map[string]contract.BreakerState{}, Counters: map[string]contract.Counters{}, Pools: map[string]map[string]PoolWord{}}
	type key struct {
		node, vm string
		seq      uint64
	}
	bodies := map[key][]byte{}
	accepted := map[key]bool{}
	next := map[string]uint64{}
	pending := map[key]bool{}
	for i, d := range deliveries {
		var b contract.Batch
		dec := json.NewDecoder(bytes.NewReader(d.Body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&b); err != nil {
			return nil, fmt.Errorf("batch %d: %w", i, err)
		}
		if err := wellFormed(b); err != nil {
			return nil, fmt.Errorf("batch %d (vm %.8s seq %d): %w", i, b.VM, b.Seq, err)
		}
		k := key{b.Node, b.VM, b.Seq}
		if old, seen := bodies[k]; seen && !bytes.Equal(old, d.Body) {
			return nil, fmt.Errorf("batch %d: vm %.8s seq %d was sent with other bytes before", i, b.VM, b.Seq)
		} else if !seen {
			if b.Seq != next[b.VM]+1 {
				return nil, fmt.Errorf("batch %d: vm %.8s seq %d follows %d", i, b.VM, b.Seq, next[b.VM])
			}
			next[b.VM] = b.Seq
			bodies[k] = d.Body
			pending[k] = true
		}
		if !d.Accepted || accepted[k] {
			continue
		}
		accepted[k] = true
		delete(pending, k)
		l.add(b)
	}
	for k := range pending {
		if k.seq == next[k.vm] {
			l.Undelivered = true
		}
	}
	slices.SortStableFunc(l.Events, eventOrder)
	return l, nil
}

func wellFormed(b contract.Batch) error {
	switch {
	case b.Schema != contract.BatchSchema:
		return fmt.Errorf("schema %d", b.Schema)
	case len(b.VM) != 32 || len(b.Boot) != 32:
		return fmt.Errorf("vm %q and boot %q want 32 hex digits", b.VM, b.Boot)
	case b.Node == "" || b.Seq == 0:
		return fmt.Errorf("node %q seq %d", b.Node, b.Seq)
	case len(b.Rows) > 1000:
		return fmt.Errorf("%d rows", len(b.Rows))
	}
	for _, r := range b.Rows {
		for _, c := range r.Counts {
			if _, ok := contract.ParseOutcome(c.Outcome); !ok || c.N == 0 {
				return fmt.Errorf("count %+v", c)
			}
		}
	}
	return nil
}

func (l *Ledger) add(b contract.Batch) {
	l.Batches = append(l.Batches, b)
	l.Counters[b.VM] = b.Counters
	l.Events = append(l.Events, b.Events...)
	for _, r := range b.Rows {
		name := r.Service + "/" + r.Route
		if l.Counts[name] == nil {
			l.Counts[name] = map[string]uint64{}
		}
		l.Attempts[name] += r.Attempts
		for _, c := range r.Counts {
			l.Counts[name][c.Outcome] += c.N
		}
	}
	for _, s := range b.Pools {
		name := s.Service + "/" + s.Pool
		if l.Pools[name] == nil {
			l.Pools[name] = map[string]PoolWord{}
		}
		l.Pools[name][b.VM] = PoolWord{s, b.AtNS}
	}
	for _, s := range b.Breakers {
		name := s.Service + "/" + s.Route
		if old, known := l.Breakers[name]; !known || s.Gen >= old.Gen {
			l.Breakers[name] = s
		}
	}
}

// PoolWord is what a VM said last of a pool, and when.
type PoolWord struct {
	contract.PoolState
	AtNS int64
}

// Pool is a member of a pool's state by its JSON name: the newest word on what
// is in it, the sum of what the VMs have done there.
func (l *Ledger) Pool(name, member string) string {
	var sum uint64
	var newest PoolWord
	for _, w := range l.Pools[name] {
		if w.AtNS >= newest.AtNS {
			newest = w
		}
		sum += map[string]uint64{"granted": w.Granted, "full": w.Full, "timedOut": w.TimedOut}[member]
	}
	switch member {
	case "held":
		sum = uint64(newest.Held)
	case "waiting":
		sum = uint64(newest.Waiting)
	case "limit":
		sum = uint64(newest.Limit)
	}
	return strconv.FormatUint(sum, 10)
}

// count is how many requests of a route were counted, whatever their outcome.
func (l *Ledger) count(route string) (n uint64) {
	for _, c := range l.Counts[route] {
		n += c
	}
	return n
}

// Counter sums one of the cumulative counters over all VMs, by its JSON name.
func (l *Ledger) Counter(name string) uint64 {
	var n uint64
	for _, c := range l.Counters {
		n += map[string]uint64{
			"requests": c.Requests, "unknownRoutes": c.UnknownRoutes, "panics": c.Panics,
			"casExhausted": c.CASExhausted, "droppedRows": c.DroppedRows, "droppedEvents": c.DroppedEvents,
			"rejectedBatches": c.Rejected,
		}[name]
	}
	return n
}
