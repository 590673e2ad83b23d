package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The model loses nobody, and two runs of it are the same.
func TestOverloadModel(t *testing.T) {
	t.Parallel()
	w := world{length: 8, from: 1, until: 5, rate: steadily(1.5, mix), servers: fixed(simServers), routes: []route{{share: 1, mean: always(simMean)}}, retries: 1, fails: 0.01}
	s := overloadScenario{w: w, fixed: 57}
	again := overloadLimiters(&s)
	for i, l := range overloadLimiters(&s) {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			f := simulate(w, l.l, 1)
			ended := sumOf(f.served) + sumOf(f.shed) + sumOf(f.late)
			require.LessOrEqual(t, ended, sumOf(f.offered))
			require.InEpsilon(t, sumOf(f.offered), ended, 0.02, "1 % of answers are failures, and none else is missing")
			require.Equal(t, f, simulate(w, again[i].l, 1))
		})
	}
}
