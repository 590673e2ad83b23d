package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// aliveFor is how long a VM counts as alive after a report; a healthy one
	// reports every second.
	aliveFor = 5 * time.Second
	// listedFor is how long a silent VM is still shown.
	listedFor = 30 * time.Second
)

// Config bounds a Registry. Zero members take the defaults of New.
type Config struct {
	Now         func() time.Time
	ForgetAfter time.Duration // how long a disconnected, silent node is kept; 1 h
	MaxNodes    int           // 10,000
	MaxVMs      int           // per node; 256
}

// Registry is the fleet. All methods are safe for concurrent use and return
// copies.
type Registry struct {
	cfg Config

	mu      sync.Mutex
	nodes   map[string]*entry
	dropped Dropped
	sweptAt time.Time
}

// Dropped counts what the bounds of a Registry turned away, since its start.
type Dropped struct {
	Nodes      uint64 // not recorded, or forgotten early, because the registry was full
	Forgotten  uint64 // nodes forgotten after Config.ForgetAfter
	VMs        uint64 // VMs of a node beyond Config.MaxVMs
	StaleBoots uint64 // reports of a process that a later one had replaced
}

type entry struct {
	id       string
	xds      XDSState
	lastSeen time.Time

	boot   string
	bootNS int64
	vms    map[string]*vm
}

type vm struct {
	plan, filter string
	served       bool
	lastSeen     time.Time
}

// New returns an empty registry with the default bounds. now is the control
// plane's clock.
func New(now func() time.Time) *Registry { return NewWithConfig(Config{Now: now}) }

// NewWithConfig returns an empty registry.
func NewWithConfig(cfg Config) *Registry {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.ForgetAfter <= 0 {
		cfg.ForgetAfter = time.Hour
	}
	if cfg.MaxNodes <= 0 {
		cfg.MaxNodes = 10_000
	}
	if cfg.MaxVMs <= 0 {
		cfg.MaxVMs = 256
	}
	return &Registry{cfg: cfg, nodes: map[string]*entry{}}
}

// SetXDS records what a node's stream shows. It reports whether there was
// room for the node.
func (r *Registry) SetXDS(id string, s XDSState) bool {
	s.Resources = maps.Clone(s.Resources)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	e := r.entry(id, now, s.Connected)
	if e == nil {
		return false
	}
	if s.Seen.IsZero() {
		s.Seen = now
	}
	if s.Seen.After(e.lastSeen) {
		e.lastSeen = s.Seen
	}
	e.xds = s
	return true
}

// Batch records what a VM said of itself. A report of another Boot with a
// later BootNS is a new process: it replaces all VMs of the old one.
func (r *Registry) Batch(b WorkerReport) {
	if b.Node == "" || b.VM == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	if b.At.IsZero() {
		b.At = now
	}
	e := r.entry(b.Node, now, false)
	if e == nil {
		return
	}
	if b.Boot != e.boot {
		// A late batch of the process before must not bring its VMs back. But
		// clocks step: where the recorded process has gone silent, whoever
		// speaks now is the node.
		if b.BootNS < e.bootNS && e.anyAlive(now) {
			r.dropped.StaleBoots++
			return
		}
		e.boot, e.bootNS, e.vms = b.Boot, b.BootNS, nil
	}
	if b.At.After(e.lastSeen) {
		e.lastSeen = b.At
	}
	v := e.vms[b.VM]
	if v == nil {
		e.dropSilent(now)
		if len(e.vms) >= r.cfg.MaxVMs {
			r.dropped.VMs++
			return
		}
		if e.vms == nil {
			e.vms = map[string]*vm{}
		}
		v = &vm{}
		e.vms[b.VM] = v
	}
	if b.At.Before(v.lastSeen) {
		return // overtaken on the way
	}
	v.plan, v.filter, v.lastSeen = b.Plan, b.Filter, b.At
	v.served = v.served || b.Served
}

// Nodes lists the fleet, sorted by id.
func (r *Registry) Nodes() []Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	r.sweep(now)
	out := make([]Node, 0, len(r.nodes))
	for _, e := range r.nodes {
		out = append(out, e.node(now))
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Node returns one node by its id.
func (r *Registry) Node(id string) (Node, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.nodes[id]
	if e == nil {
		return Node{}, false
	}
	return e.node(r.cfg.Now()), true
}

// Counts counts the fleet.
func (r *Registry) Counts() Counts {
	var c Counts
	for _, n := range r.Nodes() {
		c.Nodes++
		if !n.Connected {
			continue
		}
		c.Connected++
		switch n.State {
		case StateSynced:
			c.Synced++
		case StateRejected:
			c.Rejected++
		case StateDisconnected, StateStale, StateUnknown:
		}
	}
	return c
}

// Workers is what the living workers of a node say of a plan. filter, if not
// "", is the module that the plan was pushed with: a VM of an older module
// that finishes its last streams is not counted as Behind.
func (r *Registry) Workers(id, plan, filter string) WorkerVerdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.nodes[id]
	if e == nil {
		return WorkerVerdict{Unknown: true}
	}
	return e.verdict(r.cfg.Now(), plan, filter)
}

// Dropped returns the counts of what was turned away.
func (r *Registry) Dropped() Dropped {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

// entry finds or makes a node's entry; nil when there is no room. A node with
// a stream may take the place of one without: batches name any node they
// like, so they must not be able to crowd out real ones.
func (r *Registry) entry(id string, now time.Time, connected bool) *entry {
	if e := r.nodes[id]; e != nil {
		return e
	}
	if len(r.nodes) >= r.cfg.MaxNodes {
		r.sweep(now)
	}
	if len(r.nodes) >= r.cfg.MaxNodes {
		r.dropped.Nodes++
		if !connected || !r.evict() {
			return nil
		}
	}
	e := &entry{id: id}
	r.nodes[id] = e
	return e
}

func (r *Registry) evict() bool {
	var oldest *entry
	for _, e := range r.nodes {
		if e.xds.Connected {
			continue
		}
		if oldest == nil || e.lastSeen.Before(oldest.lastSeen) {
			oldest = e
		}
	}
	if oldest == nil {
		return false
	}
	delete(r.nodes, oldest.id)
	return true
}

// sweep forgets what has been away for too long; at most once a second.
func (r *Registry) sweep(now time.Time) {
	if now.Sub(r.sweptAt) < time.Second && !now.Before(r.sweptAt) {
		return
	}
	r.sweptAt = now
	for id, e := range r.nodes {
		e.dropSilent(now)
		if !e.xds.Connected && now.Sub(e.lastSeen) > r.cfg.ForgetAfter {
			delete(r.nodes, id)
			r.dropped.Forgotten++
		}
	}
}

func (e *entry) anyAlive(now time.Time) bool {
	for _, v := range e.vms {
		if v.alive(now) {
			return true
		}
	}
	return false
}

func (e *entry) dropSilent(now time.Time) {
	for id, v := range e.vms {
		if now.Sub(v.lastSeen) > listedFor {
			delete(e.vms, id)
		}
	}
}

func (v *vm) alive(now time.Time) bool { return now.Sub(v.lastSeen) <= aliveFor }

func plural(n int, one string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", one)
	}
	return fmt.Sprintf("%d %ss", n, one)
}
