package match_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/match"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

const shop = `apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: shop}
spec: {hosts: [shop.local, "*"], paths: [/v1, /v2], endpoints: [{address: 127.0.0.1, port: 9001}]}
---
apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: admin}
spec: {hosts: [shop.local], paths: [/v1/admin], endpoints: [{address: 127.0.0.1, port: 9002}]}
---
apiVersion: seawall.io/v1alpha1
kind: ResiliencePolicy
metadata: {name: shop-guards}
spec:
  service: shop
  mode: enforce
  pools: {carts: {maxConcurrency: 5, timeout: 9s}}
  routes:
  - {name: ping, match: {methods: [GET, HEAD], path: {exact: /v1/ping}}, timeout: {request: 1s}}
  - name: user
    match: {path: {template: "/v1/users/{id}"}, headers: [{name: x-ring, exact: beta}, {name: x-old, present: false}]}
    retry: true
    deadlineHeader: X-Deadline
  - {name: cart, match: {path: {regex: "/v[12]/carts?"}}, pool: carts, breaker: {}}
---
apiVersion: seawall.io/v1alpha1
kind: ServiceLevelObjective
metadata: {name: shop-fast}
spec: {service: shop, routes: [cart], objective: 99%, indicator: {availability: {}}}
---
apiVersion: seawall.io/v1alpha1
kind: ServiceLevelObjective
metadata: {name: shop-critical}
spec: {service: shop, priorities: [medium, critical], objective: 99%, indicator: {availability: {}}}
`

func load(t testing.TB, text string) (*ir.Model, *policy.Set, *policy.Source) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shop.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	set, source, findings, err := policy.LoadSource(file)
	require.NoError(t, err)
	require.NotNil(t, set, "%v", findings)
	model, err := compile.Compile(set, compile.Options{Listen: "127.0.0.1:10000"})
	require.NoError(t, err)
	return model, set, source
}

func TestAsk(t *testing.T) {
	t.Parallel()
	model, set, source := load(t, shop)
	cases := map[string]struct {
		method, url string
		headers     []string
		service     string
		route       string
		status      int
		earlier     []string // reasons
	}{
		"the first route":        {"GET", "http://shop.local:80/v1/ping?x", nil, "shop", "ping", 0, []string{"path /v1/ping is not under /v1/admin"}},
		"method":                 {"POST", "shop.local/v1/ping", nil, "shop", "", 404, []string{"path /v1/ping is not under /v1/admin", "method POST is not GET or HEAD", "path /v1/ping does not fit /v1/users/{id}", "path /v1/ping does not match /v[12]/carts?"}},
		"headers, joined":        {"GET", "shop.local/v1/users/7", []string{"X-Ring: beta", "x-ring:gamma"}, "shop", "", 404, []string{"path /v1/users/7 is not under /v1/admin", "path /v1/users/7 is not /v1/ping", `header x-ring "beta,gamma" is not "beta"`, "path /v1/users/7 does not match /v[12]/carts?"}},
		"a header that is there": {"GET", "shop.local/v1/users/7", []string{"x-ring: beta", "x-old:"}, "shop", "", 404, []string{"path /v1/users/7 is not under /v1/admin", "path /v1/users/7 is not /v1/ping", "header x-old is there", "path /v1/users/7 does not match /v[12]/carts?"}},
		"no header":              {"GET", "shop.local/v1/users/7", nil, "shop", "", 404, []string{"path /v1/users/7 is not under /v1/admin", "path /v1/users/7 is not /v1/ping", "no header x-ring", "path /v1/users/7 does not match /v[12]/carts?"}},
		"a host header":          {"GET", "/v1/admin/x", []string{"host: SHOP.local"}, "admin", "default", 0, []string{}},
		"normalised":             {"GET", "https://shop.local/v2/../%761//carts", nil, "shop", "cart", 0, []string{"path /v1/carts is not under /v1/admin", "path /v1/carts is not /v1/ping", "path /v1/carts does not fit /v1/users/{id}"}},
		"any host":               {"GET", "nobody/v2/cart#top", nil, "shop", "cart", 0, []string{"path /v2/cart is not under /v2"}},
		"no path":                {"GET", "http://shop.local", nil, "", "", 404, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := match.Ask(model, set, source, match.Request{Method: c.method, URL: c.url, Headers: c.headers})
			require.NoError(t, err)
			require.Len(t, a.Edges, 1)
			e := a.Edges[0]
			require.Equal(t, c.service, e.Service)
			require.Equal(t, c.route, e.Route)
			require.EqualValues(t, c.status, e.Status)
			require.Equal(t, c.status == 0, e.Served())
			if name == "any host" || c.earlier == nil {
				return
			}
			got := []string{}
			for _, m := range e.Earlier {
				got = append(got, m.Reason)
			}
			require.Equal(t, c.earlier, got)
		})
	}
	for name, r := range map[string]match.Request{
		"no host": {Method: "GET", URL: "/x"}, "a scheme": {Method: "GET", URL: "ftp://x/y"}, "no header": {Method: "GET", URL: "x/y", Headers: []string{"x"}},
		"refused by Envoy": {Method: "GET", URL: "x/%00"}, "nothing": {Method: "GET", URL: "http:///x"},
	} {
		_, err := match.Ask(model, set, source, r)
		require.Error(t, err, name)
	}
}

// TestSettings: every setting says whether a file gives it, and where.
func TestSettings(t *testing.T) {
	t.Parallel()
	model, set, source := load(t, shop)
	ask := func(url string, headers ...string) (match.Edge, map[string]string) {
		a, err := match.Ask(model, set, source, match.Request{Method: "GET", URL: url, Headers: headers})
		require.NoError(t, err)
		got := map[string]string{}
		for _, s := range a.Edges[0].Settings {
			require.Equal(t, s.Default, s.Place == nil, s.Field)
			got[s.Field] = s.Value
			if s.Default {
				got[s.Field] += " (default)"
			}
		}
		return a.Edges[0], got
	}
	e, got := ask("shop.local/v1/users/7", "x-ring: beta")
	require.Equal(t, 20, e.Place.Line)
	require.Equal(t, "X-Deadline", got["deadlineHeader"], "as the file spells it, at its place")
	require.NotContains(t, got, "timeout.deadlineHeader")
	require.Equal(t, "15s (default)", got["timeout.request"])
	require.Equal(t, "3 (default)", got["retry.attempts"])
	require.Equal(t, "20% (default)", got["retryBudget.percent"])
	require.Equal(t, "enforce", got["mode"])
	require.Equal(t, "http1 (default)", got["service.protocol"])
	require.NotContains(t, got, "breaker.consecutiveFailures")
	require.Equal(t, []string{"shop-critical"}, e.Objectives)
	require.Equal(t, []match.Guard{{Guard: "deadline", Name: "x-deadline", Acts: true}, {Guard: "retry", Acts: true}}, e.Guards)

	e, got = ask("shop.local/v1/carts")
	require.Equal(t, "5", got["pools.carts.maxConcurrency"])
	require.Equal(t, "5s (default)", got["pools.carts.maxWait"])
	require.Equal(t, "[5xx, reset, timeout, connect-failure] (default)", got["breaker.failures"])
	require.Equal(t, []string{"shop-critical", "shop-fast"}, e.Objectives)
	require.Equal(t, []match.Guard{{Guard: "breaker", Acts: true}, {Guard: "pool", Name: "carts", Acts: true}}, e.Guards)

	off, offSet, offSource := load(t, strings.Replace(shop, "mode: enforce", "mode: disabled", 1))
	a, err := match.Ask(off, offSet, offSource, match.Request{Method: "GET", URL: "shop.local/v1/carts"})
	require.NoError(t, err)
	require.Equal(t, match.Guard{Guard: "pool", Name: "carts", Why: "mode is disabled"}, a.Edges[0].Guards[1])
}

// TestAskIsTheRouter: for any request the answer is the reference matcher's
// over the normalised path, and each route before has its reason.
func TestAskIsTheRouter(t *testing.T) {
	t.Parallel()
	model, set, source := load(t, shop)
	rapid.Check(t, func(t *rapid.T) {
		segments := rapid.SliceOfN(rapid.SampledFrom([]string{"v1", "v2", "admin", "ping", "users", "7", "carts", "", ".", "..", "%76%31", "..;x"}), 0, 4).Draw(t, "path")
		path := "/" + strings.Join(segments, "/")
		host := rapid.SampledFrom([]string{"shop.local", "SHOP.local:8080", "x"}).Draw(t, "host")
		method := rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "method")
		header := map[string]string{}
		var lines []string
		if rapid.Bool().Draw(t, "beta") {
			header["x-ring"], lines = "beta", []string{"X-Ring:beta"}
		}
		a, err := match.Ask(model, set, source, match.Request{Method: method, URL: "http://" + host + path, Headers: lines})
		require.NoError(t, err)
		normalized, redirect, ok := ir.NormalizePath(path)
		require.True(t, ok)
		require.False(t, redirect)
		cluster, name := ir.Match(model.Edges[0], method, host, normalized, header)
		e := a.Edges[0]
		require.Equal(t, cluster != "", e.Served())
		service, route, _ := strings.Cut(name, "/")
		require.Equal(t, service, e.Service)
		require.Equal(t, route, e.Route)
		for _, m := range e.Earlier {
			require.NotEmpty(t, m.Reason, m.Route)
		}
	})
}
