//go:build linux

package scenario_test

import (
	"bytes"
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
//
// The script's time stands still while a step runs, as in virtual worlds, and
// goes on afterwards; so a step comes at least as long after another as the
// script says. How much later it comes is the lag.
type envoyWorld struct {
	e         *envoyRig
	hash      string // of the plan that its VMs start with
	pace      float64
	start     time.Time     // time 0, as overrides have it
	at        time.Duration // the script's time
	lag       time.Duration
	plane     scenario.ControlPlane
	exchanges []*envoyExchange
}

var (
	_ scenario.World    = (*envoyWorld)(nil)
	_ scenario.RealTime = (*envoyWorld)(nil)
	_ scenario.Awaiter  = (*envoyExchange)(nil)
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
		Node: host.Node{ID: "edge-1"}, Routes: routes, ExpectedTimeouts: true, Clusters: map[string]host.CallHandler{scenario.TelemetryCluster: e.ingest},
		EndCounter: contract.EndSignalMetric, HeaderMetadata: scenario.ListenerMetadata(),
	})
	require.NoError(t, err)
	return e
}

// play starts a world and returns at time 0.
func (e *envoyRig) play(t *testing.T, s *scenario.Scenario, pace float64) *envoyWorld {
	t.Helper()
	for wait := lead; ; wait *= 2 {
		w := &envoyWorld{e: e, pace: pace, start: time.Now().Add(wait)}
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
		if !bytes.Contains(plan, []byte("notAfterNs")) {
			w.start = time.Now() // nothing depends on it yet
			return w
		}
		if left := time.Until(w.start); left > 0 {
			<-time.After(left)
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

func (w *envoyWorld) Now() time.Duration          { return w.at }
func (w *envoyWorld) Epoch() int64                { return w.start.UnixNano() }
func (w *envoyWorld) Workers() int                { return w.e.Workers() }
func (w *envoyWorld) Pace() float64               { return w.pace }
func (w *envoyWorld) Wall() int64                 { return time.Now().UnixNano() }
func (w *envoyWorld) Telemetry(mode string) error { w.plane.Set(mode); return nil }
func (w *envoyWorld) Bodies() []scenario.Delivery { return w.plane.Deliveries() }
func (w *envoyWorld) Trap(int) error              { return scenario.ErrUnsupported }
func (w *envoyWorld) Step(time.Duration) error    { return scenario.ErrUnsupported }

// real is how long a time of the script is here.
func (w *envoyWorld) real(d time.Duration) time.Duration { return time.Duration(float64(d) / w.pace) }

func (w *envoyWorld) Until(d time.Duration) error {
	if d > w.at {
		<-time.After(w.real(d - w.at))
		w.at = d
	}
	w.lag = time.Since(w.start) - w.real(w.at)
	return nil
}

// Close ends what a run that failed has left in flight.
func (w *envoyWorld) Close() error {
	for _, ex := range w.exchanges {
		if !ex.s.Over() {
			ex.s.Abort()
		}
	}
	return nil
}

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
	var p contract.Plan
	readable := json.Unmarshal(plan, &p) == nil
	if readable {
		var err error
		if plan, err = scenario.Faster(plan, w.Epoch(), w.pace); err != nil {
			return false, err
		}
	}
	err := w.e.Push(realenvoy.Update{Update: host.Update{VMID: vmID, PluginConfig: plan}})
	if errors.Is(err, host.ErrRejected) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, poll(20*time.Second, func() bool { return namedBy(w.Bodies(), p.Hash) > w.Workers() })
}

type envoyExchange struct {
	w      *envoyWorld
	s      *realenvoy.Stream
	answer string        // known at the start
	router bool          // answers it, and no upstream
	at     time.Duration // when it was sent, in the script's time
	sent   time.Time
}

// How long a request may take to get where it goes.
const onItsWay = 10 * time.Second

// clusters are where a request goes whose upstream is not reached, or too late.
var clusters = map[string]string{"refused": "refused", "no-healthy": "empty", "overflow": "full", "timeout": "late"}

// Send returns when the filter has decided: the script's order is that of
// decisions.
func (w *envoyWorld) Send(worker int, r scenario.Request) (scenario.Exchange, error) {
	ex := &envoyExchange{w: w, answer: r.Answer, at: w.at, sent: time.Now()}
	req := host.Request{Method: r.Method, Route: r.Route, Path: "/" + r.Route, NoRoute: r.NoRoute, Cluster: clusters[r.Answer]}
	ex.router = r.NoRoute || req.Cluster != "" && req.Cluster != "late"
	if r.GRPC {
		if req.Cluster != "" {
			return nil, scenario.ErrUnsupported
		}
		req.Cluster, req.Headers = "http2", host.H("content-type", "application/grpc", "te", "trailers")
	}
	if r.ID != "" {
		req.Headers = append(req.Headers, host.H("x-request-id", r.ID)...)
	}
	for _, h := range r.Headers {
		req.Headers = append(req.Headers, host.H(h.Key, h.Value)...)
	}
	ex.s = w.e.Worker(worker).Request(req)
	ex.s.Sync()
	w.exchanges = append(w.exchanges, ex)
	return ex, nil
}

// State is where the request is now.
func (e *envoyExchange) State() string {
	switch {
	case e.s.Over():
		return "answered"
	case e.s.Action(0) == host.Continued:
		return "upstream"
	}
	return "waiting"
}

// Await judges by what happened when, and not by when it was found out: an
// answer that a timer gave counts from its time after the request was sent.
func (e *envoyExchange) Await(state string, lasting time.Duration) string {
	if state == "waiting" {
		<-time.After(min(e.w.real(lasting)/4, 50*time.Millisecond))
	} else {
		_ = poll(onItsWay, func() bool { return e.State() == state || e.s.Over() })
	}
	if state == "answered" || !e.s.Over() || e.s.Ended().Sub(e.sent) <= e.w.real(e.w.at-e.at) {
		return e.State()
	}
	if e.s.Action(0) == host.Continued { // as it was then
		return "upstream"
	}
	return "waiting"
}

// Sent is a header as the upstream got it, or as the router told it.
func (e *envoyExchange) Sent(name string) string {
	hs, _ := e.s.Upstream(onItsWay)
	if name == "x-envoy-upstream-rq-timeout-ms" {
		name = "x-envoy-expected-rq-timeout-ms"
	}
	return hs.Get(name)
}

func (e *envoyExchange) End(answer string, latency time.Duration) (scenario.Reply, error) {
	patience := onItsWay
	if answer == "abort" { // one that waits is given up there, but not one that is about to leave
		patience = time.Until(e.sent.Add(500 * time.Millisecond))
	}
	if state := e.s.Action(patience); !e.s.Over() && (state == host.Continued || answer == "abort") {
		<-time.After(e.w.real(latency))
		e.w.at += latency
		if err := e.respond(answer); err != nil {
			return scenario.Reply{}, err
		}
	}
	res := e.s.Done()
	e.s.Sync() // the filter's accounts are settled
	reply := scenario.Reply{
		Status: res.Status, Decision: res.Headers.Get("x-seawall-decision"), RetryAfter: res.Headers.Get("retry-after"), Upstream: res.Upstream,
	}
	reply.Upstream = reply.Upstream || e.router && reply.Decision == ""
	if !res.Upstream {
		reply.GRPCStatus = res.Headers.Get("grpc-status")
	}
	return reply, nil
}

func (e *envoyExchange) respond(answer string) error {
	resp, abort, err := scenario.Response(answer)
	switch {
	case err != nil:
		return err
	case abort:
		e.s.Abort()
	case clusters[answer] == "":
		e.s.Respond(resp)
	case answer != e.answer && !e.s.Over(): // the upstream has it: too late for anything else
		return scenario.ErrUnsupported
	}
	return nil
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
		if s.Envoy == 0 {
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
	require.GreaterOrEqual(t, len(names), 44)
	slices.SortStableFunc(names, func(a, b string) int { return int(lasts(scenarios[b]) - lasts(scenarios[a])) })
	var starting sync.Mutex // a start takes all CPUs for a while: one at a time, and nothing is played meanwhile
	var started sync.WaitGroup
	started.Add(3 * lanes)
	start := func(t *testing.T, workers int) *envoyRig {
		starting.Lock()
		defer started.Done() // even where it fails
		defer starting.Unlock()
		return newEnvoyRig(t, workers, routes)
	}
	var all sync.WaitGroup // at the same time, whatever -parallel is: they mostly wait
	for _, workers := range []int{4, 2, 1} {
		next := make(chan string, len(names))
		for _, name := range names {
			if slices.Contains(scenarios[name].Workers, workers) {
				next <- name
			}
		}
		close(next)
		for lane := range lanes {
			all.Go(func() {
				t.Run(fmt.Sprintf("%d workers, Envoy %d", workers, lane), func(t *testing.T) {
					rig := start(t, workers)
					started.Wait()
					for name := range next {
						t.Run(name, func(t *testing.T) { rig.check(t, scenarios[name]) })
					}
				})
			})
		}
	}
	all.Wait()
}

// lanes is how many Envoys with one number of workers share the scenarios.
const lanes = 3

// lasts is how long a scenario plays.
func lasts(s *scenario.Scenario) time.Duration {
	return s.Steps[len(s.Steps)-1].At / time.Duration(s.Envoy)
}

const (
	tries = 4
	// late is a lag that may be why a run went another way.
	late = 20 * time.Millisecond
)

// check plays a scenario. A run that went another way, and in which time got
// ahead of the script because the machine was busy, is played again, at half the
// pace.
func (e *envoyRig) check(t *testing.T, s *scenario.Scenario) {
	t.Helper()
	pace := float64(s.Envoy)
	for try := 1; ; try++ {
		w := e.play(t, s, pace)
		trace, err := scenario.Run(t.Context(), s, w)
		require.NoError(t, w.Close())
		require.NotErrorIs(t, err, scenario.ErrUnsupported)
		if err == nil && untimed(trace) == untimed(s.Trace) {
			return
		}
		if try == tries || w.lag < late {
			require.NoError(t, err, "after a lag of %s\n%s", w.lag, trace)
			require.Equal(t, untimed(s.Trace), untimed(trace), "after a lag of %s", w.lag)
		}
		if !speaksOfTime(s) {
			pace /= 2
		}
		t.Logf("played again at pace %v after a lag of %s: %v\n%s", pace, w.lag, err, trace)
	}
}

// In real time, too, what is not as a script says is told: each line of this
// one that is marked, and no other.
func TestEnvoyIsLookedAtClosely(t *testing.T) {
	const script = `
-- plan.json --
{"routes":[{"name":"a/b","pool":"db","deadlineHeader":"x-deadline-ms","timeoutNs":8000000000,"breaker":{"consecutiveFailures":2}},{"name":"a/c"}],"pools":[{"service":"a","name":"db","maxConcurrency":1,"maxQueue":3}]}
-- script --
at 0s: hold=a GET a/b header=x-deadline-ms:6800
at 0s: hold=b GET a/b
at 0s: hold=c GET a/b
at 1s: expect held a upstream
at 1s: expect held a waiting # wrong
at 1s: expect held b waiting
at 1s: expect sent a x-envoy-upstream-rq-timeout-ms=6800
at 1s: expect sent a x-envoy-upstream-rq-timeout-ms=20000 # wrong
at 2s: release a upstream=503 -> 200 # wrong
at 3s: expect held c waiting
at 3s: release b upstream=503 -> 503
at 3s: release c -> 503 breaker-open retry-after=60
at 3s: GET a/b -> 503 breaker-open retry-after=60
at 3s: GET a/b -> 503 breaker-open retry-after=30 # wrong
at 3s: GET a/b -> 503 bulkhead-full # wrong
at 4s: expect breaker a/b half-open # wrong
at 4s: expect breaker a/b open
at 4s: GET a/c upstream=refused -> 503 upstream=yes
at 4s: GET a/c upstream=timeout -> 503 # wrong
at 5s: expect count a/b 5xx=2 breaker-open=4
at 5s: expect count a/b 5xx=3 # wrong
at 5s: expect count a/c connect-failure=1 timeout=1
at 5s: expect counter requests=8
at 5s: expect counter requests=9 # wrong
at 5s: expect pool a/db held=0 waiting=0
at 5s: expect pool a/db held=1 # wrong
`
	s, err := scenario.Parse([]byte(script))
	require.NoError(t, err)
	var wrong []string
	_, lines, _ := strings.Cut(script, "-- script --\n")
	for i, line := range strings.Split(lines, "\n") {
		if strings.HasSuffix(line, "# wrong") {
			wrong = append(wrong, fmt.Sprintf("script:%d", i+1))
		}
	}
	w := newEnvoyRig(t, 2, []realenvoy.Route{{Name: "a/b"}, {Name: "a/c"}}).play(t, s, 1)
	_, err = scenario.Run(t.Context(), s, w)
	require.NoError(t, w.Close())
	require.Error(t, err)
	var told []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		told = append(told, strings.Join(strings.SplitN(line, ":", 3)[:2], ":"))
	}
	require.ElementsMatch(t, wrong, told, "%v", err)
}

// speaksOfTime reports whether requests say times of their own, which no pace
// changes.
func speaksOfTime(s *scenario.Scenario) bool {
	return slices.ContainsFunc(s.Steps, func(step scenario.Step) bool {
		send, ok := step.Do.(scenario.Send)
		return ok && len(send.Request.Headers) > 0
	})
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
