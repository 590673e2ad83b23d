package compile_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// source is a set read from YAML text.
func source(t testing.TB, yaml string) *policy.Set {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policies.yaml")
	require.NoError(t, os.WriteFile(path, []byte(yaml), 0o600))
	return load(t, path)
}

func edgeOf(t testing.TB, yaml string) ir.Edge {
	t.Helper()
	model, err := compile.Compile(source(t, yaml), compile.Options{Listen: "127.0.0.1:10000"})
	require.NoError(t, err)
	require.Len(t, model.Edges, 1)
	return model.Edges[0]
}

func planOf(t testing.TB, e ir.Edge) contract.Plan {
	t.Helper()
	var p contract.Plan
	require.NoError(t, json.Unmarshal(e.Filter.PlanJSON, &p))
	return p
}

const shop = `
apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: shop}
spec: {hosts: [shop.local], endpoints: [{address: 127.0.0.1, port: 9001}]}
---
apiVersion: seawall.io/v1alpha1
kind: ResiliencePolicy
metadata: {name: shop}
spec:
  service: shop
  routes:
  - {name: buy, match: {path: {prefix: /buy}}, breaker: {}}
`

func TestOptions(t *testing.T) {
	cases := map[string]struct {
		opt  compile.Options
		want string // of the error, "" = none
		base string
		addr string
	}{
		"defaults":        {compile.Options{Listen: "127.0.0.1:10000"}, "", compile.DefaultProblemTypeBase, "127.0.0.1"},
		"localhost":       {compile.Options{Listen: "localhost:10000"}, "", compile.DefaultProblemTypeBase, "127.0.0.1"},
		"IPv6":            {compile.Options{Listen: "[::1]:10000"}, "", compile.DefaultProblemTypeBase, "::1"},
		"base":            {compile.Options{Listen: "127.0.0.1:10000", ProblemTypeBase: "https://x.example/p/"}, "", "https://x.example/p/", "127.0.0.1"},
		"base, no slash":  {compile.Options{Listen: "127.0.0.1:10000", ProblemTypeBase: "https://x.example/p"}, "", "https://x.example/p/", "127.0.0.1"},
		"no port":         {compile.Options{Listen: "127.0.0.1"}, `listen address "127.0.0.1"`, "", ""},
		"port 0":          {compile.Options{Listen: "127.0.0.1:0"}, "port must be 1 to 65535", "", ""},
		"port too large":  {compile.Options{Listen: "127.0.0.1:70000"}, "port must be 1 to 65535", "", ""},
		"host name":       {compile.Options{Listen: "shop.example:10000"}, "must be an IP address or localhost", "", ""},
		"no host at all":  {compile.Options{Listen: ":10000"}, "must be an IP address or localhost", "", ""},
		"several colons":  {compile.Options{Listen: "::1:10000"}, `listen address "::1:10000"`, "", ""},
		"not even a port": {compile.Options{Listen: "127.0.0.1:http"}, "port must be 1 to 65535", "", ""},
	}
	set := source(t, shop)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			model, err := compile.Compile(set, c.opt)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, set.Hash, model.PolicyHash)
			require.Len(t, model.Edges, 1)
			e := model.Edges[0]
			require.Equal(t, compile.DefaultEdge, e.Name)
			require.Equal(t, c.base, e.ProblemTypeBase)
			require.Equal(t, c.base, planOf(t, e).ProblemTypeBase)
			require.Equal(t, []ir.Listener{{Name: e.Listeners[0].Name, Address: c.addr, Port: 10000}}, e.Listeners)
		})
	}
}

func TestNoEdgeAndNoListen(t *testing.T) {
	model, err := compile.Compile(source(t, shop), compile.Options{})
	require.NoError(t, err)
	require.Empty(t, model.Edges)
	require.NotEmpty(t, model.PolicyHash)
}

func TestReservedServiceName(t *testing.T) {
	set := source(t, shop)
	set.Services[0].Metadata.Name = "seawall-xds" // policy.Load would refuse it
	_, err := compile.Compile(set, compile.Options{Listen: "127.0.0.1:10000"})
	require.ErrorContains(t, err, "seawall-xds")
	require.ErrorContains(t, err, "taken by Seawall's own clusters")
}

// TestModes: only an enforced policy puts its breaker into the plan; its routes
// are counted in any case.
func TestModes(t *testing.T) {
	for mode, breaker := range map[string]bool{"enforce": true, "shadow": false, "disabled": false} {
		t.Run(mode, func(t *testing.T) {
			e := edgeOf(t, strings.Replace(shop, "service: shop", "service: shop\n  mode: "+mode, 1))
			plan := planOf(t, e)
			require.Len(t, plan.Routes, 1)
			require.Equal(t, "shop/buy", plan.Routes[0].Name)
			require.Equal(t, breaker, plan.Routes[0].Breaker != nil)
		})
	}
}

// TestBreakerIdentity: a breaker keeps its state over an edit unless the edit
// is about the breaker itself.
func TestBreakerIdentity(t *testing.T) {
	identity := func(yaml string) string {
		return planOf(t, edgeOf(t, yaml)).Routes[0].Breaker.Identity
	}
	before := identity(shop)
	require.Len(t, before, 16)
	cases := map[string]struct {
		old, new string
		same     bool
	}{
		"the route's timeout":   {"breaker: {}", "breaker: {}, timeout: {request: 3s}", true},
		"the route's priority":  {"breaker: {}", "breaker: {}, priority: low", true},
		"spelled out":           {"breaker: {}", "breaker: {recoveryTimeout: 1m, failures: [timeout, 5xx, reset, connect-failure]}", true},
		"another threshold":     {"breaker: {}", "breaker: {consecutiveFailures: 6}", false},
		"another recovery time": {"breaker: {}", "breaker: {recoveryTimeout: 61s}", false},
		"other failures":        {"breaker: {}", "breaker: {failures: [5xx]}", false},
		"a failure rate":        {"breaker: {}", "breaker: {consecutiveFailures: 5, failureRate: {}}", false},
		"slow calls":            {"breaker: {}", "breaker: {consecutiveFailures: 5, slowCalls: {threshold: 1s}}", false},
		"other probes":          {"breaker: {}", "breaker: {halfOpen: {probes: 1}}", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			after := identity(strings.Replace(shop, c.old, c.new, 1))
			require.Equal(t, c.same, before == after, "%s %s", before, after)
		})
	}
}

// TestOverrides: an override is in the plan of its breaker until it expires, and
// the breaker keeps its identity under it.
func TestOverrides(t *testing.T) {
	now := time.Date(2026, 11, 25, 1, 0, 0, 0, time.UTC)
	set := source(t, strings.Replace(shop, "breaker: {}}", "breaker: {}}\n  - {name: bare, match: {path: {prefix: /bare}}}", 1))
	at := func(overrides ...compile.Override) contract.Plan {
		model, err := compile.Compile(set, compile.Options{Listen: "127.0.0.1:10000", Overrides: overrides, Now: now})
		require.NoError(t, err)
		plan := planOf(t, model.Edges[0])
		require.Nil(t, plan.Routes[0].Breaker, "bare")
		return plan
	}
	plain := at()
	for name, c := range map[string]struct {
		override compile.Override
		in       bool
	}{
		"open":            {compile.Override{Service: "shop", Route: "buy", State: "open", NotAfter: now.Add(time.Minute)}, true},
		"closed":          {compile.Override{Service: "shop", Route: "buy", State: "closed", NotAfter: now.Add(1)}, true},
		"expired":         {compile.Override{Service: "shop", Route: "buy", State: "open", NotAfter: now}, false},
		"another route":   {compile.Override{Service: "shop", Route: "sell", State: "open", NotAfter: now.Add(time.Minute)}, false},
		"without breaker": {compile.Override{Service: "shop", Route: "bare", State: "open", NotAfter: now.Add(time.Minute)}, false},
		"another service": {compile.Override{Service: "store", Route: "buy", State: "open", NotAfter: now.Add(time.Minute)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			plan := at(c.override)
			buy := plan.Routes[1].Breaker
			require.Equal(t, plain.Routes[1].Breaker.Identity, buy.Identity)
			require.Equal(t, c.in, plan.Hash != plain.Hash)
			if !c.in {
				require.Equal(t, plain, plan)
				return
			}
			require.Equal(t, &contract.Override{State: c.override.State, NotAfterNS: c.override.NotAfter.UnixNano()}, buy.Override)
		})
	}
}

// TestModesOfGuards: pools and deadlines too are in the plan of an enforced
// policy only.
func TestModesOfGuards(t *testing.T) {
	set := load(t, "testdata/guards/policies")
	for mode, on := range map[string]bool{policy.ModeEnforce: true, policy.ModeShadow: false, policy.ModeDisabled: false} {
		for i := range set.Policies {
			set.Policies[i].Spec.Mode = mode
		}
		model, err := compile.Compile(set, compile.Options{Listen: "127.0.0.1:10000"})
		require.NoError(t, err)
		plan := planOf(t, model.Edges[0])
		require.Equal(t, on, len(plan.Pools) > 0)
		for _, host := range model.Edges[0].VirtualHosts {
			for _, r := range host.Routes {
				if r.Name == "reports/read" {
					require.Equal(t, map[bool]int64{true: 10e9, false: 15e9}[on], r.TimeoutNS, "a pool that is off bounds nothing")
				}
			}
		}
		for _, r := range plan.Routes {
			if !on {
				require.Equal(t, contract.Route{Name: r.Name, Service: r.Service, Route: r.Route, Priority: r.Priority, GRPC: r.GRPC, Stream: r.Stream}, r)
			}
		}
	}
}

// TestBodyTimeout: Envoy has one limit for a request to come in, so it is the
// longest that a route asks for, and validation warns where that is another.
func TestBodyTimeout(t *testing.T) {
	cases := map[string]struct {
		routes string
		want   time.Duration
	}{
		"no word of it":            {"[{name: a}]", 5 * time.Minute},
		"the only one":             {"[{name: a, timeout: {body: 3s}}]", 3 * time.Second},
		"the longest":              {"[{name: a, match: {path: {prefix: /a}}, timeout: {body: 3s}}, {name: b, timeout: {body: 8s}}]", 8 * time.Second},
		"another says nothing":     {"[{name: a, match: {path: {prefix: /a}}, timeout: {body: 3s}}, {name: b}]", 5 * time.Minute},
		"a stream":                 {"[{name: a, match: {path: {prefix: /a}}, timeout: {body: 3s}}, {name: b, timeout: {request: 0s}}]", 0},
		"a stream with a short in": {"[{name: a, timeout: {request: 0s, body: 3s}}]", 3 * time.Second},
		"longer than the default":  {"[{name: a, match: {path: {prefix: /a}}, timeout: {body: 1h}}, {name: b}]", time.Hour},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			service, _, _ := strings.Cut(shop, "  routes:")
			e := edgeOf(t, service+"  routes: "+c.routes+"\n")
			require.Equal(t, int64(c.want), e.HTTP.RequestTimeoutNS)
		})
	}
	bare, _, _ := strings.Cut(shop, "---")
	require.Equal(t, int64(5*time.Minute), edgeOf(t, bare).HTTP.RequestTimeoutNS, "a service without a policy")
}

func TestProbeExpiry(t *testing.T) {
	for timeout, want := range map[string]time.Duration{"3s": 8 * time.Second, "0s": time.Minute} {
		e := edgeOf(t, strings.Replace(shop, "breaker: {}", "breaker: {}, timeout: {request: "+timeout+"}", 1))
		require.Equal(t, int64(want), planOf(t, e).Routes[0].Breaker.ProbeExpiryNS, timeout)
	}
}

// TestPlanIsAccepted: what compile writes, the filter reads, and reads the same.
func TestPlanIsAccepted(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/policies")
	require.NoError(t, err)
	for _, dir := range dirs {
		model, err := compile.Compile(load(t, dir), compile.Options{Listen: "127.0.0.1:10000"})
		require.NoError(t, err)
		for _, e := range model.Edges {
			for _, raw := range [][]byte{e.Filter.PlanJSON, e.Filter.SafeJSON} {
				var want contract.Plan
				require.NoError(t, json.Unmarshal(raw, &want))
				got, err := contract.ParsePlan(raw)
				require.NoError(t, err, "%s: %s", dir, e.Name)
				if len(want.Routes) == 0 {
					want.Routes = nil // JSON tells [] from absent, ParsePlan does not
				}
				require.Equal(t, want, got)
			}
			require.Equal(t, planOf(t, e).Hash, e.Filter.PlanHash)
		}
	}
}

// TestSafePlanIsIndependent: the plan inside the listener does not change with
// what users edit all day, so listeners are left alone.
func TestSafePlanIsIndependent(t *testing.T) {
	a := edgeOf(t, shop)
	b := edgeOf(t, strings.ReplaceAll(shop, "/buy", "/sell")+`---
apiVersion: seawall.io/v1alpha1
kind: ServiceLevelObjective
metadata: {name: fast}
spec: {service: shop, objective: 99%, indicator: {latency: {threshold: 30ms}}}
`)
	require.NotEqual(t, a.Filter.PlanHash, b.Filter.PlanHash)
	require.Equal(t, string(a.Filter.SafeJSON), string(b.Filter.SafeJSON))
	require.Contains(t, planOf(t, b).LatencyBoundsUS, int64(30_000))
	require.NotContains(t, planOf(t, a).LatencyBoundsUS, int64(30_000))
}

func TestObjectives(t *testing.T) {
	list := compile.Objectives(load(t, "testdata/payments/policies"))
	require.Equal(t, []slo.Objective{
		{
			Name: "payments-availability", Service: "payments", Routes: []string{"charge"},
			ObjectivePPM: 999_000, Window: 30 * 24 * time.Hour, Bad: slo.DefaultBad(),
			BudgetPolicy: []slo.BudgetStep{
				{ConsumedPPM: 500_000, Actions: []string{"increase-alerting"}},
				{ConsumedPPM: 1_000_000, Actions: []string{"freeze-releases"}},
			},
		},
		{
			Name: "payments-latency", Service: "payments", Priorities: []string{"critical"},
			ObjectivePPM: 950_000, Window: 7 * 24 * time.Hour, LatencyThreshold: 750 * time.Millisecond,
		},
	}, list)
}

// TestThresholdsAreBounds: a latency objective is exact only where its
// threshold is a boundary of the histogram that is counted.
func TestThresholdsAreBounds(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/policies")
	require.NoError(t, err)
	seen := 0
	for _, dir := range dirs {
		set := load(t, dir)
		model, err := compile.Compile(set, compile.Options{Listen: "127.0.0.1:10000"})
		require.NoError(t, err)
		for _, o := range compile.Objectives(set) {
			for _, e := range model.Edges {
				serves := slices.ContainsFunc(e.Clusters, func(c ir.Cluster) bool { return c.Name == o.Service })
				if o.LatencyThreshold > 0 && serves {
					require.Contains(t, planOf(t, e).LatencyBoundsUS, o.LatencyThreshold.Microseconds(), o.Name)
					seen++
				}
			}
		}
	}
	require.Positive(t, seen)
}

// TestPermuted: the order of whatever has no order does not change a byte.
func TestPermuted(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/policies")
	require.NoError(t, err)
	for _, dir := range dirs {
		t.Run(filepath.Base(filepath.Dir(dir)), func(t *testing.T) {
			raw, err := json.Marshal(load(t, dir))
			require.NoError(t, err)
			rapid.Check(t, func(t *rapid.T) {
				var set, mixed policy.Set
				require.NoError(t, json.Unmarshal(raw, &set))
				require.NoError(t, json.Unmarshal(raw, &mixed))
				shuffle(t, &mixed)
				want, err := compile.Compile(&set, compile.Options{Listen: "127.0.0.1:10000"})
				require.NoError(t, err)
				got, err := compile.Compile(&mixed, compile.Options{Listen: "127.0.0.1:10000"})
				require.NoError(t, err)
				require.Equal(t, want, got)
				require.Equal(t, compile.Objectives(&set), compile.Objectives(&mixed))
			})
		})
	}
}

func shuffle(t *rapid.T, set *policy.Set) {
	set.Edges = rapid.Permutation(set.Edges).Draw(t, "edges")
	set.Services = rapid.Permutation(set.Services).Draw(t, "services")
	set.Policies = rapid.Permutation(set.Policies).Draw(t, "policies")
	set.SLOs = rapid.Permutation(set.SLOs).Draw(t, "slos")
	for i := range set.Edges {
		spec := &set.Edges[i].Spec
		spec.Listeners = rapid.Permutation(spec.Listeners).Draw(t, "listeners")
		spec.Services = rapid.Permutation(spec.Services).Draw(t, "edge services")
	}
	for i := range set.Services {
		spec := &set.Services[i].Spec
		spec.Hosts = rapid.Permutation(spec.Hosts).Draw(t, "hosts")
		spec.Paths = rapid.Permutation(spec.Paths).Draw(t, "paths")
		spec.Endpoints = rapid.Permutation(spec.Endpoints).Draw(t, "endpoints")
	}
	for i := range set.Policies {
		routes := set.Policies[i].Spec.Routes
		for j := range routes {
			routes[j].Match.Methods = rapid.Permutation(routes[j].Match.Methods).Draw(t, "methods")
			if routes[j].Breaker != nil {
				routes[j].Breaker.Failures = rapid.Permutation(routes[j].Breaker.Failures).Draw(t, "failures")
			}
			if routes[j].Retry != nil {
				routes[j].Retry.RetryOn = rapid.Permutation(routes[j].Retry.RetryOn).Draw(t, "retryOn")
			}
		}
	}
}
