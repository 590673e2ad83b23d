package api_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/api/apitest"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/filter/problem"
)

func TestOverviewShowsTheIncident(t *testing.T) {
	t.Parallel()
	w := ask(newServer(t, apitest.Incident(), nil), http.MethodGet, "/", nil)
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	body := w.Body.String()
	for _, want := range []string{
		"The last load of policies was refused", "policies/payments.yaml:24:7", "recoveryTim: 60s", "did you mean",
		"Only unique values for domains are permitted",
		"150.0 %", "99.850 %", "5,000 over", "exhausted", "increase-alerting",
		"10,412", "3.64", "12.4s", "in 42s", "half-open", "2 of 2",
		"5 / 5", "1480ms",
		"payments-availability/fast", "36.4 times too fast", "`seawall nodes` shows its own text",
	} {
		require.Contains(t, body, want)
	}
	require.Less(t, strings.Index(body, "half-open"), strings.Index(body, ">closed<"), "trouble comes first")
	require.NotContains(t, body, "http-equiv")
	require.NotContains(t, body, "CircuitBreakerOpen", "pending")
	require.NotContains(t, body, "payments-availability/chronic", "inhibited")
	require.Less(t, strings.Index(body, ">page<"), strings.Index(body, ">ticket<"))
}

// TestABreakerHeldClosedIsNotTakenForHealthy: it protects nobody.
func TestABreakerHeldClosedIsNotTakenForHealthy(t *testing.T) {
	t.Parallel()
	until := apitest.Now().Add(9 * time.Minute)
	src := apitest.Incident()
	src.BreakerList = src.BreakerList[:1] // closed
	b := &src.BreakerList[0]
	b.Forced, b.Reason, b.Until = true, "<b>drill</b>", &until
	body := ask(newServer(t, src, nil), http.MethodGet, "/", nil).Body.String()
	require.Contains(t, body, "of 1, 1 forced by hand")
	require.Contains(t, body, "forced by an operator, ends in 9m: &lt;b&gt;drill&lt;/b&gt;")
}

func TestOverviewOfAControlPlaneThatHasJustStarted(t *testing.T) {
	t.Parallel()
	w := ask(newServer(t, &apitest.Source{}, nil), http.MethodGet, "/?window=1h&refresh=5", nil)
	require.Equal(t, http.StatusOK, w.Code)
	body := w.Body.String()
	for _, want := range []string{
		"No objectives in force", "No requests in the last 1h", "No route in force has a breaker", "No Envoy has connected yet",
		`<meta http-equiv="refresh" content="5">`, "seawall traffic --window 1h", "/api/v1/traffic?window=1h",
	} {
		require.Contains(t, body, want)
	}
}

// TestPagesNeedNothingFromElsewhere: the Content-Security-Policy would block
// inline code and style anyway, and there may be no network.
func TestPagesNeedNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apitest.Incident(), nil)
	external := regexp.MustCompile(`(?i)(src|href|action)="(https?:)?//|<script|style="|url\(|@import`)
	for _, path := range []string{"/", "/problems", "/problems/breaker-open", "/assets/seawall.css"} {
		require.Empty(t, external.FindString(ask(srv, http.MethodGet, path, nil).Body.String()), path)
	}
}

func TestWhatOthersSentIsEscaped(t *testing.T) {
	t.Parallel()
	src := apitest.Incident()
	const hostile = `<script>alert(1)</script>`
	src.Fleet[1].ID = hostile
	src.Fleet[1].Resources[fleet.RDS] = fleet.Resource{State: fleet.Rejected, Message: hostile}
	src.Refused.Findings[0].Message = hostile
	src.AlertList[0].Summary = hostile
	body := ask(newServer(t, src, nil), http.MethodGet, "/", nil).Body.String()
	require.NotContains(t, body, hostile)
	// The node twice, its message, the finding, the alert, and the cell's tooltip.
	require.Equal(t, 6, strings.Count(body, "&lt;script&gt;alert(1)"))
}

func TestEveryProblemTypeHasAPage(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apitest.Incident(), nil)
	index := ask(srv, http.MethodGet, "/problems", nil).Body.String()
	for _, p := range problem.Types() {
		require.Contains(t, index, `href="/problems/`+p.Slug+`"`)
		w := ask(srv, http.MethodGet, "/problems/"+p.Slug, nil)
		require.Equal(t, http.StatusOK, w.Code, p.Slug)
		require.Contains(t, w.Body.String(), "<h1>"+p.Title+"</h1>")
	}
	// Our own errors lead to a page, too.
	doc := requireProblem(t, ask(srv, http.MethodGet, "/frob", nil), http.StatusNotFound, "not-found")
	require.Equal(t, http.StatusOK, ask(srv, http.MethodGet, "/problems/"+doc.Slug(), nil).Code)
}
