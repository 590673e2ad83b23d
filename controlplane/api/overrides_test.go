package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/api/apitest"
	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/filter/problem"
)

const chargeOverride = "/api/v1/breakers/payments/charge/override"

func write(srv *api.Server, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	return ask(srv, method, target, func(r *http.Request) {
		if body != "" {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Type", "application/json")
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
	})
}

func auditLog(t *testing.T, srv *api.Server) (actions []string) {
	t.Helper()
	var page api.List[audit.Entry]
	require.NoError(t, json.Unmarshal(ask(srv, http.MethodGet, "/api/v1/audit", nil).Body.Bytes(), &page))
	for _, e := range page.Items {
		actions = append(actions, fmt.Sprintf("%s %s %s by %s: %s", e.At.Format("15:04"), e.Action, e.Subject, e.By, e.Reason))
	}
	return actions
}

// TestAnOverrideFromSettingToLifting follows one override and its tag.
func TestAnOverrideFromSettingToLifting(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apitest.Incident(), nil)
	requireProblem(t, ask(srv, http.MethodGet, chargeOverride, nil), 404, "not-found")

	w := write(srv, http.MethodPut, chargeOverride, `{"state":"open","reason":"provider is migrating","for":"10m","by":"ada"}`)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	first := w.Header().Get("ETag")
	require.Regexp(t, `^"[0-9a-z]+"$`, first)
	until := apitest.Now().Add(10 * time.Minute).Format(time.RFC3339)
	want := `{"service":"payments","route":"charge","state":"open","reason":"provider is migrating","by":"ada","since":"2026-03-14T15:09:26Z","until":"` + until + `"}`
	require.JSONEq(t, want, w.Body.String())
	w = ask(srv, http.MethodGet, chargeOverride, nil)
	require.JSONEq(t, want, w.Body.String())
	require.Equal(t, first, w.Header().Get("ETag"))

	const again = `{"state":"closed","reason":"false alarm","for":"1d"}`
	requireProblem(t, write(srv, http.MethodPut, chargeOverride, again, "If-None-Match", "*"), 412, "changed")
	requireProblem(t, write(srv, http.MethodPut, chargeOverride, again, "If-Match", `"other"`), 412, "changed")
	requireProblem(t, write(srv, http.MethodPut, chargeOverride, again, "If-Match", "W/"+first), 412, "changed")
	w = write(srv, http.MethodPut, chargeOverride, again, "If-Match", `"other", `+first)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	second := w.Header().Get("ETag")
	require.NotEqual(t, first, second)

	requireProblem(t, write(srv, http.MethodDelete, chargeOverride, `{"reason":"over"}`, "If-Match", first), 412, "changed")
	w = write(srv, http.MethodDelete, chargeOverride, `{"reason":"over"}`, "If-Match", second)
	require.Equal(t, http.StatusNoContent, w.Code, w.Body)
	require.Empty(t, w.Body.String())
	requireProblem(t, write(srv, http.MethodDelete, chargeOverride, `{"reason":"over"}`), 404, "not-found")
	requireProblem(t, write(srv, http.MethodDelete, chargeOverride, `{"reason":"over"}`, "If-Match", "*"), 412, "changed")
	require.Equal(t, http.StatusOK, write(srv, http.MethodPut, chargeOverride, again, "If-None-Match", "*").Code)
	require.Equal(t, http.StatusNoContent, write(srv, http.MethodDelete, chargeOverride+"?reason=no+body", "").Code)

	require.Equal(t, []string{
		"15:09 breaker-reset breakers/payments/charge by local: no body",
		"15:09 breaker-closed breakers/payments/charge by local: false alarm",
		"15:09 breaker-reset breakers/payments/charge by local: over",
		"15:09 breaker-closed breakers/payments/charge by local: false alarm",
		"15:09 breaker-open breakers/payments/charge by ada: provider is migrating",
	}, auditLog(t, srv))
}

func TestBadOverrides(t *testing.T) {
	t.Parallel()
	const good = `{"state":"open","reason":"r","for":"10m"}`
	with := func(member, value string) string {
		return strings.Replace(good, member, value, 1)
	}
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		slug, detail       string
	}{
		"unknown route":       {"PUT", "/api/v1/breakers/payments/nosuch/override", good, nil, 404, "not-found", "payments/nosuch"},
		"unknown service":     {"PUT", "/api/v1/breakers/nosuch/charge/override", good, nil, 404, "not-found", "nosuch/charge"},
		"lift unknown":        {"DELETE", "/api/v1/breakers/nosuch/charge/override", `{"reason":"r"}`, nil, 404, "not-found", "nosuch/charge"},
		"another method":      {"POST", chargeOverride, good, nil, 405, "method-not-allowed", "DELETE, GET, HEAD, PUT"},
		"no body":             {"PUT", chargeOverride, "", nil, 415, "unsupported-media-type", "application/json"},
		"a form":              {"PUT", chargeOverride, good, []string{"Content-Type", "text/plain"}, 415, "unsupported-media-type", "text/plain"},
		"a form for deletion": {"DELETE", chargeOverride, `{"reason":"r"}`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "unsupported-media-type", "form"},
		"not JSON":            {"PUT", chargeOverride, "{", nil, 400, "invalid-request", "JSON object"},
		"two documents":       {"PUT", chargeOverride, good + good, nil, 400, "invalid-request", "followed by more"},
		"unknown member":      {"PUT", chargeOverride, with(`"for"`, `"forr"`), nil, 400, "invalid-request", "forr"},
		"of another type":     {"PUT", chargeOverride, with(`"10m"`, `10`), nil, 400, "invalid-request", "for"},
		"no state":            {"PUT", chargeOverride, with("open", ""), nil, 400, "invalid-request", "state must be open or closed"},
		"half-open":           {"PUT", chargeOverride, with("open", "half-open"), nil, 400, "invalid-request", "state must be open or closed"},
		"no reason":           {"PUT", chargeOverride, with(`"r"`, `" "`), nil, 400, "invalid-request", "reason is missing"},
		"reason of two lines": {"PUT", chargeOverride, with(`"r"`, `"a\nb"`), nil, 400, "invalid-request", "one line"},
		"a long reason":       {"PUT", chargeOverride, with(`"r"`, `"`+strings.Repeat("r", 501)+`"`), nil, 400, "invalid-request", "500 bytes"},
		"a long author":       {"PUT", chargeOverride, with(`"r"`, `"r","by":"`+strings.Repeat("b", 101)+`"`), nil, 400, "invalid-request", "by must"},
		"no end":              {"PUT", chargeOverride, with(`"10m"`, `""`), nil, 400, "invalid-request", "for:"},
		"too long":            {"PUT", chargeOverride, with("10m", "24h1s"), nil, 400, "invalid-request", "24h"},
		"too short":           {"PUT", chargeOverride, with("10m", "999ms"), nil, 400, "invalid-request", "1s"},
		"negative":            {"PUT", chargeOverride, with("10m", "-10m"), nil, 400, "invalid-request", "for:"},
		"too large":           {"PUT", chargeOverride, with(`"r"`, `"`+strings.Repeat("r", 2<<20)+`"`), nil, 413, "body-too-large", "1048576"},
		"lift without reason": {"DELETE", chargeOverride, "", nil, 400, "invalid-request", "reason is missing"},
		"If-Match unquoted":   {"PUT", chargeOverride, good, []string{"If-Match", "abc"}, 400, "invalid-request", "If-Match"},
		"If-None-Match a tag": {"PUT", chargeOverride, good, []string{"If-None-Match", `"abc"`}, 400, "invalid-request", "If-None-Match"},
		"from another origin": {"PUT", chargeOverride, good, []string{"Origin", "https://evil.example"}, 403, "cross-origin", "evil"},
		"query not known":     {"PUT", chargeOverride + "?reason=x", good, nil, 400, "bad-query", "reason"},
		"made-up cursor":      {"GET", "/api/v1/audit?cursor=eA", "", nil, 400, "bad-query", "cursor"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, apitest.Incident(), nil)
			w := write(srv, c.method, c.path, c.body, c.headers...)
			require.Contains(t, requireProblem(t, w, c.status, c.slug).Detail, c.detail)
			require.Empty(t, auditLog(t, srv))
		})
	}
}

func TestAuditPages(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apitest.Incident(), nil)
	for i := range 7 {
		require.Equal(t, 200, write(srv, http.MethodPut, chargeOverride, fmt.Sprintf(`{"state":"open","reason":"%d","for":"10m"}`, i)).Code)
	}
	var reasons []string
	cursor := ""
	for {
		var page api.List[audit.Entry]
		w := ask(srv, http.MethodGet, "/api/v1/audit?limit=3&cursor="+url.QueryEscape(cursor), nil)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &page))
		for _, e := range page.Items {
			reasons = append(reasons, e.Reason)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	require.Equal(t, []string{"6", "5", "4", "3", "2", "1", "0"}, reasons)
}

func TestAnOverrideThatIsNotStoredIsNotSet(t *testing.T) {
	t.Parallel()
	src := apitest.Incident()
	overrides, log := apitest.Overrides(t.Context(), apitest.Now, src.Breakers)
	log.Err = errors.New("disk full at /secret")
	srv := newServer(t, src, func(c *api.Config) { c.Overrides, c.Audit = overrides, log })
	w := write(srv, http.MethodPut, chargeOverride, `{"state":"open","reason":"r","for":"10m"}`)
	requireProblem(t, w, http.StatusServiceUnavailable, "unavailable")
	require.NotContains(t, w.Body.String(), "secret")
	requireProblem(t, ask(srv, http.MethodGet, chargeOverride, nil), 404, "not-found")
	requireProblem(t, ask(srv, http.MethodGet, "/api/v1/audit", nil), 503, "unavailable")
}

// FuzzOverride: whatever a client sends is granted whole or refused with a
// problem that is the client's, and what is granted can be read back.
func FuzzOverride(f *testing.F) {
	f.Add(`{"state":"open","reason":"r","for":"10m"}`, "application/json", `"1"`, "*")
	f.Add(`{"state":"closed","reason":"r","for":"1d","by":"ada"}`, "application/json; charset=utf-8", "", "")
	f.Add(`{"state":"open","reason":"r","for":"99999999d"}[]`, "application/json", `W/"1", "`, "")
	f.Fuzz(func(t *testing.T, body, kind, match, noneMatch string) {
		srv := newServer(t, apitest.Incident(), nil)
		w := ask(srv, http.MethodPut, chargeOverride, func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Type", kind)
			if match != "" {
				r.Header.Set("If-Match", match)
			}
			r.Header.Set("If-None-Match", noneMatch)
		})
		if w.Code != http.StatusOK {
			require.Contains(t, []int{400, 412, 413, 415}, w.Code, w.Body)
			require.Equal(t, problem.ContentType, w.Header().Get("Content-Type"))
			require.Empty(t, auditLog(t, srv))
			return
		}
		require.Len(t, auditLog(t, srv), 1)
		require.Equal(t, w.Body.String(), ask(srv, http.MethodGet, chargeOverride, nil).Body.String())
	})
}
