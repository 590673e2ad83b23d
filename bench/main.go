// Command bench measures what docs/performance.md states. Every figure is a
// ratio against a peer, or a distribution, of the same run; nothing here fails
// on a figure, and no test does.
//
//	go run ./bench            # everything
//	go run ./bench -quick     # likewise, so briefly that it only shows that it runs
//	go run ./bench engine     # ns per step of the breaker, against two Go libraries
//	go run ./bench queue      # a pool with a queue, against Envoy's own connection queue
//	go run ./bench storm      # retries against a service that is down, against Envoy's alone
//	go run ./bench cpu        # CPU per request with the filter, against the same Envoy without it
//	go run ./bench memory     # resident memory, likewise
//	go run ./bench edit       # from saving a policy file to its effect in Envoy
//	go run ./bench slo        # telemetry: ingestion, a thousand objectives, space and start with a year of data
//	go run ./bench overload   # who is served under overload, in a model, beside models of the filters of Envoy
//
// It may import anything; nothing imports it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

type bench struct {
	name string
	run  func(ctx context.Context, e effort) error
}

// effort is how much time a measurement takes.
type effort int

const (
	full effort = iota
	quick
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:forbidigo // a command of its own
	}
}

func run(ctx context.Context, names []string) error {
	all := []bench{{"engine", engine}, {"queue", queue}, {"storm", storm}, {"cpu", cpu}, {"memory", memory}, {"edit", edit}, {"slo", sloBench}, {"overload", overloadSim}}
	e := full
	if i := slices.Index(names, "-quick"); i >= 0 {
		e, names = quick, slices.Delete(names, i, i+1)
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(b bench) bool { return b.name == name }) {
			return fmt.Errorf("no benchmark %q: there are engine, queue, storm, cpu, memory, edit, slo and overload", name)
		}
	}
	if load, busy := machineIsBusy(); busy {
		fmt.Fprintf(os.Stderr, "bench: the machine is busy (load %s): ratios are paired, but they scatter; measure again when it is quiet\n", load)
	}
	for _, b := range all {
		if len(names) > 0 && !slices.Contains(names, b.name) {
			continue
		}
		fmt.Printf("\n== %s\n", b.name)
		if err := b.run(ctx, e); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if err := ctx.Err(); err != nil {
			return errors.New("interrupted")
		}
	}
	return nil
}

// machineIsBusy looks at the load of the last minute, where the system tells it.
func machineIsBusy() (load string, busy bool) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", false
	}
	load, _, _ = strings.Cut(string(text), " ")
	n, err := strconv.ParseFloat(load, 64)
	return load, err == nil && n > 0.5
}

// quantile is the q-th quantile of xs by the nearest rank.
func quantile(xs []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}
