package scenario_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
	"github.com/seawall-mesh/seawall/testenv/scenario"
)

var exhaustive = flag.Bool("exhaustive", false, "trap at every crossing, not at every third")

// The VM dies at every single call that it makes or gets, one run each (every third, without -exhaustive). What
// was counted before the last tick arrives exactly once, nothing arrives twice,
// and the breaker opens as it would have: by the failures that were settled.
func TestTrapAnywhere(t *testing.T) {
	script := func(w *scenario.HostWorld) (sent int, settled uint64, flushed uint64) {
		done := uint64(0)
		for step := range 12 {
			if w.Host.Worker(0).Dead() == nil {
				ex, err := w.Send(0, scenario.Request{Method: "POST", Route: "payments/charge"})
				require.NoError(t, err)
				_, err = ex.End("503", 0)
				require.NoError(t, err)
				sent++
				if w.Host.Worker(0).Dead() == nil {
					done++
				}
			}
			w.Host.Advance(250 * time.Millisecond) // at least one tick
			if w.Host.Worker(0).Dead() == nil {
				flushed = done
			}
			if step == 5 {
				_ = w.Telemetry("down")
			}
			if step == 8 {
				_ = w.Telemetry("up")
			}
		}
		return sent, done, flushed
	}
	dry := world(t, scenario.HostConfig{})
	crossings := 0
	dry.Host.Worker(0).TrapAt(func(host.Crossing) bool { crossings++; return false })
	script(dry)
	require.Greater(t, crossings, 50)

	step := 3
	if *exhaustive {
		step = 1
	}
	for at := 1; at <= crossings; at += step {
		t.Run(fmt.Sprintf("at %d", at), func(t *testing.T) {
			t.Parallel()
			w := world(t, scenario.HostConfig{})
			n := 0
			var where host.Crossing
			w.Host.Worker(0).TrapAt(func(c host.Crossing) bool {
				n++
				if n == at {
					where = c
				}
				return n == at
			})
			sent, settled, flushed := script(w)
			w.Host.Worker(0).TrapAt(nil)
			w.Host.Advance(5 * time.Second)
			send(t, w, 0, "200") // reloads the VM, if it is dead
			w.Host.Advance(40 * time.Second)
			l := ledger(t, w)
			var counted uint64
			for _, k := range l.Counts["payments/charge"] {
				counted += k
			}
			require.Zero(t, l.Counter("panics"))
			require.False(t, l.Undelivered)
			require.LessOrEqual(t, counted, uint64(sent)+1, "nothing twice; died at %+v", where)
			require.GreaterOrEqual(t, counted, flushed+1, "what a tick has seen is not lost; died at %+v", where)
			if settled >= 6 {
				require.NotZero(t, l.Counts["payments/charge"]["breaker-open"], "it opened; died at %+v", where)
			}
		})
	}
}
