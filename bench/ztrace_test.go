package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/seawall-mesh/seawall/filter/engine/shed"
)

type tracer struct {
	*seawallLimiter
	last int64
}

func (t *tracer) end(now float64, e ending) {
	before := t.s
	t.seawallLimiter.end(now, e)
	if t.s.Since != before.Since {
		w := before.Window
		fmt.Printf("%7.2f out %4d limit %6.1f work %5.1f Work %5.1f Out %5.1f trial %d High %d base %5.1f shed %d done %d late %d\n", now, e.inflight, float64(t.s.Limit)/1000, 0.0, float64(t.s.Work)/1000, float64(t.s.Out)/1000, t.s.Trial, t.s.High, float64(t.s.BaseNS[0])/1e6, w.Shed, w.Done[0], w.Late)
	}
}

func TestTrace(t *testing.T) {
	for _, s := range overloadScenarios(quick) {
		if s.name == os.Getenv("SC") {
			simulate(s.w, &tracer{seawallLimiter: newSeawall(shed.Adaptive, 1000)}, 1)
		}
	}
	_ = strings.Join
}
