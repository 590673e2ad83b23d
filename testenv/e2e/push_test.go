//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

const pushes = 200

// 200 edits under load: no request is lost or wrongly failed, the breaker of a
// route that no edit touches stays open, and every request is counted once.
func TestPushesUnderLoad(t *testing.T) {
	t.Parallel()
	first, second := newUpstream(t), newUpstream(t)
	for _, s := range []*upstream.Server{first, second} {
		s.Set("/broken", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	}
	base := func() shop {
		return shop{endpoints: []string{first.Addr()}, slo: true, routes: []route{
			{name: "steady", breaker: breaker(5, "1h")},
			{name: "broken", breaker: breaker(5, "1h")},
			{name: "edited", breaker: breaker(5, "1h")},
		}}
	}
	// Each differs from its neighbours, and the last from the first.
	steps := []func(i int, s *shop){
		func(_ int, s *shop) { s.routes = append(s.routes, route{name: "guest", path: "/steady/guest"}) },
		func(i int, s *shop) { s.routes[2].breaker = breaker(6+i%3, "1h") },
		func(_ int, s *shop) { s.endpoints = append(s.endpoints, second.Addr()) },
		func(i int, s *shop) { s.routes[2].timeout = fmt.Sprintf("%ds", 11+i%7) },
		func(_ int, s *shop) { s.endpoints = []string{second.Addr()} },
		func(_ int, s *shop) { s.routes = append([]route{{name: "guest", path: "/steady/guest"}}, s.routes...) },
		func(i int, s *shop) { s.routes[0].timeout = fmt.Sprintf("%ds", 11+i%5) },
	}
	u := startUp(t, upConfig{policy: base().yaml()})

	opener := newCaller(t, u.listen)
	for range 5 {
		require.False(t, opener.call(t, "/broken").refused())
	}
	require.True(t, opener.call(t, "/broken").refused())
	u.awaitBreaker("broken", "open")
	opened := u.breaker("broken").Since

	l := startLoad(t, u.listen, 8, "/steady/1", "/broken/1", "/edited/1", "/steady/guest/1")
	for i := range pushes {
		s := base()
		steps[i%len(steps)](i, &s)
		u.edit(s.yaml())
		require.Empty(t, l.failures(), "after edit %d", i)
	}
	l.awaitMore(t, 100)
	calls := l.stop()
	t.Logf("%d calls during %d edits: %v", calls.total(), pushes, calls)

	require.Empty(t, l.failures(), "requests that were lost")
	require.Equal(t, []string{"broken breaker-open", "edited ok", "steady ok"}, calls.names(), "requests that were wrongly failed or let through")
	require.EqualValues(t, calls["steady ok"]+calls["edited ok"]+5, first.Calls("/")+second.Calls("/"), "calls of the upstreams")
	require.EqualValues(t, 5, first.Calls("/broken")+second.Calls("/broken"), "calls through the open breaker")
	require.NotZero(t, second.Calls("/"), "the edits of endpoints had no effect")
	b := u.breaker("broken")
	require.Equal(t, "open", b.State)
	require.Equal(t, opened, b.Since, "the breaker has moved meanwhile")

	// /steady/guest was the route guest or the route steady, as the edits had
	// it; nobody can say which for each call, but their sum is exact.
	want := calls.plus(tally{"broken 5xx": 5, "broken breaker-open": 1})
	eventually(t, soon, func() (bool, string) {
		got := u.outcomes()
		if got["guest ok"] == 0 {
			return false, fmt.Sprintf("route guest was never used: %v", got)
		}
		got["steady ok"] += got["guest ok"]
		delete(got, "guest ok")
		return got.equal(want), fmt.Sprintf("traffic is %v, not %v", got, want)
	})
	u.awaitBatches()
	require.Equal(t, want.total(), u.outcomes().total(), "counted twice")
	require.EqualValues(t, want.total(), list[objective](u, "slos")[0].Total)
	u.stop()
}
