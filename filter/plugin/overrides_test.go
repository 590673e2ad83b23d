package plugin

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine"
)

func forcedPlan(state string, notAfter int64) contract.Plan {
	plan := testPlan()
	plan.Hash = "00000000000000a2"
	plan.Routes[0].Breaker.Override = &contract.Override{State: state, NotAfterNS: notAfter}
	return plan
}

func kinds(batches ...contract.Batch) (out []string) {
	for _, b := range batches {
		for _, e := range b.Events {
			out = append(out, e.Kind+" "+e.From+" "+e.To+" "+e.Cause)
		}
	}
	return out
}

func TestAnOverrideIsToldOnceByOneWorker(t *testing.T) {
	t.Parallel()
	ws := workers(t, 3)
	for _, w := range ws {
		require.True(t, w.request("pay/charge", status(200)))
	}
	end := ws[0].now + 30*sec
	for _, w := range ws {
		w.configure(forcedPlan("open", end))
	}
	for _, w := range ws {
		_, refused := w.start("pay/charge", nil)
		require.NotNil(t, refused, "before any tick")
		require.True(t, w.request("pay/offers", status(200)))
	}
	var batches []contract.Batch
	since := ws[0].now
	for _, w := range ws {
		b := w.batch()
		batches = append(batches, b)
		require.Equal(t, []contract.BreakerState{{
			Service: "pay", Route: "charge", State: "open", SinceNS: since, RetryAtNS: end, Cause: "forced", Forced: true,
		}}, b.Breakers)
	}
	require.Equal(t, []string{"breaker-forced closed open forced"}, kinds(batches...))
	require.Equal(t, []string{"open=1"}, ws[0].shown("seawall.breaker_state.service=pay.route=charge.state="))

	ws[0].now = end
	for _, w := range ws {
		require.True(t, w.request("pay/charge", status(200)), "at its end, before any tick")
	}
	batches = nil
	for _, w := range ws {
		b := w.batch()
		batches = append(batches, b)
		require.Equal(t, "closed", b.Breakers[0].State)
		require.False(t, b.Breakers[0].Forced)
		require.Zero(t, w.vm.unwell)
	}
	require.Equal(t, []string{"breaker-released open closed expired"}, kinds(batches...))
	require.Equal(t, []string{"closed=1"}, ws[0].shown("seawall.breaker_state.service=pay.route=charge.state="))
}

func TestAnOverrideThatIsLiftedOrChanged(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.configure(forcedPlan("open", w.now+3000*sec))
	require.False(t, w.request("pay/charge", status(200)))
	first := w.batch()
	w.configure(forcedPlan("closed", w.now+3000*sec))
	for range 9 {
		require.True(t, w.request("pay/charge", status(500)))
	}
	second := w.batch()
	w.configure(testPlan())
	require.True(t, w.request("pay/charge", status(200)))
	third := w.batch()
	require.Equal(t, []string{"breaker-forced closed open forced", "breaker-forced closed closed forced", "breaker-released closed closed lifted"}, kinds(first, second, third))
}

func TestAHealthyRouteBesideAForcedOneIsNotAsked(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.configure(forcedPlan("closed", w.now+3000*sec))
	w.request("pay/offers", status(200))
	require.Equal(t, 1, w.vm.unwell)
	require.Zero(t, w.calls["sharedSet"])
}

func TestOverrideRecord(t *testing.T) {
	t.Parallel()
	o := engine.Override{Forced: engine.ForcedClosed, NotAfterNS: 1 << 60}
	got, since := parseOverride(encodeOverride(o, 77))
	require.Equal(t, o, got)
	require.EqualValues(t, 77, since)
	for _, bad := range [][]byte{nil, {1}, make([]byte, overrideLen), slices.Concat([]byte{1, 3}, make([]byte, 16))} {
		got, _ := parseOverride(bad)
		require.Zero(t, got)
	}
}

func ratePlan() contract.Plan {
	plan := testPlan()
	b := plan.Routes[0].Breaker
	b.Identity, b.ConsecutiveFailures = "0000000000000ace", 0
	b.FailureRate = &contract.Rate{PPM: 500_000, WindowNS: 10 * sec, MinRequests: 10}
	b.SlowCalls = &contract.SlowCalls{ThresholdNS: sec, Rate: contract.Rate{PPM: 1_000_000, WindowNS: 100 * sec, MinRequests: 3}}
	return plan
}

// Every result over all workers is in the window, and nobody is admitted once
// the settling callback is over.
func TestARateCountsOverAllWorkers(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 4} {
		p := newProxy(t)
		for range n {
			p.worker(ratePlan())
		}
		ws := p.workers
		var ids []uint32
		for i := range 9 {
			id, _ := ws[i%n].start("pay/charge", nil)
			ids = append(ids, id)
		}
		for i, id := range ids {
			ws[i%n].end(id, "pay/charge", status([]int{200, 500}[i%2]))
		}
		for _, w := range ws {
			_, refused := w.start("pay/charge", nil)
			require.Nil(t, refused)
		}
		require.True(t, ws[n-1].request("pay/charge", status(500)))
		for _, w := range ws {
			require.False(t, w.request("pay/charge", status(200)))
			require.Equal(t, "failure-rate", w.vm.states(p.now)[0].Cause)
		}
	}
}

// Two workers settle at the same time: one's write comes between the other's
// read and write.
func TestNoResultOfARateIsLostToARace(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	a, b := p.worker(ratePlan()), p.worker(ratePlan())
	left := 4
	a.onCall = func(name string) {
		if name == "sharedSet" && left > 0 {
			left--
			require.True(t, b.request("pay/charge", status(500)))
		}
	}
	for range 5 {
		require.True(t, a.request("pay/charge", status(500)))
	}
	require.Equal(t, "closed", a.vm.cells["pay/charge"].position(p.now).String())
	require.EqualValues(t, 9, total(a.vm.cells["pay/charge"]))
	require.True(t, b.request("pay/charge", status(500)))
	require.False(t, a.request("pay/charge", status(500)))
}

func total(c *cell) (n uint32) {
	for _, bucket := range c.windows.Failures.Counts {
		n += bucket.Calls
	}
	return n
}

func TestWhatIsSlow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		waited, took, upstream int64
		slow                   bool
	}{
		"a second":                        {0, sec, -1, true},
		"less":                            {0, sec - 1, -1, false},
		"it waited in a queue":            {5 * sec, sec / 2, -1, false},
		"it waited, and is slow":          {5 * sec, sec, -1, true},
		"the client reads slowly":         {0, 9 * sec, sec / 2, false},
		"the upstream answers slowly too": {0, 9 * sec, 2 * sec, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newProxy(t).worker(ratePlan())
			for range 3 {
				id, _ := w.start("pay/charge", nil)
				if c.waited > 0 {
					w.now += c.waited
					w.vm.streams.get(id).sent = w.now
				}
				w.now += c.took
				if c.upstream >= 0 {
					w.props[propBackendLatency] = number(c.upstream)
				}
				w.end(id, "pay/charge", status(200))
			}
			require.Equal(t, !c.slow, w.request("pay/charge", status(200)))
		})
	}
}

// A WebSocket lasts as long as its ends want to talk.
func TestAnUpgradeIsNoSlowCall(t *testing.T) {
	t.Parallel()
	w := newProxy(t).worker(ratePlan())
	for range 3 {
		id, _ := w.start("pay/charge", nil)
		w.now += 2 * sec
		w.end(id, "pay/charge", answer{code: 101, flags: flagConnectionTermination, details: "upstream_reset_after_response_started{connection_termination}"})
	}
	require.True(t, w.request("pay/charge", status(200)))
}

// So does a stream, for which timeout.request is 0.
func TestAStreamHasNoLatency(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{false, true} {
		plan := ratePlan()
		plan.Routes[0].Stream = stream
		w := newProxy(t).worker(plan)
		for range 3 {
			id, _ := w.start("pay/charge", nil)
			w.now += 2 * sec
			w.end(id, "pay/charge", status(200))
		}
		rows := w.batch().Rows
		require.Len(t, rows, 1)
		require.Equal(t, stream, len(rows[0].Good) == 0)
		require.Equal(t, stream, w.request("pay/charge", status(200)), "its breaker is closed")
	}
}

func TestARecordOfNonsenseStartsAnewWithAnEvent(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.batch()
	w.shared["sw2/b/pay/charge"] = record{value: []byte("nonsense"), version: 1 << 20}
	w.version = 1 << 20
	b := w.batch()
	require.Equal(t, []string{"breaker-reset   "}, kinds(b))
	require.True(t, w.request("pay/charge", status(200)))
	require.Empty(t, w.batch().Events)
}

func TestHalfOpenRestsOnTick(t *testing.T) {
	t.Parallel()
	ws := workers(t, 2)
	for range 5 {
		ws[0].request("pay/charge", status(500))
	}
	ws[0].now += 60 * sec
	require.True(t, ws[1].request("pay/charge", status(200)))
	ws[0].now += 60 * sec
	require.Equal(t, []string{"breaker closed open 5xx", "breaker half-open closed "}, kinds(ws[0].batch()))
	require.Equal(t, []string{"breaker open half-open "}, kinds(ws[1].batch()))
	require.Equal(t, "closed", ws[1].vm.cells["pay/charge"].position(ws[0].now).String())
}
