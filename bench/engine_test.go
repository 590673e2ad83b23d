package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What is measured must be a breaker that works, each with the parameters that
// the others have: else the figures would compare different things.
func TestEveryMeasuredBreakerOpensAlike(t *testing.T) {
	t.Parallel()
	for _, group := range []struct {
		name     string
		steppers []stepper
		opensAt  int // failures, nothing else before
	}{
		{"consecutive failures", countSteppers(), engineThreshold},
		{"rate over a window", windowSteppers(), engineMinimum},
	} {
		for _, s := range group.steppers {
			t.Run(group.name+", "+s.name, func(t *testing.T) {
				t.Parallel()
				require.Zero(t, s.run(group.opensAt, 1))
				require.Equal(t, 3, s.run(3, 1))
			})
		}
	}
}

func TestMeasuredBreakersStayClosedWhereOneInTenFails(t *testing.T) {
	t.Parallel()
	for _, s := range append(countSteppers(), windowSteppers()...) {
		require.Zero(t, s.run(1000, 10), s.name)
	}
}
