package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// loads is how often and how long an Envoy is loaded. It trades the time of a
// run against its noise: medians of 12 pairs of 4 s were within ± 0.02 on a
// quiet machine.
func loads(e effort) (rounds int, roundTime time.Duration) {
	if e == quick {
		return 1, time.Second
	}
	return 12, 4 * time.Second
}

// variant is one Envoy configuration whose cost is measured.
type variant struct {
	name    string
	filters string // HTTP filters before the router, as YAML list items
	plan    string // hash of the filter's plan, "": no filter of ours
	// deadline: the router hands on what is left of the time.
	deadline bool
	upstream string // of the cluster, as YAML
}

// cpu prints the CPU time per request of Envoy with the filter as a ratio to
// the same Envoy without it: one worker on one core, wrk and the upstream on
// the other, the variants in turn in each round.
func cpu(ctx context.Context, e effort) error {
	rounds, roundTime := loads(e)
	lab, err := newLab(ctx)
	if err != nil {
		return err
	}
	defer lab.close()
	variants := []variant{{name: "bare"}, {name: "admission_control + fault", filters: nativePair}}
	for _, g := range []guards{
		{}, {breaker: true}, {rate: true}, {deadline: true}, {pool: true}, {breaker: true, deadline: true}, {breaker: true, deadline: true, pool: true},
		{breaker: true, keys: true}, {breaker: true, attempts: true},
	} {
		v, err := lab.seawall(g)
		if err != nil {
			return err
		}
		variants = append(variants, v)
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
	for _, v := range variants {
		if !lab.sink.ran(v.plan) {
			return fmt.Errorf("%s: no telemetry says that its plan was in force: the figures would be those of a filter that does nothing", v.name)
		}
	}
	fmt.Printf("%-42s %10s %8s %8s %8s   (%d rounds of %s)\n", "chain", "µs/request", "× bare", "min", "max", rounds, roundTime)
	for i, v := range variants {
		fmt.Printf("%-42s %10.1f %8.3f %8.3f %8.3f\n", v.name, quantile(perRequest[i], 0.5), quantile(ratios[i], 0.5), quantile(ratios[i], 0), quantile(ratios[i], 1))
	}
	return nil
}

// memory prints the resident memory of Envoy with and without the filter.
func memory(ctx context.Context, e effort) error {
	_, roundTime := loads(e)
	lab, err := newLab(ctx)
	if err != nil {
		return err
	}
	defer lab.close()
	seawall, err := lab.seawall(guards{breaker: true})
	if err != nil {
		return err
	}
	fmt.Printf("%-34s %8s %12s\n", "chain", "workers", "RSS MiB")
	for _, workers := range []int{1, 2, 4} {
		lab.workers = workers
		for _, v := range []variant{{name: "bare"}, seawall} {
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
			fmt.Printf("%-34s %8d %12.1f\n", v.name, workers, rss)
		}
	}
	return nil
}

var wrkRequests = regexp.MustCompile(`(\d+) requests in`)

// load drives p with wrk for d and returns the CPU µs that it took per request.
func (p *process) load(ctx context.Context, d time.Duration) (float64, error) {
	before, err := p.cpuTime()
	if err != nil {
		return 0, err
	}
	args := []string{"-c", "1", "wrk", "-t1", "-c16", "-H", deadlineHeader + ": 5000", fmt.Sprintf("-d%ds", int(d.Seconds())), "http://" + p.listen + "/"}
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
