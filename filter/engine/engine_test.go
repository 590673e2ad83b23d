package engine_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/engine"
	"github.com/seawall-mesh/seawall/filter/engine/breaker"
)

func TestOrderIsWhatClientsSee(t *testing.T) {
	t.Parallel()
	require.Equal(t, []engine.Guard{engine.Deadline, engine.Shed, engine.Breaker, engine.Pool, engine.Probe, engine.Chaos}, engine.Order[:])
}

func TestWithoutGuardsEverythingIsAdmitted(t *testing.T) {
	t.Parallel()
	s, d, ticket := engine.Admit(engine.State{}, &engine.Params{}, 1, 2)
	require.Equal(t, engine.Decision{}, d)
	require.Equal(t, engine.State{}, s)
	s, moved, changed := engine.Settle(s, &breaker.Windows{}, &engine.Params{}, 1, 2, ticket, engine.Result{Breaker: breaker.Result{Verdict: breaker.Failure}})
	require.False(t, changed)
	require.False(t, moved.Happened())
	require.Equal(t, engine.State{}, s)
}

func TestABreakerRefusesByName(t *testing.T) {
	t.Parallel()
	p := engine.Params{HasBreaker: true, Breaker: breaker.Params{Threshold: 1, Probes: 1, Successes: 1, RecoveryNS: 10, RecoveryMaxNS: 10, MultiplierPPM: 1e6, ProbeExpiryNS: 10}}
	s, d, ticket := engine.Admit(engine.State{}, &p, 1, 0)
	require.Equal(t, engine.None, d.By)
	s, moved, changed := engine.Settle(s, &breaker.Windows{}, &p, 1, 0, ticket, engine.Result{Breaker: breaker.Result{Verdict: breaker.Failure}})
	require.True(t, changed)
	require.Equal(t, breaker.Transition{From: breaker.Closed, To: breaker.Open}, moved)
	_, d, _ = engine.Admit(s, &p, 4, 0)
	require.Equal(t, engine.Decision{By: engine.Breaker, RetryAfterNS: 7}, d)
}

func TestAnOverrideEndsByItself(t *testing.T) {
	t.Parallel()
	p := engine.Params{
		HasBreaker: true, Override: engine.Override{Forced: engine.ForcedOpen, NotAfterNS: 100},
		Breaker: breaker.Params{Threshold: 1, Probes: 1, Successes: 1, RecoveryNS: 10, RecoveryMaxNS: 10, MultiplierPPM: 1e6, ProbeExpiryNS: 10},
	}
	_, d, _ := engine.Admit(engine.State{}, &p, 1, 0)
	require.Equal(t, engine.Decision{By: engine.Breaker, Forced: true, RetryAfterNS: 10}, d, "it may be lifted before")
	_, d, _ = engine.Admit(engine.State{}, &p, 97, 0)
	require.Equal(t, engine.Decision{By: engine.Breaker, Forced: true, RetryAfterNS: 3}, d)
	_, d, _ = engine.Admit(engine.State{}, &p, 100, 0)
	require.Equal(t, engine.Decision{}, d)
	_, d, _ = engine.Admit(engine.State{}, &p, -1<<63, 0)
	require.Equal(t, engine.Decision{By: engine.Breaker, Forced: true, RetryAfterNS: 10}, d, "a clock of nonsense")
}

func TestForcedClosedCountsNothing(t *testing.T) {
	t.Parallel()
	p := engine.Params{
		HasBreaker: true, Override: engine.Override{Forced: engine.ForcedClosed, NotAfterNS: 100},
		Breaker: breaker.Params{
			Threshold: 1, FailureRate: breaker.Rate{PPM: 1, WindowNS: 1e9, Minimum: 1},
			Probes: 1, Successes: 1, RecoveryNS: 10, RecoveryMaxNS: 10, MultiplierPPM: 1e6, ProbeExpiryNS: 10,
		},
	}
	bad := engine.Result{Breaker: breaker.Result{Verdict: breaker.Failure}}
	s, w := engine.State{}, breaker.Windows{}
	s, d, forced := engine.Admit(s, &p, 1, 0)
	require.Equal(t, engine.Decision{Forced: true}, d)
	for _, ticket := range []engine.Ticket{forced, {}} { // during it: also what was admitted before it
		_, moved, changed := engine.Settle(s, &w, &p, 2, 0, ticket, bad)
		require.False(t, changed || moved.Happened())
	}
	_, _, changed := engine.Settle(s, &w, &p, 200, 0, forced, bad)
	require.False(t, changed, "after it: what was admitted by it")
	s, moved, _ := engine.Settle(s, &w, &p, 200, 0, engine.Ticket{}, bad)
	require.Equal(t, breaker.Transition{From: breaker.Closed, To: breaker.Open}, moved)

	// An open breaker stays as it is underneath, and gets no probe.
	next, d, _ := engine.Admit(s, &p, 50, 0)
	require.Equal(t, engine.Decision{Forced: true}, d)
	require.Equal(t, s, next)
}

func TestAProbeSettledUnderAnOverrideGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	p := engine.Params{
		HasBreaker: true,
		Breaker:    breaker.Params{Threshold: 1, Probes: 1, Successes: 1, RecoveryNS: 10, RecoveryMaxNS: 10, MultiplierPPM: 1e6, ProbeExpiryNS: 1e12},
	}
	var w breaker.Windows
	s, _, ticket := engine.Admit(engine.State{}, &p, 0, 0)
	s, _, _ = engine.Settle(s, &w, &p, 0, 0, ticket, engine.Result{Breaker: breaker.Result{Verdict: breaker.Failure}})
	s, _, ticket = engine.Admit(s, &p, 10, 0)
	require.Equal(t, breaker.HalfOpen, s.Breaker.Kind)
	p.Override = engine.Override{Forced: engine.ForcedOpen, NotAfterNS: 100}
	s, moved, changed := engine.Settle(s, &w, &p, 20, 0, ticket, engine.Result{Breaker: breaker.Result{Verdict: breaker.Failure}})
	require.True(t, changed)
	require.False(t, moved.Happened())
	_, d, _ := engine.Admit(s, &p, 100, 0)
	require.Equal(t, engine.None, d.By)
}
