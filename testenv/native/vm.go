package native

import (
	"strconv"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/plugin"
	"github.com/seawall-mesh/seawall/testenv/scenario"
)

// vm is one VM, and the plugin.Host of it.
type vm struct {
	w       *World
	thread  *thread // nil: it only tries a plan
	plugin  *plugin.VM
	dead    bool
	roots   []*root
	streams map[uint32]*stream
	nextID  uint32
	token   uint32

	tries map[uint32]*try

	root   *root   // of the callback that runs
	stream *stream // of the callback that runs, nil: a root's or a try's
	try    *try    // of the callback that runs
	status int     // of the answer that the callback is about
}

var _ plugin.Host = (*vm)(nil)

// root is a plugin context.
type root struct {
	vm    *vm
	id    uint32
	plan  string
	refs  int // the thread's, and one of each stream
	gone  bool
	armed uint64 // a timer of another number is void
}

func newVM(w *World, t *thread) *vm {
	v := &vm{w: w, thread: t, streams: map[uint32]*stream{}, tries: map[uint32]*try{}}
	v.plugin = plugin.New(v)
	return v
}

// open makes a context for a plan, nil where the plugin refuses it.
func (v *vm) open(plan []byte) *root {
	v.nextID++
	r := &root{vm: v, id: v.nextID, plan: string(plan)}
	ok := false
	v.call(r, nil, func() {
		ok = v.plugin.Start([]byte("native")) && v.plugin.Configure(r.id, append([]byte(nil), plan...))
	})
	if !ok {
		return nil
	}
	v.roots = append(v.roots, r)
	return r
}

func (v *vm) rootOf(plan []byte) *root {
	for _, r := range v.roots {
		if r.plan == string(plan) {
			return r
		}
	}
	return nil
}

func (r *root) release() {
	if r.refs--; r.refs > 0 {
		return
	}
	r.vm.call(r, nil, func() { r.vm.plugin.StreamDone(r.id) })
	r.gone = true
	for i, other := range r.vm.roots {
		if other == r {
			r.vm.roots = append(r.vm.roots[:i], r.vm.roots[i+1:]...)
			return
		}
	}
}

// call runs a callback, unless the VM is dead.
func (v *vm) call(r *root, s *stream, run func()) bool {
	if v.dead {
		return false
	}
	v.root, v.stream = r, s
	run()
	v.root, v.stream, v.try = nil, nil, nil
	return true
}

// Now is the virtual clock.
func (v *vm) Now() int64 { return v.w.now }

// Random is reproducible.
func (v *vm) Random() uint64 { return v.w.rng.Uint64() }

// Log keeps the line.
func (v *vm) Log(_ plugin.Level, message string) {
	if len(v.w.logs) == 4096 {
		v.w.logs = append(v.w.logs[:0], v.w.logs[1:]...)
	}
	v.w.logs = append(v.w.logs, message)
}

// Property is a property of the stream, or of this Envoy.
func (v *vm) Property(path string) ([]byte, bool) {
	switch path {
	case "plugin_root_id":
		return []byte(rootID), true
	case "plugin_vm_id":
		return []byte(vmID), true
	case "xds\x00node\x00id":
		return []byte(v.w.cfg.Node), true
	}
	switch {
	case v.stream != nil:
		return v.stream.property(path)
	case v.try != nil:
		return v.try.edge.property(path)
	}
	return nil, false
}

// RequestHeader is a header of the stream.
func (v *vm) RequestHeader(name string) ([]byte, bool) {
	s := v.request()
	if s == nil {
		return nil, false
	}
	value, ok := s.headers[name]
	return []byte(value), ok
}

// request is the stream whose request the callback is about.
func (v *vm) request() *stream {
	if v.try != nil {
		return v.try.edge
	}
	return v.stream
}

// ResponseTrailer reads one.
func (v *vm) ResponseTrailer(name string) ([]byte, bool) {
	if v.stream == nil {
		return nil, false
	}
	value, ok := v.stream.trailers[name]
	return []byte(value), ok
}

// SetRequestHeader replaces one.
func (v *vm) SetRequestHeader(name string, value []byte) {
	if s := v.request(); s != nil {
		s.headers[name] = string(value)
	}
}

// Enter makes another context the one that calls are about.
func (v *vm) Enter(id uint32) bool {
	if s := v.streams[id]; s != nil {
		v.root, v.stream, v.try = s.root, s, nil
		return true
	}
	if t := v.tries[id]; t != nil {
		v.root, v.stream, v.try = t.root, nil, t
		return true
	}
	for _, r := range v.roots {
		if r.id == id {
			v.root, v.stream, v.try = r, nil, nil
			return true
		}
	}
	return false
}

// Resume sends the paused request on.
func (v *vm) Resume() {
	if v.try != nil {
		v.try.held = false
	} else if v.stream != nil {
		v.stream.forward()
	}
}

// Respond answers the request.
func (v *vm) Respond(r plugin.Response) {
	if s := v.request(); s != nil {
		s.local(r)
	}
}

// SharedGet reads a record.
func (v *vm) SharedGet(key string) ([]byte, uint32, bool) {
	r, ok := v.w.shared[key]
	return append([]byte(nil), r.value...), r.version, ok
}

// SharedSet compares and swaps.
func (v *vm) SharedSet(key string, value []byte, version uint32) bool {
	if version == 0 {
		panic("native: version 0 overwrites whatever is there")
	}
	if r, ok := v.w.shared[key]; ok && r.version != version {
		return false
	}
	v.w.version++
	v.w.shared[key] = record{append([]byte(nil), value...), v.w.version}
	return true
}

// DefineMetric gives one handle per name.
func (v *vm) DefineMetric(_ plugin.MetricKind, name string) (plugin.Metric, bool) {
	return v.w.metric(name), true
}

func (w *World) metric(name string) plugin.Metric {
	m, ok := w.handles[name]
	if !ok {
		m = plugin.Metric(len(w.values))
		w.handles[name] = m
		w.values = append(w.values, 0)
	}
	return m
}

// countEnd is the listener's access log: it counts ends that are not good.
func (w *World) countEnd(code int, flags uint64) {
	if m := w.metric(contract.EndSignalMetric); !w.cfg.HideMetrics && (code < 200 || code > 399 || flags != 0) {
		w.values[m]++
	}
}

// MetricAdd adds.
func (v *vm) MetricAdd(m plugin.Metric, delta int64) {
	if !v.w.cfg.HideMetrics {
		v.w.values[m] += uint64(delta)
	}
}

// MetricSet sets.
func (v *vm) MetricSet(m plugin.Metric, value uint64) {
	if !v.w.cfg.HideMetrics {
		v.w.values[m] = value
	}
}

// MetricGet reads.
func (v *vm) MetricGet(m plugin.Metric) uint64 { return v.w.values[m] }

// OpenQueue makes the callback's plan context the queue's reader.
func (v *vm) OpenQueue(name string) (plugin.Queue, bool) {
	if q, ok := v.FindQueue(vmID, name); ok {
		v.w.queues[q-1].reader = v.root
		return q, true
	}
	v.w.queues = append(v.w.queues, &queue{name: name, reader: v.root})
	return plugin.Queue(len(v.w.queues)), true
}

// FindQueue is a queue that was opened.
func (v *vm) FindQueue(id, name string) (plugin.Queue, bool) {
	for i, q := range v.w.queues {
		if id == vmID && q.name == name {
			return plugin.Queue(i + 1), true
		}
	}
	return 0, false
}

// Enqueue puts a message in, and wakes the reader after this callback.
func (v *vm) Enqueue(q plugin.Queue, message []byte) {
	to := v.w.queues[q-1]
	to.items = append(to.items, append([]byte(nil), message...))
	v.w.after(0, func() {
		if r := to.reader; r != nil && !r.gone {
			r.vm.call(r, nil, func() { r.vm.plugin.QueueReady(q) })
		}
	})
}

// Dequeue takes one out.
func (v *vm) Dequeue(q plugin.Queue) ([]byte, bool) {
	from := v.w.queues[q-1]
	if len(from.items) == 0 {
		return nil, false
	}
	item := from.items[0]
	from.items = from.items[1:]
	return item, true
}

// SetTick arms the plan context's timer anew.
func (v *vm) SetTick(ms uint32) {
	v.root.armed++
	if v.thread != nil {
		v.root.arm(int64(ms)*1e6, v.root.armed)
	}
}

func (r *root) arm(period int64, number uint64) {
	if period == 0 {
		return
	}
	r.vm.w.after(period, func() {
		if r.gone || r.armed != number {
			return
		}
		if r.vm.call(r, nil, func() { r.vm.plugin.Tick(r.id) }) && r.armed == number {
			r.arm(period, number)
		}
	})
}

// Post sends a batch to the control plane. The answer goes to the callback's
// plan context, if that still lives then.
func (v *vm) Post(p plugin.Post) (uint32, bool) {
	if p.Cluster != scenario.TelemetryCluster {
		return 0, false
	}
	v.token += 4
	token, r := v.token, v.root
	a := v.w.plane.Take(p.Path, p.Body)
	delay, status := int64(a.Delay), a.Status
	switch {
	case a.Hang:
		delay, status = int64(p.TimeoutMS)*1e6, 504
	case status == 0:
		status = 503 // refused: the proxy makes an answer of its own
	}
	v.w.after(delay, func() {
		if r.gone {
			return
		}
		v.call(r, nil, func() {
			v.status = status
			v.plugin.CallDone(token)
			v.status = 0
		})
	})
	return token, true
}

// PostStatus is the answer's.
func (v *vm) PostStatus() int { return v.status }

func number(n int64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
	return b
}

func grpcOfHTTP(code int) int64 {
	switch code {
	case 200:
		return 0
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429, 502, 503, 504:
		return 14
	}
	return 2
}

func parseInt(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
