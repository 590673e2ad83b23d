package plugin

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/engine"
	"github.com/seawall-mesh/seawall/filter/engine/breaker"
)

func engineFailure() engine.Result {
	return engine.Result{Breaker: breaker.Result{Verdict: breaker.Failure}}
}

func deadlineWorker(t *testing.T) *worker {
	t.Helper()
	plan := testPlan()
	plan.Routes[0].DeadlineHeader, plan.Routes[0].TimeoutNS = "x-deadline-ms", 2*sec
	plan.Routes[1].TimeoutNS = 2 * sec
	return newProxy(t).worker(plan)
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	grpc := func(timeout string) map[string]string {
		return map[string]string{"grpc-timeout": timeout, "content-type": "application/grpc"}
	}
	for name, c := range map[string]struct {
		route   string
		headers map[string]string
		sent    map[string]string
	}{
		"none":               {"pay/charge", nil, nil},
		"longer than policy": {"pay/charge", map[string]string{"x-deadline-ms": "9000"}, nil},
		"shorter":            {"pay/charge", map[string]string{"x-deadline-ms": "300"}, map[string]string{"x-envoy-upstream-rq-timeout-ms": "300"}},
		"no number":          {"pay/charge", map[string]string{"x-deadline-ms": "soon"}, nil},
		"of any size":        {"pay/charge", map[string]string{"x-deadline-ms": strings.Repeat("\xff9", 1<<16)}, nil},
		"not asked for":      {"pay/charge", grpc("100m"), nil},
		"gRPC":               {"pay/chat", grpc("100m"), map[string]string{"x-envoy-upstream-rq-timeout-ms": "95", "grpc-timeout": "100m"}},
		"gRPC, rounded up":   {"pay/chat", grpc("1n"), map[string]string{"x-envoy-upstream-rq-timeout-ms": "1", "grpc-timeout": "1m"}},
		"gRPC by policy":     {"pay/chat", grpc("10S"), map[string]string{"x-envoy-upstream-rq-timeout-ms": "1995", "grpc-timeout": "2000m"}},
		"HTTP on gRPC route": {"pay/chat", nil, nil},
		"a plain route":      {"pay/offers", map[string]string{"x-deadline-ms": "0"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := deadlineWorker(t)
			_, refused := w.start(c.route, c.headers)
			require.Nil(t, refused)
			require.Equal(t, c.sent, w.sent)
		})
	}
}

func TestASpentDeadlineIsRefused(t *testing.T) {
	t.Parallel()
	w := deadlineWorker(t)
	for _, spent := range []string{"0", "-5"} {
		id, refused := w.start("pay/charge", map[string]string{"x-deadline-ms": spent, "x-request-id": "id-3"})
		require.Equal(t, 504, refused.Status)
		require.Equal(t, [][2]string{{"content-type", "application/problem+json"}, {"x-seawall-decision", "deadline"}, {"x-request-id", "id-3"}}, refused.Headers)
		w.end(id, "pay/charge", answer{code: 504})
	}
	id, refused := w.start("pay/chat", map[string]string{"grpc-timeout": "0m", "content-type": "application/grpc"})
	require.EqualValues(t, 4, refused.GRPC)
	require.Equal(t, "the caller's deadline for pay/chat has passed", string(refused.Body))
	w.end(id, "pay/chat", answer{code: 200})
	require.Equal(t, map[string]uint64{"pay/charge deadline": 2, "pay/chat deadline": 1}, counts(w.batch()))
}

func TestATimeoutOfTheCallersMakingIsNoFailure(t *testing.T) {
	t.Parallel()
	w := deadlineWorker(t)
	timeout := answer{code: 504, flags: flagUpstreamTimeout, details: "response_timeout"}
	run := func(header string, took int64) {
		id, refused := w.start("pay/charge", map[string]string{"x-deadline-ms": header})
		require.Nil(t, refused)
		w.now += took
		w.end(id, "pay/charge", timeout)
	}
	for range 20 {
		run("300", 300e6)
	}
	require.Zero(t, w.vm.cells["pay/charge"].state.Breaker.Failures)
	run("1500", 800e6) // a try's own timeout, long before the caller's
	run("9000", 2*sec) // the policy's
	require.EqualValues(t, 2, w.vm.cells["pay/charge"].state.Breaker.Failures)
	require.Equal(t, map[string]uint64{"pay/charge timeout": 22}, counts(w.batch()))
}

func TestADeadlineBoundsTheWait(t *testing.T) {
	t.Parallel()
	plan := poolPlan()
	plan.Routes[0].DeadlineHeader = "x-deadline-ms"
	w := newProxy(t).worker(plan)
	a, _ := w.start("pay/report", nil)
	_, _ = w.start("pay/report", nil)
	b, _ := w.start("pay/charge", map[string]string{"x-deadline-ms": "500"})
	c, _ := w.start("pay/charge", map[string]string{"x-deadline-ms": "7000"})
	w.now += 500e6
	w.tick()
	require.False(t, w.paused[b])
	require.Equal(t, 504, w.answers[b].Status)
	require.Contains(t, w.answers[b].Headers, [2]string{"x-seawall-decision", "deadline"})
	w.end(b, "pay/charge", answer{code: 504})
	w.now += sec
	w.finish(a, "pay/report", 200)
	w.deliver()
	require.Equal(t, []uint32{c}, w.resumed)
	require.Equal(t, map[string]string{"x-envoy-upstream-rq-timeout-ms": "5500"}, w.sent)
}

// What the policy gives in all is the lesser of route and pool, which is the
// router's own timeout too: only less than that is told it.
func TestThePoolsTimeIsTheRequests(t *testing.T) {
	t.Parallel()
	for left, want := range map[string]map[string]string{
		"":     nil,
		"7000": nil,
		"6000": nil,
		"5000": {"x-envoy-upstream-rq-timeout-ms": "5000"},
	} {
		plan := poolPlan()
		plan.Routes[0].DeadlineHeader, plan.Pools[0].TimeoutNS = "x-deadline-ms", 6*sec
		w := newProxy(t).worker(plan)
		_, refused := w.start("pay/charge", map[string]string{"x-deadline-ms": left})
		require.Nil(t, refused)
		require.Equal(t, want, w.sent, left)
	}
}

func TestTheDeadlineComesBeforeTheBreaker(t *testing.T) {
	t.Parallel()
	w := deadlineWorker(t)
	for range 5 {
		w.request("pay/charge", status(500))
	}
	_, refused := w.start("pay/charge", map[string]string{"x-deadline-ms": "0"})
	require.Contains(t, refused.Headers, [2]string{"x-seawall-decision", "deadline"})
	_, refused = w.start("pay/charge", map[string]string{"x-deadline-ms": "1"})
	require.Contains(t, refused.Headers, [2]string{"x-seawall-decision", "breaker-open"})
}
