package ir_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

func TestNodeSelector(t *testing.T) {
	cases := map[string]struct {
		selector    ir.NodeSelector
		cluster, id string
		want        bool
	}{
		"empty takes all":        {ir.NodeSelector{}, "edge", "n1", true},
		"cluster":                {ir.NodeSelector{Cluster: "edge"}, "edge", "n1", true},
		"another cluster":        {ir.NodeSelector{Cluster: "edge"}, "edge-2", "n1", false},
		"both must match":        {ir.NodeSelector{Cluster: "edge", ID: "n2"}, "edge", "n1", false},
		"glob":                   {ir.NodeSelector{ID: "in-*"}, "x", "in-7", true},
		"glob takes nothing":     {ir.NodeSelector{ID: "in-*"}, "x", "in-", true},
		"glob in the middle":     {ir.NodeSelector{ID: "a*c*e"}, "x", "abcde", true},
		"glob, no overlap":       {ir.NodeSelector{ID: "ab*ba"}, "x", "aba", false},
		"glob, not a prefix":     {ir.NodeSelector{ID: "n*"}, "x", "in", false},
		"a dot is just a dot":    {ir.NodeSelector{ID: "a.b"}, "x", "acb", false},
		"star alone takes empty": {ir.NodeSelector{Cluster: "*"}, "", "", true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, c.selector.Selects(c.cluster, c.id)) })
	}
}

func TestGlobIsLikeARegex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.SampledFrom([]rune("ab*")), 1, 6, -1).Draw(t, "pattern")
		s := rapid.StringOfN(rapid.SampledFrom([]rune("ab")), 0, 8, -1).Draw(t, "s")
		want := regexp.MustCompile("^" + strings.ReplaceAll(pattern, "*", ".*") + "$").MatchString(s)
		require.Equal(t, want, ir.NodeSelector{ID: pattern}.Selects("", s))
	})
}

func TestMatchHost(t *testing.T) {
	to := func(cluster string) []ir.Route {
		return []ir.Route{{Name: cluster, Cluster: cluster, Match: ir.RouteMatch{Path: ir.Path{Kind: ir.PathPrefix, Value: "/"}}}}
	}
	edge := ir.Edge{VirtualHosts: []ir.VirtualHost{
		{Name: "*", Domains: []string{"*"}, Routes: to("any")},
		{Name: "wide", Domains: []string{"*.example.com"}, Routes: to("wide")},
		{Name: "wider", Domains: []string{"*.com"}, Routes: to("wider")},
		{Name: "exact", Domains: []string{"a.example.com", "[::1]"}, Routes: to("exact")},
	}}
	for host, want := range map[string]string{
		"a.example.com":     "exact",
		"A.Example.COM:443": "exact",
		"b.example.com":     "wide",
		"c.b.example.com":   "wide",
		"example.com":       "wider",
		"com":               "any",
		"":                  "any",
		"[::1]":             "exact",
		"[::1]:80":          "exact",
	} {
		cluster, _ := ir.Match(edge, "GET", host, "/", nil)
		require.Equal(t, want, cluster, host)
	}
	_, name := ir.Match(ir.Edge{}, "GET", "a", "/", nil)
	require.Empty(t, name)
}

func TestUnderPrefix(t *testing.T) {
	for _, c := range []struct {
		prefix, path string
		want         bool
	}{
		{"/", "/", true}, {"/", "/a", true}, {"/", "*", false},
		{"/a", "/a", true}, {"/a", "/a/", true}, {"/a", "/a/b", true}, {"/a", "/ab", false}, {"/a", "/", false},
		{"/a/b", "/a", false}, {"/a", "/A", false},
	} {
		require.Equal(t, c.want, ir.UnderPrefix(c.prefix, c.path), "%s under %s", c.path, c.prefix)
	}
}

func TestTemplate(t *testing.T) {
	for _, c := range []struct {
		template, path string
		want           bool
	}{
		{"/users/{id}", "/users/7", true}, {"/users/{id}", "/users/", false}, {"/users/{id}", "/users/7/x", false},
		{"/users/{id}/cards", "/users/7/cards", true}, {"/a.b/{x}", "/acb/1", false}, {"/{a}/{b}", "/1/2", true},
		{"/users/{id}", "/users/a%20b;v=1", true},
	} {
		re := regexp.MustCompile("^(?:" + ir.TemplateRegex(c.template) + ")$")
		require.Equal(t, c.want, re.MatchString(c.path), "%s takes %s", c.template, c.path)
	}
}

func plan(hash string, routes ...string) ir.Edge {
	list := make([]string, len(routes))
	for i, r := range routes {
		list[i] = fmt.Sprintf(`{"name":%q,"breaker":{"identity":"of-%s"}}`, r, hash)
	}
	return ir.Edge{Name: "e", Filter: ir.Filter{
		PlanHash: hash,
		PlanJSON: []byte(fmt.Sprintf(`{"schema":1,"hash":%q,"routes":[%s],"more":{"z":1,"a":"<&>"}}`, hash, strings.Join(list, ","))),
	}}
}

func TestRetire(t *testing.T) {
	next, prev := plan("new", "s/b", "s/d"), plan("old", "s/a", "s/b", "s/c")
	got := ir.Retire(next, prev)
	require.Equal(t, "new", got.Filter.PlanHash)
	want := `{"schema":1,"hash":"new","routes":[` +
		`{"name":"s/a","breaker":{"identity":"of-old"},"retired":true},` +
		`{"name":"s/b","breaker":{"identity":"of-new"}},` +
		`{"name":"s/c","breaker":{"identity":"of-old"},"retired":true},` +
		`{"name":"s/d","breaker":{"identity":"of-new"}}],"more":{"z":1,"a":"<&>"}}`
	require.Equal(t, []byte(want), got.Filter.PlanJSON, "the same bytes, with members in their order")
	require.NotContains(t, string(next.Filter.PlanJSON), "retired", "next itself is left alone")

	t.Run("for one generation only", func(t *testing.T) {
		after := ir.Retire(plan("newer", "s/d"), got)
		require.Contains(t, string(after.Filter.PlanJSON), `{"name":"s/b","breaker":{"identity":"of-new"},"retired":true}`)
		require.NotContains(t, string(after.Filter.PlanJSON), "s/a")
	})
	t.Run("a route that comes back is live", func(t *testing.T) {
		back := ir.Retire(plan("newer", "s/a", "s/b", "s/d"), got)
		require.NotContains(t, string(back.Filter.PlanJSON), "retired")
	})
	t.Run("nothing vanished", func(t *testing.T) {
		require.Equal(t, prev, ir.Retire(prev, plan("x", "s/a")))
	})
	t.Run("no previous plan", func(t *testing.T) {
		require.Equal(t, next, ir.Retire(next, ir.Edge{}))
	})
}

// TestRetireIsBounded: the filter refuses a plan with more routes.
func TestRetireIsBounded(t *testing.T) {
	names := func(prefix string, n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("%s/%05d", prefix, i)
		}
		return list
	}
	got := ir.Retire(plan("new", names("n", ir.MaxPlanRoutes-1)...), plan("old", names("o", 3)...))
	var p struct{ Routes []json.RawMessage }
	require.NoError(t, json.Unmarshal(got.Filter.PlanJSON, &p))
	require.Len(t, p.Routes, ir.MaxPlanRoutes)
}

func FuzzRetire(f *testing.F) {
	f.Add(plan("a", "s/a").Filter.PlanJSON, plan("b", "s/b").Filter.PlanJSON)
	f.Add([]byte(`{"routes":null}`), []byte(`{"routes":[{}]}`))
	f.Add([]byte(`{"routes":[1]}`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, next, prev []byte) {
		in := ir.Edge{Filter: ir.Filter{PlanJSON: next, PlanHash: "h"}}
		out := ir.Retire(in, ir.Edge{Filter: ir.Filter{PlanJSON: prev}})
		require.Equal(t, "h", out.Filter.PlanHash)
		if json.Valid(next) {
			require.True(t, json.Valid(out.Filter.PlanJSON), "%s", out.Filter.PlanJSON)
		}
	})
}
