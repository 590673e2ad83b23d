package app

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// What rules count is what objectives count, whichever indicator they have, and
// begins at 0.
func TestObjectivesAreCountedForRules(t *testing.T) {
	t.Parallel()
	m := newMetrics("1", "f")
	seen := func(want string, names ...string) {
		t.Helper()
		w := httptest.NewRecorder()
		m.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		var got strings.Builder
		for line := range strings.Lines(w.Body.String()) {
			if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(line, n+"{") }) {
				got.WriteString(line)
			}
		}
		require.Equal(t, want, got.String())
	}
	objectives := []slo.Objective{
		{Name: "answers", Service: "shop", ObjectivePPM: 999_000, Window: 24 * time.Hour},
		{Name: "quick", Service: "shop", Routes: []string{"buy"}, ObjectivePPM: 950_000, Window: 24 * time.Hour, LatencyThreshold: 5 * time.Millisecond},
	}
	m.slos.set(objectives, []telemetry.Route{{Service: "shop", Route: "buy"}})
	seen(`seawall_breaker_transitions_total{route="buy",service="shop",to="open"} 0
seawall_slo_bad_requests_total{service="shop",slo="answers"} 0
seawall_slo_bad_requests_total{service="shop",slo="quick"} 0
`, "seawall_breaker_transitions_total", "seawall_slo_bad_requests_total")

	m.count(contract.Batch{
		Rows: []contract.Row{{
			Service: "shop", Route: "buy", Priority: "high",
			Counts: []contract.Count{
				{Outcome: "ok", N: 10}, {Outcome: "5xx", Status: 503, N: 3}, {Outcome: "timeout", Degraded: true, N: 2},
				{Outcome: "injected", N: 100}, {Outcome: "aborted", N: 100}, {Outcome: "ok", Synthetic: true, N: 100},
			},
			Good: []contract.Bucket{{LeUS: 5000, N: 8}, {LeUS: -1, N: 2}},
		}, {Service: "shop", Route: "", Counts: []contract.Count{{Outcome: "5xx", N: 100}}}, {Service: "other", Route: "buy", Counts: []contract.Count{{Outcome: "5xx", N: 100}}}},
		Events: []contract.Event{{Kind: "breaker", Service: "shop", Route: "buy", To: "open"}, {Kind: "other", Service: "shop", Route: "buy", To: "open"}},
	})
	seen(`seawall_breaker_transitions_total{route="buy",service="shop",to="open"} 1
seawall_degraded_total{priority="high",route="buy",service="shop"} 2
seawall_slo_bad_requests_total{service="shop",slo="answers"} 3
seawall_slo_bad_requests_total{service="shop",slo="quick"} 2
seawall_slo_requests_total{service="shop",slo="answers"} 15
seawall_slo_requests_total{service="shop",slo="quick"} 10
`, "seawall_breaker_transitions_total", "seawall_degraded_total", "seawall_slo_bad_requests_total", "seawall_slo_requests_total")

	m.slos.set(objectives[:1], nil)
	seen(`seawall_slo_requests_total{service="shop",slo="answers"} 15
`, "seawall_slo_requests_total")
}
