package breaker_test

import (
	"testing"

	"github.com/seawall-mesh/seawall/filter/engine/breaker"
)

var sink breaker.State

// The target of DESIGN section 7: 28 ns and no allocation.
func BenchmarkHealthy(b *testing.B) {
	p := breaker.Params{Threshold: 5, Probes: 3, Successes: 3, RecoveryNS: 60e9, RecoveryMaxNS: 300e9, MultiplierPPM: 1_500_000, ProbeExpiryNS: 30e9}
	var s breaker.State
	b.ReportAllocs()
	for i := range b.N {
		var t breaker.Ticket
		s, _, t = breaker.Admit(s, p, int64(i), 0)
		s, _, _ = breaker.Settle(s, p, int64(i), 0, t, breaker.Result{Verdict: breaker.Success})
	}
	sink = s
}

var sinkWindows breaker.Windows

// The target of DESIGN section 7: 75 ns and no allocation.
func BenchmarkWindowed(b *testing.B) {
	p := breaker.Params{
		FailureRate: breaker.Rate{PPM: 500_000, WindowNS: 10e9, Minimum: 20},
		Probes:      3, Successes: 3, RecoveryNS: 60e9, RecoveryMaxNS: 300e9, MultiplierPPM: 1_500_000, ProbeExpiryNS: 30e9,
	}
	var s breaker.State
	var w breaker.Windows
	b.ReportAllocs()
	for i := range b.N {
		now := int64(1e18) + int64(i)*1e6
		var t breaker.Ticket
		s, _, t = breaker.Admit(s, p, now, 0)
		next := w // as a compare-and-swap loop does
		s, _, _ = breaker.SettleWindowed(s, &next, &p, now, 0, t, breaker.Result{Verdict: breaker.Success})
		w = next
	}
	sink, sinkWindows = s, w
}
