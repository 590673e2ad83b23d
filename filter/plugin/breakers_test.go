package plugin

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine/breaker"
	"github.com/seawall-mesh/seawall/filter/engine/codec"
)

func TestFailuresOverWorkersTripAtExactlyTheThreshold(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 4} {
		ws := workers(t, n)
		for i := range 5 {
			require.True(t, ws[i%n].request("pay/charge", status(503)), "failure %d of %d workers", i+1, n)
		}
		for _, w := range ws {
			require.False(t, w.request("pay/charge", status(200)), "%d workers", n)
			require.True(t, w.request("pay/offers", status(200)), "another route is not touched")
			require.True(t, w.request("pay/chat", answer{code: 200, details: "via_upstream", isGRPC: true}))
		}
		ws[0].now += 60 * sec
		for i := range 3 {
			require.True(t, ws[i%n].request("pay/charge", status(200)))
		}
		for _, w := range ws {
			w.tick()
			require.Zero(t, w.vm.unwell)
			require.True(t, w.request("pay/charge", status(200)))
		}
	}
}

func TestASuccessOnAnotherWorkerEndsTheRun(t *testing.T) {
	t.Parallel()
	ws := workers(t, 2)
	for range 4 {
		ws[0].request("pay/charge", status(500))
	}
	ws[1].request("pay/charge", status(200))
	for range 4 {
		require.True(t, ws[0].request("pay/charge", status(500)))
	}
	require.True(t, ws[1].request("pay/charge", status(500)))
	require.False(t, ws[0].request("pay/charge", status(200)))
}

func TestHalfOpenProbesAreLimitedOverWorkers(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 4} {
		ws := workers(t, n)
		for range 5 {
			ws[0].request("pay/charge", status(500))
		}
		ws[0].now += 61 * sec
		type out struct {
			w  *worker
			id uint32
		}
		var probes []out
		for i := range 4 * n {
			w := ws[i%n]
			if id, refused := w.start("pay/charge", nil); refused == nil {
				probes = append(probes, out{w, id})
			} else {
				require.Contains(t, refused.Headers, [2]string{"retry-after", "1"})
				w.end(id, "pay/charge", answer{code: 503})
			}
		}
		require.Len(t, probes, 3, "%d workers", n)
		probes[0].w.end(probes[0].id, "pay/charge", answer{flags: flagDownstreamLeft})
		id, refused := ws[n-1].start("pay/charge", nil)
		require.Nil(t, refused, "the client of a probe left: its place is free again")
		ws[n-1].end(id, "pay/charge", status(500))
		for _, w := range ws {
			require.False(t, w.request("pay/charge", status(200)), "a failed probe opens")
		}
		for _, p := range probes[1:] {
			p.w.end(p.id, "pay/charge", status(200))
		}
		for _, w := range ws {
			require.False(t, w.request("pay/charge", status(200)), "late probes of an earlier generation change nothing")
		}
	}
}

func TestLateResultsWithoutTicket(t *testing.T) {
	t.Parallel()
	ws := workers(t, 2)
	early := make([]uint32, 0, 6)
	for range 6 {
		id, _ := ws[1].start("pay/charge", nil) // sent while all is well: no ticket is kept
		early = append(early, id)
	}
	for range 5 {
		ws[0].request("pay/charge", status(500))
	}
	ws[0].now += 60 * sec
	for range 3 {
		require.True(t, ws[0].request("pay/charge", status(200)))
	}
	for _, id := range early {
		ws[1].end(id, "pay/charge", status(500)) // of the time before it opened
	}
	for _, w := range ws {
		require.True(t, w.request("pay/charge", status(200)), "they say nothing about the service after it closed")
	}
}

// Requests one after another over any number of workers must behave as one
// breaker does, with epochs in gauges or in shared data, and with pushes in
// between.
func TestWorkersAreOneBreaker(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := newProxy(t)
		p.hidden = rapid.Bool().Draw(t, "hidden metrics")
		for range rapid.IntRange(1, 4).Draw(t, "workers") {
			p.worker(testPlan())
		}
		one := newProxy(t).worker(testPlan())
		p.noLuck, one.noLuck = true, true // no jitter
		pushes := 0
		t.Repeat(map[string]func(*rapid.T){
			"request": func(t *rapid.T) {
				w := rapid.SampledFrom(p.workers).Draw(t, "worker")
				a := rapid.SampledFrom([]answer{status(200), status(503), status(503), status(404), {flags: flagDownstreamLeft}, {code: 504, flags: flagUpstreamTimeout, details: "response_timeout"}}).Draw(t, "answer")
				require.Equal(t, one.request("pay/charge", a), w.request("pay/charge", a))
			},
			"other": func(t *rapid.T) {
				require.True(t, rapid.SampledFrom(p.workers).Draw(t, "worker").request("pay/offers", status(503)))
			},
			"wait": func(t *rapid.T) {
				d := rapid.Int64Range(1, 70).Draw(t, "seconds") * sec
				p.now += d
				one.now += d
			},
			"tick": func(t *rapid.T) {
				w := rapid.SampledFrom(p.workers).Draw(t, "worker")
				w.tick()
				w.posts = nil
			},
			"trap": func(t *rapid.T) {
				w := rapid.SampledFrom(p.workers).Draw(t, "worker")
				w.boot()
				w.configure(testPlan())
			},
			"push": func(t *rapid.T) {
				plan := testPlan()
				pushes++
				plan.Hash = "00000000000000b" + string(rune('0'+pushes%10))
				plan.Routes[2].Priority = "high"
				for _, w := range p.workers {
					w.configure(plan)
				}
			},
		})
	})
}

// Whatever overlaps, no more probes are out than allowed, and an open breaker
// admits nobody.
func TestOverlappingRequestsHoldTheLimits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := newProxy(t)
		for range rapid.IntRange(1, 4).Draw(t, "workers") {
			p.worker(testPlan())
		}
		type flight struct {
			w     *worker
			id    uint32
			probe uint64 // generation, 0: none
			until int64
		}
		var flying []flight
		shared := func() breaker.State {
			_, s, _, _ := codec.Parse(p.shared["sw2/b/pay/charge"].value)
			return s
		}
		t.Repeat(map[string]func(*rapid.T){
			"start": func(t *rapid.T) {
				w := rapid.SampledFrom(p.workers).Draw(t, "worker")
				before := shared()
				id, refused := w.start("pay/charge", nil)
				if refused != nil {
					require.NotEqual(t, breaker.Closed, before.Kind)
					w.end(id, "pay/charge", answer{code: 503})
					return
				}
				if before.Kind == breaker.Open {
					require.GreaterOrEqual(t, p.now, before.RetryAt)
				}
				f := flight{w: w, id: id}
				if after := shared(); after.Kind == breaker.HalfOpen {
					f.probe, f.until = after.Gen, p.now+30*sec
				}
				flying = append(flying, f)
				out := 0
				for _, f := range flying {
					if f.probe != 0 && f.probe == shared().Gen && f.until > p.now {
						out++
					}
				}
				require.LessOrEqual(t, out, 3)
			},
			"end": func(t *rapid.T) {
				if len(flying) == 0 {
					return
				}
				i := rapid.IntRange(0, len(flying)-1).Draw(t, "flight")
				f := flying[i]
				flying = append(flying[:i], flying[i+1:]...)
				f.w.end(f.id, "pay/charge", status(rapid.SampledFrom([]int{200, 503, 503}).Draw(t, "status")))
			},
			"wait": func(t *rapid.T) { p.now += rapid.Int64Range(1, 40).Draw(t, "seconds") * sec },
			"tick": func(t *rapid.T) { rapid.SampledFrom(p.workers).Draw(t, "worker").tick() },
		})
	})
}

func TestPushKeepsStateUnlessTheBreakerChanges(t *testing.T) {
	t.Parallel()
	ws := workers(t, 2)
	for range 5 {
		ws[0].request("pay/charge", status(500))
	}
	plan := testPlan()
	plan.Hash = "00000000000000a2"
	plan.Routes[2].Priority = "high"
	for _, w := range ws {
		w.configure(plan)
		require.False(t, w.request("pay/charge", status(200)), "an unrelated edit")
		w.batch()
	}
	plan.Hash = "00000000000000a3"
	plan.Routes[0].Breaker.Identity = "00000000deadbee0"
	plan.Routes[0].Breaker.ConsecutiveFailures = 2
	for _, w := range ws {
		w.configure(plan)
		require.True(t, w.request("pay/charge", status(200)), "other parameters: it starts anew")
	}
	events := map[string]int{}
	for _, w := range ws {
		b := w.batch()
		for _, e := range b.Events {
			events[e.Kind]++
		}
		require.Len(t, b.Breakers, 1)
		require.Equal(t, "closed", b.Breakers[0].State)
		require.EqualValues(t, 2, b.Breakers[0].Gen, "later than the open one")
	}
	require.Equal(t, map[string]int{"breaker-reset": 1}, events)
	ws[0].request("pay/charge", status(500))
	ws[1].request("pay/charge", status(500))
	require.False(t, ws[0].request("pay/charge", status(500)))
}

func TestTransitionsAreTold(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.tick()
	w.reply(202)
	for range 5 {
		w.request("pay/charge", answer{code: 503, flags: flagConnectionFailure, details: "upstream_reset_before_response_started{…}"})
	}
	require.Equal(t, []string{"pay.route=charge.state=open=1", "pay.route=chat.state=closed=1"}, w.shown("seawall.breaker_state.service="))
	at := w.now
	b := w.batch()
	require.Equal(t, []contract.Event{{AtNS: at, Kind: "breaker", Service: "pay", Route: "charge", From: "closed", To: "open", Cause: "connect-failure", Gen: 1}}, b.Events)
	require.Equal(t, []contract.BreakerState{{Service: "pay", Route: "charge", State: "open", Gen: 1, SinceNS: at, RetryAtNS: at + 60*sec, Cause: "connect-failure"}}, b.Breakers)
	w.now = at + 60*sec
	for range 3 {
		w.request("pay/charge", status(204))
	}
	b = w.batch()
	require.Len(t, b.Events, 2)
	require.Equal(t, "half-open", b.Events[0].To)
	require.Equal(t, "closed", b.Events[1].To)
	require.Equal(t, []string{"pay.route=charge.state=closed=1", "pay.route=chat.state=closed=1"}, w.shown("seawall.breaker_state.service="))
}

func TestAnotherWorkersGaugesAreCorrectedOnTick(t *testing.T) {
	t.Parallel()
	ws := workers(t, 2)
	for range 5 {
		ws[0].request("pay/charge", status(500))
	}
	for name, m := range ws[0].metrics {
		if name == "seawall.breaker_state.service=pay.route=charge.state=open" {
			ws[0].values[m] = 0 // as if overwritten by a worker that was late
		}
	}
	ws[1].tick()
	require.Contains(t, ws[1].shown("seawall.breaker_state.service="), "pay.route=charge.state=open=1")
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	for range 5 {
		w.request("pay/charge", status(500))
	}
	w.now += sec
	_, r := w.start("pay/charge", map[string]string{"x-request-id": "id-7", "content-type": "application/json"})
	require.Equal(t, 503, r.Status)
	require.EqualValues(t, 14, r.GRPC)
	require.Equal(t, [][2]string{{"content-type", "application/problem+json"}, {"retry-after", "59"}, {"x-seawall-decision", "breaker-open"}, {"x-request-id", "id-7"}}, r.Headers)
	require.JSONEq(t, `{"type":"https://example.org/p/breaker-open","title":"Circuit breaker open","status":503,
		"detail":"the circuit breaker of pay/charge is open","instance":"id-7","retryable":true,"retry_after":59}`, string(r.Body))

	_, r = w.start("pay/charge", map[string]string{"content-type": "application/grpc+proto"})
	require.Equal(t, "the circuit breaker of pay/charge is open", string(r.Body), "it becomes grpc-message")
	require.Equal(t, [][2]string{{"retry-after", "59"}, {"x-seawall-decision", "breaker-open"}}, r.Headers)

	_, r = w.start("pay/charge", map[string]string{"content-type": "application/grpc-web"})
	require.Contains(t, r.Headers, [2]string{"content-type", "application/problem+json"}, "Envoy does not answer those as gRPC")

	w.now += 58*sec + 1
	_, r = w.start("pay/charge", nil)
	require.Contains(t, r.Headers, [2]string{"retry-after", "1"}, "rounded up")
}

func TestOwnRefusalsAreNoResults(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	for range 5 {
		w.request("pay/charge", status(500))
	}
	before := w.vm.cells["pay/charge"].state
	for range 20 {
		require.False(t, w.request("pay/charge", status(200)))
	}
	require.Equal(t, before, w.vm.cells["pay/charge"].state)
	require.Equal(t, map[string]uint64{"pay/charge 5xx": 5, "pay/charge breaker-open": 20}, counts(w.batch()))
}

func TestForeignBytesInTheRecordAreAFreshBreaker(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	p.shared["sw2/b/pay/charge"] = record{value: []byte("nonsense"), version: 9}
	w := p.worker(testPlan())
	for range 5 {
		require.True(t, w.request("pay/charge", status(500)))
	}
	require.False(t, w.request("pay/charge", status(500)))
}

// A record that is never free ends in a local decision, counted, not in a
// loop.
func TestCASExhaustion(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.request("pay/charge", status(200))
	w.onCall = func(name string) {
		if r, ok := w.shared["sw2/b/pay/charge"]; ok && name == "sharedSet" {
			r.version += 1000
			w.shared["sw2/b/pay/charge"] = r
		} else if name == "sharedSet" {
			w.shared["sw2/b/pay/charge"] = record{version: 1}
		}
	}
	w.request("pay/charge", status(500))
	require.EqualValues(t, 1, w.vm.counters.CASExhausted)
}

func TestHiddenMetricsFallBackToSharedData(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	p.hidden = true
	a, b := p.worker(testPlan()), p.worker(testPlan())
	for i := range 5 {
		require.True(t, []*worker{a, b}[i%2].request("pay/charge", status(500)))
	}
	require.False(t, a.request("pay/charge", status(500)))
	require.False(t, b.request("pay/charge", status(500)))
	batch := a.batch()
	require.True(t, batch.Counters.EpochFallback)
	require.Equal(t, "epoch-fallback", batch.Events[0].Kind)
}

func TestHealthyRequestsReadLittle(t *testing.T) {
	t.Parallel()
	plan := testPlan()
	plan.Routes[1].GRPC = false // it may bring a deadline
	w := newProxy(t).worker(plan)
	w.request("pay/charge", status(200))
	w.calls = map[string]int{}
	id, _ := w.start("pay/charge", nil)
	require.Equal(t, map[string]int{"now": 1, "metricGet": 1}, w.calls)
	w.calls = map[string]int{}
	w.end(id, "pay/charge", status(200))
	require.Equal(t, map[string]int{"now": 1, "property": 3}, w.calls)

	// Where some route has a deadline, the route is read at the start and not at
	// the end.
	w.configure(testPlan())
	w.request("pay/charge", status(200))
	w.calls = map[string]int{}
	id, _ = w.start("pay/charge", nil)
	w.end(id, "pay/charge", status(200))
	require.Equal(t, map[string]int{"now": 2, "metricGet": 1, "property": 3}, w.calls)
}

func TestHealthyRequestsAllocateNothing(t *testing.T) {
	w := workers(t, 1)[0]
	w.props[propRouteName], w.props[propCode], w.props[propFlags] = []byte("pay/charge"), number(200), number(0)
	id := uint32(1000)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		id++
		w.vm.RequestHeaders(id)
		w.vm.StreamDone(id)
	}))
}

func TestConfigureRefusesABadPlanAndKeepsTheOldOne(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	for range 5 {
		w.request("pay/charge", status(500))
	}
	plan := testPlan()
	plan.Routes[0].Breaker.Probes = 0
	data, err := json.Marshal(plan)
	require.NoError(t, err)
	require.False(t, w.vm.Configure(99, data))
	require.Contains(t, w.logs[len(w.logs)-1], "routes[0].breaker.probes: 0 is not in 1..32")
	require.False(t, w.vm.Configure(99, nil))
	require.False(t, w.request("pay/charge", status(200)))
	require.Equal(t, "00000000000000a1", w.batch().Plan)
}

// Starting must not depend on anything but the configuration: no shared data,
// no metrics, no claim.
func TestConfigureTouchesNothing(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	require.Equal(t, map[string]int{"now": 1, "property": 1}, w.calls)
	require.Empty(t, w.shared)
	require.Empty(t, w.metrics)
}
