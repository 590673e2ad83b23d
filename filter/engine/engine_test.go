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
	s, moved, changed := engine.Settle(s, &engine.Params{}, 1, 2, ticket, engine.Result{Breaker: breaker.Result{Verdict: breaker.Failure}})
	require.False(t, changed)
	require.False(t, moved.Happened())
	require.Equal(t, engine.State{}, s)
}

func TestABreakerRefusesByName(t *testing.T) {
	t.Parallel()
	p := engine.Params{HasBreaker: true, Breaker: breaker.Params{Threshold: 1, Probes: 1, Successes: 1, RecoveryNS: 10, RecoveryMaxNS: 10, MultiplierPPM: 1e6, ProbeExpiryNS: 10}}
	s, d, ticket := engine.Admit(engine.State{}, &p, 1, 0)
	require.Equal(t, engine.None, d.By)
	s, moved, changed := engine.Settle(s, &p, 1, 0, ticket, engine.Result{Breaker: breaker.Result{Verdict: breaker.Failure}})
	require.True(t, changed)
	require.Equal(t, breaker.Transition{From: breaker.Closed, To: breaker.Open}, moved)
	_, d, _ = engine.Admit(s, &p, 4, 0)
	require.Equal(t, engine.Decision{By: engine.Breaker, RetryAfterNS: 7}, d)
}
