//go:build linux

package scenario_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/module"
	"github.com/seawall-mesh/seawall/testenv/host"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
	"github.com/seawall-mesh/seawall/testenv/scenario"
)

// envoyWorld is the filter in a real Envoy, in real time. It has no clock to
// step and no VM to kill, and its upstream can answer, hang and break off.
type envoyWorld struct {
	e     *envoyRig
	hash  string // of the plan that its VMs start with
	start time.Time
	plane scenario.ControlPlane
}

var (
	_ scenario.World   = (*envoyWorld)(nil)
	_ scenario.Settler = (*envoyWorld)(nil)
)

// envoyRig is one Envoy that plays scenarios one after the other. Each has
// VMs and shared data of its own.
type envoyRig struct {
	*realenvoy.Host
	vms int // how many sets of VMs there were

	mu    sync.Mutex
	world *envoyWorld
	boots map[string]*envoyWorld // whose batches these are: old VMs may still have something to say
}

// lead is how long after the first push time 0 of a script is: overrides are
// pushed with it. A push that takes longer is done again with more.
const lead = 700 * time.Millisecond

func newEnvoyRig(t *testing.T, workers int, routes []realenvoy.Route) *envoyRig {
	t.Helper()
	wasm, sum, err := module.Load()
	require.NoError(t, err)
	e := &envoyRig{boots: map[string]*envoyWorld{}}
	e.Host, err = realenvoy.NewHost(t, realenvoy.HostConfig{
		Wasm: wasm, Workers: workers, VMConfig: []byte(sum), PluginConfig: fill(t, `{"routes":[]}`),
		Node: host.Node{ID: "edge-1"}, Routes: routes, Clusters: map[string]host.CallHandler{scenario.TelemetryCluster: e.ingest},
	})
	require.NoError(t, err)
	return e
}

// play starts a world and returns at time 0.
func (e *envoyRig) play(t *testing.T, s *scenario.Scenario) *envoyWorld {
	t.Helper()
	for wait := lead; ; wait *= 2 {
		w := &envoyWorld{e: e, start: time.Now().Add(wait)}
		plan, err := scenario.FillAt(s.Files["plan.json"], w.Epoch())
		require.NoError(t, err)
		w.hash = hashOf(t, plan)
		e.mu.Lock()
		e.world = w
		e.vms++
		vmID := fmt.Sprintf("seawall-%d", e.vms)
		e.mu.Unlock()
		ok, err := w.push(plan, vmID)
		require.NoError(t, err)
		require.True(t, ok)
		if w.Now() < 0 {
			require.NoError(t, w.Until(0))
			return w
		}
		require.Less(t, wait, 10*time.Second, "pushes take too long")
	}
}

func hashOf(t *testing.T, plan []byte) string {
	t.Helper()
	var p contract.Plan
	require.NoError(t, json.Unmarshal(plan, &p))
	return p.Hash
}

func (e *envoyRig) ingest(c host.Call) host.Answer {
	var b contract.Batch
	if err := json.Unmarshal(c.Body, &b); err != nil {
		return host.Answer{Status: 400}
	}
	e.mu.Lock()
	if e.boots[b.Boot] == nil && e.world != nil && b.Plan == e.world.hash { // else of VMs before the first
		e.boots[b.Boot] = e.world
	}
	w := e.boots[b.Boot]
	e.mu.Unlock()
	if w == nil {
		return host.Answer{Status: 200}
	}
	a := w.plane.Take(c.Headers.Get(":path"), c.Body)
	return host.Answer{Status: a.Status, Hang: a.Hang}
}

func (w *envoyWorld) Now() time.Duration          { return time.Since(w.start) }
func (w *envoyWorld) Epoch() int64                { return w.start.UnixNano() }
func (w *envoyWorld) Workers() int                { return w.e.Workers() }
func (w *envoyWorld) Telemetry(mode string) error { w.plane.Set(mode); return nil }
func (w *envoyWorld) Bodies() []scenario.Delivery { return w.plane.Deliveries() }
func (w *envoyWorld) Close() error                { return nil }
func (w *envoyWorld) Trap(int) error              { return scenario.ErrUnsupported }
func (w *envoyWorld) Step(time.Duration) error    { return scenario.ErrUnsupported }
func (w *envoyWorld) Until(d time.Duration) error { <-time.After(d - w.Now()); return nil }

// Settle waits until all is counted, and for a batch more of every VM: what a
// tick tells comes a little later.
func (w *envoyWorld) Settle(done func() bool) error {
	if err := poll(10*time.Second, done); err != nil {
		return err
	}
	after := time.Now().Add(300 * time.Millisecond).UnixNano() // more than a tick
	return poll(10*time.Second, func() bool {
		l, err := scenario.Read(w.Bodies())
		if err != nil {
			return true // the runner tells
		}
		last := map[string]int64{}
		for _, b := range l.Batches {
			last[b.VM] = b.AtNS
		}
		for _, at := range last {
			if at < after {
				return false
			}
		}
		return true
	})
}

func namedBy(deliveries []scenario.Delivery, hash string) int {
	l, err := scenario.Read(deliveries)
	if err != nil {
		return 0
	}
	last := map[string]string{}
	for _, b := range l.Batches {
		last[b.VM] = b.Plan
	}
	n := 0
	for _, plan := range last {
		if plan == hash {
			n++
		}
	}
	return n
}

func poll(within time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s", within)
		case <-tick.C:
		}
	}
	return nil
}

// Push waits until all workers run the plan: Envoy's acknowledgement is only
// its main thread's.
func (w *envoyWorld) Push(plan []byte) (bool, error) { return w.push(plan, "") }

func (w *envoyWorld) push(plan []byte, vmID string) (bool, error) {
	err := w.e.Push(realenvoy.Update{Update: host.Update{VMID: vmID, PluginConfig: plan}})
	if errors.Is(err, host.ErrRejected) {
		return false, nil
	}
	var p contract.Plan
	if err := errors.Join(err, json.Unmarshal(plan, &p)); err != nil {
		return false, err
	}
	return true, poll(20*time.Second, func() bool { return namedBy(w.Bodies(), p.Hash) > w.Workers() })
}

type envoyExchange struct{ s *realenvoy.Stream }

func (w *envoyWorld) Send(worker int, r scenario.Request) (scenario.Exchange, error) {
	if r.NoRoute || r.ID != "" {
		return nil, scenario.ErrUnsupported
	}
	req := host.Request{Method: r.Method, Route: r.Route, Path: "/" + r.Route}
	if r.GRPC {
		req.Cluster, req.Headers = "http2", host.H("content-type", "application/grpc", "te", "trailers")
	}
	for _, h := range r.Headers {
		req.Headers = append(req.Headers, host.H(h.Key, h.Value)...)
	}
	s := w.e.Worker(worker).Request(req)
	s.Action(200 * time.Millisecond) // until it is decided, or waits: the script's order is that of decisions
	return &envoyExchange{s}, nil
}

// State waits a little for the request to get on: here it takes its time.
func (e *envoyExchange) State() string {
	switch e.s.Action(100 * time.Millisecond) {
	case host.Paused:
		return "waiting"
	case host.Continued:
		return "upstream"
	default:
		return "answered"
	}
}

// Sent is a header as the upstream got it.
func (e *envoyExchange) Sent(name string) string {
	hs, _ := e.s.Upstream(0)
	return hs.Get(name)
}

func (e *envoyExchange) End(answer string, latency time.Duration) (scenario.Reply, error) {
	state := e.s.Action(0)
	if state == host.Paused {
		if answer == "abort" {
			<-time.After(latency)
			e.s.Abort()
		} else {
			state = e.s.Action(10 * time.Second)
		}
	}
	if state == host.Continued {
		<-time.After(latency)
		resp, abort, err := scenario.Response(answer)
		switch {
		case err != nil:
			return scenario.Reply{}, err
		case abort:
			e.s.Abort()
		case resp.Details != "" && answer != "reset" && answer != "mid-reset":
			return scenario.Reply{}, scenario.ErrUnsupported
		default:
			e.s.Respond(resp)
		}
	}
	res := e.s.Done()
	reply := scenario.Reply{
		Status: res.Status, Decision: res.Headers.Get("x-seawall-decision"), RetryAfter: res.Headers.Get("retry-after"), Upstream: res.Upstream,
	}
	if !res.Upstream {
		reply.GRPCStatus = res.Headers.Get("grpc-status")
	}
	return reply, nil
}

// What a real Envoy decides, and counts, is what native and wazero do. Only the
// times of events differ, and a Retry-After by a second.
func TestScenariosInEnvoy(t *testing.T) {
	realenvoy.Binary(t)
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	scenarios := map[string]*scenario.Scenario{}
	var names []string
	var routes []realenvoy.Route
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		s, err := scenario.Parse(data)
		require.NoError(t, err)
		if !s.Envoy {
			continue
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		scenarios[name], names = s, append(names, name)
		for _, step := range s.Steps {
			if send, ok := step.Do.(scenario.Send); ok && !slices.Contains(routes, realenvoy.Route{Name: send.Request.Route}) {
				routes = append(routes, realenvoy.Route{Name: send.Request.Route})
			}
		}
	}
	require.NotEmpty(t, names)
	var all sync.WaitGroup // at the same time, whatever -parallel is: they mostly wait
	for _, workers := range []int{1, 2, 4} {
		all.Go(func() {
			t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
				rig := newEnvoyRig(t, workers, routes)
				for _, name := range names {
					s := scenarios[name]
					if !slices.Contains(s.Workers, workers) {
						continue
					}
					t.Run(name, func(t *testing.T) {
						require.Equal(t, untimed(s.Trace), untimed(play(t, s, rig.play(t, s))))
					})
				}
			})
		})
	}
	all.Wait()
}

// What a tick tells comes when it comes: what of, and why, stays.
var (
	eventTime  = regexp.MustCompile(`(?m)^(event .*) at \S+$`)
	onTick     = regexp.MustCompile(`(?m)^(event  breaker-(?:forced|released) \S+) .*( cause=\S+)$`)
	reset      = regexp.MustCompile(`(?m)^event  breaker-reset .*\n`)
	retryAfter = regexp.MustCompile(`retry-after=\S+`)
)

func untimed(trace string) string {
	trace = eventTime.ReplaceAllString(trace, "$1")
	trace = onTick.ReplaceAllString(trace, "$1$2")
	return retryAfter.ReplaceAllString(reset.ReplaceAllString(trace, ""), "retry-after=…")
}
