package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/api/apitest"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/filter/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newServer(t *testing.T, src api.Source, change func(*api.Config)) *api.Server {
	t.Helper()
	overrides, log := apitest.Overrides(t.Context(), apitest.Now, src.Breakers)
	if s, ok := src.(*apitest.Source); ok {
		s.Log = log
	}
	cfg := api.Config{
		Source: src, Overrides: overrides, Postmortems: apitest.Postmortems(t.Context(), apitest.Now, log, src), Audit: log, Ready: func() bool { return true }, Log: slog.New(slog.DiscardHandler), Now: apitest.Now,
		NewRequestID: func() string { return "req-1" },
	}
	if change != nil {
		change(&cfg)
	}
	srv, err := api.New(cfg)
	require.NoError(t, err)
	return srv
}

func ask(srv *api.Server, method, target string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "127.0.0.1:9900"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	srv.Handler().ServeHTTP(w, r)
	return w
}

func requireProblem(t *testing.T, w *httptest.ResponseRecorder, status int, slug string) problem.Document {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body)
	require.Equal(t, problem.ContentType, w.Header().Get("Content-Type"))
	doc, err := problem.Parse(w.Body.Bytes())
	require.NoError(t, err)
	require.Equal(t, problem.DefaultBase+slug, doc.Type)
	require.Equal(t, status, doc.Status)
	require.Equal(t, "req-1", doc.Instance)
	require.NotEmpty(t, doc.Detail)
	return doc
}

// TestMembers holds the names that outside tools rely on (DESIGN section 5).
func TestMembers(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apitest.Incident(), nil)
	for path, want := range map[string][]string{
		"status":             {"version", "policyHash", "filterHash", "services", "nodes.connected", "nodes.synced", "nodes.rejected"},
		"policy":             {"items.0.apiVersion", "items.0.kind", "items.0.metadata.name", "items.0.spec"},
		"policy/diagnostics": {"items.0.code", "items.0.severity", "items.0.file", "items.0.line", "items.0.column", "items.0.path", "items.0.message", "items.0.hint"},
		"nodes": {
			"items.0.id", "items.0.cluster", "items.0.connected", "items.0.lastSeen", "items.0.planHash", "items.0.filterHash",
			"items.0.workers.0.vm", "items.0.workers.0.planHash", "items.0.workers.0.lastSeen",
			"items.0.resources.LDS.state", "items.0.resources.RDS.version", "items.0.resources.ECDS.message",
		},
		"breakers": {"items.0.service", "items.0.route", "items.0.node", "items.0.state", "items.0.forced", "items.0.since", "items.0.retryAt", "items.0.cause"},
		"pools": {
			"items.0.service", "items.0.pool", "items.0.node", "items.0.held", "items.0.waiting", "items.0.limit",
			"items.0.granted", "items.0.full", "items.0.timedOut", "items.0.longestWaitMs",
		},
		"traffic": {
			"items.0.service", "items.0.route", "items.0.priority", "items.0.total", "items.0.good", "items.0.bad", "items.0.slow", "items.0.shed",
			"items.0.degraded", "items.0.injected", "items.0.aborted", "items.0.outcomes", "items.0.would", "items.0.p50", "items.0.p95", "items.0.p99",
		},
		"slos": {
			"items.0.name", "items.0.service", "items.0.objective", "items.0.window", "items.0.total", "items.0.bad", "items.0.attained",
			"items.0.budget.allowed", "items.0.budget.remaining", "items.0.budget.consumed",
			"items.0.burn.0.tier", "items.0.burn.0.long", "items.0.burn.0.short", "items.0.burn.0.threshold", "items.0.burn.0.longRate", "items.0.burn.0.shortRate", "items.0.burn.0.firing",
			"items.0.exhaustsIn", "items.0.state", "items.0.actions",
		},
		"alerts":              {"items.0.name", "items.0.state", "items.0.severity", "items.0.since", "items.0.labels", "items.0.summary", "items.0.action", "items.0.inhibitedBy", "items.0.began"},
		"can-deploy/payments": {"decision", "reasons.0.code", "reasons.0.message", "id", "deployment"},
		"postmortems":         {"items.0.objective", "items.0.service", "items.0.since"},
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			w := ask(srv, http.MethodGet, "/api/v1/"+path, nil)
			require.Equal(t, http.StatusOK, w.Code, w.Body)
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			var doc any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &doc))
			for _, member := range want {
				_, found := dig(doc, member)
				require.True(t, found, "%s: no member %s in %s", path, member, w.Body)
			}
		})
	}
}

// dig follows a path such as items.0.name.
func dig(doc any, path string) (any, bool) {
	for part := range strings.SplitSeq(path, ".") {
		switch at := doc.(type) {
		case map[string]any:
			next, ok := at[part]
			if !ok {
				return nil, false
			}
			doc = next
		case []any:
			if part != "0" || len(at) == 0 {
				return nil, false
			}
			doc = at[0]
		default:
			return nil, false
		}
	}
	return doc, true
}

func TestStatusTellsOfTheRefusedLoad(t *testing.T) {
	t.Parallel()
	src := apitest.Incident()
	var st api.Status
	require.NoError(t, json.Unmarshal(ask(newServer(t, src, nil), http.MethodGet, "/api/v1/status", nil).Body.Bytes(), &st))
	require.Equal(t, &api.Refusal{At: src.Refused.At, Errors: 1, Warnings: 1}, st.Refused)

	src.Refused = nil
	w := ask(newServer(t, src, nil), http.MethodGet, "/api/v1/status", nil)
	require.Contains(t, w.Body.String(), `"refused":null`)
	w = ask(newServer(t, src, nil), http.MethodGet, "/api/v1/policy/diagnostics", nil)
	require.JSONEq(t, `{"items":[],"next":""}`, w.Body.String())
}

func TestEmptyListsAreArrays(t *testing.T) {
	t.Parallel()
	srv := newServer(t, &apitest.Source{}, nil)
	for _, path := range []string{"policy", "policy/diagnostics", "nodes", "breakers", "pools", "traffic", "slos", "audit"} {
		w := ask(srv, http.MethodGet, "/api/v1/"+path, nil)
		require.JSONEq(t, `{"items":[],"next":""}`, w.Body.String(), path)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apitest.Incident(), nil)
	for name, c := range map[string]struct {
		method, target string
		status         int
		slug, detail   string
	}{
		"unknown endpoint":    {"GET", "/api/v1/frobs", 404, "not-found", "/api/v1/frobs"},
		"unknown page":        {"GET", "/frobs", 404, "not-found", "/frobs"},
		"final slash":         {"GET", "/api/v1/nodes/", 404, "not-found", "/api/v1/nodes/"},
		"no metrics handler":  {"GET", "/metrics", 404, "not-found", "/metrics"},
		"unknown problem":     {"GET", "/problems/frob", 404, "not-found", "frob"},
		"write to a list":     {"PUT", "/api/v1/nodes", 405, "method-not-allowed", "PUT"},
		"delete the page":     {"DELETE", "/", 405, "method-not-allowed", "DELETE"},
		"limit zero":          {"GET", "/api/v1/nodes?limit=0", 400, "bad-query", "limit"},
		"limit too large":     {"GET", "/api/v1/nodes?limit=1001", 400, "bad-query", "1 to 1000"},
		"limit a word":        {"GET", "/api/v1/nodes?limit=x", 400, "bad-query", "limit"},
		"limit twice":         {"GET", "/api/v1/nodes?limit=1&limit=2", 400, "bad-query", "2 times"},
		"cursor made up":      {"GET", "/api/v1/nodes?cursor=***", 400, "bad-query", "cursor"},
		"cursor endless":      {"GET", "/api/v1/nodes?cursor=" + strings.Repeat("A", 4000), 400, "bad-query", "cursor"},
		"unknown parameter":   {"GET", "/api/v1/nodes?window=5m", 400, "bad-query", "limit, cursor"},
		"none known":          {"GET", "/api/v1/status?limit=5", 400, "bad-query", "none"},
		"window a word":       {"GET", "/api/v1/traffic?window=soon", 400, "bad-query", "soon"},
		"window too short":    {"GET", "/api/v1/traffic?window=5s", 400, "bad-query", "1m to 90d"},
		"window too long":     {"GET", "/api/v1/traffic?window=91d", 400, "bad-query", "1m to 90d"},
		"window negative":     {"GET", "/api/v1/traffic?window=-5m", 400, "bad-query", "1m to 90d"},
		"window overflows":    {"GET", "/api/v1/traffic?window=9999999999999999999d", 400, "bad-query", "1m to 90d"},
		"malformed query":     {"GET", "/api/v1/traffic?window=%zz", 400, "bad-query", "query string"},
		"refresh of the page": {"GET", "/?refresh=0", 400, "bad-query", "refresh"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ask(srv, c.method, c.target, nil)
			doc := requireProblem(t, w, c.status, c.slug)
			require.Contains(t, doc.Detail, c.detail)
			if c.status == http.StatusMethodNotAllowed {
				require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
			}
		})
	}
}

func TestWindowReachesTheSource(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{"": 5 * time.Minute, "?window=1h30m": 90 * time.Minute, "?window=7d": 7 * 24 * time.Hour, "?window=90d": 90 * 24 * time.Hour} {
		src := apitest.Incident()
		w := ask(newServer(t, src, nil), http.MethodGet, "/api/v1/traffic"+in, nil)
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, want, src.Window)
	}
}

func TestServiceFilter(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apitest.Incident(), nil)
	for path, want := range map[string]int{"breakers": 2, "pools": 1, "traffic": 2, "slos": 1} {
		var page api.List[struct{ Service string }]
		require.NoError(t, json.Unmarshal(ask(srv, http.MethodGet, "/api/v1/"+path+"?service=payments", nil).Body.Bytes(), &page))
		require.Len(t, page.Items, want, path)
		for _, it := range page.Items {
			require.Equal(t, "payments", it.Service)
		}
	}
}

// TestPagesAreTheWholeList follows cursors over a fleet that loses and gains
// other nodes between two pages: what stays is seen once.
func TestPagesAreTheWholeList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "stable")
		limit := rapid.IntRange(1, 15).Draw(t, "limit")
		src := &apitest.Source{}
		var stable []fleet.Node
		for i := range n {
			stable = append(stable, fleet.Node{ID: fmt.Sprintf("stable-%02d", i)})
		}
		overrides, log := apitest.Overrides(context.Background(), apitest.Now, src.Breakers)
		srv, err := api.New(api.Config{Source: src, Overrides: overrides, Postmortems: apitest.Postmortems(context.Background(), apitest.Now, log, src), Audit: log, Ready: func() bool { return true }, Log: slog.New(slog.DiscardHandler), Now: apitest.Now})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		cursor := ""
		for pages := 0; ; pages++ {
			if pages > 100 {
				t.Fatal("the list does not end")
			}
			src.Fleet = append([]fleet.Node(nil), stable...)
			for range rapid.IntRange(0, 3).Draw(t, "passing") {
				src.Fleet = append(src.Fleet, fleet.Node{ID: rapid.StringMatching(`[a-z]{1,9}`).Draw(t, "id") + fmt.Sprint(pages, len(src.Fleet))})
			}
			w := ask(srv, http.MethodGet, fmt.Sprintf("/api/v1/nodes?limit=%d&cursor=%s", limit, url.QueryEscape(cursor)), nil)
			var page api.List[fleet.Node]
			if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
				t.Fatal(err, w.Body)
			}
			if len(page.Items) > limit {
				t.Fatalf("%d items on a page of %d", len(page.Items), limit)
			}
			for _, it := range page.Items {
				seen[it.ID]++
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		for _, s := range stable {
			if seen[s.ID] != 1 {
				t.Fatalf("%s seen %d times", s.ID, seen[s.ID])
			}
		}
	})
}

func TestHostAllowList(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apitest.Incident(), func(c *api.Config) { c.Hosts = []string{"Seawall.Example"} })
	for host, ok := range map[string]bool{
		"127.0.0.1:9900": true, "127.0.0.9": true, "localhost": true, "LOCALHOST:1": true, "localhost.:9900": true, "[::1]:9900": true, "::1": true,
		"seawall.example": true, "seawall.example:443": true,
		"evil.example": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "10.0.0.1:9900": false, "": false, "[": false, "0.0.0.0": false,
	} {
		for _, path := range []string{"/", "/healthz", "/api/v1/status", "/nothing"} {
			w := ask(srv, http.MethodGet, path, func(r *http.Request) { r.Host = host })
			if ok {
				require.NotEqual(t, http.StatusForbidden, w.Code, host+path)
			} else {
				requireProblem(t, w, http.StatusForbidden, "unknown-host")
			}
		}
	}
}

func TestCrossOriginWritesAreRefused(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apitest.Incident(), nil)
	foreign := func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }
	requireProblem(t, ask(srv, http.MethodPut, "/api/v1/status", foreign), http.StatusForbidden, "cross-origin")
	site := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }
	requireProblem(t, ask(srv, http.MethodPost, "/api/v1/status", site), http.StatusForbidden, "cross-origin")
	// A read changes nothing, and a client that is no browser sends neither header.
	require.Equal(t, http.StatusOK, ask(srv, http.MethodGet, "/api/v1/status", foreign).Code)
	requireProblem(t, ask(srv, http.MethodPut, "/api/v1/status", nil), http.StatusMethodNotAllowed, "method-not-allowed")
}

func TestEveryAnswerIsHardened(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apitest.Incident(), nil)
	for _, path := range []string{"/", "/api/v1/status", "/healthz", "/frob", "/problems", "/problems/shed", "/assets/seawall.css"} {
		h := ask(srv, http.MethodGet, path, nil).Header()
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'", path)
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		require.Equal(t, "DENY", h.Get("X-Frame-Options"), path)
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"), path)
		require.Equal(t, "req-1", h.Get("X-Request-Id"), path)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	ready := false
	srv := newServer(t, &apitest.Source{}, func(c *api.Config) { c.Ready = func() bool { return ready } })
	require.Equal(t, http.StatusOK, ask(srv, http.MethodGet, "/healthz", nil).Code)
	w := ask(srv, http.MethodGet, "/readyz", nil)
	doc := requireProblem(t, w, http.StatusServiceUnavailable, "not-ready")
	require.Equal(t, 1, doc.RetryAfter)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	ready = true
	require.Equal(t, http.StatusOK, ask(srv, http.MethodGet, "/readyz", nil).Code)
}

func TestAStoreThatFailsIsToldApart(t *testing.T) {
	t.Parallel()
	var logged strings.Builder
	src := apitest.Incident()
	src.StoreErr = errors.New("disk I/O error on /secret/path")
	srv := newServer(t, src, func(c *api.Config) { c.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
	for _, path := range []string{"/api/v1/traffic", "/api/v1/slos"} {
		w := ask(srv, http.MethodGet, path, nil)
		requireProblem(t, w, http.StatusServiceUnavailable, "unavailable")
		require.NotContains(t, w.Body.String(), "secret")
	}
	require.Contains(t, logged.String(), "disk I/O error")
	require.Contains(t, logged.String(), "requestId=req-1")

	w := ask(srv, http.MethodGet, "/", nil)
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, 2, strings.Count(w.Body.String(), "Not readable just now"))
	require.Contains(t, w.Body.String(), "half-open", "the rest of the page is there")
}

type panicking struct{ *apitest.Source }

func (panicking) Nodes() []fleet.Node { panic("boom") }

func TestAPanicIsA500WithoutDetails(t *testing.T) {
	t.Parallel()
	var logged strings.Builder
	srv := newServer(t, panicking{apitest.Incident()}, func(c *api.Config) { c.Log = slog.New(slog.NewJSONHandler(&logged, nil)) })
	w := ask(srv, http.MethodGet, "/api/v1/nodes", nil)
	requireProblem(t, w, http.StatusInternalServerError, "internal")
	require.NotContains(t, w.Body.String(), "boom")
	require.Contains(t, logged.String(), `"message":"boom"`)
	require.Contains(t, logged.String(), "api_test.go", "the trace")
}

func TestMetricsAreServedAsGiven(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apitest.Incident(), func(c *api.Config) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "seawall_up 1\n") })
	})
	require.Equal(t, "seawall_up 1\n", ask(srv, http.MethodGet, "/metrics", nil).Body.String())
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := api.New(api.Config{})
	require.EqualError(t, err, "api: Config.Source is required")
}

// TestServe runs the real server: an oversized header is refused, requests in
// flight are answered at the end, and nothing is left behind.
func TestServe(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	srv := newServer(t, apitest.Incident(), func(c *api.Config) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(entered)
			<-release
			_, _ = io.WriteString(w, "late but whole")
		})
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()
	base := "http://" + ln.Addr().String()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

	req, err := http.NewRequest(http.MethodGet, base+"/healthz", nil)
	require.NoError(t, err)
	req.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	res, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, res.StatusCode)

	answer := make(chan string, 1)
	go func() {
		res, err := client.Get(base + "/metrics")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answer <- string(body)
	}()
	<-entered
	cancel()
	close(release)
	require.Equal(t, "late but whole", <-answer)
	require.NoError(t, <-served)
}
