package translate_test

import (
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/xds/translate"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// trying is an edge whose cluster has the attempt role, with a route for each
// name and faults that no policy can ask for yet.
func trying(upstream uint32, faults map[string]contract.Fault) ir.Edge {
	edge := shop(0, upstream, upstream)
	plan := contract.Plan{
		Schema: contract.PlanSchema, Hash: "0123456789abcdef", Edge: "shop", FailureMode: "open", ProblemTypeBase: edge.ProblemTypeBase,
		LatencyBoundsUS: []int64{1000}, Telemetry: contract.Telemetry{Cluster: "seawall-telemetry", Authority: "telemetry", Path: "/v1/batches"},
	}
	var routes []ir.Route
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		full := "payments/" + name
		plan.Routes = append(plan.Routes, contract.Route{
			Name: full, Service: "payments", Route: name, Priority: "medium", Retries: 2, TimeoutNS: 2 * second,
			Attempts: &contract.Attempts{PerTryNS: second / 4}, Faults: []contract.Fault{faults[name]},
		})
		routes = append(routes, ir.Route{
			Name: full, Match: prefix("/" + name), Cluster: "payments", TimeoutNS: 2 * second, PerTryTimeoutNS: second / 4,
			Retry: &ir.Retry{
				Retries: 2, Resets: true, Statuses: []uint32{503}, BaseNS: 10_000_000, MaxNS: 10_000_000,
				Methods: []string{http.MethodGet},
			},
		})
	}
	edge.Filter.PlanHash = plan.Hash
	edge.Filter.PlanJSON, _ = json.Marshal(plan) // of strings and numbers
	for i := range edge.Clusters {
		edge.Clusters[i].Attempts = true
	}
	edge.VirtualHosts = append(edge.VirtualHosts[:1:1], ir.VirtualHost{Name: "payments.local", Domains: []string{"payments.local"}, Routes: append(routes, ir.Route{Name: "payments/", Match: prefix("/"), DirectStatus: 404})})
	return edge
}

// What chaos does to tries, per-try timeouts and retries see.
func TestFaultsOfTries(t *testing.T) {
	all := contract.Fault{Experiment: "all", PPM: 1_000_000, NotAfterNS: time.Now().Add(time.Hour).UnixNano()}
	with := func(edit func(*contract.Fault)) contract.Fault {
		f := all
		edit(&f)
		return f
	}
	cases := map[string]struct {
		fault       contract.Fault
		status      int
		calls       int
		least, most time.Duration
	}{
		"delay": {
			fault:  with(func(f *contract.Fault) { f.LatencyMinNS, f.LatencyMaxNS = second/10, second/10 }),
			status: 200, calls: 1, least: 100 * time.Millisecond, most: 2 * time.Second,
		},
		"cut-off": {
			fault:  with(func(f *contract.Fault) { f.LatencyMinNS, f.LatencyMaxNS, f.Tries = second, second, 1 }),
			status: 200, calls: 1, least: 250 * time.Millisecond, most: 2 * time.Second,
		},
		"each-cut-off": {
			fault:  with(func(f *contract.Fault) { f.LatencyMinNS, f.LatencyMaxNS = second, second }),
			status: 504, calls: 0, least: 750 * time.Millisecond, most: 3 * time.Second,
		},
		"status": {
			fault:  with(func(f *contract.Fault) { f.Status, f.Tries = 503, 1 }),
			status: 200, calls: 2, most: time.Second,
		},
		"each-status": {
			fault:  with(func(f *contract.Fault) { f.Status = 503 }),
			status: 503, calls: 3, most: time.Second,
		},
		"unlisted": {
			fault:  with(func(f *contract.Fault) { f.Status = 418 }),
			status: 418, calls: 1, most: time.Second,
		},
		"over": {
			fault:  with(func(f *contract.Fault) { f.Status, f.NotAfterNS = 503, 1 }),
			status: 200, calls: 1, most: time.Second,
		},
	}
	var calls atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	t.Cleanup(service.Close)
	faults := map[string]contract.Fault{}
	for name, tc := range cases {
		faults[name] = tc.fault
	}
	edge := trying(uint32(service.Listener.Addr().(*net.TCPAddr).Port), faults)
	g := serve(t, edge, staticConfig(t, edge, translate.StaticConfig{}, filterModule(t)))
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for range 3 {
				calls.Store(0)
				began := time.Now()
				a := g.do(t, http.MethodGet, "payments.local", "/"+name, nil)
				took := time.Since(began)
				require.Equal(t, tc.status, a.status, a.body)
				require.EqualValues(t, tc.calls, calls.Load())
				require.GreaterOrEqual(t, took, tc.least)
				require.Less(t, took, tc.most)
				require.Empty(t, a.header.Get("x-envoy-ratelimited"))
			}
		})
	}
}
