package plugin

import (
	"encoding/json"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
)

const sec = int64(1e9)

// proxy is what the workers of one Envoy share: clock, shared data, metrics.
type proxy struct {
	t       require.TestingT
	now     int64
	random  uint64
	version uint32
	shared  map[string]record
	metrics map[string]Metric
	names   []string
	values  []uint64
	hidden  bool // a stats_matcher hides our metrics
	noLuck  bool // Random is 0
	logs    []string
	token   uint32
	ids     uint32
	workers []*worker
	queues  []*queue
}

// queue is a queue between VMs; the last that opened it reads it.
type queue struct {
	name   string
	reader *worker
	items  [][]byte
}

type record struct {
	value   []byte
	version uint32
}

func newProxy(t require.TestingT) *proxy {
	return &proxy{t: t, now: 1_780_000_000 * sec, random: 1, shared: map[string]record{}, metrics: map[string]Metric{}}
}

// worker is one worker thread: the Host of one VM.
type worker struct {
	*proxy
	vm          *VM
	root        uint32
	attemptRoot uint32 // 0: the VM is in no upstream chain
	rootIDs     map[uint32]string
	rootID      string // prefix of root ids
	props       map[string][]byte
	headers     map[string]string
	trailers    map[string]string
	response    *Response
	answer      map[string]string // headers of the answer that the callback is about
	posts       []posted          // under way
	status      int
	calls       map[string]int
	sent        map[string]string // request headers that we have set
	paused      map[uint32]bool   // streams that wait
	resumed     []uint32
	answers     map[uint32]*Response
	live        map[uint32]bool // streams that are not over
	context     uint32
	ticks       []uint32          // periods asked for
	onCall      func(name string) // to fail in a host call
	postFail    bool
}

type posted struct {
	token uint32
	body  []byte
	to    Post
}

func (p *proxy) worker(plan contract.Plan) *worker {
	w := &worker{proxy: p, props: map[string][]byte{propNodeID: []byte("edge-1"), propVMID: []byte("seawall")}, calls: map[string]int{}, rootIDs: map[uint32]string{}, paused: map[uint32]bool{}, answers: map[uint32]*Response{}, live: map[uint32]bool{}}
	w.boot()
	w.configure(plan)
	p.workers = append(p.workers, w)
	return w
}

// boot gives the worker a new VM, as after a trap.
func (w *worker) boot() {
	w.vm = New(w)
	w.posts = nil
	require.True(w.t, w.vm.Start([]byte("f1f2")))
}

func (w *worker) configure(plan contract.Plan) {
	data, err := json.Marshal(plan)
	require.NoError(w.t, err)
	w.ids++
	w.root = w.ids
	w.rootIDs[w.root] = w.rootID + plan.Hash
	w.props[propRootID] = []byte(w.rootName())
	require.True(w.t, w.vm.Configure(w.root, data))
}

func (w *worker) rootName() string { return w.rootIDs[w.root] }

func (w *worker) tick() { w.vm.Tick(w.root) }

// answer is how the proxy ends a stream.
type answer struct {
	code    int
	flags   int64
	details string
	grpc    int64
	isGRPC  bool
	// trailersOnly: its status is in the headers of a response without a body.
	trailersOnly bool
}

func status(code int) answer { return answer{code: code, details: "via_upstream"} }

// start begins a stream; refused is our answer to it, if we gave one.
func (w *worker) start(route string, headers map[string]string) (id uint32, refused *Response) {
	w.ids++
	id = w.ids
	w.props[propRouteName] = []byte(route)
	w.headers, w.response, w.sent, w.context = headers, nil, nil, id
	w.live[id] = true
	w.props[propRootID] = []byte(w.rootName())
	paused := w.vm.RequestHeaders(id)
	if paused && w.response == nil {
		w.paused[id] = true
		return id, nil
	}
	require.Equal(w.t, w.response != nil, paused)
	return id, w.response
}

func (w *worker) end(id uint32, route string, a answer) {
	w.props[propRouteName] = []byte(route)
	delete(w.props, propCode)
	if a.code != 0 {
		w.props[propCode] = number(int64(a.code))
	}
	w.props[propFlags] = number(a.flags)
	w.props[propDetails] = []byte(a.details)
	delete(w.props, propGRPCStatus)
	w.trailers = nil
	switch {
	case a.isGRPC && a.trailersOnly:
		w.props[propGRPCStatus] = []byte(strconv.FormatInt(a.grpc, 10))
	case a.isGRPC:
		w.trailers = map[string]string{trailerGRPCStatus: strconv.FormatInt(a.grpc, 10)}
		w.vm.ResponseTrailers(id)
	}
	if !w.hidden && (a.code < 200 || a.code > 399 || a.flags != 0) { // the listener's access log
		m, _ := w.DefineMetric(Counter, contract.EndSignalMetric)
		w.values[m]++
	}
	delete(w.paused, id)
	w.context = id
	w.vm.StreamDone(id)
	delete(w.live, id)
}

// request runs one request and reports whether it was sent on.
func (w *worker) request(route string, a answer) bool {
	id, refused := w.start(route, nil)
	if refused != nil {
		a = answer{code: refused.Status, details: refused.Details}
	}
	w.end(id, route, a)
	return refused == nil
}

// reply answers a post that is under way.
func (w *worker) reply(status int) contract.Batch {
	require.NotEmpty(w.t, w.posts, "no batch is under way")
	p := w.posts[0]
	w.posts = w.posts[1:]
	w.status = status
	w.vm.CallDone(p.token)
	var b contract.Batch
	require.NoError(w.t, json.Unmarshal(p.body, &b))
	return b
}

// batch ticks until a batch leaves, and acknowledges it.
func (w *worker) batch() contract.Batch {
	for range 20 {
		w.tick()
		if len(w.posts) > 0 {
			return w.reply(202)
		}
		w.now += 200e6
	}
	require.Fail(w.t, "no batch within four seconds")
	return contract.Batch{}
}

func number(n int64) []byte {
	b := make([]byte, 8)
	put64(b, uint64(n))
	return b
}

func (w *worker) call(name string) {
	w.calls[name]++
	if w.onCall != nil {
		w.onCall(name)
	}
}

func (w *worker) Now() int64 { w.call("now"); return w.now }
func (w *worker) Random() uint64 {
	if w.noLuck {
		return 0
	}
	w.random = w.random*6364136223846793005 + 1442695040888963407
	return w.random
}
func (w *worker) Log(_ Level, message string) { w.logs = append(w.logs, message) }

func (w *worker) Property(path string) ([]byte, bool) {
	w.call("property")
	value, ok := w.props[path]
	return value, ok
}

func (w *worker) RequestHeader(name string) ([]byte, bool) {
	w.call("header")
	value, ok := w.headers[name]
	return []byte(value), ok
}

func (w *worker) Respond(r Response) {
	w.call("respond")
	w.response, w.answers[w.context] = &r, &r
	delete(w.paused, w.context)
}

func (w *worker) SharedGet(key string) ([]byte, uint32, bool) {
	w.call("sharedGet")
	r, ok := w.shared[key]
	return append([]byte(nil), r.value...), r.version, ok
}

func (w *worker) SharedSet(key string, value []byte, version uint32) bool {
	w.call("sharedSet")
	require.NotZero(w.t, version, "version 0 overwrites")
	if r, ok := w.shared[key]; ok && r.version != version {
		return false
	}
	w.version++
	w.shared[key] = record{value: append([]byte(nil), value...), version: w.version}
	return true
}

func (w *worker) DefineMetric(_ MetricKind, name string) (Metric, bool) {
	w.call("define")
	m, ok := w.metrics[name]
	if !ok {
		m = Metric(len(w.values))
		w.metrics[name] = m
		w.names, w.values = append(w.names, name), append(w.values, 0)
	}
	return m, true
}

func (w *worker) MetricAdd(m Metric, delta int64) {
	if !w.hidden {
		w.values[m] += uint64(delta)
	}
}

func (w *worker) MetricSet(m Metric, value uint64) {
	if !w.hidden {
		w.values[m] = value
	}
}

func (w *worker) MetricGet(m Metric) uint64 { w.call("metricGet"); return w.values[m] }
func (w *worker) SetTick(ms uint32)         { w.ticks = append(w.ticks, ms) }

func (w *worker) ResponseTrailer(name string) ([]byte, bool) {
	w.call("trailer")
	v, ok := w.trailers[name]
	return []byte(v), ok
}

func (w *worker) SetRequestHeader(name string, value []byte) {
	w.call("setHeader")
	if w.sent == nil {
		w.sent = map[string]string{}
	}
	w.sent[name] = string(value)
}

func (w *worker) ResponseHeader(name string) ([]byte, bool) {
	w.call("header")
	value, ok := w.answer[name]
	return []byte(value), ok
}

func (w *worker) SetResponseHeader(name string, value []byte) { w.answer[name] = string(value) }

func (w *worker) SetProperty(name string, value []byte) {
	w.call("setProperty")
	w.props[name] = append([]byte(nil), value...)
}

func (w *worker) Enter(context uint32) bool {
	w.context = context
	w.response, w.sent = nil, nil
	_, isRoot := w.rootIDs[context]
	return isRoot || w.live[context]
}

func (w *worker) Resume() {
	require.True(w.t, w.paused[w.context], "only a paused request can be resumed")
	delete(w.paused, w.context)
	w.resumed = append(w.resumed, w.context)
}

func (w *worker) OpenQueue(name string) (Queue, bool) {
	w.call("openQueue")
	q, ok := w.FindQueue("seawall", name)
	if !ok {
		w.queues = append(w.queues, &queue{name: name})
		q = Queue(len(w.queues))
	}
	w.queues[q-1].reader = w
	return q, true
}

func (w *worker) FindQueue(vmID, name string) (Queue, bool) {
	require.Equal(w.t, "seawall", vmID)
	for i, q := range w.queues {
		if q.name == name {
			return Queue(i + 1), true
		}
	}
	return 0, false
}

func (w *worker) Enqueue(q Queue, message []byte) {
	w.queues[q-1].items = append(w.queues[q-1].items, append([]byte(nil), message...))
}

func (w *worker) Dequeue(q Queue) ([]byte, bool) {
	items := w.queues[q-1].items
	if len(items) == 0 {
		return nil, false
	}
	w.queues[q-1].items = items[1:]
	return items[0], true
}

func (w *worker) Post(p Post) (uint32, bool) {
	if w.postFail {
		return 0, false
	}
	token := w.token // the first token may be 0
	w.token++
	w.posts = append(w.posts, posted{token: token, body: append([]byte(nil), p.Body...), to: p})
	return token, true
}

func (w *worker) PostStatus() int { return w.status }

// shown lists the metrics of a prefix that are not 0.
func (p *proxy) shown(prefix string) []string {
	var out []string
	for name, m := range p.metrics {
		if n := p.values[m]; n != 0 && strings.HasPrefix(name, prefix) {
			out = append(out, strings.TrimPrefix(name, prefix)+"="+string(rune('0'+min(n, 9))))
		}
	}
	sort.Strings(out)
	return out
}

func testPlan() contract.Plan {
	return contract.Plan{
		Schema: 1, Hash: "00000000000000a1", Edge: "default", FailureMode: "open", ProblemTypeBase: "https://example.org/p/",
		LatencyBoundsUS: []int64{1_000, 10_000, 100_000},
		Telemetry:       contract.Telemetry{Cluster: "seawall-telemetry", Authority: "telemetry", Path: "/v1/batches"},
		Routes: []contract.Route{
			{Name: "pay/charge", Service: "pay", Route: "charge", Priority: "critical", Breaker: testBreaker()},
			{Name: "pay/chat", Service: "pay", Route: "chat", Priority: "low", GRPC: true, Breaker: testBreaker()},
			{Name: "pay/offers", Service: "pay", Route: "offers", Priority: "medium"},
		},
	}
}

func testBreaker() *contract.Breaker {
	return &contract.Breaker{
		Identity: "00000000deadbeef", ConsecutiveFailures: 5, RecoveryNS: 60 * sec, RecoveryMaxNS: 300 * sec, MultiplierPPM: 1_500_000,
		Probes: 3, Successes: 3, ProbeExpiryNS: 30 * sec, Failures: []string{"5xx", "reset", "timeout", "connect-failure"},
	}
}

func workers(t *testing.T, n int) []*worker {
	t.Helper()
	p := newProxy(t)
	for range n {
		p.worker(testPlan())
	}
	return p.workers
}

func counts(b ...contract.Batch) map[string]uint64 {
	out := map[string]uint64{}
	for _, batch := range b {
		for _, r := range batch.Rows {
			for _, c := range r.Counts {
				out[r.Service+"/"+r.Route+" "+c.Outcome] += c.N
			}
		}
	}
	return out
}
