package server

import (
	"context"
	"encoding/json"
	"fmt"

	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/xds/translate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testSHA = strings.Repeat("ab", 32)

func unmarshal(r *discoveryv3.Resource, into any) error {
	return r.GetResource().UnmarshalTo(into.(proto.Message))
}

// clock is a hand-driven clock.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_700_000_000, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// world is a control plane under test.
type world struct {
	t     *testing.T
	clock *clock
	fleet *fleet.Registry
	srv   *Server
	addr  string

	mu     sync.Mutex
	events []Event
	end    func()
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	w := &world{t: t, clock: &clock{}}
	w.fleet = fleet.New(w.clock.now)
	w.serve(change...)
	t.Cleanup(func() { w.end() })
	return w
}

func (w *world) serve(change ...func(*Config)) {
	cfg := Config{
		Log: slog.New(slog.DiscardHandler), Fleet: w.fleet, FilterSHA256: testSHA,
		Now: w.clock.now, Tick: 2 * time.Millisecond,
		OnEvent: func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	w.srv = New(cfg)
	ln := listen(w.t)
	w.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	srv := w.srv
	go func() { done <- srv.Serve(ctx, ln) }()
	w.end = func() {
		cancel()
		require.NoError(w.t, <-done)
		w.end = func() {}
	}
}

// restart is a new process: it knows nothing but the model it is given.
func (w *world) restart() {
	w.end()
	w.fleet = fleet.New(w.clock.now)
	w.serve()
}

func (w *world) happened(kind string) []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Event
	for _, e := range w.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

func (w *world) node(id string) fleet.Node {
	n, _ := w.fleet.Node(id)
	return n
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	require.Eventually(w.t, ok, patience, 2*time.Millisecond, what)
}

// work lets a node's VMs report that they run plan.
func (w *world) work(id, plan string, vms ...string) {
	for _, vm := range vms {
		w.fleet.Batch(fleet.WorkerReport{Node: id, Boot: "b1", BootNS: 1, VM: vm, Plan: plan, Filter: testSHA})
	}
}

// converged is whether all types of a node are at the target.
func (w *world) converged(id, plan string) bool {
	n := w.node(id)
	if !n.Connected || n.TargetPlanHash != plan {
		return false
	}
	for _, r := range n.Resources {
		if r.State != fleet.Synced {
			return false
		}
	}
	return len(n.Resources) == int(kindCount)
}

// model is one Edge "shop" for cluster "edge" that serves some services, each
// with some routes: "pay:charge,refund".
func model(hash string, services ...string) *ir.Model {
	return &ir.Model{PolicyHash: hash, Edges: []ir.Edge{edgeOf("shop", "edge", hash, services...)}}
}

func edgeOf(name, cluster, hash string, services ...string) ir.Edge {
	type route struct {
		Name     string `json:"name"`
		Service  string `json:"service"`
		Route    string `json:"route"`
		Priority string `json:"priority"`
	}
	plan := struct {
		Schema int     `json:"schema"`
		Hash   string  `json:"hash"`
		Edge   string  `json:"edge"`
		Routes []route `json:"routes"`
	}{1, hash, name, []route{}}
	e := ir.Edge{
		Name: name, Nodes: ir.NodeSelector{Cluster: cluster}, ProblemTypeBase: "https://seawall-mesh.github.io/problems/",
		Listeners: []ir.Listener{{
			Name: name + "-0", Address: "127.0.0.1", Port: 10000, TLS: &ir.ListenerTLS{CertFile: "/edge.crt", KeyFile: "/edge.key"},
		}},
		VirtualHosts: []ir.VirtualHost{{Name: "*", Domains: []string{"*"}, Routes: []ir.Route{
			{Match: ir.RouteMatch{Path: ir.Path{Kind: ir.PathPrefix, Value: "/"}}, DirectStatus: 404},
		}}},
	}
	for i, s := range services {
		service, routes, _ := strings.Cut(s, ":")
		h := ir.VirtualHost{Name: service, Domains: []string{service + ".local"}}
		for r := range strings.SplitSeq(routes, ",") {
			h.Routes = append(h.Routes, ir.Route{
				Name: service + "/" + r, Cluster: service,
				Match: ir.RouteMatch{Path: ir.Path{Kind: ir.PathPrefix, Value: "/" + r}},
			})
			plan.Routes = append(plan.Routes, route{service + "/" + r, service, r, "medium"})
		}
		h.Routes = append(h.Routes, ir.Route{Name: service + "/", DirectStatus: 404, Match: ir.RouteMatch{Path: ir.Path{Kind: ir.PathPrefix, Value: "/"}}})
		e.VirtualHosts = append(e.VirtualHosts, h)
		e.Clusters = append(e.Clusters, ir.Cluster{
			Name: service, Endpoints: []ir.Endpoint{{Address: "127.0.0.1", Port: uint32(9000 + i)}}, Protocol: ir.HTTP1,
			ConnectTimeoutNS: 1e9, MaxConnections: 100, RetryBudget: ir.RetryBudget{PercentPPM: 200_000, MinConcurrency: 3},
		})
	}
	slices.SortFunc(e.VirtualHosts, func(a, b ir.VirtualHost) int { return strings.Compare(a.Name, b.Name) })
	e.Filter.PlanHash = hash
	var err error
	if e.Filter.PlanJSON, err = json.Marshal(plan); err != nil {
		panic(err)
	}
	e.Filter.SafeJSON = []byte(`{"schema":1,"hash":"safe","edge":"` + name + `","routes":[]}`)
	return e
}

const (
	h1 = "1111111111111111"
	h2 = "2222222222222222"
	h3 = "3333333333333333"
)

// up brings one Envoy to the model h1 with pay:charge,refund.
func up(t *testing.T, change ...func(*Config)) (*world, *envoy) {
	w := newWorld(t, change...)
	w.srv.SetModel(model(h1, "pay:charge,refund"))
	e := newEnvoy(t, "edge-1", w.addr)
	e.start()
	w.eventually("first start", func() bool { return w.converged("edge-1", h1) })
	e.seen()
	return w, e
}

func TestFirstConnect(t *testing.T) {
	w := newWorld(t)
	e := newEnvoy(t, "edge-1", w.addr)
	e.start()
	w.eventually("the node is known", func() bool { return w.node("edge-1").Connected })
	require.Empty(t, e.seen(), "nothing before the first model")
	require.Equal(t, "nothing to serve yet", reasonWithoutTypes(w.node("edge-1")))

	w.srv.SetModel(model(h1, "pay:charge"))
	w.eventually("all types", func() bool { return w.converged("edge-1", h1) })
	require.Equal(t, []string{"CDS", "EDS", "LDS"}, order(e.seen())[:3])
	e.noFaults()
	require.Equal(t, h1, e.plan().Hash)
	vm := e.wasm().GetConfig().GetVmConfig()
	require.Equal(t, "seawall", vm.GetVmId())
	require.Equal(t, "/var/lib/seawall/filter-"+testSHA+".wasm", vm.GetCode().GetLocal().GetFilename())

	n := w.node("edge-1")
	require.Equal(t, fleet.StateStale, n.State)
	require.Equal(t, "no worker has reported in the last 5 s", n.Reason)
	require.Equal(t, "shop", n.Edge)
	w.work("edge-1", h1, "a", "b", "c")
	n = w.node("edge-1")
	require.True(t, n.Synced, n.Reason)
	require.Equal(t, h1, n.PlanHash)
	require.Len(t, n.Workers, 2)

	st := w.srv.Stats()
	require.Equal(t, 1, st.Streams)
	for k, s := range st.Kinds {
		require.Positive(t, s.Pushes, k)
		require.Equal(t, s.Pushes, s.ACKs, k)
		require.Zero(t, s.NACKs, k)
	}
}

// reasonWithoutTypes is a node's reason as if its types were fine.
func reasonWithoutTypes(n fleet.Node) string {
	if strings.HasSuffix(n.Reason, " stale") || strings.Contains(n.Reason, "stale: not asked") {
		return "nothing to serve yet"
	}
	return n.Reason
}

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		name   string
		edit   func(m *ir.Model)
		pushed []string
	}{
		{"nothing", func(*ir.Model) {}, nil},
		{"plan only", func(m *ir.Model) {
			e := &m.Edges[0]
			e.Filter.PlanHash = h2
			e.Filter.PlanJSON = []byte(strings.ReplaceAll(string(e.Filter.PlanJSON), h1, h2))
		}, []string{"ECDS"}},
		{"endpoints only", func(m *ir.Model) { m.Edges[0].Clusters[0].Endpoints[0].Port = 9999 }, []string{"EDS"}},
		{"connect timeout", func(m *ir.Model) { m.Edges[0].Clusters[0].ConnectTimeoutNS = 2e9 }, []string{"CDS", "EDS"}}, // see TestAChangedClusterServesAtOnce
		{"route", func(m *ir.Model) { m.Edges[0].VirtualHosts[1].Routes[0].TimeoutNS = 2e9 }, []string{"RDS"}},
		{"listener and route", func(m *ir.Model) {
			m.Edges[0].VirtualHosts[1].Routes[0].TimeoutNS = 2e9
			m.Edges[0].Listeners[0].Port = 10001
		}, []string{"LDS", "RDS"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, e := up(t)
			m := model(h1, "pay:charge,refund")
			c.edit(m)
			w.srv.SetModel(m)
			// A last edit of another kind tells when all before it has gone out.
			hash := m.Edges[0].Filter.PlanHash
			w.eventually("converged", func() bool {
				return w.srv.model.Load().edges[0].edge.Listeners[0].Port == m.Edges[0].Listeners[0].Port &&
					w.converged("edge-1", hash) && settledAt(w, "edge-1", m)
			})
			require.Equal(t, c.pushed, order(e.seen()))
			e.noFaults()
		})
	}
}

// settledAt is whether a node has gone all the way to m.
func settledAt(w *world, id string, m *ir.Model) bool {
	n, _ := w.srv.node(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	want, _ := json.Marshal(m.Edges[0])
	have, _ := json.Marshal(n.want.edge)
	return string(want) == string(have) && n.run == n.want && n.phase == phaseIdle
}

func TestPlanGoesFirst(t *testing.T) {
	w, e := up(t)
	e.look(func() { e.hold[ecds] = true })
	next := model(h2, "pay:charge", "cart:list") // refund goes, cart comes
	w.srv.SetModel(next)
	w.eventually("ECDS is sent", func() bool {
		var sent bool
		e.look(func() { sent = len(e.held) == 1 })
		return sent
	})
	n := w.node("edge-1")
	require.Equal(t, fleet.Resource{State: fleet.Stale, Version: n.Resources[fleet.RDS].Version, Message: "waits for ECDS"}, n.Resources[fleet.RDS])
	require.Equal(t, []string{"ECDS"}, order(e.seen()), "nothing else before the ACK")

	// Long unanswered, it is shown as stuck, and still nothing else moves.
	w.clock.advance(6 * time.Second)
	w.eventually("shown as stuck", func() bool {
		return w.node("edge-1").Resources[fleet.ECDS].Message == "sent, not acknowledged within 5s"
	})
	require.Empty(t, e.seen())

	e.release(ecds)
	w.eventually("converged", func() bool { return w.converged("edge-1", h2) && settledAt(w, "edge-1", next) })
	require.Equal(t, []string{"CDS", "EDS", "RDS"}, order(e.seen()))
	e.noFaults()
	e.look(func() {
		require.Equal(t, map[string]bool{"cart/list": false, "pay/charge": false, "pay/refund": true}, e.planRoutes(), "refund is retired for one generation")
		require.Equal(t, h2, e.plan().Hash)
	})

	// The next edit drops what was retired, and keeps what goes now.
	w.srv.SetModel(model(h3, "pay:charge"))
	w.eventually("converged", func() bool { return w.converged("edge-1", h3) })
	e.noFaults()
	e.look(func() {
		require.Equal(t, map[string]bool{"cart/list": true, "pay/charge": false}, e.planRoutes())
		require.Nil(t, e.have[cds]["cart"])
		require.Empty(t, e.have[eds]["cart"])
	})
}

func TestClustersComeBeforeRoutesAndGoAfterThem(t *testing.T) {
	w, e := up(t)
	for i := range 12 {
		hash := fmt.Sprintf("%016d", i)
		m := model(hash, fmt.Sprintf("svc%d:a,b", i), fmt.Sprintf("svc%d:a", i+1))
		w.srv.SetModel(m)
		w.eventually("converged", func() bool { return w.converged("edge-1", hash) && settledAt(w, "edge-1", m) })
	}
	e.noFaults()
	e.look(func() { require.Len(t, e.have[cds], 2) })
}

func TestManyEditsAreCoalesced(t *testing.T) {
	w, e := up(t)
	for i := range 200 {
		w.srv.SetModel(model(fmt.Sprintf("%016d", i), "pay:charge,refund", fmt.Sprintf("svc%d:a", i%7)))
	}
	w.eventually("the last one", func() bool { return w.converged("edge-1", fmt.Sprintf("%016d", 199)) })
	e.noFaults()
}

func TestRejectedPlan(t *testing.T) {
	w, e := up(t)
	e.look(func() {
		e.refuse = func(k kind, _ []string) string {
			if k == ecds {
				return "Unable to create Wasm plugin seawall"
			}
			return ""
		}
	})
	w.srv.SetModel(model(h2, "pay:charge", "cart:list"))
	w.eventually("rejected", func() bool { return w.node("edge-1").State == fleet.StateRejected })
	n := w.node("edge-1")
	require.Equal(t, "ECDS rejected: Unable to create Wasm plugin seawall", n.Reason)
	require.Equal(t, fleet.Rejected, n.Resources[fleet.ECDS].State)
	require.Equal(t, "waits for a plan that is accepted", n.Resources[fleet.RDS].Message)
	w.clock.advance(time.Hour)
	require.Never(t, func() bool { return len(w.happened(EventRejected)) > 1 }, 50*time.Millisecond, 5*time.Millisecond, "no re-send")
	require.Equal(t, []string{"ECDS"}, order(e.seen()), "the other types stay")
	e.look(func() { require.Equal(t, h1, e.plan().Hash) })
	require.Equal(t, fleet.Counts{Nodes: 1, Connected: 1, Rejected: 1}, w.fleet.Counts())

	t.Run("a reconnect does not send it again", func(t *testing.T) {
		e.stop()
		e.start()
		w.eventually("connected", func() bool { return len(w.happened(EventConnected)) == 2 && w.node("edge-1").Connected })
		w.eventually("still rejected", func() bool { return w.node("edge-1").State == fleet.StateRejected })
		require.Empty(t, e.seen())
	})
	t.Run("a new process gets the good one", func(t *testing.T) {
		e.stop()
		e.look(e.reset)
		e.look(func() { e.refuse = nil })
		e.start()
		w.eventually("it has the plan", func() bool {
			var ok bool
			e.look(func() { ok = e.plan().Hash == h1 && len(e.have[rds]) == 1 })
			return ok
		})
		require.Equal(t, fleet.StateRejected, w.node("edge-1").State)
		e.seen()
	})
	t.Run("the next good one works", func(t *testing.T) {
		m := model(h3, "pay:charge")
		w.srv.SetModel(m)
		w.eventually("converged", func() bool { return w.converged("edge-1", h3) && settledAt(w, "edge-1", m) })
		e.noFaults()
		e.look(func() { require.Equal(t, map[string]bool{"pay/charge": false, "pay/refund": true}, e.planRoutes()) })
	})
	t.Run("back to the rejected one: tried anew", func(t *testing.T) {
		w.srv.SetModel(model(h2, "pay:charge", "cart:list"))
		w.eventually("converged", func() bool { return w.converged("edge-1", h2) })
	})
}

func TestRejectedFirstPlan(t *testing.T) {
	w := newWorld(t)
	w.srv.SetModel(model(h1, "pay:charge"))
	e := newEnvoy(t, "edge-1", w.addr)
	e.refuse = func(k kind, _ []string) string {
		if k == ecds {
			return "no"
		}
		return ""
	}
	e.start()
	w.eventually("rejected", func() bool { return w.node("edge-1").State == fleet.StateRejected })
	w.eventually("the rest is served", func() bool { return w.node("edge-1").Resources[fleet.RDS].State == fleet.Synced })
	e.look(func() { e.refuse = nil })
	w.srv.SetModel(model(h2, "pay:charge"))
	w.eventually("converged", func() bool { return w.converged("edge-1", h2) })
}

func TestRejectedListenerIsTriedAgain(t *testing.T) {
	w, e := up(t)
	var busy atomic.Bool
	busy.Store(true)
	e.look(func() {
		e.refuse = func(k kind, _ []string) string {
			if k == lds && busy.Load() {
				return "cannot bind '127.0.0.1:10001': Address already in use"
			}
			return ""
		}
	})
	m := model(h2, "pay:charge,refund")
	m.Edges[0].Listeners[0].Port = 10001
	w.srv.SetModel(m)
	rejections := func() int { return len(w.happened(EventRejected)) }
	w.eventually("rejected", func() bool { return rejections() == 1 })
	require.Contains(t, w.node("edge-1").Reason, "Address already in use")
	w.clock.advance(9 * time.Second)
	require.Never(t, func() bool { return rejections() > 1 }, 30*time.Millisecond, 5*time.Millisecond)
	w.clock.advance(2 * time.Second)
	w.eventually("tried again", func() bool { return rejections() == 2 })
	w.clock.advance(19 * time.Second)
	require.Never(t, func() bool { return rejections() > 2 }, 30*time.Millisecond, 5*time.Millisecond, "ever more rarely")
	busy.Store(false)
	w.clock.advance(2 * time.Second)
	w.eventually("taken", func() bool { return w.converged("edge-1", h2) })
	require.Equal(t, uint64(2), w.srv.Stats().Kinds[fleet.LDS].Retries)
	e.noFaults()
}

func TestRejectedClusterHoldsRoutesBack(t *testing.T) {
	w, e := up(t)
	e.look(func() {
		e.refuse = func(k kind, names []string) string {
			if k == cds && slices.Contains(names, "bad") {
				return "bad cluster"
			}
			return ""
		}
	})
	w.srv.SetModel(model(h2, "pay:charge,refund", "bad:x"))
	w.eventually("rejected", func() bool { return w.node("edge-1").Resources[fleet.CDS].State == fleet.Rejected })
	require.Equal(t, "waits for CDS and EDS", w.node("edge-1").Resources[fleet.RDS].Message)
	require.Equal(t, []string{"ECDS", "CDS"}, order(e.seen()))
	w.srv.SetModel(model(h3, "pay:charge,refund"))
	w.eventually("converged", func() bool { return w.converged("edge-1", h3) })
	e.noFaults()
}

func TestControlPlaneRestart(t *testing.T) {
	t.Run("nothing changed", func(t *testing.T) {
		w, e := up(t)
		// Retired routes in what it has must not cause a push either.
		w.srv.SetModel(model(h2, "pay:charge"))
		w.eventually("converged", func() bool { return w.converged("edge-1", h2) })
		e.look(func() { require.Len(t, e.plan().Routes, 2) })
		w.restart()
		e.addr = w.addr
		e.stop()
		e.seen()
		e.start()
		w.eventually("connected", func() bool { return w.node("edge-1").Connected })
		require.Never(t, func() bool { return len(e.seen()) > 0 }, 50*time.Millisecond, 5*time.Millisecond, "without a model nothing is sent")
		w.srv.SetModel(model(h2, "pay:charge"))
		w.eventually("converged", func() bool { return w.converged("edge-1", h2) })
		require.Empty(t, e.seen())
	})
	t.Run("edited meanwhile", func(t *testing.T) {
		w, e := up(t)
		w.restart()
		e.addr = w.addr
		e.stop()
		e.seen()
		e.look(func() { e.hold[ecds] = true })
		w.srv.SetModel(model(h2, "pay:charge,refund", "cart:list"))
		e.start()
		w.eventually("the plan", func() bool { var n int; e.look(func() { n = len(e.held) }); return n == 1 })
		require.Equal(t, []string{"ECDS"}, order(e.seen()))
		e.release(ecds)
		w.eventually("converged", func() bool { return w.converged("edge-1", h2) })
		require.Equal(t, []string{"CDS", "EDS", "RDS"}, order(e.seen()))
		e.noFaults()
	})
	t.Run("service gone meanwhile", func(t *testing.T) {
		w, e := up(t)
		m := model(h2, "cart:list")
		w.restart()
		e.addr = w.addr
		e.stop()
		w.srv.SetModel(m)
		e.start()
		w.eventually("converged", func() bool { return w.converged("edge-1", h2) && settledAt(w, "edge-1", m) })
		e.look(func() { require.Len(t, e.have[cds], 1) })
	})
	t.Run("healed VM is kept", func(t *testing.T) {
		w, e := up(t)
		heal(t, w, e)
		w.restart()
		e.addr = w.addr
		e.stop()
		e.seen()
		w.srv.SetModel(model(h1, "pay:charge,refund"))
		e.start()
		w.eventually("converged", func() bool { return w.converged("edge-1", h1) })
		require.Empty(t, e.seen())
		require.Equal(t, "seawall-r2", w.node("edge-1").VMID)
	})
}

func TestEnvoyRestart(t *testing.T) {
	w, e := up(t)
	e.stop()
	w.eventually("gone", func() bool { return !w.node("edge-1").Connected })
	require.Equal(t, fleet.StateDisconnected, w.node("edge-1").State)
	require.Equal(t, fleet.Synced, w.node("edge-1").Resources[fleet.LDS].State, "shown as it was")
	w.srv.SetModel(model(h2, "pay:charge"))
	w.eventually("in force", func() bool { return w.node("edge-1").TargetPlanHash == h2 })
	e.look(e.reset)
	e.seen()
	e.start()
	w.eventually("converged", func() bool { return w.converged("edge-1", h2) })
	e.noFaults()
	e.look(func() {
		require.Equal(t, map[string]bool{"pay/charge": false}, e.planRoutes(), "a new process has no old routes")
	})
}

func TestReconnectInTheMiddle(t *testing.T) {
	w, e := up(t)
	e.look(func() { e.hold[ecds] = true })
	m := model(h2, "cart:list")
	w.srv.SetModel(m)
	w.eventually("sent", func() bool { var n int; e.look(func() { n = len(e.held) }); return n == 1 })
	e.stop()
	e.look(func() { e.hold[ecds] = false })
	e.seen()
	e.start()
	w.eventually("converged", func() bool { return w.converged("edge-1", h2) && settledAt(w, "edge-1", m) })
	require.Equal(t, []string{"ECDS", "CDS", "EDS", "RDS"}, order(e.seen())[:4])
	e.noFaults()
	e.look(func() { require.True(t, e.planRoutes()["pay/refund"]) })
}

func TestHeldBack(t *testing.T) {
	both := func(m *ir.Model) { m.Edges = append(m.Edges, edgeOf("other", "edge", h1, "pay:charge")) }
	for _, c := range []struct {
		name   string
		envoy  func(*envoy)
		model  func(*ir.Model)
		reason string
	}{
		{"wrong cluster", func(e *envoy) { e.cluster = "batch" }, nil, `no Edge selects node.cluster "batch", node.id "edge-1"; it keeps what it has`},
		{"several edges", nil, both, "several Edges select it: shop, other; it keeps what it has"},
		{"module missing", func(e *envoy) { e.meta["filters"] = []any{strings.Repeat("cd", 32)} }, nil, "module abababababab not on node; it keeps what it has"},
		{"no metadata", func(e *envoy) { e.meta = map[string]any{} }, nil, "module abababababab not on node; it keeps what it has"},
		{"relative directory", func(e *envoy) { e.meta["filterDir"] = "lib" }, nil, "node metadata seawall.filterDir is not an absolute path; it keeps what it has"},
		{"edge without listeners", nil, func(m *ir.Model) { m.Edges[0].Listeners = nil }, "edge shop was refused: it has no listeners, and Envoy would close those it has"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			m := model(h1, "pay:charge")
			if c.model != nil {
				c.model(m)
			}
			w.srv.SetModel(m)
			e := newEnvoy(t, "edge-1", w.addr)
			if c.envoy != nil {
				c.envoy(e)
			}
			e.start()
			w.eventually("told", func() bool { return len(w.happened(EventHeldBack)) == 1 })
			w.eventually("shown", func() bool { return w.node("edge-1").Reason == c.reason })
			require.Never(t, func() bool { return len(e.seen()) > 0 }, 30*time.Millisecond, 5*time.Millisecond)

			t.Run("and then served", func(t *testing.T) {
				e.stop()
				e.meta = map[string]any{"workers": 2, "filterDir": "/var/lib/seawall", "filters": []any{testSHA}}
				e.cluster = "edge"
				w.srv.SetModel(model(h2, "pay:charge"))
				e.start()
				w.eventually("converged", func() bool { return w.converged("edge-1", h2) })
			})
		})
	}
}

func TestWhatRunsIsNeverEmptied(t *testing.T) {
	for _, c := range []struct {
		name   string
		model  *ir.Model
		build  bool
		reason string
	}{
		{"all edges gone", &ir.Model{}, false, `no Edge selects node.cluster "edge", node.id "edge-1"; it keeps what it has`},
		{"listeners gone", func() *ir.Model { m := model(h2, "pay:charge"); m.Edges[0].Listeners = nil; return m }(), false,
			"edge shop was refused: it has no listeners, and Envoy would close those it has; the one before stays in force"},
		{"cannot be built", model(h3, "pay:charge"), true, "edge shop was refused: boom; the one before stays in force"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, e := up(t, func(cfg *Config) {
				cfg.Build = func(edge ir.Edge, m translate.Module) (*translate.Resources, error) {
					if c.build && edge.Filter.PlanHash == h3 {
						return nil, fmt.Errorf("boom")
					}
					return translate.Build(edge, m)
				}
			})
			w.srv.SetModel(c.model)
			w.eventually("told", func() bool { return w.node("edge-1").Reason == c.reason })
			require.Empty(t, e.seen())
			e.look(func() { require.Len(t, e.have[lds], 1) })
			require.False(t, w.node("edge-1").Synced)
			// And back to a good one.
			w.srv.SetModel(model(h2, "pay:charge"))
			w.eventually("converged", func() bool { return w.converged("edge-1", h2) && w.node("edge-1").Reason != c.reason })
			e.noFaults()
		})
	}
}

func TestServicesMayGo(t *testing.T) {
	w, e := up(t)
	m := model(h2)
	w.srv.SetModel(m)
	w.eventually("converged", func() bool { return w.converged("edge-1", h2) && settledAt(w, "edge-1", m) })
	e.noFaults()
	e.look(func() {
		require.Empty(t, e.have[cds])
		require.Len(t, e.have[lds], 1)
	})
}

// heal makes a node's workers stay behind until it is healed.
func heal(t *testing.T, w *world, e *envoy) {
	w.work("edge-1", "old", "a", "b", "c")
	w.clock.advance(9 * time.Second)
	w.work("edge-1", "old", "a", "b", "c")
	require.Never(t, func() bool { return len(w.happened(EventHealed)) > 0 }, 20*time.Millisecond, 5*time.Millisecond)
	w.clock.advance(2 * time.Second)
	w.work("edge-1", "old", "a", "b", "c")
	w.eventually("healed", func() bool { return len(w.happened(EventHealed)) == 1 })
	w.eventually("taken", func() bool {
		var id string
		e.look(func() { id = e.wasm().GetConfig().GetVmConfig().GetVmId() })
		return id == "seawall-r2"
	})
	w.eventually("converged", func() bool { return w.converged("edge-1", h1) })
}

func TestHealing(t *testing.T) {
	t.Run("acknowledged but not run", func(t *testing.T) {
		w, e := up(t)
		heal(t, w, e)
		require.Equal(t, []string{"ECDS"}, order(e.seen()), "no listener is touched")
		require.Contains(t, w.happened(EventHealed)[0].Message, "3 of 3 VMs still run another after 10s")
		require.Equal(t, uint64(1), w.srv.Stats().Heals)
		// Once per plan, however long it lasts.
		for range 5 {
			w.clock.advance(time.Minute)
			w.work("edge-1", "old", "a", "b", "c")
		}
		require.Never(t, func() bool { return len(w.happened(EventHealed)) > 1 }, 30*time.Millisecond, 5*time.Millisecond)
		// The next plan goes to the same VM.
		w.srv.SetModel(model(h2, "pay:charge"))
		w.eventually("converged", func() bool { return w.converged("edge-1", h2) })
		e.look(func() { require.Equal(t, "seawall-r2", e.wasm().GetConfig().GetVmConfig().GetVmId()) })
		e.noFaults()
	})
	for _, c := range []struct {
		name   string
		report func(w *world)
	}{
		{"all workers run it", func(w *world) { w.work("edge-1", h1, "a", "b", "c") }},
		{"no telemetry", func(*world) {}},
		{"a VM of an older module ends its streams", func(w *world) {
			w.work("edge-1", h1, "a", "b")
			w.fleet.Batch(fleet.WorkerReport{Node: "edge-1", Boot: "b1", BootNS: 1, VM: "z", Plan: "old", Filter: strings.Repeat("cd", 32)})
		}},
	} {
		t.Run("not when "+c.name, func(t *testing.T) {
			w, _ := up(t)
			for range 4 {
				w.clock.advance(4 * time.Second)
				c.report(w)
			}
			require.Never(t, func() bool { return len(w.happened(EventHealed)) > 0 }, 30*time.Millisecond, 5*time.Millisecond)
		})
	}
	t.Run("every later plan is rejected", func(t *testing.T) {
		w, e := up(t)
		e.look(func() {
			e.refuse = func(k kind, _ []string) string {
				if k == ecds && e.wasm().GetConfig().GetVmConfig().GetVmId() == "seawall" && !moved(e) {
					return "Plugin failed to load"
				}
				return ""
			}
		})
		w.srv.SetModel(model(h2, "pay:charge"))
		w.work("edge-1", "old", "a", "b", "c")
		w.eventually("rejected", func() bool { return w.node("edge-1").State == fleet.StateRejected })
		w.clock.advance(11 * time.Second)
		w.work("edge-1", "old", "a", "b", "c")
		w.eventually("healed", func() bool { return w.converged("edge-1", h2) && w.node("edge-1").VMID == "seawall-r2" })
		e.noFaults()
	})
}

// moved is whether the response being answered moves the plugin to another VM.
func moved(e *envoy) bool { return e.offered == "seawall-r2" }

func TestSecondStreamTakesOver(t *testing.T) {
	w, e := up(t)
	twin := newEnvoy(t, "edge-1", w.addr)
	twin.start()
	w.eventually("the first is ended", func() bool {
		var err error
		e.look(func() { err = e.ended })
		return status.Code(err) == codes.Aborted
	})
	w.eventually("the second is served", func() bool { return w.converged("edge-1", h1) })
	require.Len(t, w.happened(EventReplaced), 1)
}

func TestRefusedStreams(t *testing.T) {
	w := newWorld(t)
	conn, err := grpc.NewClient(w.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)

	t.Run("state of the world", func(t *testing.T) {
		st, err := ads.StreamAggregatedResources(t.Context())
		require.NoError(t, err)
		_, err = st.Recv()
		require.Equal(t, codes.Unimplemented, status.Code(err))
		require.ErrorContains(t, err, "DELTA_GRPC")
	})
	for name, id := range map[string]string{"no id": "", "long id": strings.Repeat("x", 257), "odd id": "a\nb"} {
		t.Run(name, func(t *testing.T) {
			st, err := ads.DeltaAggregatedResources(t.Context())
			require.NoError(t, err)
			e := &envoy{t: t, id: id, cluster: "edge"}
			require.NoError(t, st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: kinds[cds].url, Node: e.node()}))
			_, err = st.Recv()
			require.Equal(t, codes.InvalidArgument, status.Code(err))
		})
	}
	t.Run("too many names", func(t *testing.T) {
		st, err := ads.DeltaAggregatedResources(t.Context())
		require.NoError(t, err)
		e := &envoy{t: t, id: "greedy", cluster: "edge"}
		req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: kinds[eds].url, Node: e.node()}
		for i := range maxNames + 1 {
			req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, fmt.Sprint(i))
		}
		require.NoError(t, st.Send(req))
		_, err = st.Recv()
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
	})
	require.Empty(t, slices.DeleteFunc(w.fleet.Nodes(), func(n fleet.Node) bool { return n.ID == "greedy" }))
}

func TestFullAndForgotten(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxNodes = 2 })
	w.srv.SetModel(model(h1, "pay:charge"))
	var es []*envoy
	for i := range 2 {
		e := newEnvoy(t, fmt.Sprintf("edge-%d", i), w.addr)
		e.start()
		es = append(es, e)
		w.eventually("converged", func() bool { return w.converged(e.id, h1) })
	}
	third := newEnvoy(t, "edge-2", w.addr)
	third.start()
	w.eventually("refused", func() bool {
		var err error
		third.look(func() { err = third.ended })
		return status.Code(err) == codes.ResourceExhausted
	})
	es[0].stop()
	w.eventually("gone", func() bool { return !w.node("edge-0").Connected })
	third.start()
	w.eventually("takes its place", func() bool { return w.converged("edge-2", h1) })
	third.stop()
	w.eventually("gone", func() bool { return !w.node("edge-2").Connected })
	w.clock.advance(2 * time.Hour)
	w.eventually("forgotten", func() bool { return len(w.srv.all()) == 1 })
}

func TestFleetOfFifty(t *testing.T) {
	w := newWorld(t)
	w.srv.SetModel(model(h1, "pay:charge,refund", "cart:list"))
	var es []*envoy
	for i := range 50 {
		e := newEnvoy(t, fmt.Sprintf("edge-%02d", i), w.addr)
		e.start()
		es = append(es, e)
	}
	all := func(hash string) func() bool {
		return func() bool {
			for _, e := range es {
				if !w.converged(e.id, hash) {
					return false
				}
			}
			return true
		}
	}
	w.eventually("all started", all(h1))
	w.srv.SetModel(model(h2, "pay:charge", "offers:list"))
	w.eventually("all edited", all(h2))
	for _, e := range es {
		e.noFaults()
		w.work(e.id, h2, "a", "b", "c")
	}
	require.Equal(t, fleet.Counts{Nodes: 50, Connected: 50, Synced: 50}, w.fleet.Counts())
}

func TestSetModelNeverBlocks(t *testing.T) {
	srv := New(Config{Log: slog.New(slog.DiscardHandler), Fleet: fleet.New(time.Now), FilterSHA256: testSHA})
	for range 10 {
		srv.SetModel(model(h1, "pay:charge")) // nobody serves yet
	}
	srv.SetModel(nil)
	require.NotNil(t, srv.latest.Load())
}
