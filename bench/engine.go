package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"

	"github.com/seawall-mesh/seawall/filter/engine/breaker"
)

// The rounds of one measurement of the engine, each of engineTime. Other than
// with an Envoy a round is short, so the machine's moods fall on all alike.
const (
	engineRounds = 11
	engineTime   = "100ms"
)

// The breakers' parameters are the same for all: 5 failures in a row, or half
// of 20 calls and more within 10 s; three probes after a minute.
const (
	engineThreshold = 5
	engineMinimum   = 20
	enginePercent   = 50
	engineWindow    = 10 * time.Second
	engineRecovery  = time.Minute
	engineProbes    = 3
)

// stepper is one breaker under measurement.
type stepper struct {
	name string
	run  runner
}

// runner asks a breaker n times and tells it each result: a failure each
// failEvery-th time, never where that is 0. It returns how often the breaker
// refused.
type runner func(n, failEvery int) (refused int)

// engine prints ns and allocations of asking a breaker and telling it the
// result, beside two Go libraries, all healthy or with failures in between. The
// first of each group is the pure step, as the filter takes it; the next two
// add what a library does besides: a lock, and readings of the clock.
func engine(ctx context.Context, e effort) error {
	rounds := engineRounds
	if e == quick {
		rounds = 1
	}
	testing.Init()
	if err := flag.Set("test.benchtime", engineTime); err != nil {
		return err
	}
	groups := []struct {
		name      string
		failEvery int
		steppers  []stepper
	}{
		{"consecutive failures, all calls succeed", 0, countSteppers()},
		{"consecutive failures, each 10th call fails", 10, countSteppers()},
		{"rate over a window, all calls succeed", 0, windowSteppers()},
		{"rate over a window, each 10th call fails", 10, windowSteppers()},
	}
	for _, g := range groups {
		ns, allocs, ratios := make([][]float64, len(g.steppers)), make([][]float64, len(g.steppers)), make([][]float64, len(g.steppers))
		for round := range rounds {
			for i, s := range g.steppers {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				refused := 0
				r := testing.Benchmark(func(b *testing.B) {
					b.ReportAllocs()
					refused += s.run(b.N, g.failEvery)
				})
				if r.N == 0 || refused > 0 {
					return fmt.Errorf("%s, %s: refused %d of %d calls, where none was due", g.name, s.name, refused, r.N)
				}
				ns[i] = append(ns[i], float64(r.T.Nanoseconds())/float64(r.N))
				allocs[i] = append(allocs[i], float64(r.MemAllocs)/float64(r.N))
				ratios[i] = append(ratios[i], ns[i][round]/ns[0][round])
			}
		}
		fmt.Printf("%-44s %8s %10s %10s   (%d rounds of %s)\n", g.name, "ns/call", "× seawall", "allocs", rounds, engineTime)
		for i, s := range g.steppers {
			fmt.Printf("  %-42s %8.1f %10.2f %10.2f\n", s.name, quantile(ns[i], 0.5), quantile(ratios[i], 0.5), quantile(allocs[i], 0.5))
		}
	}
	return nil
}

func countSteppers() []stepper {
	p := engineParams()
	p.Threshold = engineThreshold
	pure, locked, timed := newGuard(p), newGuard(p), newGuard(p)
	return []stepper{
		{"seawall", pure.runCount},
		{"seawall, with a lock", locked.runLocked},
		{"seawall, with a lock and a clock", timed.runTimed},
		{"failsafe-go", runFailsafe(circuitbreaker.NewBuilder[any]().WithFailureThreshold(engineThreshold))},
		{"gobreaker, Execute", runGobreaker(gobreakerSettings(0))},
		{"gobreaker, Allow and done", runTwoStep(gobreakerSettings(0))},
	}
}

func windowSteppers() []stepper {
	p := engineParams()
	p.FailureRate = breaker.Rate{PPM: enginePercent * 10_000, WindowNS: int64(engineWindow), Minimum: engineMinimum}
	pure, locked, timed := newGuard(p), newGuard(p), newGuard(p)
	return []stepper{
		{"seawall", pure.runWindowed},
		{"seawall, with a lock", locked.runLocked},
		{"seawall, with a lock and a clock", timed.runTimed},
		{"failsafe-go", runFailsafe(circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(enginePercent/100.0, engineMinimum, engineWindow))},
		{"gobreaker, Execute", runGobreaker(gobreakerSettings(engineWindow))},
		{"gobreaker, Allow and done", runTwoStep(gobreakerSettings(engineWindow))},
	}
}

// guard is a breaker as a library would hold it.
type guard struct {
	p breaker.Params

	mu  sync.Mutex
	s   breaker.State
	w   breaker.Windows
	now int64 // Unix ns, of the runs without a clock
}

func newGuard(p breaker.Params) *guard { return &guard{p: p, now: time.Now().UnixNano()} }

func engineParams() breaker.Params {
	return breaker.Params{
		Probes: engineProbes, Successes: engineProbes, RecoveryNS: int64(engineRecovery), RecoveryMaxNS: 5 * int64(engineRecovery),
		MultiplierPPM: 1_500_000, ProbeExpiryNS: 30e9,
	}
}

// engineStep is the time from call to call where there is no clock: the window
// moves on, as often as with a million calls a second.
const engineStep = int64(time.Microsecond)

func (g *guard) runCount(n, failEvery int) (refused int) {
	for i := range n {
		g.now += engineStep
		s, d, t := breaker.Admit(g.s, g.p, g.now, 0)
		if !d.Admit {
			refused++
			continue
		}
		g.s, _, _ = breaker.Settle(s, g.p, g.now, 0, t, result(i, failEvery))
	}
	return refused
}

func (g *guard) runWindowed(n, failEvery int) (refused int) {
	for i := range n {
		g.now += engineStep
		s, d, t := breaker.Admit(g.s, g.p, g.now, 0)
		if !d.Admit {
			refused++
			continue
		}
		next := g.w // the copy that a compare-and-swap stores, or throws away
		g.s, _, _ = breaker.SettleWindowed(s, &next, &g.p, g.now, 0, t, result(i, failEvery))
		g.w = next
	}
	return refused
}

func (g *guard) runLocked(n, failEvery int) (refused int) {
	return g.runLibrary(n, failEvery, func() int64 { g.now += engineStep; return g.now })
}

func (g *guard) runTimed(n, failEvery int) (refused int) {
	return g.runLibrary(n, failEvery, func() int64 { return time.Now().UnixNano() })
}

func (g *guard) runLibrary(n, failEvery int, now func() int64) (refused int) {
	for i := range n {
		t, ok := g.admit(now)
		if !ok {
			refused++
			continue
		}
		g.settle(now, t, result(i, failEvery))
	}
	return refused
}

func (g *guard) admit(now func() int64) (breaker.Ticket, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, d, t := breaker.Admit(g.s, g.p, now(), 0)
	if d.Changed {
		g.s = s
	}
	return t, d.Admit
}

func (g *guard) settle(now func() int64, t breaker.Ticket, r breaker.Result) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.p.Windowed() {
		g.s, _, _ = breaker.SettleWindowed(g.s, &g.w, &g.p, now(), 0, t, r)
		return
	}
	if s, _, changed := breaker.Settle(g.s, g.p, now(), 0, t, r); changed {
		g.s = s
	}
}

func result(i, failEvery int) breaker.Result {
	if fails(i, failEvery) {
		return breaker.Result{Verdict: breaker.Failure, Cause: 1}
	}
	return breaker.Result{Verdict: breaker.Success}
}

func fails(i, failEvery int) bool { return failEvery > 0 && i%failEvery == 0 }

func runFailsafe(b circuitbreaker.Builder[any]) runner {
	cb := b.WithSuccessThreshold(engineProbes).WithDelay(engineRecovery).Build()
	return func(n, failEvery int) (refused int) {
		for i := range n {
			switch {
			case !cb.TryAcquirePermit():
				refused++
			case fails(i, failEvery):
				cb.RecordFailure()
			default:
				cb.RecordSuccess()
			}
		}
		return refused
	}
}

// gobreakerSettings are for failures in a row, or for a window of ten buckets
// as the others have it.
func gobreakerSettings(window time.Duration) gobreaker.Settings {
	s := gobreaker.Settings{MaxRequests: engineProbes, Timeout: engineRecovery, Interval: window, BucketPeriod: window / 10}
	s.ReadyToTrip = func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= engineThreshold }
	if window > 0 {
		s.ReadyToTrip = func(c gobreaker.Counts) bool {
			return c.Requests >= engineMinimum && uint64(c.TotalFailures)*100 >= uint64(c.Requests)*enginePercent
		}
	}
	return s
}

var errOfCall = errors.New("call failed")

func runGobreaker(s gobreaker.Settings) runner {
	cb := gobreaker.NewCircuitBreaker[int](s)
	good, bad := func() (int, error) { return 0, nil }, func() (int, error) { return 0, errOfCall }
	return func(n, failEvery int) (refused int) {
		for i := range n {
			call := good
			if fails(i, failEvery) {
				call = bad
			}
			if _, err := cb.Execute(call); err == gobreaker.ErrOpenState { //nolint:errorlint // never wrapped, and errors.Is would be measured too
				refused++
			}
		}
		return refused
	}
}

func runTwoStep(s gobreaker.Settings) runner {
	cb := gobreaker.NewTwoStepCircuitBreaker[int](s)
	return func(n, failEvery int) (refused int) {
		for i := range n {
			done, err := cb.Allow()
			if err != nil {
				refused++
				continue
			}
			if fails(i, failEvery) {
				err = errOfCall
			}
			done(err)
		}
		return refused
	}
}
