//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// over calls through connections that are all open already, so that the calls
// come to all workers.
type over struct {
	callers []*caller
	next    int
}

// spread opens n connections, with a call of a path that is answered 200.
func spread(t testing.TB, listen string, n int, path string) *over {
	t.Helper()
	o := &over{}
	for range n {
		c := newCaller(t, listen)
		require.Equal(t, http.StatusOK, c.call(t, path).status)
		o.callers = append(o.callers, c)
	}
	return o
}

// call uses the connection that has been idle longest.
func (o *over) call(t testing.TB, path string) answer {
	t.Helper()
	o.next = (o.next + 1) % len(o.callers)
	return o.callers[o.next].call(t, path)
}

// Once the call that trips a breaker is answered, no worker admits any more:
// the very next call is refused on each of many connections.
func TestNothingIsAdmittedOnceABreakerHasOpened(t *testing.T) {
	t.Parallel()
	const rounds, threshold, connections = 20, 5, 32
	for _, workers := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			t.Parallel()
			service := newUpstream(t)
			routes := []route{{name: "fine"}}
			for i := range rounds {
				name := fmt.Sprintf("down-%d", i)
				service.Set("/"+name, upstream.Behaviour{Status: http.StatusServiceUnavailable})
				routes = append(routes, route{name: name, breaker: breaker(threshold, "1h")})
			}
			u := startUp(t, upConfig{workers: workers, policy: shop{endpoints: []string{service.Addr()}, routes: routes}.yaml()})
			o := spread(t, u.listen, connections, "/fine")
			for i := range rounds {
				path := fmt.Sprintf("/down-%d", i)
				for k := range threshold + connections {
					require.Equal(t, k >= threshold, o.call(t, path).refused(), "call %d of %s", k+1, path)
				}
				require.EqualValues(t, threshold, service.Calls(path))
			}
		})
	}
}

// A failure rate opens at its share, counted over all workers, and never
// before there is enough to judge by.
func TestFailureRateTripsOverWorkers(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			t.Parallel()
			service := newUpstream(t)
			service.Set("/bad", upstream.Behaviour{Status: http.StatusServiceUnavailable})
			service.Set("/either", upstream.Behaviour{Status: http.StatusServiceUnavailable})
			service.Set("/half", upstream.Behaviour{FailEvery: 2})
			service.Set("/third", upstream.Behaviour{FailEvery: 3})
			rate := "{failureRate: {percent: 50%, window: 10m, minRequests: 20}, recoveryTimeout: 1h}"
			u := startUp(t, upConfig{workers: workers, policy: shop{endpoints: []string{service.Addr()}, routes: []route{
				{name: "fine"}, {name: "bad", breaker: rate}, {name: "half", breaker: rate}, {name: "third", breaker: rate},
				{name: "either", breaker: "{consecutiveFailures: 4, failureRate: {percent: 50%, window: 10m, minRequests: 20}, recoveryTimeout: 1h}"},
			}}.yaml()})
			o := spread(t, u.listen, 16, "/fine")
			for _, tc := range []struct {
				route string
				trips int // the call after which it is open
				cause string
			}{
				{"bad", 20, "failure-rate"},  // not at the first nineteen, all of them failures
				{"half", 20, "failure-rate"}, // at half, not above it
			} {
				for k := range tc.trips + 16 {
					require.Equal(t, k >= tc.trips, o.call(t, "/"+tc.route).refused(), "call %d of %s", k+1, tc.route)
				}
				u.awaitBreaker(tc.route, "open")
				require.Equal(t, tc.cause, u.breaker(tc.route).Cause, tc.route)
			}
			for k := range 60 {
				require.False(t, o.call(t, "/third").refused(), "call %d", k+1)
			}
			// Any of several conditions opens it.
			for k := range 10 {
				require.Equal(t, k >= 4, o.call(t, "/either").refused(), "call %d", k+1)
			}
		})
	}
}

// Slow answers open a breaker like failures, though they are good ones.
func TestSlowCallsTripOverWorkers(t *testing.T) {
	t.Parallel()
	const trips = 6
	service := newUpstream(t)
	service.Set("/slow", upstream.Behaviour{Latency: 250 * time.Millisecond})
	slow := fmt.Sprintf("{slowCalls: {threshold: 200ms, percent: 50%%, window: 10m, minRequests: %d}, recoveryTimeout: 1h}", trips)
	u := startUp(t, upConfig{workers: 4, policy: shop{endpoints: []string{service.Addr()}, routes: []route{
		{name: "fine"}, {name: "slow", breaker: slow}, {name: "brisk", breaker: slow},
	}}.yaml()})
	o := spread(t, u.listen, 8, "/fine")
	for k := range trips + 8 {
		require.Equal(t, k >= trips, o.call(t, "/slow").refused(), "call %d", k+1)
	}
	u.awaitBreaker("slow", "open")
	require.Equal(t, "slow-calls", u.breaker("slow").Cause)
	for k := range 40 {
		require.False(t, o.call(t, "/brisk").refused(), "call %d", k+1)
	}
}

// The window slides: failures that have left it do not count any more.
func TestFailureRateForgets(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/bad", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	u := startUp(t, upConfig{workers: 2, policy: shop{endpoints: []string{service.Addr()}, routes: []route{
		{name: "fine"}, {name: "bad", breaker: "{failureRate: {percent: 50%, window: 1s, minRequests: 10}, recoveryTimeout: 1h}"},
	}}.yaml()})
	o := spread(t, u.listen, 8, "/fine")
	for range 3 {
		for range 9 {
			require.False(t, o.call(t, "/bad").refused())
		}
		ended := time.Now()
		eventually(t, soon, func() (bool, string) { return time.Since(ended) > 1200*time.Millisecond, "time stands still" })
	}
	refused := false
	for range 60 {
		refused = refused || o.call(t, "/bad").refused()
	}
	require.True(t, refused, "ten failures at once open it")
}

// While probes are out, a hundred clients get no more of them, over any number
// of workers; failing ones open it again, lost ones come back, and good ones
// close it.
func TestProbesAreExactUnderPressure(t *testing.T) {
	t.Parallel()
	const clients, allowed = 100, 3
	for _, workers := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			t.Parallel()
			g := newGate(t)
			u := startUp(t, upConfig{workers: workers, policy: shop{endpoints: []string{g.addr()}, routes: []route{
				{name: "probed", timeout: "60s", breaker: breaker(5, "1s")},
			}}.yaml()})
			g.open("/probed", http.StatusServiceUnavailable)
			c := newCaller(t, u.listen).fresh()
			for range 5 {
				require.False(t, c.call(t, "/probed").refused())
			}
			require.True(t, c.call(t, "/probed").refused())
			g.shut("/probed")
			before := g.calls("/probed")

			p := startPressure(t, u.listen, clients, "/probed")
			// Two rounds of failing probes, and one of good ones.
			for round := range 3 {
				want := before + allowed*(round+1)
				g.awaitCalls(t, "/probed", want)
				p.awaitRefused(t, 10*clients)
				require.Equal(t, allowed, g.holds("/probed"))
				require.Equal(t, want, g.calls("/probed"), "calls in round %d", round)
				if round < 2 {
					// The first failure opens it; the others are of a time that is over.
					require.Equal(t, allowed, g.letGo("/probed", allowed, http.StatusServiceUnavailable))
				}
			}
			g.open("/probed", http.StatusOK)
			u.awaitBreaker("probed", "closed")
			p.awaitAdmitted(t, 10*clients)
			p.stop()
		})
	}
}

// A client that leaves takes its probe along, and the breaker does not hang for
// it.
func TestProbesOfClientsThatLeave(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	u := startUp(t, upConfig{workers: 4, policy: shop{endpoints: []string{g.addr()}, routes: []route{
		{name: "probed", timeout: "60s", breaker: breaker(5, "1s")},
	}}.yaml()})
	g.open("/probed", http.StatusServiceUnavailable)
	c := newCaller(t, u.listen).fresh()
	for range 5 {
		require.False(t, c.call(t, "/probed").refused())
	}
	g.shut("/probed")
	for round := range 4 {
		var leaving []func()
		var all []*errand
		eventually(t, soon, func() (bool, string) {
			e, leave := sendUntil(t, newCaller(t, u.listen), "/probed", "probe", nil)
			all, leaving = append(all, e), append(leaving, leave)
			eventually(t, soon, func() (bool, string) {
				return !e.pending() || g.holds("/probed") == len(all), "neither answered nor passed on"
			})
			if !e.pending() {
				require.NoError(t, e.err)
				require.True(t, e.answer.refused(), "answered %d", e.answer.status)
				all, leaving = all[:len(all)-1], leaving[:len(leaving)-1]
			}
			return len(all) == 3, fmt.Sprintf("%d probes in round %d", len(all), round)
		})
		require.True(t, c.call(t, "/probed").refused(), "a fourth probe in round %d", round)
		for _, leave := range leaving {
			leave()
		}
		g.awaitHolds(t, "/probed", 0)
	}
	g.open("/probed", http.StatusOK)
	for range 3 {
		eventually(t, soon, func() (bool, string) { return !c.call(t, "/probed").refused(), "no probe is let through" })
	}
	u.awaitBreaker("probed", "closed")
}

// pressure are clients that call one path again and again.
type pressure struct {
	cancel            context.CancelFunc
	wg                sync.WaitGroup
	refused, admitted atomic.Int64
}

func startPressure(t testing.TB, listen string, clients int, path string) *pressure {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &pressure{cancel: cancel}
	for range clients {
		c := newCaller(t, listen)
		c.client.Timeout = 2 * time.Minute
		p.wg.Go(func() {
			tick := time.NewTicker(30 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				a, err := c.do(ctx, path, nil)
				switch {
				case ctx.Err() != nil:
					return
				case err != nil:
					t.Errorf("lost: %v", err)
					return
				case a.refused():
					p.refused.Add(1)
				default:
					p.admitted.Add(1)
				}
			}
		})
	}
	t.Cleanup(p.stop)
	return p
}

func (p *pressure) stop() {
	p.cancel()
	p.wg.Wait()
}

func (p *pressure) awaitRefused(t testing.TB, n int64) {
	t.Helper()
	more(t, &p.refused, n, "refused")
}

func (p *pressure) awaitAdmitted(t testing.TB, n int64) {
	t.Helper()
	more(t, &p.admitted, n, "admitted")
}

func more(t testing.TB, count *atomic.Int64, n int64, what string) {
	t.Helper()
	from := count.Load()
	eventually(t, soon, func() (bool, string) {
		now := count.Load()
		return now >= from+n, fmt.Sprintf("%d %s, of %d", now-from, what, n)
	})
}
