package server

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// sim drives one Envoy against a Server without network and goroutines, one
// message at a time.
type sim struct {
	clock *clock
	fleet *fleet.Registry
	srv   *Server
	e     *envoy
	n     *node
	st    *stream
}

func newSim(t *testing.T) *sim {
	s := &sim{clock: &clock{}}
	s.boot()
	e := &envoy{t: t, id: "edge-1", cluster: "edge", hold: map[kind]bool{}, meta: map[string]any{
		"workers": 2, "filterDir": "/var/lib/seawall", "filters": []any{testSHA},
	}}
	e.reset()
	s.e = e
	return s
}

// boot starts a control plane that knows nothing.
func (s *sim) boot() {
	s.fleet = fleet.New(s.clock.now)
	s.srv = New(Config{Log: slog.New(slog.DiscardHandler), Fleet: s.fleet, FilterSHA256: testSHA, Now: s.clock.now})
	s.n, s.st = nil, nil
}

func (s *sim) connect() {
	s.e.out = make(chan *discoveryv3.DeltaDiscoveryRequest, 1024)
	s.e.hello()
}

func (s *sim) disconnect() {
	if s.st != nil {
		s.srv.detach(s.n, s.st)
		s.n, s.st = nil, nil
	}
}

// ask hands one request to the server; false when there is none.
func (s *sim) ask() bool {
	select {
	case req := <-s.e.out:
		if s.n == nil {
			var err error
			s.n, s.st, err = s.srv.attach(req)
			require.NoError(s.e.t, err)
		}
		require.NoError(s.e.t, s.srv.handle(s.n, s.st, req))
		return true
	default:
		return false
	}
}

func (s *sim) deliver() {
	for s.ask() {
	}
}

// step moves one message; false when nothing is under way.
func (s *sim) step() bool {
	if s.ask() {
		return true
	}
	if s.n == nil {
		return false
	}
	out := s.srv.collect(s.n, s.st)
	for _, resp := range out {
		s.e.take(resp)
	}
	return len(out) > 0
}

func (s *sim) run() {
	for range 10_000 {
		if !s.step() {
			return
		}
	}
	panic("it never comes to rest")
}

// TestAnyHistoryConverges lets edits, rejections, restarts of either side,
// reconnects and time happen in any order, interleaved with single messages:
// no route ever leads nowhere, and once Envoy accepts again, the last model is
// what it has, and nothing else.
func TestAnyHistoryConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newSim(t)
		s.connect()
		var last *ir.Model
		generation := 0
		refused := map[kind]bool{}
		s.e.refuse = func(k kind, _ []string) string {
			if refused[k] {
				return "refused"
			}
			return ""
		}
		set := func() {
			generation++
			services := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 4, rapid.ID).Draw(rt, "services")
			for i, name := range services {
				services[i] = name + ":" + rapid.SampledFrom([]string{"x", "x,y", "y,z"}).Draw(rt, "routes")
			}
			last = model(fmt.Sprintf("%016d", generation), services...)
			last.Edges[0].Listeners[0].Port = uint32(rapid.IntRange(10000, 10001).Draw(rt, "port"))
		}
		steps := rapid.IntRange(1, 60).Draw(rt, "steps")
		for range steps {
			switch rapid.SampledFrom([]string{"set", "step", "step", "step", "run", "refuse", "accept", "reconnect", "kill", "restart", "time"}).Draw(rt, "what") {
			case "set":
				set()
				s.srv.apply(last)
			case "step":
				s.step()
			case "run":
				s.run()
			case "refuse":
				refused[rapid.SampledFrom([]kind{cds, eds, sds, ecds, lds, rds}).Draw(rt, "kind")] = true
			case "accept":
				clear(refused)
			case "reconnect":
				s.disconnect()
				s.connect()
			case "kill": // Envoy
				s.disconnect()
				s.e.reset()
				s.connect()
			case "restart": // control plane: what retired routes it owes is lost
				if last == nil {
					continue
				}
				s.disconnect()
				s.boot()
				s.e.lenient = true
				s.connect()
				if rapid.Bool().Draw(rt, "edited") {
					set()
				}
				s.srv.apply(last)
			case "time": // what was asked for arrives within it
				s.deliver()
				s.clock.advance(time.Duration(rapid.IntRange(1, 400).Draw(rt, "seconds")) * time.Second)
				s.srv.tick()
			}
			if len(s.e.faults) > 0 {
				rt.Fatal(s.e.faults)
			}
		}
		clear(refused)
		set()
		s.srv.apply(last)
		for range 20 {
			s.run()
			s.clock.advance(5 * time.Minute)
			s.srv.tick()
		}
		if len(s.e.faults) > 0 {
			rt.Fatal(s.e.faults)
		}
		n, _ := s.fleet.Node("edge-1")
		for k, r := range n.Resources {
			if r.State != fleet.Synced {
				rt.Fatalf("%s is %s at the end: %s; phase %d, %+v", k, r.State, r.Message, s.n.phase, n.Resources)
			}
		}
		if got, want := s.e.plan().Hash, last.Edges[0].Filter.PlanHash; got != want {
			rt.Fatalf("plan %s, want %s", got, want)
		}
		if got, want := len(s.e.have[cds]), len(last.Edges[0].Clusters); got != want {
			rt.Fatalf("%d clusters, want %d", got, want)
		}
		if got, want := len(s.e.have[eds]), len(last.Edges[0].Clusters); got != want {
			rt.Fatalf("%d endpoints, want %d", got, want)
		}
	})
}
