package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	wasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// push is one response as the client got it.
type push struct {
	kind    kind
	names   []string
	removed []string
}

// envoy is a delta ADS client that behaves as Envoy does: it asks for EDS by
// its clusters, for LDS once they are warm, for RDS and ECDS by its listeners;
// it acknowledges, or rejects what refuse tells it to; it reconnects with what
// it has. Whatever it applies it checks: a route that names a cluster or a
// plan entry that it does not have is a fault.
type envoy struct {
	t    *testing.T
	id   string
	addr string
	meta map[string]any

	mu      sync.Mutex
	cluster string
	refuse  func(k kind, names []string) string // "" accepts
	hold    map[kind]bool                       // does not answer these
	held    []*discoveryv3.DeltaDiscoveryResponse
	pushes  []push
	have    [kindCount]map[string]*discoveryv3.Resource
	names   [kindCount]map[string]bool // subscribed
	asked   [kindCount]bool            // on this stream
	ever    [kindCount]bool            // by this process
	faults  []string
	lacks   map[string]bool // clusters refused at start, when everything comes at once
	lenient bool            // routes that are not in the plan are no fault
	ended   error
	offered string // vm_id of the plan being answered

	out    chan *discoveryv3.DeltaDiscoveryRequest
	cancel context.CancelFunc
	done   chan struct{}
}

func newEnvoy(t *testing.T, id, addr string) *envoy {
	e := &envoy{t: t, id: id, addr: addr, cluster: "edge", hold: map[kind]bool{}, meta: map[string]any{
		"workers": 2, "filterDir": "/var/lib/seawall", "filters": []any{testSHA}, "version": "test",
	}}
	e.reset()
	t.Cleanup(e.stop)
	return e
}

// reset forgets everything, as a new process would.
func (e *envoy) reset() {
	e.ever, e.lacks = [kindCount]bool{}, map[string]bool{}
	for k := range kindCount {
		e.have[k], e.names[k] = map[string]*discoveryv3.Resource{}, map[string]bool{}
	}
}

func (e *envoy) start() {
	conn, err := grpc.NewClient(e.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(e.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx, grpc.WaitForReady(true))
	require.NoError(e.t, err)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended, e.held = nil, nil
	e.cancel, e.done = cancel, make(chan struct{})
	e.out = make(chan *discoveryv3.DeltaDiscoveryRequest, 1024)
	out, done := e.out, e.done
	go func() {
		for {
			select {
			case req := <-out:
				if st.Send(req) != nil {
					return // Recv says why
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		defer close(done)
		defer conn.Close()
		defer cancel()
		for {
			resp, err := st.Recv()
			if err != nil {
				e.mu.Lock()
				e.ended = err
				e.mu.Unlock()
				return
			}
			e.mu.Lock()
			e.take(resp)
			e.mu.Unlock()
		}
	}()
	e.hello()
}

// hello asks for clusters, as at start, and for all that was asked for on an
// earlier stream.
func (e *envoy) hello() {
	again := e.ever
	e.asked = [kindCount]bool{}
	e.subscribe(cds, nil, nil)
	for _, k := range []kind{eds, sds, lds, rds, ecds} {
		if again[k] {
			e.subscribe(k, sorted(e.names[k]), nil)
		}
	}
}

func (e *envoy) stop() {
	e.mu.Lock()
	cancel, done := e.cancel, e.done
	e.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

func (e *envoy) subscribe(k kind, add, remove []string) {
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: kinds[k].url, ResourceNamesSubscribe: add, ResourceNamesUnsubscribe: remove}
	if !e.asked[k] {
		e.asked[k], e.ever[k] = true, true
		req.InitialResourceVersions = map[string]string{}
		for name, r := range e.have[k] {
			req.InitialResourceVersions[name] = r.GetVersion()
		}
	}
	if k == cds && len(add)+len(remove) == 0 {
		req.Node = e.node()
	}
	e.out <- req
}

func (e *envoy) node() *corev3.Node {
	seawall, err := structpb.NewStruct(e.meta)
	require.NoError(e.t, err)
	return &corev3.Node{Id: e.id, Cluster: e.cluster, Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
		"seawall": structpb.NewStructValue(seawall),
	}}}
}

// take takes in one response. e.mu is held.
func (e *envoy) take(resp *discoveryv3.DeltaDiscoveryResponse) {
	k, ok := kindOf(resp.GetTypeUrl())
	if !ok {
		e.faults = append(e.faults, "unknown type "+resp.GetTypeUrl())
		return
	}
	p := push{kind: k, removed: resp.GetRemovedResources()}
	for _, r := range resp.GetResources() {
		p.names = append(p.names, r.GetName())
	}
	e.pushes = append(e.pushes, p)
	if e.hold[k] {
		e.held = append(e.held, resp)
		return
	}
	e.answer(k, resp)
}

func (e *envoy) answer(k kind, resp *discoveryv3.DeltaDiscoveryResponse) {
	reply := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}
	var names []string
	for _, r := range resp.GetResources() {
		names = append(names, r.GetName())
	}
	if k == ecds {
		e.offered = vmIDOf(e, resp)
	}
	if e.refuse != nil {
		if text := e.refuse(k, names); text != "" {
			if k == cds && len(e.have[lds]) == 0 {
				for _, name := range names {
					e.lacks[name] = true
				}
			}
			reply.ErrorDetail = &rpcstatus.Status{Code: 13, Message: text}
			e.out <- reply
			if (k == cds || k == eds) && !e.asked[lds] {
				e.subscribe(lds, nil, nil) // Envoy's start goes on, too
			}
			return
		}
	}
	for _, r := range resp.GetResources() {
		e.have[k][r.GetName()] = r
		if k == cds {
			delete(e.lacks, r.GetName())
		}
	}
	for _, name := range resp.GetRemovedResources() {
		delete(e.have[k], name)
	}
	e.out <- reply
	e.follow(k)
	e.check()
}

// release answers what was held back of k.
func (e *envoy) release(k kind) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hold[k] = false
	held := e.held
	e.held = nil
	for _, resp := range held {
		if resp.GetTypeUrl() == kinds[k].url {
			e.answer(k, resp)
		} else {
			e.held = append(e.held, resp)
		}
	}
}

// follow asks for what the resources of kind k refer to.
func (e *envoy) follow(k kind) {
	switch k {
	case cds:
		names := map[string]bool{}
		for _, r := range e.have[cds] {
			var c clusterv3.Cluster
			e.decode(r, &c)
			if c.GetType() == clusterv3.Cluster_EDS {
				names[cmpOr(c.GetEdsClusterConfig().GetServiceName(), c.GetName())] = true
			}
		}
		e.ask(eds, names)
		if len(names) == 0 && !e.asked[lds] {
			e.subscribe(lds, nil, nil)
		}
	case eds:
		warm := true
		for name := range e.names[eds] {
			warm = warm && e.have[eds][name] != nil
		}
		if warm && !e.asked[lds] {
			e.subscribe(lds, nil, nil)
		}
	case lds:
		routes, filters, secrets := map[string]bool{}, map[string]bool{}, map[string]bool{}
		for _, r := range e.have[lds] {
			for _, name := range e.certificates(r) {
				secrets[name] = true
			}
			for _, h := range e.managers(r) {
				if name := h.GetRds().GetRouteConfigName(); name != "" {
					routes[name] = true
				}
				for _, f := range h.GetHttpFilters() {
					if f.GetConfigDiscovery() != nil {
						filters[f.GetName()] = true
					}
				}
			}
		}
		e.ask(rds, routes)
		e.ask(ecds, filters)
		e.ask(sds, secrets)
	case rds, ecds, sds, kindCount:
	}
}

func (e *envoy) ask(k kind, names map[string]bool) {
	var add, remove []string
	for name := range names {
		if !e.names[k][name] {
			add = append(add, name)
		}
	}
	for name := range e.names[k] {
		if !names[name] {
			remove = append(remove, name)
			delete(e.have[k], name)
		}
	}
	e.names[k] = names
	if len(add)+len(remove) > 0 {
		e.subscribe(k, add, remove)
	}
}

// check looks for routes that lead nowhere. A first start is not looked at
// before it is complete.
func (e *envoy) check() {
	if len(e.have[lds]) == 0 || len(e.have[rds]) == 0 || len(e.have[ecds]) == 0 {
		return
	}
	plan := e.planRoutes()
	for _, r := range e.have[rds] {
		var c routev3.RouteConfiguration
		e.decode(r, &c)
		for _, h := range c.GetVirtualHosts() {
			for _, route := range h.GetRoutes() {
				to := route.GetRoute().GetCluster()
				if to == "" {
					continue
				}
				if e.have[cds][to] == nil && !e.lacks[to] {
					e.faults = append(e.faults, fmt.Sprintf("route %s names cluster %s, which is not there", route.GetName(), to))
				}
				if _, ok := plan[route.GetName()]; !ok && !e.lenient {
					e.faults = append(e.faults, fmt.Sprintf("route %s is not in the plan", route.GetName()))
				}
			}
		}
	}
}

// certificates are the secrets that a listener names.
func (e *envoy) certificates(r *discoveryv3.Resource) (names []string) {
	var l listenerv3.Listener
	e.decode(r, &l)
	for _, chain := range l.GetFilterChains() {
		var t tlsv3.DownstreamTlsContext
		if chain.GetTransportSocket().GetTypedConfig().UnmarshalTo(&t) != nil {
			continue
		}
		for _, s := range t.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
			names = append(names, s.GetName())
		}
	}
	return names
}

func (e *envoy) managers(r *discoveryv3.Resource) []*hcmv3.HttpConnectionManager {
	var l listenerv3.Listener
	e.decode(r, &l)
	var out []*hcmv3.HttpConnectionManager
	for _, chain := range l.GetFilterChains() {
		for _, f := range chain.GetFilters() {
			var h hcmv3.HttpConnectionManager
			if err := f.GetTypedConfig().UnmarshalTo(&h); err == nil {
				out = append(out, &h)
			}
		}
	}
	return out
}

func (e *envoy) wasm() *wasmv3.Wasm {
	r := e.have[ecds]["seawall"]
	if r == nil {
		return nil
	}
	var x corev3.TypedExtensionConfig
	e.decode(r, &x)
	var w wasmv3.Wasm
	require.NoError(e.t, x.GetTypedConfig().UnmarshalTo(&w))
	return &w
}

func vmIDOf(e *envoy, resp *discoveryv3.DeltaDiscoveryResponse) string {
	for _, r := range resp.GetResources() {
		var x corev3.TypedExtensionConfig
		e.decode(r, &x)
		var w wasmv3.Wasm
		require.NoError(e.t, x.GetTypedConfig().UnmarshalTo(&w))
		return w.GetConfig().GetVmConfig().GetVmId()
	}
	return ""
}

type planDoc struct {
	Hash   string `json:"hash"`
	Routes []struct {
		Name    string `json:"name"`
		Retired bool   `json:"retired"`
	} `json:"routes"`
}

func (e *envoy) plan() planDoc {
	var p planDoc
	if w := e.wasm(); w != nil {
		var s wrapperspb.StringValue
		require.NoError(e.t, w.GetConfig().GetConfiguration().UnmarshalTo(&s))
		require.NoError(e.t, json.Unmarshal([]byte(s.GetValue()), &p))
	}
	return p
}

// planRoutes maps the plan's routes to whether they are retired.
func (e *envoy) planRoutes() map[string]bool {
	out := map[string]bool{}
	for _, r := range e.plan().Routes {
		out[r.Name] = r.Retired
	}
	return out
}

func (e *envoy) decode(r *discoveryv3.Resource, into interface {
	Reset()
	String() string
}) {
	require.NoError(e.t, unmarshal(r, into))
}

// seen returns what was received so far, and forgets it.
func (e *envoy) seen() []push {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.pushes
	e.pushes = nil
	return out
}

func (e *envoy) look(fn func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fn()
}

func (e *envoy) noFaults() {
	e.t.Helper()
	e.look(func() { require.Empty(e.t, e.faults) })
}

func order(pushes []push) []string {
	var out []string
	for _, p := range pushes {
		out = append(out, p.kind.String())
	}
	return out
}

func sorted(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func listen(t *testing.T) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

const patience = 10 * time.Second
