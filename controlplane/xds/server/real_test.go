//go:build linux

package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/xds/server"
	"github.com/seawall-mesh/seawall/controlplane/xds/translate"
	"github.com/seawall-mesh/seawall/envoy"
	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/module"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

// real is a control plane, reduced to xDS and what batches say of workers, in
// front of a real Envoy with the real filter.
type real struct {
	t     *testing.T
	fleet *fleet.Registry
	srv   *server.Server
	sha   string
	xds   string
	tele  string
	up    string // the upstream's host:port
	bad   atomic.Bool
	stop  func()
}

func newReal(t *testing.T) *real {
	r := &real{t: t, fleet: fleet.New(time.Now)}
	_, sha, err := module.Load()
	require.NoError(t, err)
	r.sha = sha
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	t.Cleanup(upstream.Close)
	r.up = upstream.Listener.Addr().String()
	tele := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var b contract.Batch
		if err := json.NewDecoder(req.Body).Decode(&b); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.fleet.Batch(fleet.WorkerReport{Node: b.Node, Boot: b.Boot, BootNS: b.BootNS, VM: b.VM, Plan: b.Plan, Filter: b.Filter, Served: b.Served})
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(tele.Close)
	r.tele = tele.Listener.Addr().String()
	r.serve("127.0.0.1:0")
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *real) serve(address string) {
	r.srv = server.New(server.Config{
		Log: realenvoy.Logger(r.t), Fleet: r.fleet, FilterSHA256: r.sha,
		Build: func(e ir.Edge, m translate.Module) (*translate.Resources, error) {
			if r.bad.Load() {
				e.Filter.PlanJSON = []byte(`{"schema":1,"broken":`)
			}
			return translate.Build(e, m)
		},
	})
	var ln net.Listener
	require.Eventually(r.t, func() bool {
		var err error
		ln, err = net.Listen("tcp", address)
		return err == nil
	}, 5*time.Second, 10*time.Millisecond)
	r.xds = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	srv := r.srv
	go func() { done <- srv.Serve(ctx, ln) }()
	r.stop = func() {
		cancel()
		require.NoError(r.t, <-done)
		r.stop = func() {}
	}
}

func (r *real) envoy() *realenvoy.Envoy {
	wasm, sha, err := module.Load()
	require.NoError(r.t, err)
	return realenvoy.Start(r.t, realenvoy.Config{
		XDS: r.xds, Telemetry: r.tele, NodeID: "edge-1", Cluster: "edge", Module: envoy.Module{SHA256: sha, Bytes: wasm},
	})
}

// model compiles a policy set of services, each with routes, behind one edge
// on a port of the system's choice.
func (r *real) model(services ...string) *ir.Model {
	host, port, err := net.SplitHostPort(r.up)
	require.NoError(r.t, err)
	var b strings.Builder
	b.WriteString("apiVersion: seawall.io/v1alpha1\nkind: Edge\nmetadata: {name: shop}\nspec: {listeners: [{address: 127.0.0.1, port: 10000}], nodes: {cluster: edge}}\n")
	for _, s := range services {
		name, routes, _ := strings.Cut(s, ":")
		fmt.Fprintf(&b, "---\napiVersion: seawall.io/v1alpha1\nkind: Service\nmetadata: {name: %s}\nspec: {hosts: [%s.local], endpoints: [{address: %s, port: %s}]}\n", name, name, host, port)
		fmt.Fprintf(&b, "---\napiVersion: seawall.io/v1alpha1\nkind: ResiliencePolicy\nmetadata: {name: %s}\nspec:\n  service: %s\n  routes:\n", name, name)
		for route := range strings.SplitSeq(routes, ",") {
			route, failures, _ := strings.Cut(route, "=")
			if failures == "" {
				failures = "5"
			}
			fmt.Fprintf(&b, "  - {name: %s, match: {path: {prefix: /%s}}, breaker: {consecutiveFailures: %s}}\n", route, route, failures)
		}
	}
	dir := r.t.TempDir()
	require.NoError(r.t, os.WriteFile(filepath.Join(dir, "p.yaml"), []byte(b.String()), 0o600))
	set, found, err := policy.Load(dir)
	require.NoError(r.t, err)
	require.False(r.t, found.HasErrors(), "%v", found)
	m, err := compile.Compile(set, compile.Options{})
	require.NoError(r.t, err)
	m.Edges[0].Listeners[0].Port = 0
	return m
}

func (r *real) node() fleet.Node {
	n, _ := r.fleet.Node("edge-1")
	return n
}

func (r *real) synced(m *ir.Model) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		n := r.node()
		return n.Synced && n.PlanHash == m.Edges[0].Filter.PlanHash
	}, 30*time.Second, 10*time.Millisecond, "synced")
}

// load sends requests until it is told to stop, and returns how many there
// were, and those that were not answered 200.
func load(address, host, path string) (stop func() (int, []string)) {
	ctx, cancel := context.WithCancel(context.Background())
	var n atomic.Int64
	var mu sync.Mutex
	var wrong []string
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for ctx.Err() == nil {
				req, _ := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
				req.Host = host
				resp, err := c.Do(req)
				what := ""
				if err != nil {
					what = err.Error()
				} else {
					if resp.StatusCode != http.StatusOK {
						what = resp.Status
					}
					_ = resp.Body.Close()
				}
				n.Add(1)
				if what != "" {
					mu.Lock()
					wrong = append(wrong, what)
					mu.Unlock()
				}
			}
		})
	}
	return func() (int, []string) {
		cancel()
		wg.Wait()
		return int(n.Load()), wrong
	}
}

func TestRealEnvoy(t *testing.T) {
	r := newReal(t)
	first := r.model("pay:charge,refund")
	r.srv.SetModel(first)
	e := r.envoy()
	e.WaitLive()
	address := e.Address(first.Edges[0].Listeners[0].Name)
	r.synced(first)
	require.Len(t, r.node().Workers, 2)
	require.Equal(t, r.sha, r.node().FilterHash)

	t.Run("edits under load fail no request", func(t *testing.T) {
		stop := load(address, "pay.local", "/charge")
		var last *ir.Model
		for i := range 40 {
			// Routes and services come and go, thresholds change; charge stays.
			services := []string{fmt.Sprintf("pay:charge=%d,r%d", 5+i%3, i)}
			if i%2 == 0 {
				services = append(services, fmt.Sprintf("svc%d:list", i%6))
			}
			last = r.model(services...)
			r.srv.SetModel(last)
			require.Eventually(t, func() bool {
				n := r.node()
				if n.TargetPlanHash != last.Edges[0].Filter.PlanHash {
					return false
				}
				for _, x := range n.Resources {
					if x.State != fleet.Synced {
						return false
					}
				}
				return true
			}, 10*time.Second, time.Millisecond)
		}
		n, wrong := stop()
		require.Empty(t, wrong, "of %d", n)
		require.Greater(t, n, 100)
		r.synced(last)
		require.Zero(t, e.Stat("listener_manager.listener_modified"), "no edit touches the listener")
		t.Logf("%d requests, none wrong, during 40 edits", n)
	})

	t.Run("a rejected plan leaves the one before serving", func(t *testing.T) {
		stop := load(address, "pay.local", "/charge")
		before := r.node().TargetPlanHash
		r.bad.Store(true)
		r.srv.SetModel(r.model("pay:charge=9"))
		require.Eventually(t, func() bool { return r.node().State == fleet.StateRejected }, 10*time.Second, 5*time.Millisecond)
		require.Contains(t, r.node().Reason, "Unable to create Wasm plugin seawall")
		require.Equal(t, before, r.node().PlanHash)
		r.bad.Store(false)
		next := r.model("pay:charge=8")
		r.srv.SetModel(next)
		r.synced(next)
		_, wrong := stop()
		require.Empty(t, wrong)
	})

	t.Run("a control plane that comes back pushes nothing", func(t *testing.T) {
		stop := load(address, "pay.local", "/charge")
		reloads := e.Stat("extension_config_discovery.http_filter.seawall.config_reload")
		xds, same := r.xds, r.model("pay:charge=8")
		r.stop()
		r.serve(xds)
		r.srv.SetModel(same)
		r.synced(same)
		for k, s := range r.srv.Stats().Kinds {
			require.Zero(t, s.Pushes, k)
		}
		require.Equal(t, reloads, e.Stat("extension_config_discovery.http_filter.seawall.config_reload"))
		_, wrong := stop()
		require.Empty(t, wrong)
	})

	t.Run("deleting the edge stops nothing", func(t *testing.T) {
		stop := load(address, "pay.local", "/charge")
		r.srv.SetModel(&ir.Model{})
		require.Eventually(t, func() bool { return strings.HasPrefix(r.node().Reason, "no Edge selects") }, 10*time.Second, 5*time.Millisecond)
		_, wrong := stop()
		require.Empty(t, wrong)
	})
}

// A cluster that is changed waits for its endpoints, which Envoy has and does
// not ask for: they must be sent again, or the change takes 15 s.
func TestAChangedClusterServesAtOnce(t *testing.T) {
	r := newReal(t)
	m := r.model("pay:charge")
	r.srv.SetModel(m)
	e := r.envoy()
	e.WaitLive()
	edited := r.model("pay:charge")
	edited.Edges[0].Clusters[0].ConnectTimeoutNS = 777e6
	began := time.Now()
	r.srv.SetModel(edited)
	active := func() bool {
		_, dump, err := e.Admin().Get(t.Context(), "/config_dump?resource=dynamic_active_clusters")
		return err == nil && strings.Contains(string(dump), "0.777s")
	}
	require.Eventually(t, active, 7*time.Second, 5*time.Millisecond)
	t.Logf("after %s", time.Since(began))
}
