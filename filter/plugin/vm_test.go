package plugin

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/contract"
)

func TestStreamsAgainstAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var table streams
		model := map[uint32]uint64{}
		next := uint32(1)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				next += rapid.Uint32Range(1, 70).Draw(t, "gap")
				s := table.put(next)
				s.seq = uint64(next) * 3
				model[next] = s.seq
			},
			"take": func(t *rapid.T) {
				id := rapid.Uint32Range(0, next).Draw(t, "id")
				s, ok := table.take(id)
				want, have := model[id]
				require.Equal(t, have, ok)
				require.Equal(t, want, s.seq)
				delete(model, id)
			},
			"again": func(t *rapid.T) {
				if _, have := model[next]; have {
					table.put(next).seq = 5
					model[next] = 5
				}
			},
			"": func(t *rapid.T) { require.Len(t, model, table.n) },
		})
		for id, seq := range model {
			s, ok := table.take(id)
			require.True(t, ok)
			require.Equal(t, seq, s.seq)
		}
		require.Zero(t, table.n)
	})
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	var table streams
	for i := range uint32(maxStreams) {
		require.NotNil(t, table.put(i+1))
	}
	require.Nil(t, table.put(maxStreams+1))
	_, ok := table.take(7)
	require.True(t, ok)
	require.NotNil(t, table.put(maxStreams+1))
}

func TestWhatIsCounted(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	id, _ := w.start("pay/charge", nil)
	w.now += 7e6
	w.end(id, "pay/charge", status(200))
	id, _ = w.start("pay/charge", nil)
	w.now += 100e6
	w.end(id, "pay/charge", status(503))
	id, _ = w.start("pay/charge", nil)
	w.now += 500e6
	w.end(id, "pay/charge", status(404))
	w.request("pay/charge", answer{flags: flagDownstreamLeft})
	w.request("pay/offers", status(101))
	w.request("pay/", status(404))
	w.request("pay/later", status(200))
	w.request("", status(404))
	w.request("nonsense", status(404))
	w.request("pay/chat", answer{code: 200, details: "via_upstream", grpc: 14, isGRPC: true})
	b := w.batch()
	minute := w.now / 60e9
	one := func(outcome string, status uint16) []contract.Count {
		return []contract.Count{{Outcome: outcome, Status: status, N: 1}}
	}
	le := func(us int64) []contract.Bucket { return []contract.Bucket{{LeUS: us, N: 1}} }
	require.Equal(t, []contract.Row{
		{
			Minute: minute, Service: "pay", Route: "charge", Priority: "critical", Attempts: 4,
			Counts: []contract.Count{{Outcome: "ok", N: 1}, {Outcome: "aborted", N: 1}, {Outcome: "5xx", Status: 503, N: 1}, {Outcome: "4xx", Status: 404, N: 1}},
			Good:   []contract.Bucket{{LeUS: 10_000, N: 1}, {LeUS: -1, N: 1}}, Bad: le(100_000), Aborted: le(1_000),
		},
		{Minute: minute, Service: "pay", Route: "offers", Priority: "medium", Attempts: 1, Counts: one("ok", 0)},
		{Minute: minute, Service: "pay", Route: "", Priority: "medium", Counts: one("4xx", 404), Good: le(1_000)},
		{Minute: minute, Service: "pay", Route: "later", Priority: "medium", Attempts: 1, Counts: one("ok", 0), Good: le(1_000)},
		{Minute: minute, Service: "pay", Route: "chat", Priority: "low", Attempts: 1, Counts: one("5xx", 200), Bad: le(1_000)},
	}, b.Rows)
	require.Equal(t, contract.Counters{Requests: 10, UnknownRoutes: 1}, b.Counters)
	require.Equal(t, []string{
		"charge.result=bad=1", "charge.result=good=2", "chat.result=bad=1", "later.result=good=1", "offers.result=good=1", "_.result=good=1",
	}, append(w.shown("seawall.requests.service=pay.route=")[1:], w.shown("seawall.requests.service=pay.route=")[0]))
}

// Envoy's 404 for a path that no route takes is a 200 over gRPC.
func TestNoRouteOverGRPCIsNoGoodAnswer(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.request("pay/", answer{code: 200, details: "direct_response", grpc: 12, isGRPC: true, trailersOnly: true})
	rows := w.batch().Rows
	require.Len(t, rows, 1)
	require.Equal(t, []contract.Count{{Outcome: "4xx", Status: 404, N: 1}}, rows[0].Counts)
}

func TestAStreamThatWasNotSeenToStart(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.props[propDuration] = number(50e6)
	w.end(7, "pay/charge", answer{code: 400, details: "missing_host_header"})
	w.end(7, "pay/charge", status(500))
	b := w.batch()
	require.Equal(t, map[string]uint64{"pay/charge 4xx": 1, "pay/charge 5xx": 1}, counts(b))
	require.Equal(t, []contract.Bucket{{LeUS: 100_000, N: 1}}, b.Rows[0].Good)
	require.Zero(t, w.vm.cells["pay/charge"].state.Breaker.Failures, "it was not admitted, so it is no result")
}

func TestBatchesSayWhoTheyAreFrom(t *testing.T) {
	t.Parallel()
	ws := workers(t, 2)
	ws[0].request("pay/charge", status(200))
	a, b := ws[0].batch(), ws[1].batch()
	require.Equal(t, a.Boot, b.Boot, "one Envoy")
	require.NotEqual(t, a.VM, b.VM)
	for _, batch := range []contract.Batch{a, b} {
		require.Len(t, batch.VM, 32)
		require.Len(t, batch.Boot, 32)
		require.Equal(t, "edge-1", batch.Node)
		require.Equal(t, "f1f2", batch.Filter)
		require.Equal(t, "00000000000000a1", batch.Plan)
		require.EqualValues(t, 1, batch.Seq)
		require.Equal(t, contract.BatchSchema, batch.Schema)
	}
	require.True(t, a.Served)
	require.False(t, b.Served, "it has had no stream")
}

func TestPanics(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"open", "closed"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			plan := testPlan()
			plan.FailureMode = mode
			w := newProxy(t).worker(plan)
			w.request("pay/charge", status(200))
			w.onCall = func(name string) {
				if name == "now" {
					w.onCall = nil
					panic(errors.New("boom"))
				}
			}
			id, refused := w.start("pay/charge", map[string]string{"x-request-id": "r1"})
			if mode == "open" {
				require.Nil(t, refused)
			} else {
				require.Equal(t, 500, refused.Status)
				require.Contains(t, string(refused.Body), `"type":"https://example.org/p/filter-fault"`)
				require.Contains(t, string(refused.Body), `"instance":"r1"`)
			}
			w.end(id, "pay/charge", status(200))
			b := w.batch()
			require.EqualValues(t, 1, b.Counters.Panics)
			require.Equal(t, contract.Event{AtNS: b.Events[0].AtNS, Kind: "panic", From: "request headers", Cause: "boom"}, b.Events[0])
			require.Equal(t, []string{"=1"}, w.shown("seawall.panics"))
			require.True(t, w.request("pay/charge", status(200)), "and it goes on")
		})
	}
}

func TestEveryCallbackRecovers(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.batch()
	w.onCall = func(string) { panic("always") }
	id, refused := w.start("pay/charge", nil)
	require.Nil(t, refused)
	w.end(id, "pay/charge", status(200))
	w.tick()
	w.vm.CallDone(1)
	data, err := json.Marshal(testPlan())
	require.NoError(t, err)
	require.True(t, w.vm.Configure(99, data), "a fault of ours is not the plan's: it must not be refused")
	require.GreaterOrEqual(t, w.vm.counters.Panics, uint64(5))
	w.onCall = nil
	require.True(t, w.request("pay/charge", status(503)), "the safe plan admits everything, and counts it")
	w.configure(testPlan())
	w.request("pay/charge", status(503))
	require.Equal(t, map[string]uint64{"pay/charge 5xx": 2}, counts(w.batch()))
}

func TestThePlanOfTheNewestContextRules(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	first := w.root
	plan := testPlan()
	plan.Hash = "00000000000000a2"
	w.configure(plan)
	second := w.root
	w.batch()
	w.root = first
	w.now += 5 * sec
	for range 3 {
		w.tick()
		w.now += 200e6
	}
	require.Empty(t, w.posts, "the old context ticks for nobody")
	w.root = second
	require.Equal(t, "00000000000000a2", w.batch().Plan)
}

// An edit is reverted while a stream of the first plan is open: Envoy takes the
// first context again, without a word.
func TestARevertToAPlanThatIsStillAlive(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (w *worker, first, second uint32) {
		t.Helper()
		w = workers(t, 1)[0]
		first = w.root
		plan := testPlan()
		plan.Hash = "00000000000000a2"
		w.configure(plan)
		second = w.root
		require.Equal(t, "00000000000000a2", w.batch().Plan)
		return w, first, second
	}
	t.Run("shows by a new stream", func(t *testing.T) {
		t.Parallel()
		w, first, second := start(t)
		w.now += 2 * sec
		w.root = first
		w.request("pay/charge", status(200))
		require.Equal(t, "00000000000000a1", w.batch().Plan)
		w.root = second
		w.now += sec / 2
		w.request("pay/charge", status(200))
		w.root = first
		require.Equal(t, "00000000000000a1", w.batch().Plan, "a stream of the moment of the push changes nothing")
	})
	t.Run("shows by silence", func(t *testing.T) {
		t.Parallel()
		w, first, _ := start(t)
		w.root = first
		require.Equal(t, "00000000000000a1", w.batch().Plan)
	})
	t.Run("not by a stall", func(t *testing.T) {
		t.Parallel()
		w, first, second := start(t)
		for range 30 {
			w.now += 10 * sec
			w.vm.Tick(first)
			w.vm.Tick(second)
		}
		require.Equal(t, "00000000000000a2", w.vm.plan.hash)
	})
}

func TestContextsAreBounded(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	for range 3 * maxRoots {
		plan := testPlan()
		plan.Edge = string(rune('a' + w.ids%26))
		w.configure(plan)
	}
	require.Len(t, w.vm.roots.list, maxRoots)
	for range forgottenTicks {
		w.tick()
	}
	require.Len(t, w.vm.roots.list, maxRoots)
	w.tick()
	require.Len(t, w.vm.roots.list, 1)
	require.False(t, w.vm.roots.several)
}

func TestUnknownNamesAreBounded(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	for i := range 3 * maxUnknown {
		w.request("pay/x"+string(rune('a'+i%26))+string(rune('a'+i/26)), status(200))
	}
	require.LessOrEqual(t, len(w.vm.plan.routes), maxUnknown+3)
	require.EqualValues(t, maxUnknown, w.vm.counters.UnknownRoutes)
}
