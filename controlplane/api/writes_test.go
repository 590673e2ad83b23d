package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/api/apitest"
)

// change is a write that is granted.
type change struct {
	path   string // below /api/v1
	body   string
	before string // body of a PUT on the path that must come first; "" = none
	audit  string // what the log says of it
	tagged bool   // it honours If-Match
}

// changes has one of each endpoint that changes something, by method and path as
// OpenAPI lists them.
var changes = map[string]change{
	"PUT /api/v1/breakers/{service}/{route}/override": {
		path: "/breakers/payments/charge/override", body: `{"state":"open","reason":"a drill","for":"10m","by":"ada"}`, tagged: true,
		audit: "15:09 breaker-open breakers/payments/charge by ada: a drill",
	},
	"DELETE /api/v1/breakers/{service}/{route}/override": {
		path: "/breakers/payments/charge/override", body: `{"reason":"a drill","by":"ada"}`, before: `{"state":"open","reason":"r","for":"10m"}`, tagged: true,
		audit: "15:09 breaker-reset breakers/payments/charge by ada: a drill",
	},
	"PUT /api/v1/can-deploy/{service}/override": {
		path: "/can-deploy/payments/override", body: `{"decision":"allow","reason":"a drill","for":"10m","by":"ada"}`, tagged: true,
		audit: "15:09 release-allow can-deploy/payments by ada: a drill",
	},
	"DELETE /api/v1/can-deploy/{service}/override": {
		path: "/can-deploy/payments/override", body: `{"reason":"a drill","by":"ada"}`, before: `{"decision":"deny","reason":"r","for":"10m"}`, tagged: true,
		audit: "15:09 release-reset can-deploy/payments by ada: a drill",
	},
	"DELETE /api/v1/postmortems/{objective}": {
		path: "/postmortems/payments-availability", body: `{"reason":"a drill","by":"ada"}`, tagged: true,
		audit: "15:09 postmortem-closed postmortems/payments-availability by ada: a drill",
	},
	"POST /api/v1/deployments": {
		path: "/deployments", body: `{"service":"payments","version":"v1.4.2","by":"ada"}`,
		audit: "15:09 deployment deployments/payments by ada: v1.4.2",
	},
}

// without is a body without one member, or with another value of it.
func without(t *testing.T, body, member string, value any) string {
	t.Helper()
	var members map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &members))
	require.Contains(t, members, member)
	delete(members, member)
	if value != nil {
		members[member] = value
	}
	raw, err := json.Marshal(members)
	require.NoError(t, err)
	return string(raw)
}

// TestEveryWriteIsGuarded holds DESIGN section 5 over all endpoints that change
// something, those to come included: OpenAPI says which there are.
func TestEveryWriteIsGuarded(t *testing.T) {
	t.Parallel()
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	w := ask(newServer(t, apitest.Incident(), nil), http.MethodGet, "/api/v1/openapi.json", nil)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &doc))
	listed := 0
	for path, methods := range doc.Paths {
		for method := range methods {
			if method != "get" {
				listed++
				require.Contains(t, changes, strings.ToUpper(method)+" "+path, "an endpoint that changes something and is not checked here")
			}
		}
	}
	require.Len(t, changes, listed)

	for name, c := range changes {
		method, _, _ := strings.Cut(name, " ")
		fresh := func(t *testing.T) *api.Server {
			srv := newServer(t, apitest.Incident(), nil)
			if c.before != "" {
				require.Equal(t, http.StatusOK, write(srv, http.MethodPut, "/api/v1"+c.path, c.before).Code)
			}
			return srv
		}
		refused := func(what, body string, status int, slug, detail string, headers ...string) {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				srv := fresh(t)
				before := auditLog(t, srv)
				doc := requireProblem(t, write(srv, method, "/api/v1"+c.path, body, headers...), status, slug)
				require.Contains(t, doc.Detail, detail)
				require.Equal(t, before, auditLog(t, srv), "something has changed")
			})
		}
		refused("a form", c.body, 415, "unsupported-media-type", "text/plain", "Content-Type", "text/plain")
		refused("no JSON", "{", 400, "invalid-request", "JSON object")
		refused("an unknown member", strings.Replace(c.body, `"by"`, `"bye"`, 1), 400, "invalid-request", "bye")
		refused("a foreign origin", c.body, 403, "cross-origin", "evil", "Origin", "https://evil.example")
		refused("a cross-site fetch", c.body, 403, "cross-origin", "another origin", "Sec-Fetch-Site", "cross-site")
		refused("too large", without(t, c.body, "by", strings.Repeat("b", 2<<20)), 413, "body-too-large", "1048576")
		refused("a long author", without(t, c.body, "by", strings.Repeat("b", 101)), 400, "invalid-request", "by must")
		refused("an author of two lines", without(t, c.body, "by", "a\nb"), 400, "invalid-request", "by must")
		words := "reason"
		if method == http.MethodPost {
			words = "version"
		}
		refused("no "+words, without(t, c.body, words, nil), 400, "invalid-request", words+" is missing")
		refused("an empty "+words, without(t, c.body, words, " "), 400, "invalid-request", words+" is missing")
		refused("a long "+words, without(t, c.body, words, strings.Repeat("r", 501)), 400, "invalid-request", words+" must")
		if method == http.MethodPut {
			refused("no end", without(t, c.body, "for", nil), 400, "invalid-request", "for:")
			refused("longer than a day", without(t, c.body, "for", "24h1s"), 400, "invalid-request", "24h")
			refused("no time at all", without(t, c.body, "for", "0s"), 400, "invalid-request", "for")
		}
		if c.tagged {
			refused("another tag", c.body, 412, "changed", "expected", "If-Match", `"another"`)
			refused("a weak tag", c.body, 412, "changed", "expected", "If-Match", `W/"1"`)
		}
		t.Run(name+"/an unknown Host", func(t *testing.T) {
			t.Parallel()
			srv := fresh(t)
			before := auditLog(t, srv)
			w := ask(srv, method, "/api/v1"+c.path, func(r *http.Request) {
				r.Host = "rebound.example"
				r.Header.Set("Content-Type", "application/json")
			})
			requireProblem(t, w, 403, "unknown-host")
			require.Equal(t, before, auditLog(t, srv))
		})
		t.Run(name+"/granted", func(t *testing.T) {
			t.Parallel()
			srv := fresh(t)
			before := auditLog(t, srv)
			var headers []string
			if c.tagged && method != http.MethodPut {
				tag := ask(srv, http.MethodGet, "/api/v1"+c.path, nil).Header().Get("ETag")
				require.NotEmpty(t, tag)
				headers = []string{"If-Match", tag}
			}
			w := write(srv, method, "/api/v1"+c.path, c.body, headers...)
			require.Equal(t, map[string]int{"PUT": 200, "DELETE": 204, "POST": 201}[method], w.Code, w.Body)
			require.Equal(t, c.tagged && method == http.MethodPut, w.Header().Get("ETag") != "")
			require.Equal(t, append([]string{c.audit}, before...), auditLog(t, srv))
			if method == http.MethodDelete {
				requireProblem(t, ask(srv, http.MethodGet, "/api/v1"+c.path, nil), 404, "not-found")
			}
		})
		t.Run(name+"/nobody says who", func(t *testing.T) {
			t.Parallel()
			srv := fresh(t)
			require.Less(t, write(srv, method, "/api/v1"+c.path, without(t, c.body, "by", nil)).Code, 300)
			require.Equal(t, strings.Replace(c.audit, "by ada", "by local", 1), auditLog(t, srv)[0])
		})
	}
}
