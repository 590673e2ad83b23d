//go:build linux

package realenvoy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
	"github.com/seawall-mesh/seawall/testenv/hosttest"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

// TestConformance runs the suite of the wazero host in one real Envoy. Each
// case has a vm_id of its own, which is as good as an Envoy of its own: new VMs
// and empty shared data, at 50 ms instead of 2 s.
func TestConformance(t *testing.T) {
	h := startProbe(t)
	cases := 0
	hosttest.Exercise(t, func(t *testing.T, o hosttest.Options) (hosttest.Host, error) {
		cases++
		vmID := fmt.Sprintf("case-%d", cases)
		err := h.Push(realenvoy.Update{Update: host.Update{VMID: vmID, PluginConfig: []byte(o.Config)}, Policy: o.Policy, HeadersStopIteration: o.HeadersStopIteration})
		return &conforming{h: h, vmID: vmID, opt: o}, err
	})
	require.GreaterOrEqual(t, hosttest.Count(), 40)
	t.Run("only in Envoy", func(t *testing.T) { onlyInEnvoy(t, h) })
}

// onlyInEnvoy is what the wazero host does not model.
func onlyInEnvoy(t *testing.T, h *realenvoy.Host) {
	fresh := func(t *testing.T) {
		t.Helper()
		require.NoError(t, h.Push(realenvoy.Update{Update: host.Update{VMID: "only-" + strings.ReplaceAll(t.Name(), "/", "-")}}))
	}
	t.Run("the idle timeout ends a request that is held", func(t *testing.T) {
		fresh(t)
		s := h.Worker(0).Request(host.Request{Route: "idle", Headers: host.H("x-cmd", "pause")})
		r := s.Done()
		t.Logf("status %d, headers %v, body %q", r.Status, r.Headers, r.Body)
		require.Equal(t, 504, r.Status)
		require.False(t, r.Upstream)
	})
	t.Run("and one whose VM has died", func(t *testing.T) {
		fresh(t)
		s := h.Worker(0).Request(host.Request{Route: "idle", Headers: host.H("x-cmd", "pause")})
		require.Equal(t, host.Paused, s.Action(100*time.Millisecond))
		h.Worker(0).Request(host.Request{Headers: host.H("x-cmd", "panic")}).Done()
		r := s.Done()
		t.Logf("status %d, headers %v, body %q", r.Status, r.Headers, r.Body)
		require.Equal(t, 503, r.Status)
		require.Empty(t, r.Body)
	})
	t.Run("after Sync a request is with the filter, or gone", func(t *testing.T) {
		fresh(t)
		active := func() uint64 { return h.Envoy().Stat("http.edge.downstream_rq_active") }
		before := active()
		var streams []*realenvoy.Stream
		for i := range 20 {
			s := h.Worker(i % 2).Request(host.Request{Headers: host.H("x-cmd", "pause")})
			s.Sync()
			streams = append(streams, s)
			require.EqualValues(t, len(streams), active()-before)
			require.Zero(t, s.Ended())
		}
		for i, s := range streams {
			s.Abort()
			s.Sync()
			require.EqualValues(t, len(streams)-1-i, active()-before)
		}
	})
	t.Run("a late upstream is not waited for", func(t *testing.T) {
		fresh(t)
		sent := time.Now()
		s := h.Worker(0).Request(host.Request{Route: hosttest.Routes[0], Cluster: "late"})
		r := s.Done()
		require.Equal(t, 504, r.Status)
		require.True(t, r.Upstream)
		require.GreaterOrEqual(t, s.Ended().Sub(sent), realenvoy.LateTimeout)
	})
	t.Run("clients cannot set the upstream's timeout", func(t *testing.T) {
		fresh(t)
		s := h.Worker(0).Request(host.Request{Headers: host.H("x-envoy-upstream-rq-timeout-ms", "1", "x-cmd", "hdr 0 x-envoy-upstream-rq-timeout-ms")})
		hs, reached := s.Upstream(time.Second)
		require.True(t, reached)
		require.Equal(t, "notfound", hs.Get("x-out"))
		require.Equal(t, host.Continued, s.Action(50*time.Millisecond))
		require.False(t, s.Over())
		s.Respond(host.Response{})
		require.Equal(t, 200, s.Done().Status)
	})
	t.Run("the upstream sees nothing of timeouts that the filter sets", func(t *testing.T) {
		fresh(t)
		s := h.Worker(0).Request(host.Request{Headers: host.H("x-cmd", "replace 0 x-envoy-upstream-rq-timeout-ms 5000")})
		hs, reached := s.Upstream(time.Second)
		require.True(t, reached)
		for _, hd := range hs {
			require.NotContains(t, hd.Name, "x-envoy-")
		}
		s.Respond(host.Response{})
		s.Done()
	})
	t.Run("a large body waits with its headers, and comes whole", func(t *testing.T) {
		fresh(t)
		s := h.Worker(0).Request(host.Request{Method: "POST", Body: make([]byte, 900<<10), Headers: host.H("x-cmd", "pause")})
		require.Equal(t, host.Paused, s.Action(200*time.Millisecond))
		h.Worker(0).Exchange(host.Request{Headers: host.H("x-cmd", "release")}, host.Response{})
		_, reached := s.Upstream(5 * time.Second)
		require.True(t, reached)
		s.Respond(host.Response{})
		require.Equal(t, 200, s.Done().Status)
		require.Len(t, s.UpstreamBody(), 900<<10)
	})
	t.Run("what is logged of that", func(t *testing.T) {
		fresh(t)
		vmID := "only-" + strings.ReplaceAll(t.Name(), "/", "-")
		h.Worker(0).Request(host.Request{Route: "idle", Headers: host.H("x-cmd", "pause", "x-cmd-log", "prop response.code; prop response.flags; prop response.code_details")}).Done()
		require.Eventually(t, func() bool { return len(h.Logs(vmID)) >= 4 }, 5*time.Second, 5*time.Millisecond, "%s", h.Logs(vmID))
		require.Equal(t, []string{"log: ok:le8=504", fmt.Sprintf("log: ok:le8=%d", host.FlagStreamIdleTimeout), "log: ok:stream_idle_timeout"}, h.Logs(vmID)[len(h.Logs(vmID))-3:])
	})
}

func startProbe(t *testing.T) *realenvoy.Host {
	t.Helper()
	routes := []realenvoy.Route{{Name: "idle", IdleTimeout: 300 * time.Millisecond}}
	for _, name := range hosttest.Routes {
		r := realenvoy.Route{Name: name}
		if name == hosttest.SlowRoute {
			r.Timeout = hosttest.SlowTimeout
		}
		routes = append(routes, r)
	}
	h, err := realenvoy.NewHost(t, realenvoy.HostConfig{
		Wasm: hosttest.Probe(t), Workers: 2, ReloadBackoff: hosttest.ReloadBackoff, Routes: routes,
		Node: host.Node{ID: hosttest.NodeID}, HideMetrics: hosttest.HiddenMetrics, EndCounter: hosttest.EndCounter,
		HeaderMetadata: []host.HeaderMetadata{{Header: "grpc-status", Namespace: hosttest.MetadataNamespace, Key: "grpc-status"}},
		Clusters:       map[string]host.CallHandler{hosttest.Cluster: hosttest.Answer},
	})
	require.NoError(t, err)
	return h
}

// conforming is a real Envoy as the suite drives it.
type conforming struct {
	h    *realenvoy.Host
	vmID string
	opt  hosttest.Options
}

func (c *conforming) Workers() int { return c.h.Workers() }

func (c *conforming) Request(worker int, r host.Request) hosttest.Stream {
	return conformingStream{c.h.Worker(worker).Request(r)}
}

func (c *conforming) RequestHTTP1(r host.Request) hosttest.Stream {
	return conformingStream{c.h.HTTP1().Request(r)}
}

func (c *conforming) Push(u host.Update) error {
	if u.VMID != "" {
		c.vmID = u.VMID
	}
	return c.h.Push(realenvoy.Update{Update: u, Policy: c.opt.Policy, HeadersStopIteration: c.opt.HeadersStopIteration})
}

func (c *conforming) Pass(d time.Duration) { <-time.After(d) }

func (c *conforming) Logs() []string { return c.h.Logs(c.vmID) }

func (c *conforming) Metrics() map[string]uint64 { return c.h.Metrics() }

type conformingStream struct{ *realenvoy.Stream }

func (s conformingStream) Upstream() (host.Headers, bool) {
	s.Sync()
	return s.Stream.Upstream(300 * time.Millisecond) // how long it takes from the filter to there, on a busy machine
}
