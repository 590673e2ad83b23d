package host

import (
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrRejected is Envoy's NACK: the canary VM did not start the configuration,
// so the previous one goes on. Its text is Envoy's, which never says why.
var ErrRejected = errors.New("Unable to create Wasm plugin") //nolint:staticcheck // Envoy's words

// Policy is what a dead VM does to requests (PluginConfig.failure_policy).
type Policy string

// The failure policies.
const (
	FailReload Policy = "FAIL_RELOAD"
	FailClosed Policy = "FAIL_CLOSED"
	FailOpen   Policy = "FAIL_OPEN"
)

// Node is the Envoy that the host pretends to be.
type Node struct{ ID, Cluster string }

// HeaderMetadata puts a response header, where there is one, into dynamic
// metadata.
type HeaderMetadata struct{ Header, Namespace, Key string }

// Config is a Host's. Module is required, the rest has defaults.
type Config struct {
	Module  *Module
	Workers int // 1
	// NoMain leaves out the main thread's VM, which ticks but sees no stream.
	NoMain bool

	PluginName, RootID, VMID string // "seawall"
	VMConfig, PluginConfig   []byte
	// AttemptConfig is the configuration of a second plugin of the module, in the
	// upstream filter chain of the cluster; nil: it is not there. See Try.
	AttemptConfig []byte
	Env           Headers // environment_variables
	Node          Node    // "test-node", "test-cluster"

	Policy        Policy        // FailReload
	ReloadBackoff time.Duration // reload_config base_interval, 1 s; jitter makes it up to 1.5 × as in Envoy

	// HeadersStopIteration is PluginConfig.allow_on_headers_stop_iteration: the
	// body comes while the headers are held, and lets them go unless the filter
	// stops it too. Without it a body waits for its headers.
	HeadersStopIteration bool

	// Clusters are where calls out may go. Any other cluster is a bad argument.
	Clusters map[string]CallHandler
	// HideMetrics is a stats_matcher: metrics of such a name read 0 for ever.
	HideMetrics func(name string) bool
	// EndCounter is a counter in which the listener's access log counts requests
	// that end otherwise than by an answer of 200 to 399 without a response flag;
	// "": none.
	EndCounter string
	// HeaderMetadata are the rules of the listener's header_to_metadata filter
	// for responses.
	HeaderMetadata []HeaderMetadata

	Start time.Time        // of the virtual clock; 2026-01-05 10:00 UTC, a Monday
	Now   func() time.Time // a real clock instead; then use Poll, not Advance
	// TickLag is how much later than asked a tick comes (Envoy: 2 to 3 ms).
	TickLag time.Duration
	Seed    uint64 // of all randomness that guests see
	Log     *slog.Logger
}

func (c *Config) defaults() error {
	if c.Module == nil {
		return errors.New("host: no module")
	}
	if c.Workers <= 0 {
		c.Workers = 1
	}
	for _, s := range []*string{&c.PluginName, &c.RootID, &c.VMID} {
		if *s == "" {
			*s = "seawall"
		}
	}
	if c.Node.ID == "" {
		c.Node.ID = "test-node"
	}
	if c.Node.Cluster == "" {
		c.Node.Cluster = "test-cluster"
	}
	if c.Policy == "" {
		c.Policy = FailReload
	}
	if c.ReloadBackoff <= 0 {
		c.ReloadBackoff = time.Second
	}
	if c.Start.IsZero() {
		c.Start = time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Host is a process that runs a plugin, as an Envoy does.
type Host struct {
	cfg     Config
	ctx     context.Context
	log     *slog.Logger
	started time.Time

	virtual atomic.Int64 // Unix ns
	events  eventQueue
	rngMu   sync.Mutex
	rng     *rand.Rand

	shared  *sharedStore
	metrics *metricStore
	main    *thread
	workers []*Worker
	bases   map[vmKey]*base
	update  Update     // in force
	life    sync.Mutex // threads' lists of VMs, where one worker looks at another's

	stats struct {
		vmsCreated, traps, callsSent, callsCancelled, reloads, reloadFailures, reloadBackoffs, logsDropped atomic.Uint64
	}
	logMu sync.Mutex
	lines []LogLine
}

// Stats are counters of what the host did.
type Stats struct {
	VMsCreated, Traps                       uint64
	CallsSent, CallsCancelled               uint64 // cancelled: sent, but the context was gone before the answer
	Reloads, ReloadFailures, ReloadBackoffs uint64 // as wasm.<plugin>.vm_reload_*
	LogsDropped                             uint64
}

// New starts a process with a plugin configuration. Envoy does not start with
// one that its canary refuses: that is an ErrRejected.
func New(ctx context.Context, cfg Config) (*Host, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	h := &Host{
		cfg: cfg, ctx: ctx, log: cfg.Log, started: cfg.Start,
		rng:    rand.New(rand.NewPCG(cfg.Seed, 0x5ea)),
		shared: newSharedStore(), metrics: newMetricStore(cfg.HideMetrics), bases: map[vmKey]*base{},
	}
	h.virtual.Store(cfg.Start.UnixNano())
	if cfg.Now != nil {
		h.started = cfg.Now()
	}
	if !cfg.NoMain {
		h.main = h.newThread(KindMain, 0)
	}
	for i := range cfg.Workers {
		h.workers = append(h.workers, &Worker{h.newThread(KindWorker, i)})
	}
	if err := h.Push(Update{VMID: cfg.VMID, PluginConfig: cfg.PluginConfig}); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Worker is the i-th worker thread, from 0.
func (h *Host) Worker(i int) *Worker { return h.workers[i] }

// Workers is how many there are.
func (h *Host) Workers() int { return len(h.workers) }

// Now is the host's clock.
func (h *Host) Now() time.Time { return h.now() }

func (h *Host) now() time.Time {
	if h.cfg.Now != nil {
		return h.cfg.Now()
	}
	return time.Unix(0, h.virtual.Load()).UTC()
}

// Stats is a copy of the counters.
func (h *Host) Stats() Stats {
	s := &h.stats
	return Stats{
		VMsCreated: s.vmsCreated.Load(), Traps: s.traps.Load(), CallsSent: s.callsSent.Load(),
		CallsCancelled: s.callsCancelled.Load(), Reloads: s.reloads.Load(), ReloadFailures: s.reloadFailures.Load(),
		ReloadBackoffs: s.reloadBackoffs.Load(), LogsDropped: s.logsDropped.Load(),
	}
}

// Metrics are all metrics by name (without Envoy's wasmcustom. prefix).
func (h *Host) Metrics() map[string]Metric { return h.metrics.all() }

// SharedKeys are the shared-data keys of a vm_id, sorted. A guest has no way
// to list them.
func (h *Host) SharedKeys(vmID string) []string { return h.shared.keys(vmID) }

// Shared is the value under a shared-data key.
func (h *Host) Shared(vmID, key string) ([]byte, bool) {
	v, st := h.shared.get(vmID, key)
	return v.value, st == statusOK
}

// LogLine is one line that a VM logged, or that the host has to say of it.
type LogLine struct {
	At             time.Time
	Kind           Kind
	Worker         int
	Level, Message string
}

// maxLogLines bounds what Logs keeps; the oldest go, and are counted.
const maxLogLines = 4096

// Logs are the newest lines.
func (h *Host) Logs() []LogLine {
	h.logMu.Lock()
	defer h.logMu.Unlock()
	return append([]LogLine(nil), h.lines...)
}

func (h *Host) logLine(v *vm, level, msg string) {
	msg = strings.TrimSuffix(msg, "\n")
	line := LogLine{At: h.now(), Kind: v.kind, Level: level, Message: msg}
	if v.thread != nil {
		line.Worker = v.thread.index
	}
	h.log.Debug(msg, "level", level, "vm", string(v.kind), "worker", line.Worker)
	h.logMu.Lock()
	defer h.logMu.Unlock()
	if len(h.lines) == maxLogLines {
		h.lines = append(h.lines[:0], h.lines[1:]...)
		h.stats.logsDropped.Add(1)
	}
	h.lines = append(h.lines, line)
}

func (h *Host) requestID() string {
	h.rngMu.Lock()
	defer h.rngMu.Unlock()
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], h.rng.Uint64())
	binary.BigEndian.PutUint64(b[8:], h.rng.Uint64())
	return fmt.Sprintf("%x-%x-4%x-9%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])[:36]
}

func (h *Host) jitter(d time.Duration) time.Duration {
	h.rngMu.Lock()
	defer h.rngMu.Unlock()
	return time.Duration(h.rng.Int64N(int64(d)))
}

// Close shuts the process down: on_done and on_delete for each plugin context,
// then no more. What is still in flight or unanswered is lost, as in Envoy.
func (h *Host) Close() error {
	for _, t := range h.threads() {
		for _, hd := range []**handle{&t.handle, &t.attempt} {
			if *hd != nil {
				last := *hd
				*hd = nil
				last.release()
			}
		}
	}
	for _, t := range h.threads() {
		for _, v := range t.all {
			v.close()
		}
	}
	return nil
}

func (h *Host) threads() []*thread {
	var ts []*thread
	if h.main != nil {
		ts = append(ts, h.main)
	}
	for _, w := range h.workers {
		ts = append(ts, w.t)
	}
	return ts
}

// Advance lets virtual time pass: ticks and answers run in order of their
// time. Advance(0) runs what is due now.
func (h *Host) Advance(d time.Duration) {
	if h.cfg.Now != nil {
		panic("host: Advance needs the virtual clock")
	}
	target := h.now().Add(d)
	for {
		e, ok := h.events.due(target)
		if !ok {
			break
		}
		if e.at.After(h.now()) {
			h.virtual.Store(e.at.UnixNano())
		}
		e.run()
	}
	h.virtual.Store(target.UnixNano())
}

// Poll runs what is due on a real clock, and says when the next is.
func (h *Host) Poll() (next time.Time, any bool) {
	for {
		e, ok := h.events.due(h.now())
		if !ok {
			return h.events.next()
		}
		e.run()
	}
}

// SetClock steps the virtual wall clock, also backwards, without running what
// lies between; timers keep their distance.
func (h *Host) SetClock(t time.Time) {
	delta := t.Sub(h.now())
	h.events.shift(delta)
	h.virtual.Store(t.UnixNano())
}

func (h *Host) at(t time.Time, run func()) { h.events.push(event{at: t, run: run}) }

// setTick arms or stops a root context's timer. It is armed anew after each
// tick, so ticks drift by what they take.
func (h *Host) setTick(root *wasmContext, period time.Duration) {
	root.tick = period
	root.tickEpoch++
	h.armTick(root, root.tickEpoch)
}

func (h *Host) armTick(root *wasmContext, epoch uint64) {
	if root.tick <= 0 || root.vm.kind == KindCanary {
		return
	}
	h.at(h.now().Add(root.tick+h.cfg.TickLag), func() {
		if root.destroyed || root.tickEpoch != epoch || root.vm.failed != nil || root.vm.closed {
			return
		}
		root.vm.callback(root, "proxy_on_tick", uint64(root.id))
		if root.tickEpoch == epoch {
			h.armTick(root, epoch)
		}
	})
}

// event is something that happens at a time; equal times run in order of
// arrival.
type event struct {
	at  time.Time
	seq uint64
	run func()
}

type eventQueue struct {
	mu  sync.Mutex
	h   eventHeap
	seq uint64
}

func (q *eventQueue) push(e event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seq++
	e.seq = q.seq
	heap.Push(&q.h, e)
}

func (q *eventQueue) due(by time.Time) (event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.h) == 0 || q.h[0].at.After(by) {
		return event{}, false
	}
	return heap.Pop(&q.h).(event), true
}

func (q *eventQueue) next() (time.Time, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.h) == 0 {
		return time.Time{}, false
	}
	return q.h[0].at, true
}

func (q *eventQueue) shift(d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.h {
		q.h[i].at = q.h[i].at.Add(d)
	}
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
