package plugin

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine/bulkhead"
)

// forecastPlan is poolPlan with deadlines, and a gRPC route.
func forecastPlan() contract.Plan {
	plan := poolPlan()
	plan.Routes[0].DeadlineHeader = "x-deadline-ms"
	plan.Routes = slices.Insert(plan.Routes, 1, contract.Route{Name: "pay/chat", Service: "pay", Route: "chat", Priority: "low", Pool: "db", GRPC: true, TimeoutNS: sec / 4})
	return plan
}

func forecastWorkers(t *testing.T, n int) []*worker {
	t.Helper()
	p := newProxy(t)
	for range n {
		p.worker(forecastPlan())
	}
	return p.workers
}

// pass lets time pass for all workers, with their ticks.
func (p *proxy) pass(ns int64) {
	for ; ns > 0; ns -= 200e6 {
		p.now += min(ns, 200e6)
		for _, w := range p.workers {
			w.tick()
		}
	}
}

// take lets n calls of so many ns pass, one after the other, on the workers in
// turn.
func (p *proxy) take(n int, ns int64) {
	for i := range n {
		w := p.workers[i%len(p.workers)]
		id, refused := w.start("pay/report", nil)
		require.Nil(p.t, refused)
		p.pass(ns)
		w.finish(id, "pay/report", 200)
	}
}

func TestADeadlineThatTheQueueWouldEatIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	ws := forecastWorkers(t, 2)
	p := ws[0].proxy
	p.take(8, sec)
	require.EqualValues(t, 8, p.pool().Pace.Seen)
	a, _ := ws[0].start("pay/report", nil)
	b, _ := ws[1].start("pay/report", nil)
	before := p.shared["sw1/q/pay/db"]

	id, refused := ws[1].start("pay/charge", map[string]string{"x-deadline-ms": "499", "x-request-id": "id-1"})
	require.NotNil(t, refused, "at once")
	require.Equal(t, 504, refused.Status)
	require.Equal(t, [][2]string{{"content-type", "application/problem+json"}, {"x-seawall-decision", "deadline"}, {"x-request-id", "id-1"}}, refused.Headers)
	require.Contains(t, string(refused.Body), `"detail":"the wait for a permit of pool pay/db would take longer than the caller's deadline for pay/charge leaves"`)
	require.EqualValues(t, 4, refused.GRPC)
	ws[1].end(id, "pay/charge", answer{code: 504})

	id, refused = ws[0].start("pay/chat", map[string]string{"x-request-id": "id-2"})
	require.Equal(t, 503, refused.Status)
	require.Equal(t, [][2]string{{"content-type", "application/problem+json"}, {"retry-after", "1"}, {"x-seawall-decision", "bulkhead-timeout"}, {"x-request-id", "id-2"}}, refused.Headers)
	require.Contains(t, string(refused.Body), `"detail":"the wait for a permit of pool pay/db would take longer than pay/chat may take"`)
	require.EqualValues(t, 8, refused.GRPC)
	ws[0].end(id, "pay/chat", answer{code: 503})

	require.Equal(t, before, p.shared["sw1/q/pay/db"], "neither writes the record")
	require.Zero(t, ws[0].vm.waiters)
	require.Zero(t, ws[1].vm.waiters)

	c, refused := ws[0].start("pay/charge", map[string]string{"x-deadline-ms": "500"})
	require.Nil(t, refused)
	require.True(t, ws[0].paused[c], "just in time")
	p.pass(200e6)
	ws[0].finish(a, "pay/report", 200)
	ws[1].finish(b, "pay/report", 200)
	p.deliver()
	require.Equal(t, []uint32{c}, ws[0].resumed)
	ws[0].finish(c, "pay/charge", 200)

	sum := map[string]uint64{}
	var timedOut uint64
	for _, w := range ws {
		for len(w.posts) > 0 {
			for k, n := range counts(w.reply(202)) {
				sum[k] += n
			}
		}
		last := w.batch()
		for k, n := range counts(last) {
			sum[k] += n
		}
		timedOut += last.Pools[0].TimedOut
	}
	require.Equal(t, map[string]uint64{"pay/report ok": 10, "pay/charge deadline": 1, "pay/chat bulkhead-timeout": 1, "pay/charge ok": 1}, sum)
	require.EqualValues(t, 2, timedOut)
}

// maxWait is what the pool allows for waiting, no deadline.
func TestWhoHasNoDeadlineWaitsWhateverTheForecast(t *testing.T) {
	t.Parallel()
	for name, timeout := range map[string]int64{"none": 0, "one that is far off": 3 * sec / 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan := forecastPlan()
			plan.Routes[3].TimeoutNS, plan.Pools[0].TimeoutNS, plan.Pools[0].MaxWaitNS = timeout, 0, sec/10
			w := newProxy(t).worker(plan)
			w.take(8, 3*sec)
			for range 2 {
				_, _ = w.start("pay/report", nil)
			}
			id, refused := w.start("pay/report", nil)
			require.Nil(t, refused)
			require.True(t, w.paused[id])
		})
	}
}

// However a call that held a permit ends, it held it.
func TestEveryCallThatHeldAPermitIsMeasured(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]answer{
		"answer": status(200), "reset": {code: 503, flags: flagConnectionTermination, details: "upstream_reset"},
		"timeout": {code: 504, flags: flagUpstreamTimeout, details: "response_timeout"}, "client left": {flags: flagDownstreamLeft},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := forecastWorkers(t, 1)[0]
			w.take(1, sec)
			held, _ := w.start("pay/report", nil)
			other, _ := w.start("pay/report", nil)
			waited, _ := w.start("pay/report", nil)
			w.pass(2 * sec)
			w.end(held, "pay/report", a)
			require.Equal(t, bulkhead.Pace{MeanNS: 3 * sec / 2, Seen: 2, At: w.now}, w.pool().Pace)
			w.deliver()
			w.pass(3 * sec)
			w.end(waited, "pay/report", a)
			require.Equal(t, bulkhead.Pace{MeanNS: 2 * sec, Seen: 3, At: w.now}, w.pool().Pace, "from its permit on, not from its arrival")
			w.end(other, "pay/report", a)
		})
	}
}

// Nobody knows how long a call took while the clock was set or the VM stood
// still. A guess too short would do no harm, one too long would refuse.
func TestACallAcrossALeapOfTheClockIsNotMeasured(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		leap int64
		mean int64
	}{
		"forward":            {3600 * sec, 1e9},
		"a little":           {sec + 1, 1e9},
		"back":               {-3600 * sec, 1e9},
		"back by less":       {-sec / 2, 1e9},
		"no more than ticks": {sec - 200e6, 1e9 + 1e8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := forecastWorkers(t, 1)[0]
			w.take(8, sec)
			id, _ := w.start("pay/report", nil)
			w.pass(sec)
			w.now += c.leap
			w.finish(id, "pay/report", 200) // before any tick
			require.Equal(t, c.mean, w.pool().Pace.MeanNS)
			w.take(1, sec)
			require.Equal(t, w.now, w.pool().Pace.At, "the next call is measured again")
		})
	}
}

func TestADeadVMsPermitsAreNotMeasured(t *testing.T) {
	t.Parallel()
	ws := forecastWorkers(t, 2)
	_, _ = ws[0].start("pay/report", nil)
	ws[0].boot()
	ws[0].configure(forecastPlan())
	ws[0].pass(14 * sec)
	require.Empty(t, ws[1].pool().Permits, "it has expired")
	require.Zero(t, ws[1].pool().Pace)
}

func TestACallIsMeasuredOnceHoweverManyWrite(t *testing.T) {
	t.Parallel()
	ws := forecastWorkers(t, 2)
	p := ws[0].proxy
	a, _ := ws[0].start("pay/report", nil)
	b, _ := ws[1].start("pay/report", nil)
	p.pass(sec)
	once := false
	ws[0].onCall = func(name string) {
		if name == "sharedSet" && !once {
			once = true
			ws[1].finish(b, "pay/report", 200) // in between
		}
	}
	ws[0].finish(a, "pay/report", 200)
	require.True(t, once)
	require.Equal(t, bulkhead.Pace{MeanNS: sec, Seen: 2, At: p.now}, p.pool().Pace)
}

func TestAPoolRecordWithoutAPaceStartsAnew(t *testing.T) {
	t.Parallel()
	w := forecastWorkers(t, 1)[0]
	w.shared["sw1/q/pay/db"] = record{value: []byte{1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0}, version: 7} // schema 1, at rest
	w.take(1, sec)
	require.Equal(t, bulkhead.Pace{MeanNS: sec, Seen: 1, At: w.now}, w.pool().Pace)
	for {
		if events := w.batch().Events; len(events) > 0 {
			require.Equal(t, "pool-reset", events[0].Kind)
			return
		}
	}
}
