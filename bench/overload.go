package main

import (
	"context"
	"fmt"
	"math"

	"github.com/seawall-mesh/seawall/filter/engine/shed"
)

// The service of most scenarios: 40 at once, 20 ms each, 2,000 a second.
const (
	simServers  = 40
	simMean     = 0.020
	simCapacity = simServers / simMean
)

// mix is the classes' part of a load: critical 20 %, high 10 %, medium 20 %,
// low 50 %. At 3 × capacity critical and high alone are 0.9 × capacity.
var mix = [classes]float64{0.2, 0.1, 0.2, 0.5}

func loadOf(times float64, of [classes]float64) (r [classes]float64) {
	for c := range r {
		r[c] = times * simCapacity * of[c]
	}
	return r
}

func steadily(times float64, of [classes]float64) func(float64) [classes]float64 {
	return func(float64) [classes]float64 { return loadOf(times, of) }
}

func fixed(n int) func(float64) int             { return func(float64) int { return n } }
func always(mean float64) func(float64) float64 { return func(float64) float64 { return mean } }

type overloadScenario struct {
	name, what string
	w          world
	recovers   float64 // when the overload is over, 0: never
	fixed      uint32  // limit of the in-flight signal: the service's places / 0.7
}

func overloadScenarios(e effort) []overloadScenario {
	one := []route{{share: 1, mean: always(simMean)}}
	surge := func(t float64) [classes]float64 {
		switch {
		case t < 20:
			return loadOf(0.5, mix)
		case t < 30:
			return loadOf(1.4, mix)
		case t < 60:
			return loadOf(3, mix)
		}
		return loadOf(0.5, mix)
	}
	drift := 3600.0
	if e == quick {
		drift = 300
	}
	return []overloadScenario{
		{"S1", "0.5, then 1.4, then 3 × capacity", world{length: 80, from: 30, until: 60, rate: surge, servers: fixed(simServers), routes: one}, 60, 57},
		{"S1c", "3 × capacity from the start", world{length: 50, from: 0, until: 40, rate: func(t float64) [classes]float64 {
			if t < 40 {
				return loadOf(3, mix)
			}
			return loadOf(0.5, mix)
		}, servers: fixed(simServers), routes: one}, 40, 57},
		{"S2a", "calls take 5 × as long, room for all", world{length: 80, from: 20, until: 60, rate: steadily(0.5, mix), servers: fixed(10 * simServers), routes: []route{{share: 1, mean: func(t float64) float64 {
			if t >= 20 && t < 60 {
				return 5 * simMean
			}
			return simMean
		}}}}, 60, 571},
		{"S2b", "calls take 5 × as long, room for 40", world{length: 80, from: 20, until: 60, rate: steadily(0.5, mix), servers: fixed(simServers), routes: []route{{share: 1, mean: func(t float64) float64 {
			if t >= 20 && t < 60 {
				return 5 * simMean
			}
			return simMean
		}}}}, 60, 57},
		{"S3", "1.4 × capacity, clients try 3 times", world{length: 80, from: 20, until: 60, rate: func(t float64) [classes]float64 {
			if t >= 20 && t < 60 {
				return loadOf(1.4, mix)
			}
			return loadOf(0.5, mix)
		}, servers: fixed(simServers), routes: one, retries: 2}, 60, 57},
		{"S4", "2 × capacity, of which low 60 %", world{length: 80, from: 20, until: 60, rate: func(t float64) [classes]float64 {
			of := [classes]float64{0.2, 0.1, 0.1, 0.6}
			if t >= 20 && t < 60 {
				return loadOf(2, of)
			}
			return loadOf(0.5, of)
		}, servers: fixed(simServers), routes: one}, 60, 57},
		{"S5", "1 ms and 300 ms calls, 0.2 to 0.6 × capacity: the slow ones are 30 %, then 80 %", world{length: 80, from: 20, until: 60, rate: func(float64) [classes]float64 {
			return [classes]float64{60, 30, 60, 150}
		}, servers: fixed(3 * simServers), routes: []route{{share: 0.7, later: 0.2, mean: always(0.001)}, {share: 0.3, later: 0.8, mean: always(0.3)}}}, 0, 171},
		{"S6", "1 a second, 5 % of answers are 5xx", world{length: 1200, from: 0, until: 1200, rate: func(float64) [classes]float64 {
			return [classes]float64{0.25, 0.25, 0.25, 0.25}
		}, servers: fixed(simServers), routes: []route{{share: 1, mean: always(0.3)}}, fails: 0.05}, 0, 57},
		{"S6b", "1 a second, in bursts of 6", world{length: 1200, from: 0, until: 1200, burst: 6, rate: func(float64) [classes]float64 {
			return [classes]float64{0.25, 0.25, 0.25, 0.25}
		}, servers: fixed(simServers), routes: []route{{share: 1, mean: always(0.3)}}}, 0, 57},
		{"S7", "0.6 × capacity, calls get 50 % slower in an hour", world{length: drift, from: 0, until: drift, rate: func(float64) [classes]float64 {
			return [classes]float64{24, 12, 24, 60}
		}, servers: fixed(10), routes: []route{{share: 1, mean: func(t float64) float64 { return 0.05 * (1 + 0.5*t/drift) }}}}, 0, 14},
		{"S7b", "a flood of low for an hour, calls get 3 × as slow", world{length: drift, from: 0, until: drift, rate: func(float64) [classes]float64 {
			return [classes]float64{12, 12, 24, 300}
		}, servers: fixed(10), routes: []route{{share: 1, mean: func(t float64) float64 { return 0.05 * (1 + 2*t/drift) }}}}, 0, 14},
		{"S8", "half of the places are lost, and come back", world{length: 80, from: 20, until: 50, rate: steadily(0.8, mix), servers: func(t float64) int {
			if t >= 20 && t < 50 {
				return simServers / 2
			}
			return simServers
		}, routes: one}, 50, 57},
	}
}

// overloadLimiters are what is compared: Seawall, the two filters of Envoy, the other
// laws that Seawall's was chosen among, and nothing at all.
func overloadLimiters(s *overloadScenario) []struct {
	name string
	l    limiter
} {
	return []struct {
		name string
		l    limiter
	}{
		{"seawall adaptive", newSeawall(shed.Adaptive, 1000)},
		{"seawall inflight", newSeawall(shed.Inflight, s.fixed)},
		{"seawall orca", newSeawall(shed.Reported, 0)},
		{"envoy adaptive_concurrency", newEnvoyAdaptive()},
		{"envoy admission_control", newEnvoyAdmission()},
		{"classes + AIMD", &lawLimiter{law: &aimd{}, limit: 1000}},
		{"classes + gradient2", &lawLimiter{law: &gradient2{}, limit: 100}},
		{"classes + vegas", &lawLimiter{law: &vegas{}, limit: 100}},
		{"nothing", nobody{}},
	}
}

// overloadSim prints what each limiter makes of each scenario, in a model.
func overloadSim(ctx context.Context, e effort) error {
	for _, s := range overloadScenarios(e) {
		fmt.Printf("%s: %s\n  %-28s %9s %9s %9s %8s %8s %8s %8s %9s %9s %7s %6s\n", s.name, s.what, "", "goodput/s", "critical", "its p99", "high", "medium", "low", "shed %", "critical", "recovery", "swing", "peak")
		for _, l := range overloadLimiters(&s) {
			if err := ctx.Err(); err != nil {
				return err
			}
			f := simulate(s.w, l.l, 1)
			recovery := "-"
			if s.recovers > 0 {
				recovery = fmt.Sprintf("%.2f s", f.settled(s.recovers, s.w.length-2, -1))
			}
			fmt.Printf("  %-28s %9.1f %8.2f%% %6.0f ms %7.1f%% %7.1f%% %7.1f%% %7.2f%% %7.2f s %9s %7.2f %6d\n", l.name, f.goodput(s.w.until-s.w.from),
				f.availability(0), 1000*f.p99(0), f.availability(1), f.availability(2), f.availability(3),
				100*float64(sumOf(f.shed))/math.Max(1, float64(sumOf(f.offered))), f.settled(s.w.from, s.w.until, 0), recovery, f.swing(s.w.until-20, s.w.until), f.peak)
		}
	}
	return nil
}
