package main

import (
	"fmt"
	"testing"

	"github.com/seawall-mesh/seawall/filter/engine/shed"
)

func TestTrace(t *testing.T) {
	for _, seed := range []uint64{2, 3} {
		for _, s := range overloadScenarios(quick) {
			f := simulate(s.w, newSeawall(shed.Adaptive, 1000), seed)
			fmt.Printf("%d %-4s good %7.1f crit %6.2f med %6.2f low %6.2f shed %.2f%% p99 %.0f\n", seed, s.name, f.goodput(s.w.until-s.w.from), f.availability(0), f.availability(2), f.availability(3), 100*float64(sumOf(f.shed))/float64(sumOf(f.offered)), 1000*f.p99(0))
		}
	}
	for _, v := range []struct {
		c int
		m float64
	}{{4, 0.02}, {4, 0.2}, {20, 0.005}, {200, 0.1}} {
		cap := float64(v.c) / v.m
		for _, times := range []float64{0.5, 0.8, 1.2, 3} {
			w := world{length: 60, from: 10, until: 60, rate: func(t float64) [classes]float64 {
				var r [classes]float64
				for c := range r {
					r[c] = mix[c] * cap * times
					if t < 10 {
						r[c] = mix[c] * cap * 0.4
					}
				}
				return r
			}, servers: fixed(v.c), routes: []route{{share: 1, mean: always(v.m)}}}
			f := simulate(w, newSeawall(shed.Adaptive, 1000), 1)
			g := simulate(w, newEnvoyAdaptive(), 1)
			fmt.Printf("C %d s %.3f × %.1f: good %.3f of capacity (envoy %.3f) crit %.2f (envoy %.2f) shed %.2f%% (envoy %.2f%%) p99 %.0f ms\n", v.c, v.m, times, f.goodput(50)/cap, g.goodput(50)/cap, f.availability(0), g.availability(0), 100*float64(sumOf(f.shed))/float64(sumOf(f.offered)),  100*float64(sumOf(g.shed))/float64(sumOf(g.offered)), 1000*f.p99(0))
		}
	}
}
