package plugin

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine/bulkhead"
	"github.com/seawall-mesh/seawall/filter/engine/codec"
)

// poolPlan has one pool of two permits and a queue of three, for a critical
// and a low route.
func poolPlan() contract.Plan {
	plan := testPlan()
	plan.Routes = []contract.Route{
		{Name: "pay/charge", Service: "pay", Route: "charge", Priority: "critical", Pool: "db", Breaker: testBreaker(), TimeoutNS: 8 * sec},
		{Name: "pay/offers", Service: "pay", Route: "offers", Priority: "medium"},
		{Name: "pay/report", Service: "pay", Route: "report", Priority: "low", Pool: "db", TimeoutNS: 8 * sec},
	}
	plan.Pools = []contract.Pool{{Service: "pay", Name: "db", MaxConcurrency: 2, MaxQueue: 3, MaxWaitNS: 4 * sec, TimeoutNS: 10 * sec}}
	return plan
}

func poolWorkers(t require.TestingT, n int) []*worker {
	p := newProxy(t)
	for range n {
		p.worker(poolPlan())
	}
	return p.workers
}

// record is what stands in the shared record of pool db.
func (p *proxy) pool() *bulkhead.State {
	var s bulkhead.State
	if value := p.shared["sw1/q/pay/db"].value; value != nil {
		require.True(p.t, codec.ParsePool(value, &s))
	}
	return &s
}

// deliver gives all workers their wakes, and reports how many there were.
func (p *proxy) deliver() (n int) {
	for i, q := range p.queues {
		for len(q.items) > 0 {
			n += len(q.items)
			q.reader.vm.QueueReady(Queue(i + 1))
		}
	}
	return n
}

func (w *worker) finish(id uint32, route string, code int) { w.end(id, route, status(code)) }

func TestAPoolIsSharedByRoutesAndWorkers(t *testing.T) {
	t.Parallel()
	ws := poolWorkers(t, 2)
	a, refused := ws[0].start("pay/charge", nil)
	require.Nil(t, refused)
	b, _ := ws[1].start("pay/report", nil)
	require.Empty(t, ws[0].paused)
	require.Empty(t, ws[1].paused)

	low, _ := ws[0].start("pay/report", nil)
	require.True(t, ws[0].paused[low])
	require.EqualValues(t, hurryMS, ws[0].ticks[len(ws[0].ticks)-1])
	critical, _ := ws[1].start("pay/charge", nil)
	require.True(t, ws[1].paused[critical])
	later, _ := ws[0].start("pay/charge", nil)
	require.True(t, ws[0].paused[later])
	full, refused := ws[1].start("pay/charge", map[string]string{"x-request-id": "id-9"})
	require.Equal(t, 503, refused.Status)
	require.EqualValues(t, 8, refused.GRPC)
	require.Equal(t, [][2]string{{"content-type", "application/problem+json"}, {"retry-after", "1"}, {"x-seawall-decision", "bulkhead-full"}, {"x-request-id", "id-9"}}, refused.Headers)
	require.Contains(t, string(refused.Body), `"detail":"all permits of pool pay/db are taken, and its queue is full"`)
	ws[1].end(full, "pay/charge", answer{code: 503})

	require.True(t, ws[0].request("pay/offers", status(200)), "another route is not touched")

	ws[0].now += sec
	ws[0].finish(a, "pay/charge", 200)
	require.Equal(t, 1, ws[0].deliver(), "one permit, one wake")
	require.Equal(t, []uint32{critical}, ws[1].resumed, "critical before low, first come first served")
	require.Empty(t, ws[0].resumed)
	require.Equal(t, map[string]string{"x-envoy-upstream-rq-timeout-ms": "7000"}, ws[1].sent, "a second of eight was spent in the queue")
	ws[1].finish(b, "pay/report", 200)
	ws[1].deliver()
	require.Equal(t, []uint32{later}, ws[0].resumed)
	ws[1].finish(critical, "pay/charge", 200)
	ws[0].deliver()
	require.Equal(t, []uint32{later, low}, ws[0].resumed)
	ws[0].finish(low, "pay/report", 200)
	ws[0].finish(later, "pay/charge", 200)
	require.Empty(t, ws[0].pool().Permits)

	ws[0].tick()
	require.EqualValues(t, tickMS, ws[0].ticks[len(ws[0].ticks)-1], "nobody waits: it ticks as before")
	batch := ws[0].batch()
	require.Equal(t, []contract.PoolState{{Service: "pay", Pool: "db", Limit: 2, Granted: 3, MaxWaitNS: sec}}, batch.Pools)
	require.Equal(t, []contract.PoolState{{Service: "pay", Pool: "db", Limit: 2, Granted: 2, Full: 1, MaxWaitNS: sec}}, ws[1].batch().Pools)
	require.Zero(t, ws[0].batch().Pools[0].MaxWaitNS, "since the last batch")
}

func TestAPoolWithoutContentionReadsNoRecord(t *testing.T) {
	t.Parallel()
	w := poolWorkers(t, 1)[0]
	w.request("pay/charge", status(200))
	w.calls = map[string]int{}
	id, _ := w.start("pay/charge", nil)
	require.Empty(t, w.sent, "Envoy's own timeout is as long")
	w.finish(id, "pay/charge", 200)
	require.Equal(t, map[string]int{"now": 2, "metricGet": 1, "property": 3, "sharedSet": 2}, w.calls)
}

func TestWaitingTooLong(t *testing.T) {
	t.Parallel()
	w := poolWorkers(t, 1)[0]
	a, _ := w.start("pay/report", nil)
	b, _ := w.start("pay/report", nil)
	c, _ := w.start("pay/charge", map[string]string{"x-request-id": "id-1"})
	w.now += 4*sec - 1
	w.tick()
	require.True(t, w.paused[c])
	w.now++
	w.tick()
	require.False(t, w.paused[c])
	refused := w.answers[c]
	require.Equal(t, 503, refused.Status)
	require.Contains(t, refused.Headers, [2]string{"x-seawall-decision", "bulkhead-timeout"})
	require.Contains(t, string(refused.Body), `"detail":"no permit of pool pay/db came free in time"`)
	require.Equal(t, w.root, w.context, "and the tick goes on as the plan's")
	w.end(c, "pay/charge", answer{code: 503, details: refused.Details})
	w.finish(a, "pay/report", 200)
	w.finish(b, "pay/report", 200)
	require.Empty(t, w.pool().Permits)
	require.Zero(t, w.vm.waiters)
	w.batch() // of before
	require.Equal(t, map[string]uint64{"pay/report ok": 2, "pay/charge bulkhead-timeout": 1}, counts(w.batch()))
	require.Zero(t, w.vm.cells["pay/charge"].state.Breaker.Failures, "our own refusal says nothing of the service")
}

// However a request ends, its permit comes back, once.
func TestEveryEndGivesThePermitBack(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]answer{
		"answer": status(200), "failure": status(503), "reset": {code: 503, flags: flagConnectionTermination, details: "upstream_reset"},
		"timeout": {code: 504, flags: flagUpstreamTimeout, details: "response_timeout"}, "client left": {flags: flagDownstreamLeft},
		"no connection": {code: 503, flags: flagConnectionFailure}, "mid-body reset": {code: 200, flags: flagUpstreamProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := poolWorkers(t, 1)[0]
			a1, _ := w.start("pay/report", nil)
			a2, _ := w.start("pay/report", nil)
			waits, _ := w.start("pay/report", nil)
			w.end(a1, "pay/report", a)
			require.Len(t, w.pool().Permits, 2)
			require.Empty(t, w.pool().Waiters)
			w.deliver()
			require.Equal(t, []uint32{waits}, w.resumed)
			w.end(waits, "pay/report", a)
			w.end(waits, "pay/report", a)
			require.Len(t, w.pool().Permits, 1)
			w.end(a2, "pay/report", a)
			require.Empty(t, w.pool().Permits)
		})
	}
}

func TestAClientThatHangsUpWhileItWaits(t *testing.T) {
	t.Parallel()
	w := poolWorkers(t, 1)[0]
	a, _ := w.start("pay/report", nil)
	b, _ := w.start("pay/report", nil)
	c, _ := w.start("pay/charge", nil)
	d, _ := w.start("pay/charge", nil)
	w.end(c, "pay/charge", answer{flags: flagDownstreamLeft})
	require.Len(t, w.pool().Waiters, 1)
	w.finish(a, "pay/report", 200) // d is granted
	require.Len(t, w.pool().Permits, 2)
	w.end(d, "pay/charge", answer{flags: flagDownstreamLeft}) // before the wake
	require.Len(t, w.pool().Permits, 1, "a grant that meets a gone stream is free again at once")
	w.deliver()
	require.Empty(t, w.resumed)
	w.finish(b, "pay/report", 200)
	require.Zero(t, w.vm.waiters)
	require.Equal(t, map[string]uint64{"pay/report ok": 2, "pay/charge aborted": 2}, counts(w.batch()))
}

func TestALostWakeIsFoundByTheTick(t *testing.T) {
	t.Parallel()
	ws := poolWorkers(t, 2)
	a, _ := ws[0].start("pay/report", nil)
	b, _ := ws[0].start("pay/report", nil)
	c, _ := ws[1].start("pay/charge", nil)
	ws[0].finish(a, "pay/report", 200)
	for _, q := range ws[0].queues {
		q.items = nil
	}
	ws[1].now += 10e6
	ws[1].tick()
	require.Equal(t, []uint32{c}, ws[1].resumed)
	ws[0].finish(b, "pay/report", 200)
	ws[1].finish(c, "pay/charge", 200)
	require.Empty(t, ws[0].pool().Permits)
}

func TestFastTicksDoNotTakeTelemetryAlong(t *testing.T) {
	t.Parallel()
	w := poolWorkers(t, 1)[0]
	w.batch()
	for range 3 {
		_, _ = w.start("pay/report", nil)
	}
	w.tick() // the context finds out that it ticks fast now
	w.now += sec
	w.tick()
	require.Len(t, w.posts, 1)
	w.reply(202)
	w.calls = map[string]int{}
	for range 18 {
		w.now += 10e6
		w.tick()
	}
	require.Equal(t, map[string]int{"now": 18, "sharedGet": 18}, w.calls)
	w.now += 20e6
	w.tick()
	require.Greater(t, w.calls["sharedGet"], 19)
}

func TestABreakerRefusesBeforeTheQueueAndAfterIt(t *testing.T) {
	t.Parallel()
	w := poolWorkers(t, 1)[0]
	a, _ := w.start("pay/report", nil)
	b, _ := w.start("pay/charge", nil)
	c, _ := w.start("pay/charge", nil) // waits
	for range 5 {
		w.vm.settle(w.vm.cells["pay/charge"], &stream{seq: 1 << 40}, engineFailure(), w.now)
	}
	_, refused := w.start("pay/charge", nil)
	require.Contains(t, refused.Headers, [2]string{"x-seawall-decision", "breaker-open"}, "nothing queues for an open breaker")
	require.Len(t, w.pool().Waiters, 1)
	w.finish(a, "pay/report", 200)
	w.deliver()
	require.Contains(t, w.answers[c].Headers, [2]string{"x-seawall-decision", "breaker-open"}, "it opened while c waited")
	require.Len(t, w.pool().Permits, 1, "and c's permit is free again")
	w.end(c, "pay/charge", answer{code: 503})
	w.finish(b, "pay/charge", 200)

	// Half-open: the probe is taken with the permit, not in the queue.
	w.now += 61 * sec
	r1, _ := w.start("pay/report", nil)
	r2, _ := w.start("pay/report", nil)
	probe, refused := w.start("pay/charge", nil)
	require.Nil(t, refused)
	require.True(t, w.paused[probe])
	require.Equal(t, "open", w.vm.cells["pay/charge"].state.Breaker.Kind.String())
	w.finish(r1, "pay/report", 200)
	w.deliver()
	require.Equal(t, "half-open", w.vm.cells["pay/charge"].state.Breaker.Kind.String())
	require.Equal(t, []uint32{probe}, w.resumed)
	w.finish(probe, "pay/charge", 503)
	require.Equal(t, "open", w.vm.cells["pay/charge"].state.Breaker.Kind.String())
	w.finish(r2, "pay/report", 200)
	require.Empty(t, w.pool().Permits)
}

func TestAPushedLimitTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	ws := poolWorkers(t, 2)
	a, _ := ws[0].start("pay/report", nil)
	b, _ := ws[1].start("pay/report", nil)
	c, _ := ws[1].start("pay/charge", nil)
	d, _ := ws[1].start("pay/charge", nil)
	plan := poolPlan()
	plan.Hash, plan.Pools[0].MaxConcurrency = "00000000000000a2", 3
	for _, w := range ws {
		w.configure(plan)
	}
	require.EqualValues(t, hurryMS, ws[1].ticks[len(ws[1].ticks)-1], "the new context ticks fast: somebody waits")
	ws[1].tick()
	ws[1].deliver()
	require.Equal(t, []uint32{c}, ws[1].resumed)
	plan.Hash, plan.Pools[0].MaxConcurrency = "00000000000000a3", 1
	for _, w := range ws {
		w.configure(plan)
		w.tick()
	}
	ws[0].finish(a, "pay/report", 200)
	ws[1].finish(b, "pay/report", 200)
	ws[1].deliver()
	require.True(t, ws[1].paused[d], "one is out, which is the limit now")
	ws[1].finish(c, "pay/charge", 200)
	ws[1].deliver()
	require.Equal(t, []uint32{c, d}, ws[1].resumed)
}

func TestAPlanThatDropsThePoolStrandsNobody(t *testing.T) {
	t.Parallel()
	ws := poolWorkers(t, 2)
	a, _ := ws[0].start("pay/report", nil)
	b, _ := ws[0].start("pay/report", nil)
	c, _ := ws[1].start("pay/charge", nil)
	plan := poolPlan()
	plan.Hash, plan.Pools = "00000000000000a2", nil
	plan.Routes[0].Pool, plan.Routes[2].Pool = "", ""
	for _, w := range ws {
		w.configure(plan)
		w.tick()
	}
	require.Equal(t, []uint32{c}, ws[1].resumed)
	ws[1].finish(c, "pay/charge", 200)
	require.Len(t, ws[0].vm.poolList, 1, "two of its streams are still out")
	ws[0].finish(a, "pay/report", 200)
	ws[0].finish(b, "pay/report", 200)
	for _, w := range ws {
		w.tick()
		require.Empty(t, w.vm.poolList)
		require.Empty(t, w.vm.pools)
	}
	require.Empty(t, ws[0].pool().Permits)
	require.Empty(t, ws[0].pool().Waiters)
}

func TestADeadVMsPermitsComeBackAtTheirExpiry(t *testing.T) {
	t.Parallel()
	ws := poolWorkers(t, 2)
	_, _ = ws[0].start("pay/report", nil)
	_, _ = ws[0].start("pay/report", nil)
	_, _ = ws[0].start("pay/charge", nil) // waits, in the VM that dies
	ws[0].boot()
	ws[0].configure(poolPlan())
	ws[1].now += 12 * sec // 8 s of timeout and 5 s of slack are not over
	a, _ := ws[1].start("pay/charge", nil)
	require.True(t, ws[1].paused[a], "the service may still be at work on them")
	ws[1].now += sec
	ws[1].tick()
	ws[1].deliver()
	require.Equal(t, []uint32{a}, ws[1].resumed)
	require.Len(t, ws[1].pool().Permits, 1)
	require.Empty(t, ws[1].pool().Waiters)
}

func TestALivingVMKeepsItsPermits(t *testing.T) {
	t.Parallel()
	ws := poolWorkers(t, 2)
	_, _ = ws[0].start("pay/report", nil)
	_, _ = ws[0].start("pay/report", nil)
	for range 300 { // a slow upload: the router's timeout has not even started
		ws[0].now += sec
		ws[0].tick()
		ws[1].tick()
		require.Len(t, ws[0].pool().Permits, 2)
	}
}

func TestWhatCouldNotBeGivenBackIsAtTheNextTick(t *testing.T) {
	t.Parallel()
	w := poolWorkers(t, 1)[0]
	id, _ := w.start("pay/report", nil)
	w.onCall = func(name string) {
		if name == "sharedSet" {
			r := w.shared["sw1/q/pay/db"]
			r.version += 1000
			w.shared["sw1/q/pay/db"] = r
		}
	}
	w.finish(id, "pay/report", 200)
	require.EqualValues(t, 1, w.vm.counters.CASExhausted)
	w.onCall = nil
	require.Len(t, w.pool().Permits, 1)
	w.tick()
	require.Empty(t, w.pool().Permits)
}

func TestAForeignRecordIsAFreshPool(t *testing.T) {
	t.Parallel()
	w := poolWorkers(t, 1)[0]
	w.shared["sw1/q/pay/db"] = record{value: []byte("nonsense"), version: 7}
	id, refused := w.start("pay/report", nil)
	require.Nil(t, refused)
	require.Len(t, w.pool().Permits, 1)
	w.finish(id, "pay/report", 200)
	require.Equal(t, "pool-reset", w.batch().Events[0].Kind)
}

func TestPoolGauges(t *testing.T) {
	t.Parallel()
	ws := poolWorkers(t, 2)
	for range 4 {
		_, _ = ws[0].start("pay/report", nil)
	}
	ws[1].tick()
	require.Equal(t, []string{"held.service=pay.pool=db=2", "waiting.service=pay.pool=db=2"}, ws[0].shown("seawall.pool_"))
	plan := poolPlan()
	plan.Pools[0].Name, plan.Routes[0].Pool, plan.Routes[2].Pool = "files", "files", "files"
	ws[1].configure(plan)
	require.Empty(t, ws[0].shown("seawall.pool_"), "a pool that is gone shows nothing")
}

func TestAPooledRequestAllocatesNothing(t *testing.T) {
	w := poolWorkers(t, 1)[0]
	w.props[propRouteName], w.props[propCode], w.props[propFlags] = []byte("pay/charge"), number(200), number(0)
	host := &recordHost{worker: w}
	w.vm.host, w.vm.shared.host, w.vm.epoch.host = host, host, host
	id := uint32(1000)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		id++
		w.vm.RequestHeaders(id)
		w.vm.StreamDone(id)
	}))
	require.NotZero(t, host.version)
}

// recordHost keeps one record without allocating.
type recordHost struct {
	*worker
	value   []byte
	version uint32
}

func (h *recordHost) SharedGet(string) ([]byte, uint32, bool) {
	return h.value, h.version, h.version > 0
}

func (h *recordHost) SharedSet(_ string, value []byte, _ uint32) bool {
	h.value = append(h.value[:0], value...)
	h.version++
	return true
}
func (h *recordHost) SetRequestHeader(string, []byte) {}

func TestAFaultInTheQueueGivesThePlaceBack(t *testing.T) {
	t.Parallel()
	w := poolWorkers(t, 1)[0]
	_, _ = w.start("pay/report", nil)
	_, _ = w.start("pay/report", nil)
	w.onCall = func(name string) {
		if name == "openQueue" {
			panic("boom")
		}
	}
	id, refused := w.start("pay/report", nil)
	require.Nil(t, refused)
	require.False(t, w.paused[id], "failureMode open: it goes on")
	w.onCall = nil
	require.Len(t, w.pool().Waiters, 1)
	w.tick()
	require.Empty(t, w.pool().Waiters)
	w.finish(id, "pay/report", 200)
	require.Len(t, w.pool().Permits, 2)
}

// A fault of ours while a request that waited is sent on follows failureMode as
// any other does: it does not stay paused.
func TestAFaultAfterTheQueueLeavesNobodyPaused(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"open", "closed"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			plan := poolPlan()
			plan.FailureMode = mode
			w := newProxy(t).worker(plan)
			a, _ := w.start("pay/report", nil)
			_, _ = w.start("pay/report", nil)
			c, _ := w.start("pay/report", nil)
			w.finish(a, "pay/report", 200)
			w.onCall = func(name string) {
				if name == "metricGet" {
					panic("boom")
				}
			}
			w.deliver()
			require.False(t, w.paused[c])
			require.Equal(t, mode == "open", w.answers[c] == nil)
			w.onCall = nil
			require.EqualValues(t, 1, w.vm.counters.Panics)
			w.finish(c, "pay/report", 200)
			require.Len(t, w.pool().Permits, 1)
		})
	}
}

func TestAPlanThatTheFilterRefusesNamesThePool(t *testing.T) {
	t.Parallel()
	w := poolWorkers(t, 1)[0]
	plan := poolPlan()
	plan.Pools[0].MaxConcurrency = 0
	data, err := json.Marshal(plan)
	require.NoError(t, err)
	require.False(t, w.vm.Configure(99, data))
	require.Contains(t, w.logs[len(w.logs)-1], "pools[0].maxConcurrency: 0 is not in 1..1024")
}
