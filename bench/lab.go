package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/xds/translate"
	"github.com/seawall-mesh/seawall/envoy"
	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/module"
)

// lab is what all variants share: an upstream, a sink for telemetry, Envoy's
// binary and a scratch folder.
type lab struct {
	dir       string
	envoyPath string
	wasmPath  string
	wasmSHA   string
	upstream  *process
	sink      *sink
	workers   int
}

// newLab is a lab for load: with an upstream, and a sink for telemetry.
func newLab(ctx context.Context) (*lab, error) {
	if _, err := exec.LookPath("wrk"); err != nil {
		return nil, errors.New("wrk is missing: apt-get install wrk")
	}
	l, err := newBareLab(ctx)
	if err != nil {
		return nil, err
	}
	var wasm []byte
	if wasm, l.wasmSHA, err = module.Load(); err == nil {
		l.wasmPath = filepath.Join(l.dir, "filter.wasm")
		err = os.WriteFile(l.wasmPath, wasm, 0o600)
	}
	if err == nil {
		l.sink, err = newSink()
	}
	if err == nil {
		// The upstream is an Envoy as well: nothing else here answers as cheaply.
		l.upstream, err = l.startConfig(ctx, "upstream", upstreamConfig)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// newBareLab is a lab with nothing but Envoy's binary and a folder.
func newBareLab(ctx context.Context) (*lab, error) {
	binary, err := envoy.Find(ctx, envoy.FindConfig{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "seawall-bench-")
	if err != nil {
		return nil, err
	}
	return &lab{envoyPath: binary.Path, dir: dir, workers: 1}, nil
}

func (l *lab) close() {
	if l.upstream != nil {
		l.upstream.stop()
	}
	if l.sink != nil {
		_ = l.sink.server.Close()
	}
	_ = os.RemoveAll(l.dir)
}

// sink takes the filter's telemetry, and remembers which plans it is of.
type sink struct {
	server  *http.Server
	address string

	mu    sync.Mutex
	plans map[string]bool // hash → some request was counted under it
}

// maxBatch bounds what the sink reads of a batch.
const maxBatch = 1 << 20

func newSink() (*sink, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{address: ln.Addr().String(), plans: map[string]bool{}}
	s.server = &http.Server{ReadHeaderTimeout: time.Second, Handler: s}
	go func() { _ = s.server.Serve(ln) }()
	return s, nil
}

// ServeHTTP takes a batch.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var b contract.Batch
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBatch)).Decode(&b); err == nil && len(b.Rows) > 0 {
		s.mu.Lock()
		s.plans[b.Plan] = true
		s.mu.Unlock()
	}
	w.WriteHeader(http.StatusNoContent)
}

// ran reports whether requests were counted under the plan; "" is no plan.
func (s *sink) ran(plan string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return plan == "" || s.plans[plan]
}

// guards are what the route under load has, besides its SLI.
type guards struct{ breaker, rate, deadline, pool, keys, attempts bool }

func (g guards) String() string {
	words := []string{"SLI"}
	for _, w := range []struct {
		on   bool
		name string
	}{{g.breaker, "breaker"}, {g.rate, "failureRate"}, {g.deadline, "deadline"}, {g.pool, "pool"}, {g.keys, "keys"}, {g.attempts, "attempt role"}} {
		if w.on {
			words = append(words, w.name)
		}
	}
	return strings.Join(words, " + ")
}

// deadlineHeader is sent by wrk to all variants; only those with a deadline
// read it.
const deadlineHeader = "x-deadline-ms"

// seawall is the filter with a plan of 100 routes, of which one takes the load.
// The numbers are such that no guard refuses.
func (l *lab) seawall(g guards) (variant, error) {
	name := "seawall: " + g.String()
	sum := sha256.Sum256([]byte(name))
	plan := contract.Plan{
		Schema: contract.PlanSchema, Hash: hex.EncodeToString(sum[:8]), Edge: "bench", EndSignal: true, FailureMode: "open", ProblemTypeBase: "https://example.test/problems/",
		LatencyBoundsUS: []int64{500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000},
		Telemetry:       contract.Telemetry{Cluster: "seawall-telemetry", Authority: "seawall-telemetry", Path: "/v1/batches"},
	}
	if g.pool {
		plan.Pools = []contract.Pool{{Service: "bench", Name: "pool", MaxConcurrency: 20, MaxQueue: 50, MaxWaitNS: 5e9}}
	}
	for i := range 100 {
		r := contract.Route{Name: fmt.Sprintf("bench/r%02d", i), Service: "bench", Route: fmt.Sprintf("r%02d", i), Priority: "medium"}
		if g.breaker || g.rate {
			r.Breaker = &contract.Breaker{
				Identity: "00000000000000be", RecoveryNS: 60e9, RecoveryMaxNS: 300e9, MultiplierPPM: 1_500_000,
				Probes: 3, Successes: 3, ProbeExpiryNS: 30e9, Failures: []string{"5xx", "reset", "timeout", "connect-failure"},
			}
			if g.breaker {
				r.Breaker.ConsecutiveFailures = 5
			}
			if g.rate {
				r.Breaker.FailureRate = &contract.Rate{PPM: 500_000, WindowNS: 10e9, MinRequests: 20}
			}
		}
		if g.deadline {
			r.TimeoutNS, r.DeadlineHeader = 28e9, deadlineHeader
		}
		if g.pool {
			r.Pool = "pool"
		}
		if g.keys { // wrk's GET needs none, which is to be found out
			r.KeyHeader = "idempotency-key"
		}
		if g.attempts {
			r.Retries, r.Attempts = 2, &contract.Attempts{}
		}
		plan.Routes = append(plan.Routes, r)
	}
	text, err := json.Marshal(plan)
	if err == nil {
		_, err = contract.ParsePlan(text)
	}
	if err != nil {
		return variant{}, fmt.Errorf("plan of %s: %w", name, err)
	}
	v := variant{name: name, filters: fmt.Sprintf(wasmFilter, strconv.Quote(string(text)), capabilities(g.attempts), l.wasmSHA, l.wasmPath), plan: plan.Hash, deadline: g.deadline}
	if g.attempts {
		v.upstream = fmt.Sprintf(attemptChain, fmt.Sprintf(wasmFilter, strconv.Quote(contract.AttemptConfig), capabilities(true), l.wasmSHA, l.wasmPath))
	}
	return v, nil
}

// capabilities is the allow-list of an edge's VMs, as YAML.
func capabilities(attempts bool) string {
	return "{" + strings.Join(translate.Capabilities(attempts, false), ": {}, ") + ": {}}"
}

func (l *lab) start(ctx context.Context, v variant) (*process, error) {
	log, headers := "", ""
	if v.plan != "" {
		log = endSignalLog
	}
	if v.deadline {
		headers = deadlineHeaders
	}
	config := strings.NewReplacer("{accessLog}", log, "{routeHeaders}", headers, "{filters}", v.filters, "{limits}", v.upstream, "{upstreamPort}", port(l.upstream.listen), "{sinkPort}", port(l.sink.address)).Replace(edgeConfig)
	return l.startConfig(ctx, regexp.MustCompile(`\W+`).ReplaceAllString(v.name, "-"), config)
}

// startConfig starts an Envoy with one listener on a free port.
func (l *lab) startConfig(ctx context.Context, name, config string) (*process, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	listen := ln.Addr().String()
	_ = ln.Close()
	file := filepath.Join(l.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(config, "{port}", port(listen))), 0o600); err != nil {
		return nil, err
	}
	core := "1"
	if name != "upstream" {
		core = "0"
	}
	args := []string{"-c", core, l.envoyPath, "-c", file, "--concurrency", strconv.Itoa(l.workers), "--disable-hot-restart", "--base-id", strconv.Itoa(os.Getpid() % 100000), "-l", "error"}
	if runtime.NumCPU() < 2 || l.workers > 1 {
		args = args[2:]
	} else {
		args = append([]string{"taskset"}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("envoy %s: %w", name, err)
	}
	p := &process{cmd: cmd, listen: listen}
	for deadline := time.Now().Add(30 * time.Second); ; {
		resp, err := http.Get("http://" + listen + "/")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			p.stop()
			return nil, fmt.Errorf("envoy %s did not answer 200: %w", name, errors.Join(err, ctx.Err()))
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// process is a running Envoy under measurement.
type process struct {
	cmd    *exec.Cmd
	listen string
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func port(addr string) string {
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return p
}
