package plugin

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// attempts is a worker whose VM is in an upstream chain too.
func attempts(t *testing.T, edit func(*contract.Route)) *worker {
	t.Helper()
	plan := testPlan()
	for i := range plan.Routes {
		if plan.Routes[i].Name == "pay/charge" {
			plan.Routes[i].Attempts, plan.Routes[i].Retries = &contract.Attempts{}, 3
			if edit != nil {
				edit(&plan.Routes[i])
			}
		}
	}
	w := newProxy(t).worker(plan)
	w.ids++
	w.attemptRoot = w.ids
	require.True(t, w.vm.Configure(w.attemptRoot, []byte(contract.AttemptConfig)))
	return w
}

// begin starts an edge stream, and says whether it was marked.
func (w *worker) begin(route string) (id uint32, mark []byte) {
	delete(w.props, propMark)
	delete(w.props, propUpstream)
	w.props[propAttempt] = number(0)
	id, _ = w.start(route, map[string]string{})
	return id, w.props[propMark]
}

// try begins a try of a marked edge stream; true: it is held or answered.
func (w *worker) try(mark []byte, n int64) (id uint32, paused bool) {
	w.ids++
	id = w.ids
	w.response = nil
	delete(w.props, propMark)
	if mark != nil {
		w.props[propMark] = mark
	}
	w.props[propAttempt], w.props[propUpstream] = number(n), []byte("127.0.0.1:9001")
	w.context = id
	paused = w.vm.RequestHeaders(id)
	if paused && w.response == nil {
		w.paused[id] = true
	}
	return id, paused
}

func (w *worker) answered(id uint32, status string, more ...string) map[string]string {
	w.answer = map[string]string{headerStatus: status}
	for i := 0; i < len(more); i += 2 {
		w.answer[more[i]] = more[i+1]
	}
	w.vm.ResponseHeaders(id)
	return w.answer
}

func (w *worker) cell() *cell { return w.vm.cells["pay/charge"] }

func TestTheEdgeIsMarkedOnlyWhereTriesAreSeen(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	_, mark := w.begin("pay/charge")
	require.Nil(t, mark)
	w = attempts(t, nil)
	_, mark = w.begin("pay/charge")
	require.Len(t, mark, markLen)
	w.vm.StreamDone(w.attemptRoot) // the last cluster with the role is gone
	_, mark = w.begin("pay/charge")
	require.Nil(t, mark)
}

// A try is never taken for a request, wherever its mark comes from.
func TestATryIsNoRequest(t *testing.T) {
	t.Parallel()
	w := attempts(t, nil)
	edge, mark := w.begin("pay/charge")
	before := w.vm.counters.Requests
	for name, m := range map[string][]byte{
		"unmarked": nil, "of another VM": append(append([]byte(nil), mark[:7]...), mark[7]^1, mark[8], mark[9], mark[10], mark[11]),
		"of a stream that is over": append(append([]byte(nil), mark[:8]...), 0xff, 0xff, 0, 0), "of nonsense": {1, 2, 3}, "ours": mark,
	} {
		id, paused := w.try(m, 1)
		require.False(t, paused, name)
		w.answered(id, "503")
		w.vm.StreamDone(id)
		w.vm.StreamDone(id) // a host never does
	}
	require.Equal(t, before, w.vm.counters.Requests-5, "but for the five that were told of twice")
	w.end(edge, "pay/charge", status(503))
	require.Empty(t, w.vm.edges)
	require.Zero(t, w.vm.counters.Panics)
}

func TestTheEdgeMayEndBeforeItsTry(t *testing.T) {
	t.Parallel()
	w := attempts(t, nil)
	edge, mark := w.begin("pay/charge")
	id, _ := w.try(mark, 1)
	w.end(edge, "pay/charge", answer{flags: flagDownstreamLeft})
	w.answered(id, "200")
	w.vm.StreamDone(id)
	require.Empty(t, w.vm.edges)
	require.EqualValues(t, 1, w.vm.counters.Requests)
	require.Zero(t, w.cell().state.Breaker.Failures)
}

func TestEachTryCountsOnce(t *testing.T) {
	t.Parallel()
	w := attempts(t, nil) // opens after five
	for range 4 {
		edge, mark := w.begin("pay/charge")
		first, _ := w.try(mark, 1)
		w.answered(first, "503")
		require.EqualValues(t, 1, w.cell().state.Breaker.Failures, "settled as soon as it is seen")
		w.vm.StreamDone(first)
		second, paused := w.try(mark, 2)
		require.False(t, paused)
		require.EqualValues(t, 1, w.cell().state.Breaker.Failures, "and not again")
		w.answered(second, "200")
		w.vm.StreamDone(second)
		w.end(edge, "pay/charge", status(200))
		require.Zero(t, w.cell().state.Breaker.Failures)
	}
	require.EqualValues(t, 8, w.batch().Rows[0].Attempts)
}

func TestAFailedLastTryCountsOnce(t *testing.T) {
	t.Parallel()
	w := attempts(t, nil)
	edge, mark := w.begin("pay/charge")
	id, _ := w.try(mark, 1)
	w.answered(id, "503")
	w.vm.StreamDone(id)
	w.end(edge, "pay/charge", status(503))
	require.EqualValues(t, 1, w.cell().state.Breaker.Failures)
}

func TestWhatAnUnseenEndIs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		took   int64
		reason string
		want   contract.Outcome
	}{
		"reset":           {took: 10e6, want: contract.Reset},
		"connect failure": {took: 10e6, reason: "refused", want: contract.ConnectFailure},
		"timeout":         {took: 1000e6, want: contract.Timeout},
		"timeout, early":  {took: 995e6, want: contract.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := attempts(t, func(r *contract.Route) { r.Attempts.PerTryNS = 1e9; r.Breaker.ConsecutiveFailures = 1 })
			_, mark := w.begin("pay/charge")
			id, _ := w.try(mark, 1)
			w.now += tc.took
			if tc.reason != "" {
				w.props[propFailure] = []byte(tc.reason)
			}
			w.vm.StreamDone(id)
			delete(w.props, propFailure)
			require.EqualValues(t, 0, w.cell().state.Breaker.Gen, "the client may have left")
			w.now += 10e9 // the back-off
			_, paused := w.try(mark, 2)
			require.True(t, paused)
			require.Equal(t, "seawall_breaker-open", w.response.Details)
			require.Equal(t, uint8(tc.want), w.cell().state.Breaker.Cause)
		})
	}
}

// A retry that 429 brought about is no failure where failures has no 4xx.
func TestARetryOfWhatIsNoFailure(t *testing.T) {
	t.Parallel()
	w := attempts(t, nil)
	_, mark := w.begin("pay/charge")
	id, _ := w.try(mark, 1)
	w.answered(id, "429")
	w.vm.StreamDone(id)
	w.try(mark, 2)
	require.Zero(t, w.cell().state.Breaker.Failures)
}

func TestAHealthyTryAsksLittle(t *testing.T) {
	t.Parallel()
	w := attempts(t, nil)
	run := func() {
		edge, mark := w.begin("pay/charge")
		id, _ := w.try(mark, 1)
		w.answered(id, "200")
		w.vm.StreamDone(id)
		w.end(edge, "pay/charge", status(200))
	}
	run()
	clear(w.calls)
	run()
	require.Equal(t, 1, w.calls["setProperty"])
	require.Equal(t, 1, w.calls["header"], "the status")
	plain := workers(t, 1)[0]
	plain.request("pay/charge", status(200))
	clear(plain.calls)
	plain.request("pay/charge", status(200))
	require.Equal(t, plain.calls["property"]+3, w.calls["property"], "two for the edge to see that it is one, one for the try")
	require.Equal(t, plain.calls["metricGet"], w.calls["metricGet"])
}

func TestAPanicOfTheAttemptRole(t *testing.T) {
	t.Parallel()
	w := attempts(t, nil)
	edge, mark := w.begin("pay/charge")
	id, _ := w.try(mark, 1)
	w.onCall = func(name string) { panic(name) }
	w.answered(id, "503")
	w.onCall = nil
	w.vm.StreamDone(id)
	w.end(edge, "pay/charge", status(503))
	require.EqualValues(t, 1, w.vm.counters.Panics)
	require.EqualValues(t, 1, w.vm.counters.Requests)
}

// What chaos does to one try says nothing of the next one.
func TestAfterAFaultTheServiceStillCounts(t *testing.T) {
	t.Parallel()
	w := attempts(t, func(r *contract.Route) {
		r.Faults = []contract.Fault{{Experiment: "e", PPM: 1_000_000, NotAfterNS: 1 << 62, Tries: 1, Status: 503}}
	})
	edge, mark := w.begin("pay/charge")
	first, _ := w.try(mark, 1)
	require.Equal(t, "503", w.answered(first, "200")[headerStatus])
	w.vm.StreamDone(first)
	second, _ := w.try(mark, 2)
	require.Zero(t, w.cell().state.Breaker.Failures, "chaos")
	w.answered(second, "500")
	require.EqualValues(t, 1, w.cell().state.Breaker.Failures, "the service")
	w.vm.StreamDone(second)
	w.end(edge, "pay/charge", status(500))
	require.EqualValues(t, 1, w.cell().state.Breaker.Failures)
	row := w.batch().Rows[0]
	require.Equal(t, []contract.Count{{Outcome: "injected", N: 1}}, row.Counts)
	require.EqualValues(t, 2, row.Attempts)
}

func TestAGRPCStatusThatIsRetriedIsAFailure(t *testing.T) {
	t.Parallel()
	w := attempts(t, nil)
	_, mark := w.begin("pay/charge")
	id, _ := w.try(mark, 1)
	w.answered(id, "200", "grpc-status", "14")
	w.vm.StreamDone(id)
	w.try(mark, 2)
	require.EqualValues(t, 1, w.cell().state.Breaker.Failures)
	require.Equal(t, uint8(contract.ServerError), contractCause(w))
}

func contractCause(w *worker) uint8 {
	// The cause is told when the breaker opens.
	for range 4 {
		_, mark := w.begin("pay/charge")
		id, _ := w.try(mark, 1)
		w.answered(id, "200", "grpc-status", "14")
		w.vm.StreamDone(id)
		w.try(mark, 2)
	}
	return w.cell().state.Breaker.Cause
}
