package main

import (
	"fmt"
	"testing"

	"github.com/seawall-mesh/seawall/filter/engine/shed"
)

type tracer struct{ *seawallLimiter }

func (t *tracer) end(now float64, e ending) {
	b := t.s
	t.seawallLimiter.end(now, e)
	if t.s.Since != b.Since {
		w := b.Window
		fmt.Printf("%7.2f out %4d limit %6.1f Before %6.1f Work %5.1f Out %5.1f trial %d age %d busy %d High %d base %5.1f shed %d done %d late %d mean %.0f\n", now, e.inflight, float64(t.s.Limit)/1000, float64(t.s.Before)/1000, float64(t.s.Work)/1000, float64(t.s.Out)/1000, t.s.Trial, t.s.Age, t.s.Busy, t.s.High, float64(t.s.BaseNS[0])/1e6, w.Shed, w.Done[0], w.Late, float64(w.DoneNS[0])/1e6/float64(w.Done[0]+1))
	}
}

func TestTrace2(t *testing.T) {
	for _, s := range overloadScenarios(quick) {
		if s.name == "S2b" {
			simulate(s.w, &tracer{newSeawall(shed.Adaptive, 1000)}, 2)
		}
	}
}
