package compile_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/filter/contract"
)

func TestMatch(t *testing.T) {
	model, err := compile.Compile(load(t, "testdata/shared-host/policies"), compile.Options{Listen: "127.0.0.1:10000"})
	require.NoError(t, err)
	edge := model.Edges[0]
	cases := []struct {
		name, method, host, path string
		headers                  map[string]string
		cluster, route           string
	}{
		{"longest path wins", "GET", "shop.local", "/v1/admin/x", nil, "admin", "admin/all"},
		{"a longer one within it", "GET", "shop.local", "/v1/admin/public/x", nil, "api", "api/wide"},
		{"whole segments", "GET", "shop.local", "/v1/administrator", nil, "api", "api/wide"},
		{"the path itself", "GET", "shop.local", "/v1/admin", nil, "admin", "admin/all"},
		{"port is ignored", "GET", "shop.local:8080", "/v1", nil, "api", "api/wide"},
		{"host in capitals", "GET", "SHOP.local", "/v1", nil, "api", "api/wide"},
		{"query is ignored", "GET", "shop.local", "/v1?x=/v1/admin", nil, "api", "api/wide"},
		{"exact", "POST", "shop.local", "/v1/ping", nil, "api", "api/exact"},
		{"exact takes nothing below", "POST", "shop.local", "/v1/ping/x", nil, "", "api/"},
		{"regex inside of the service's path", "POST", "shop.local", "/v1/x/y", nil, "api", "api/rx"},
		{"headers", "POST", "shop.local", "/v1/z", map[string]string{"x-ring": "beta"}, "api", "api/beta"},
		{"a header that must not be there", "POST", "shop.local", "/v1/z", map[string]string{"x-ring": "beta", "x-old": ""}, "", "api/"},
		{"no route of the service", "POST", "shop.local", "/v1/none", nil, "", "api/"},
		{"a route outside of the service's paths", "POST", "shop.local", "/v2/x/y", nil, "site", "site/default"},
		{"the wider host takes the rest", "GET", "shop.local", "/", nil, "site", "site/default"},
		{"any host", "GET", "nobody.local", "/v1/admin", nil, "site", "site/default"},
		{"a path of its own", "GET", "lone.local", "/only/x", nil, "lone", "lone/default"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cluster, route := ir.Match(edge, c.method, c.host, c.path, c.headers)
			require.Equal(t, c.cluster, cluster)
			require.Equal(t, c.route, route)
		})
	}
}

// TestKnownHost: a request that no service takes is counted for the service
// that has its host alone.
func TestKnownHost(t *testing.T) {
	services := func(bPath string) ir.Edge {
		return edgeOf(t, `
apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: a}
spec: {hosts: [a.local, ab.local], paths: [/a], endpoints: [{address: 127.0.0.1, port: 9001}]}
---
apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: b}
spec: {hosts: [ab.local], paths: [`+bPath+`], endpoints: [{address: 127.0.0.1, port: 9002}]}
`)
	}
	cases := map[string]struct{ host, path, cluster, route string }{
		"alone on its host":     {"a.local", "/none", "", "a/"},
		"one of two":            {"ab.local", "/none", "", ""},
		"unknown host":          {"x.local", "/a", "", ""},
		"served":                {"ab.local", "/b", "b", "b/default"},
		"not an empty segment":  {"ab.local", "/bb", "", ""},
		"empty path of a proxy": {"ab.local", "*", "", ""},
	}
	edge := services("/b")
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cluster, route := ir.Match(edge, "GET", c.host, c.path, nil)
			require.Equal(t, c.cluster, cluster)
			require.Equal(t, c.route, route)
		})
	}
}

// TestRetryIsForRepeatableMethods: POST, PATCH and what we do not know are sent
// twice only with a key, and only where the policy names the key.
func TestRetryIsForRepeatableMethods(t *testing.T) {
	model, err := compile.Compile(load(t, "testdata/methods/policies"), compile.Options{Listen: "127.0.0.1:10000"})
	require.NoError(t, err)
	cases := []struct {
		method, path, route string
		repeats, keyed      bool // without and with a key
	}{
		{"GET", "/x", "orders/rest", true, true},
		{"PUT", "/x", "orders/rest", true, true},
		{"POST", "/x", "orders/rest", false, false},
		{"PATCH", "/x", "orders/rest", false, false},
		{"BREW", "/x", "orders/rest", false, false},
		{"GET", "/keyed", "orders/keyed", true, true},
		{"POST", "/keyed", "orders/keyed", false, true},
		{"PUT", "/keyed", "orders/rest", true, true},
		{"POST", "/post", "orders/post-only", false, true},
		{"GET", "/events", "orders/events", false, false},
	}
	for _, c := range cases {
		t.Run(c.method+c.path, func(t *testing.T) {
			r := ir.MatchRoute(model.Edges[0], c.method, "any", c.path, nil)
			require.NotNil(t, r)
			require.Equal(t, c.route, r.Name)
			require.Equal(t, c.repeats, r.Retry.Repeats(c.method, false))
			require.Equal(t, c.keyed, r.Retry.Repeats(c.method, true))
		})
	}
}

// TestMatchIsWhatPoliciesSay compares the compiled edge with a reading of the
// policies that knows nothing of virtual hosts and bindings.
func TestMatchIsWhatPoliciesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := anySet(t)
		model, err := compile.Compile(set, compile.Options{Listen: "127.0.0.1:10000"})
		require.NoError(t, err)
		for range 20 {
			host := rapid.SampledFrom([]string{"a", "b", "c", "x"}).Draw(t, "host")
			path := anyPath(t, "path")
			method := rapid.SampledFrom([]string{"GET", "POST", "PATCH"}).Draw(t, "method")
			cluster, route := ir.Match(model.Edges[0], method, host, path, nil)
			wantCluster, wantRoute := naive(set, method, host, path)
			require.Equal(t, wantCluster, cluster, "%s %s%s", method, host, path)
			require.Equal(t, wantRoute, route, "%s %s%s", method, host, path)
		}
	})
}

func anyPath(t *rapid.T, label string) string {
	segments := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab"}), 0, 3).Draw(t, label)
	return "/" + strings.Join(segments, "/")
}

func anySet(t *rapid.T) *policy.Set {
	set := &policy.Set{}
	taken := map[string]bool{}
	for _, name := range []string{"s1", "s2", "s3"} {
		var spec policy.ServiceSpec
		spec.Endpoints = []policy.Endpoint{{Address: "127.0.0.1", Port: 9000}}
		spec.ConnectTimeout, spec.Connections.Max = 1, 1
		hosts := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "*"}), 1, 2, rapid.ID).Draw(t, name+" hosts")
		path := anyPath(t, name+" path")
		for _, h := range hosts {
			if !taken[h+path] { // validation refuses a second one
				taken[h+path] = true
				spec.Hosts = append(spec.Hosts, h)
			}
		}
		if spec.Hosts == nil {
			continue
		}
		spec.Paths = []string{path}
		set.Services = append(set.Services, policy.Service{Metadata: policy.Metadata{Name: name}, Spec: spec})
		if rapid.Bool().Draw(t, name+" has a policy") {
			set.Policies = append(set.Policies, anyPolicy(t, name))
		}
	}
	return set
}

func anyPolicy(t *rapid.T, service string) policy.ResiliencePolicy {
	p := policy.ResiliencePolicy{Metadata: policy.Metadata{Name: service}}
	p.Spec.Service, p.Spec.Mode = service, policy.ModeEnforce
	for _, name := range []string{"r1", "r2", "r3"} {
		route := policy.Route{Name: name, Priority: contract.Medium.String()}
		route.Match.Methods = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"GET", "POST"}), 0, 2, rapid.ID).Draw(t, "methods")
		path := anyPath(t, "route path")
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			route.Match.Path = &policy.PathMatch{Exact: path}
		case 1:
			route.Match.Path = &policy.PathMatch{Prefix: path}
		case 2:
			route.Match.Path = &policy.PathMatch{Regex: regexp.QuoteMeta(path) + ".*"}
		case 3:
			route.Match.Path = &policy.PathMatch{Template: strings.TrimRight(path, "/") + "/{id}"}
		}
		if rapid.Bool().Draw(t, "retries") {
			route.Retry = &policy.Retry{Attempts: 2, RetryOn: policy.Outcomes{"503"}}
		}
		p.Spec.Routes = append(p.Spec.Routes, route)
	}
	return p
}

// naive decides by the words of the documentation: the most specific host, then
// the longest path; within a service the first route; hosts whose services do
// not cover a path fall through to wider ones.
func naive(set *policy.Set, method, host, path string) (cluster, route string) {
	type candidate struct {
		service policy.Service
		exact   bool
	}
	var best *candidate
	owners := map[string]bool{}
	for _, s := range set.Services {
		exact, any := slices.Contains(s.Spec.Hosts, host), slices.Contains(s.Spec.Hosts, "*")
		if !exact && !any {
			continue
		}
		owners[s.Metadata.Name] = true
		if !below(s.Spec.Paths[0], path) {
			continue
		}
		if best == nil || exact && !best.exact || exact == best.exact && len(s.Spec.Paths[0]) > len(best.service.Spec.Paths[0]) {
			best = &candidate{s, exact}
		}
	}
	if best == nil {
		if len(owners) == 1 {
			for name := range owners {
				return "", name + "/"
			}
		}
		return "", ""
	}
	name := best.service.Metadata.Name
	for _, p := range set.Policies {
		if p.Spec.Service != name {
			continue
		}
		for _, r := range p.Spec.Routes {
			if (len(r.Match.Methods) == 0 || slices.Contains(r.Match.Methods, method)) && takes(r.Match.Path, path) {
				return name, name + "/" + r.Name
			}
		}
		return "", name + "/"
	}
	return name, name + "/" + compile.DefaultRoute
}

func below(prefix, path string) bool {
	return slices.Equal(segments(prefix), segments(path)[:min(len(segments(prefix)), len(segments(path)))])
}

func segments(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" })
}

func takes(m *policy.PathMatch, path string) bool {
	switch {
	case m == nil:
		return true
	case m.Exact != "":
		return m.Exact == path
	case m.Regex != "":
		return regexp.MustCompile("^(" + m.Regex + ")$").MatchString(path)
	case m.Template != "":
		want, got := segments(m.Template), segments(path)
		return len(want) == len(got) && slices.Equal(want[:len(want)-1], got[:len(got)-1])
	default:
		return below(m.Prefix, path)
	}
}

// TestMaxPlanRoutes: package ir is a leaf and repeats the filter's bound.
func TestMaxPlanRoutes(t *testing.T) { require.Equal(t, contract.MaxRoutes, ir.MaxPlanRoutes) }
