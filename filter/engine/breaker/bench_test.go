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
