package telemetry

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/filter/contract"
)

const (
	// poolVMLimit bounds the VMs of one process whose counters are kept apart.
	// Only a VM that traps again and again brings in more.
	poolVMLimit = 128
	// poolLimit bounds the pools of all nodes.
	poolLimit = 100_000
	// waitSlot is for how long the longest wait of a pool is collected, before it
	// is shown for as long again.
	waitSlot = 30 * time.Second
)

// Pool is a bulkhead pool of one Envoy: a member of GET pools.
type Pool struct {
	Service  string  `json:"service"`
	Pool     string  `json:"pool"`
	Node     string  `json:"node"`
	Held     uint32  `json:"held"`          // permits taken now
	Waiting  uint32  `json:"waiting"`       // requests in the queue now
	Limit    uint32  `json:"limit"`         // permits in all; 0: gone from the policy, calls still run
	Granted  uint64  `json:"granted"`       // since the Envoy started, at once or after waiting
	Full     uint64  `json:"full"`          // since the Envoy started, refused at once
	TimedOut uint64  `json:"timedOut"`      // since the Envoy started, refused after waiting or instead of it
	MaxWait  float64 `json:"longestWaitMs"` // the longest wait that ended within the last half to whole minute, ms
}

// Pools is every pool of the nodes heard of in the last five minutes, sorted by
// service, pool and node.
func (i *Ingest) Pools() []Pool { return i.pools.list(i.now()) }

type poolKey struct{ service, pool string }

// pools are those of all nodes.
type pools struct {
	mu      sync.Mutex
	nodes   map[string]*nodePools
	size    int // pools in all nodes
	dropped uint64
}

// nodePools are those of one Envoy process.
type nodePools struct {
	boot   string
	bootNS int64
	heard  time.Time
	plan   string
	planNS int64 // of the newest batch: an older one does not bring an older plan back
	all    map[poolKey]*pool
}

type pool struct {
	atNS                   int64 // of the batch that said held, waiting and limit
	held, waiting, limit   uint32
	vms                    map[string]poolCounts
	folded                 poolCounts // of VMs beyond poolVMLimit
	slot                   int64      // in waitSlot
	waitNS, waitBeforeSlot int64      // of this slot and the one before
}

type poolCounts struct{ granted, full, timedOut uint64 }

func (s *pools) init() { s.nodes = map[string]*nodePools{} }

func (s *pools) droppedCount() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// heard takes in what a batch says of pools. Batches may come late or again:
// the newest word holds on what is now, the highest on what is counted.
func (s *pools) heard(b *contract.Batch, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[b.Node]
	switch {
	case n == nil && len(b.Pools) == 0:
		return
	case n == nil:
		if len(s.nodes) >= nodeLimit {
			s.expire(at)
		}
		if len(s.nodes) >= nodeLimit {
			s.dropped += uint64(len(b.Pools))
			return
		}
		n = &nodePools{}
		s.nodes[b.Node] = n
		fallthrough
	case n.boot != b.Boot && b.BootNS > n.bootNS:
		s.size -= len(n.all)
		*n = nodePools{boot: b.Boot, bootNS: b.BootNS, plan: b.Plan, all: map[poolKey]*pool{}}
	case n.boot != b.Boot:
		return
	}
	if at.After(n.heard) {
		n.heard = at
	}
	if b.AtNS >= n.planNS {
		n.planNS = b.AtNS
		if b.Plan != n.plan { // what the new plan does not have is not said any more
			n.plan = b.Plan
			said := map[poolKey]bool{}
			for _, p := range b.Pools {
				said[poolKey{p.Service, p.Pool}] = true
			}
			for k := range n.all {
				if !said[k] {
					delete(n.all, k)
					s.size--
				}
			}
		}
	}
	for i := range b.Pools {
		s.put(n, b, &b.Pools[i], at)
	}
}

func (s *pools) put(n *nodePools, b *contract.Batch, state *contract.PoolState, at time.Time) {
	k := poolKey{state.Service, state.Pool}
	p := n.all[k]
	if p == nil {
		if b.AtNS < n.planNS && b.Plan != n.plan {
			return // of a plan that is gone
		}
		if s.size >= poolLimit {
			s.dropped++
			return
		}
		s.size++
		p = &pool{vms: map[string]poolCounts{}}
		n.all[k] = p
	}
	if b.AtNS >= p.atNS {
		p.atNS, p.held, p.waiting, p.limit = b.AtNS, state.Held, state.Waiting, state.Limit
	}
	p.count(b.VM, poolCounts{state.Granted, state.Full, state.TimedOut})
	p.turn(at)
	p.waitNS = max(p.waitNS, state.MaxWaitNS)
}

func (p *pool) count(vm string, c poolCounts) {
	last, known := p.vms[vm]
	if !known && len(p.vms) >= poolVMLimit {
		// Any will do: the sum is the same. One that speaks again counts twice,
		// which takes a VM that lives on beyond 128 traps of its process.
		for old, counts := range p.vms {
			p.folded = p.folded.add(counts)
			delete(p.vms, old)
			break
		}
	}
	p.vms[vm] = poolCounts{max(last.granted, c.granted), max(last.full, c.full), max(last.timedOut, c.timedOut)}
}

func (c poolCounts) add(d poolCounts) poolCounts {
	return poolCounts{c.granted + d.granted, c.full + d.full, c.timedOut + d.timedOut}
}

// turn begins a new slot of waits when its time has come.
func (p *pool) turn(at time.Time) {
	slot := at.UnixNano() / int64(waitSlot)
	switch {
	case slot == p.slot+1:
		p.waitBeforeSlot, p.waitNS = p.waitNS, 0
	case slot != p.slot:
		p.waitBeforeSlot, p.waitNS = 0, 0
	}
	p.slot = slot
}

// expire forgets nodes that have been silent.
func (s *pools) expire(now time.Time) {
	for name, n := range s.nodes {
		if now.Sub(n.heard) > nodeKept {
			s.size -= len(n.all)
			delete(s.nodes, name)
		}
	}
}

func (s *pools) list(now time.Time) []Pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	all := []Pool{}
	for node, n := range s.nodes {
		for k, p := range n.all {
			p.turn(now)
			total := p.folded
			for _, c := range p.vms {
				total = total.add(c)
			}
			all = append(all, Pool{
				Service: k.service, Pool: k.pool, Node: node, Held: p.held, Waiting: p.waiting, Limit: p.limit,
				Granted: total.granted, Full: total.full, TimedOut: total.timedOut,
				MaxWait: float64(max(p.waitNS, p.waitBeforeSlot)) / 1e6,
			})
		}
	}
	slices.SortFunc(all, func(a, b Pool) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Pool, b.Pool), strings.Compare(a.Node, b.Node))
	})
	return all
}
