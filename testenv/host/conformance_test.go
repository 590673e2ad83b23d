package host_test

import (
	"strings"
	"testing"
	"time"

	"github.com/seawall-mesh/seawall/testenv/host"
	"github.com/seawall-mesh/seawall/testenv/hosttest"
)

// TestConformance runs the suite that also runs in a real Envoy
// (testenv/realenvoy), in virtual time.
func TestConformance(t *testing.T) {
	hosttest.Exercise(t, func(t *testing.T, o hosttest.Options) (hosttest.Host, error) {
		h, err := host.New(t.Context(), host.Config{
			Module: probe, Workers: 2, PluginConfig: []byte(o.Config), Policy: o.Policy, HeadersStopIteration: o.HeadersStopIteration,
			ReloadBackoff: hosttest.ReloadBackoff, Node: host.Node{ID: hosttest.NodeID},
			EndCounter:     hosttest.EndCounter,
			HeaderMetadata: []host.HeaderMetadata{{Header: "grpc-status", Namespace: hosttest.MetadataNamespace, Key: "grpc-status"}},
			HideMetrics:    func(name string) bool { return strings.HasPrefix(name, hosttest.HiddenMetrics) },
			Clusters: map[string]host.CallHandler{
				hosttest.Cluster:        hosttest.Answer,
				hosttest.RefusedCluster: func(host.Call) host.Answer { return host.Answer{} },
			},
		})
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = h.Close() })
		return conforming{h}, nil
	})
}

// conforming is the wazero host as the suite drives it.
type conforming struct{ *host.Host }

func (c conforming) Request(worker int, r host.Request) hosttest.Stream {
	return &conformingStream{Stream: c.Worker(worker).Request(r), c: c}
}

func (c conforming) RequestHTTP1(r host.Request) hosttest.Stream {
	return &conformingStream{Stream: c.Worker(0).Request(r), c: c, http1: true}
}

func (c conforming) Pass(d time.Duration) { c.Advance(d) }

func (c conforming) Logs() []string {
	var out []string
	for _, l := range c.Host.Logs() {
		out = append(out, l.Message)
	}
	return out
}

func (c conforming) Metrics() map[string]uint64 {
	out := map[string]uint64{}
	for name, m := range c.Host.Metrics() {
		out[name] = m.Value
	}
	return out
}

type conformingStream struct {
	*host.Stream
	c     conforming
	http1 bool
	left  bool
}

// Upstream waits as long as a real client would before it says that a request
// is held.
func (s *conformingStream) Upstream() (host.Headers, bool) {
	for range 20 {
		if a := s.Action(); a == host.Continued || a == host.Bypassed {
			return s.RequestHeaders(), true
		} else if a != host.Paused {
			return nil, false
		}
		s.c.Advance(5 * time.Millisecond)
	}
	return nil, false
}

func (s *conformingStream) Abort() {
	s.left = true
	if s.http1 {
		s.Stream.Abort(true)
	} else {
		s.AbortReset()
	}
}

// Done waits for the answer, as a client would.
func (s *conformingStream) Done() host.Result {
	for i := 0; i < 2000 && !s.Answered() && !s.left; i++ {
		s.c.Advance(5 * time.Millisecond)
	}
	return s.Stream.Done()
}
