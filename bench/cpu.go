package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	"time"

	"github.com/seawall-mesh/seawall/envoy"
	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/module"
)

// rounds and roundTime trade the time of a run against its noise: medians of
// 12 pairs were within ± 0.02 on a quiet machine.
const (
	rounds    = 12
	roundTime = 4 * time.Second
)

// variant is one Envoy configuration whose cost is measured.
type variant struct {
	name    string
	filters string // HTTP filters before the router, as YAML list items
}

// cpu prints the CPU time per request of Envoy with the filter as a ratio to
// the same Envoy without it: one worker on one core, wrk and the upstream on
// the other, the variants in turn in each round.
func cpu(ctx context.Context) error {
	lab, err := newLab(ctx)
	if err != nil {
		return err
	}
	defer lab.close()
	variants := []variant{
		{"bare", ""},
		{"admission_control + fault", nativePair},
		{"seawall: breaker + SLI", lab.seawall(true)},
		{"seawall: SLI only", lab.seawall(false)},
	}
	envoys := make([]*process, len(variants))
	for i, v := range variants {
		if envoys[i], err = lab.start(ctx, v); err != nil {
			return err
		}
		defer envoys[i].stop()
	}
	perRequest := make([][]float64, len(variants))
	ratios := make([][]float64, len(variants))
	for round := range rounds + 1 {
		for i := range variants {
			us, err := envoys[i].load(ctx, roundTime)
			if err != nil {
				return err
			}
			if round == 0 {
				continue // warm-up: V8 tiers up
			}
			perRequest[i] = append(perRequest[i], us)
			ratios[i] = append(ratios[i], us/perRequest[0][round-1])
		}
	}
	fmt.Printf("%-28s %10s %8s %8s %8s   (%d rounds of %s)\n", "chain", "µs/request", "× bare", "min", "max", rounds, roundTime)
	for i, v := range variants {
		fmt.Printf("%-28s %10.1f %8.3f %8.3f %8.3f\n", v.name, quantile(perRequest[i], 0.5), quantile(ratios[i], 0.5), quantile(ratios[i], 0), quantile(ratios[i], 1))
	}
	return nil
}

// memory prints the resident memory of Envoy with and without the filter.
func memory(ctx context.Context) error {
	lab, err := newLab(ctx)
	if err != nil {
		return err
	}
	defer lab.close()
	fmt.Printf("%-28s %8s %12s\n", "chain", "workers", "RSS MiB")
	for _, workers := range []int{1, 2, 4} {
		lab.workers = workers
		for _, v := range []variant{{"bare", ""}, {"seawall: breaker + SLI", lab.seawall(true)}} {
			p, err := lab.start(ctx, v)
			if err != nil {
				return err
			}
			_, err = p.load(ctx, roundTime)
			rss := p.rssMiB()
			p.stop()
			if err != nil {
				return err
			}
			fmt.Printf("%-28s %8d %12.1f\n", v.name, workers, rss)
		}
	}
	return nil
}

// lab is what all variants share: an upstream, a sink for telemetry, Envoy's
// binary and a scratch folder.
type lab struct {
	dir       string
	envoyPath string
	wasmPath  string
	wasmSHA   string
	upstream  *process
	sink      *http.Server
	sinkAddr  string
	workers   int
}

func newLab(ctx context.Context) (*lab, error) {
	if _, err := exec.LookPath("wrk"); err != nil {
		return nil, errors.New("wrk is missing: apt-get install wrk")
	}
	binary, err := envoy.Find(ctx, envoy.FindConfig{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return nil, err
	}
	wasm, sha, err := module.Load()
	if err != nil {
		return nil, err
	}
	l := &lab{envoyPath: binary.Path, wasmSHA: sha, workers: 1}
	if l.dir, err = os.MkdirTemp("", "seawall-bench-"); err != nil {
		return nil, err
	}
	l.wasmPath = filepath.Join(l.dir, "filter.wasm")
	if err := os.WriteFile(l.wasmPath, wasm, 0o600); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l.sinkAddr = ln.Addr().String()
	l.sink = &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	})}
	go func() { _ = l.sink.Serve(ln) }()
	// The upstream is an Envoy as well: nothing else here answers as cheaply.
	l.upstream, err = l.startConfig(ctx, "upstream", upstreamConfig)
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) close() {
	if l.upstream != nil {
		l.upstream.stop()
	}
	_ = l.sink.Close()
	_ = os.RemoveAll(l.dir)
}

// seawall is the filter's YAML, with a plan of 100 routes of which one takes
// the load.
func (l *lab) seawall(breaker bool) string {
	plan := contract.Plan{
		Schema: contract.PlanSchema, Hash: "00000000000000be", Edge: "bench", FailureMode: "open", ProblemTypeBase: "https://example.test/problems/",
		LatencyBoundsUS: []int64{500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000},
		Telemetry:       contract.Telemetry{Cluster: "seawall-telemetry", Authority: "seawall-telemetry", Path: "/v1/batches"},
	}
	for i := range 100 {
		r := contract.Route{Name: fmt.Sprintf("bench/r%02d", i), Service: "bench", Route: fmt.Sprintf("r%02d", i), Priority: "medium"}
		if breaker {
			r.Breaker = &contract.Breaker{
				Identity: "00000000000000be", ConsecutiveFailures: 5, RecoveryNS: 60e9, RecoveryMaxNS: 300e9, MultiplierPPM: 1_500_000,
				Probes: 3, Successes: 3, ProbeExpiryNS: 30e9, Failures: []string{"5xx", "reset", "timeout", "connect-failure"},
			}
		}
		plan.Routes = append(plan.Routes, r)
	}
	text, err := json.Marshal(plan)
	if err != nil {
		panic(err) // plain structs always marshal
	}
	return fmt.Sprintf(wasmFilter, strconv.Quote(string(text)), l.wasmSHA, l.wasmPath)
}

func (l *lab) start(ctx context.Context, v variant) (*process, error) {
	config := strings.NewReplacer("{filters}", v.filters, "{upstream}", l.upstream.listen, "{upstreamPort}", port(l.upstream.listen), "{sinkPort}", port(l.sinkAddr)).Replace(edgeConfig)
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

var wrkRequests = regexp.MustCompile(`(\d+) requests in`)

// load drives p with wrk for d and returns the CPU µs that it took per request.
func (p *process) load(ctx context.Context, d time.Duration) (float64, error) {
	before, err := p.cpuTime()
	if err != nil {
		return 0, err
	}
	args := []string{"-c", "1", "wrk", "-t1", "-c16", fmt.Sprintf("-d%ds", int(d.Seconds())), "http://" + p.listen + "/"}
	name := "taskset"
	if runtime.NumCPU() < 2 {
		name, args = args[2], args[3:]
	}
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	if strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
		return 0, fmt.Errorf("wrk saw failed requests: %s", out)
	}
	after, err := p.cpuTime()
	if err != nil {
		return 0, err
	}
	m := wrkRequests.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("wrk said nothing of its requests: %s", out)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil || n == 0 {
		return 0, fmt.Errorf("wrk made no requests: %s", out)
	}
	return float64((after - before).Microseconds()) / float64(n), nil
}

// cpuTime is user and system time so far, from proc_pid_stat(5), in steps of
// 10 ms.
func (p *process) cpuTime() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

func (p *process) rssMiB() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		return 0
	}
	kb, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		return 0
	}
	return kb / 1024
}

func port(addr string) string {
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return p
}
