//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// The promises of DESIGN section 2 for state over workers, with as many
// workers as share it.
func TestBreakerIsExactOverWorkers(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			t.Parallel()
			service := newUpstream(t)
			service.Set("/", upstream.Behaviour{Status: http.StatusServiceUnavailable})
			var routes []route
			for i := range 4 {
				routes = append(routes, route{name: fmt.Sprintf("one-%d", i), breaker: breaker(5, "1h")})
			}
			routes = append(routes, route{name: "many", breaker: breaker(5, "1h")}, route{name: "probed", breaker: breaker(5, "1s")})
			u := startUp(t, upConfig{workers: workers, policy: shop{endpoints: []string{service.Addr()}, routes: routes}.yaml()})

			t.Run("one after another", func(t *testing.T) { oneAfterAnother(t, u, service) })
			t.Run("many at once", func(t *testing.T) { manyAtOnce(t, u, service) })
			t.Run("probes", func(t *testing.T) { probes(t, u, service) })
		})
	}
}

// Failures one after another, each over a new connection and so on any
// worker, trip at exactly the threshold.
func oneAfterAnother(t *testing.T, u *up, service *upstream.Server) {
	c := newCaller(t, u.listen).fresh()
	for i := range 4 {
		path := fmt.Sprintf("/one-%d", i)
		for k := range 40 {
			require.Equal(t, k >= 5, c.call(t, path).refused(), "call %d of %s", k+1, path)
		}
		require.EqualValues(t, 5, service.Calls(path))
	}
}

// Fifty clients at once: no more calls reach the upstream than the threshold
// and what was in flight when it was reached, and then none at all.
func manyAtOnce(t *testing.T, u *up, service *upstream.Server) {
	const clients = 50
	var wg sync.WaitGroup
	for range clients {
		c := newCaller(t, u.listen)
		wg.Go(func() {
			for range 20 {
				if a, err := c.try("/many", nil); err != nil || a.status != http.StatusServiceUnavailable {
					t.Errorf("status %d, %v", a.status, err)
				}
			}
		})
	}
	wg.Wait()
	got := service.Calls("/many")
	t.Logf("%d of %d calls reached the upstream", got, clients*20)
	require.GreaterOrEqual(t, got, uint64(5))
	require.LessOrEqual(t, got, uint64(5+clients-1), "more than were in flight when the breaker opened")
	c := newCaller(t, u.listen).fresh()
	for range 40 {
		require.True(t, c.call(t, "/many").refused())
	}
	require.Equal(t, got, service.Calls("/many"), "calls after it has settled")
}

// Half-open, the upstream sees exactly as many probes at once as the policy
// says, in total over all workers; their success closes the breaker.
func probes(t *testing.T, u *up, service *upstream.Server) {
	const clients, allowed, slow = 30, 3, 2500 * time.Millisecond
	c := newCaller(t, u.listen).fresh()
	for range 5 {
		require.False(t, c.call(t, "/probed").refused())
	}
	a := c.call(t, "/probed")
	require.True(t, a.refused())
	require.Equal(t, "1", a.header.Get("retry-after"))
	service.Forget()
	service.Set("/probed", upstream.Behaviour{Latency: slow})

	// Each calls until it is let through.
	var wg sync.WaitGroup
	for range clients {
		own := newCaller(t, u.listen)
		wg.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				a, err := own.try("/probed", nil)
				if err != nil {
					t.Error(err)
					return
				}
				if !a.refused() {
					if a.status != http.StatusOK {
						t.Errorf("a probe was answered %d", a.status)
					}
					return
				}
			}
		})
	}
	u.awaitBreaker("probed", "half-open")
	wg.Wait()
	calls := service.Records()
	require.Len(t, calls, clients)
	atOnce := 0
	for _, r := range calls {
		if r.At.Sub(calls[0].At) < slow-100*time.Millisecond {
			atOnce++
		}
	}
	require.Equal(t, allowed, atOnce, "calls while the first probes were out")
	u.awaitBreaker("probed", "closed")
}
