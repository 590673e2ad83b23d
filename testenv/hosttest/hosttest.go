// Package hosttest is the conformance suite of proxy-wasm hosts. Each case is
// one thing that Envoy 1.40 does and that one would not guess, driven by a
// probe module (testenv/host/testdata/probe). The suite runs on the wazero host
// and in a real Envoy; where the two differ, Envoy is right.
//
// The cases say nothing about what only a virtual clock can show (exact times)
// nor about what a client cannot see of Envoy; those are in the tests of
// testenv/host.
package hosttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
)

// Host is a proxy that runs the probe before one upstream.
type Host interface {
	// Workers is how many there are: at least 2.
	Workers() int
	// Request starts a request on a worker and waits for nothing.
	Request(worker int, r host.Request) Stream
	// RequestHTTP1 starts one on an HTTP/1.1 connection of its own, to any worker.
	RequestHTTP1(r host.Request) Stream
	// Push applies a configuration. host.ErrRejected is a NACK.
	Push(host.Update) error
	// Pass lets time pass, on the clock that the host has.
	Pass(d time.Duration)
	// Logs are what VMs with the vm_id of the last push logged, oldest first.
	Logs() []string
	// Metrics are values by name.
	Metrics() map[string]uint64
}

// Stream is a request.
type Stream interface {
	// Upstream waits until the upstream has the request and returns its headers
	// there. It is false where the upstream does not get it, and where nothing
	// happens for a while: the filter holds it.
	Upstream() (host.Headers, bool)
	// Respond is the upstream's answer.
	Respond(host.Response)
	// Abort is the client leaving: over HTTP/2 it resets the stream, over HTTP/1.1
	// it closes the connection.
	Abort()
	// Done waits for what the client gets.
	Done() host.Result
}

// Options are what a case wants of a host. Every case starts with empty shared
// data and new VMs.
type Options struct {
	Config string // of the plugin: the probe runs it, commands separated by ;
	Policy host.Policy
	// HeadersStopIteration is allow_on_headers_stop_iteration.
	HeadersStopIteration bool
}

// What the factory's hosts have to have.
const (
	// ReloadBackoff is the base interval of the back-off; Envoy adds up to half.
	ReloadBackoff = 400 * time.Millisecond
	// HiddenMetrics is the prefix of metrics that a stats_matcher hides.
	HiddenMetrics = "hidden"
	// EndCounter is the counter of host.Config.EndCounter.
	EndCounter = "conf_ends"
	// MetadataNamespace is where the listener puts the grpc-status of a
	// response's headers, by host.Config.HeaderMetadata.
	MetadataNamespace = "conf"
	// NodeID is node.id.
	NodeID = "test-node"
	// SlowRoute is a route with a timeout of SlowTimeout.
	SlowRoute   = "slow"
	SlowTimeout = 300 * time.Millisecond
	// Cluster is where calls out may go; Answer says what it answers.
	// RefusedCluster refuses connections.
	Cluster        = "calls"
	RefusedCluster = "refused"
)

// Routes are the routes that have to exist, beside the one without a name.
var Routes = []string{"payments/charge", SlowRoute}

// Answer is what Cluster answers, by path: /status/N, /delay, /hang, /reset.
func Answer(c host.Call) host.Answer {
	switch path := c.Headers.Get(":path"); path {
	case "/delay":
		return host.Answer{Status: 200, Body: []byte("late"), Delay: 300 * time.Millisecond}
	case "/hang":
		return host.Answer{Hang: true}
	case "/unavailable":
		return host.Answer{Status: 503, Body: []byte("sorry")}
	default:
		return host.Answer{Status: 200, Body: append([]byte("got "), c.Body...)}
	}
}

// Factory starts a host for one case. The error is that of the first push.
type Factory func(t *testing.T, o Options) (Host, error)

// Probe builds the probe module.
func Probe(t testing.TB) []byte {
	t.Helper()
	wasm := filepath.Join(t.TempDir(), "probe.wasm")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", wasm,
		"github.com/seawall-mesh/seawall/testenv/host/testdata/probe")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "build the probe: %s", out)
	raw, err := os.ReadFile(wasm)
	require.NoError(t, err)
	return raw
}

// world is a host with what cases need all the time.
type world struct {
	Host
	t *testing.T
}

type group struct {
	name  string
	cases []conformance
}

type conformance struct {
	name string
	opt  Options
	run  func(w world)
}

// Exercise runs all cases.
func Exercise(t *testing.T, factory Factory) {
	for _, g := range []group{
		{"shared data", sharedCases}, {"metrics", metricCases}, {"queues", queueCases}, {"ticks", tickCases},
		{"pause", pauseCases}, {"headers", headerCases}, {"local replies", replyCases}, {"properties", propertyCases},
		{"lifecycle", lifecycleCases}, {"traps", trapCases}, {"calls out", callCases}, {"timeouts", timeoutCases},
	} {
		t.Run(g.name, func(t *testing.T) {
			for _, c := range g.cases {
				t.Run(c.name, func(t *testing.T) {
					h, err := factory(t, c.opt)
					require.NoError(t, err)
					c.run(world{h, t})
				})
			}
		})
	}
	t.Run("a plugin that does not start", func(t *testing.T) { refusals(t, factory) })
}

// Count is how many cases Exercise runs, refusals apart.
func Count() int {
	n := 0
	for _, cs := range [][]conformance{
		sharedCases, metricCases, queueCases, tickCases, pauseCases, headerCases, replyCases, propertyCases,
		lifecycleCases, trapCases, callCases, timeoutCases,
	} {
		n += len(cs)
	}
	return n
}

// request is a request that makes the probe run commands.
func request(cmd string, more ...string) host.Request {
	return host.Request{Headers: host.H(append([]string{"x-cmd", cmd}, more...)...)}
}

// do runs commands in a request of their own, and returns what they found.
func (w world) do(worker int, cmd string) string {
	w.t.Helper()
	s := w.Request(worker, request(cmd))
	hs, ok := s.Upstream()
	require.True(w.t, ok, "the request did not reach the upstream: %s", cmd)
	s.Respond(host.Response{})
	require.Equal(w.t, 200, s.Done().Status)
	return hs.Get("x-out")
}

// answer is a request that reaches its upstream, which answers.
func (w world) answer(worker int, r host.Request, resp host.Response) host.Result {
	w.t.Helper()
	s := w.Request(worker, r)
	s.Upstream()
	s.Respond(resp)
	return s.Done()
}

// logs are the log lines with a prefix.
func (w world) logs(prefix string) []string {
	var out []string
	for _, l := range w.Logs() {
		if s, ok := strings.CutPrefix(l, prefix); ok {
			out = append(out, s)
		}
	}
	return out
}

// until waits for something to become true.
func (w world) until(what string, cond func() bool) {
	w.t.Helper()
	for steps := 0; !cond(); w.Pass(5 * time.Millisecond) {
		if steps++; steps > 1000 {
			require.FailNow(w.t, "it never happens: "+what, "logs:\n%s", strings.Join(w.Logs(), "\n"))
		}
	}
}

// logged waits for n lines with a prefix.
func (w world) logged(prefix string, n int) []string {
	w.t.Helper()
	w.until(fmt.Sprintf("%d lines %q", n, prefix), func() bool { return len(w.logs(prefix)) >= n })
	return w.logs(prefix)
}

// hold starts a request that the probe holds, and returns its context's number.
func (w world) hold(worker int, more ...string) (Stream, string) {
	w.t.Helper()
	tag := fmt.Sprintf("hold-%d", len(w.logs("request hold-")))
	s := w.Request(worker, request("pause", append([]string{"x-tag", tag}, more...)...))
	line := w.logged("request "+tag+": ", 1)[0]
	return s, strings.TrimPrefix(line, "held:")
}

// gone waits until the first worker's VM has dropped a context. After a push Envoy keeps
// an idle one for some milliseconds.
func (w world) gone(ctx string) {
	w.t.Helper()
	w.until("context "+ctx+" is done", func() bool {
		return strings.Contains(w.do(0, "events")+",", ",done "+ctx+",delete "+ctx+",")
	})
}

func distinct(words []string) []string {
	words = slices.Clone(words)
	slices.Sort(words)
	return slices.Compact(words)
}
