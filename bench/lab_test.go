package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlansOfAllVariantsAreAcceptedAndTold(t *testing.T) {
	t.Parallel()
	plans := map[string]bool{}
	for bits := range 1 << 4 {
		g := guards{breaker: bits&1 > 0, rate: bits&2 > 0, deadline: bits&4 > 0, pool: bits&8 > 0}
		v, err := (&lab{}).seawall(g)
		require.NoError(t, err)
		require.False(t, plans[v.plan], "%s has the plan hash of another", v.name)
		plans[v.plan] = true
	}
}

// The sink's word is what tells a filter that works from one that does nothing.
func TestSinkKnowsOnlyPlansThatCountedRequests(t *testing.T) {
	t.Parallel()
	s := &sink{plans: map[string]bool{}}
	for _, batch := range []string{
		`{"plan": "idle"}`,
		`{"plan": "busy", "rows": [{"service": "bench", "route": "r50"}]}`,
		`{"plan": "cut", "rows": [`,
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/batches", strings.NewReader(batch)))
		require.Equal(t, http.StatusNoContent, w.Code)
	}
	require.True(t, s.ran("busy"))
	require.False(t, s.ran("idle"))
	require.False(t, s.ran("cut"))
	require.True(t, s.ran(""), "no filter has no plan")
}
