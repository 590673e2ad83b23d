//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A pool of seven under a hundred clients, with answers that take their time,
// connections that break, clients that hang up, and policies that are pushed:
// the service never has more than seven calls of clients that still wait for
// them, no request is lost or counted otherwise than its client saw it, and in
// the end the pool is whole.
//
// A VM cannot be made to trap from outside here; testenv/scenario does that.
func TestPoolInAStorm(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		workers     int
		short, long time.Duration
	}{
		{workers: 1, short: 5 * time.Second, long: 60 * time.Second},
		{workers: 2, short: 5 * time.Second, long: 60 * time.Second},
		{workers: 4, short: 20 * time.Second, long: 60 * time.Second},
	} {
		t.Run(fmt.Sprintf("workers=%d", tc.workers), func(t *testing.T) {
			t.Parallel()
			length := tc.short
			if *long {
				length = tc.long
			}
			poolInAStorm(t, tc.workers, length)
		})
	}
}

func poolInAStorm(t *testing.T, workers int, length time.Duration) {
	const limit, queue, clients, patience = 7, 80, 100, "500ms"
	g := newGate(t)
	policy := func(i int, maxWait string) string {
		s := work(g, fmt.Sprintf("maxConcurrency: %d, maxQueue: %d, maxWait: %s", limit, queue+i%3, maxWait))
		s.routes[0].timeout = fmt.Sprintf("%ds", 60+i%4)
		s.routes[2].breaker = breaker(5+i%2, "1h")
		return s.yaml()
	}
	u := startUp(t, upConfig{workers: workers, policy: policy(0, patience)})
	w := newStorm(t, u.listen, g, clients)
	pushes := 0
	for began := time.Now(); time.Since(began) < length; {
		pushes++
		u.edit(policy(pushes, patience))
		w.awaitMore(t, 50)
	}
	w.stop()

	most := g.atMost()
	t.Logf("%d pushes, at most %d inside: %v", pushes, most, w.counts)
	require.Empty(t, w.wrong, "answers that should not be")
	require.LessOrEqual(t, most, limit, "calls at once")
	require.Equal(t, limit, most, "the pool was never full")
	for _, name := range []string{"work ok", "chores ok", "work reset", "gone", "chores bulkhead-full", "chores bulkhead-timeout"} {
		require.NotZero(t, w.counts[name], "no %s: that was no storm", name)
	}
	u.edit(policy(0, "50s"))
	u.requireWhole(g, limit, queue)

	// Who hung up was answered all the same, now and then; the rest is exact.
	eventually(t, soon, func() (bool, string) {
		got := u.outcomes()
		spare := w.counts["gone"]
		for name, n := range got {
			if name == "work aborted" || name == "chores aborted" {
				continue
			}
			more := n - w.counts[name]
			switch name {
			case "work ok":
				more -= limit + queue // of requireWhole
			case "work bulkhead-full":
				more-- // likewise
			}
			if more < 0 || more > spare {
				return false, fmt.Sprintf("traffic is %v, clients saw %v", got, w.counts)
			}
			spare -= more
		}
		spare -= got["work aborted"] + got["chores aborted"]
		return spare == 0, fmt.Sprintf("%d requests are not accounted for: traffic is %v, clients saw %v", spare, got, w.counts)
	})
	u.stop()
}

// requireWhole requires that a pool has all its permits and its whole queue:
// as many calls as it should go in at once, as many as it should wait, and one
// more is refused.
func (u *up) requireWhole(g *gate, limit, queue int) {
	u.t.Helper()
	u.awaitPool("work", limit, 0, 0)
	g.awaitHolds(u.t, "/work", 0)
	var all []*errand
	for i := range limit {
		all = append(all, send(u.t, newCaller(u.t, u.listen), "/work", fmt.Sprintf("whole %d", i), nil))
	}
	g.awaitHolds(u.t, "/work", limit)
	for range queue {
		all = append(all, send(u.t, newCaller(u.t, u.listen), "/work", "queued", nil))
	}
	u.awaitWaiting("work", queue)
	requireRefused(u.t, newCaller(u.t, u.listen).call(u.t, "/work"), "bulkhead-full")
	require.Equal(u.t, limit, g.holds("/work"))
	g.open("/work", http.StatusOK)
	for _, e := range all {
		require.Equal(u.t, http.StatusOK, e.wait(u.t).status)
	}
	g.shut("/work")
	u.awaitPool("work", limit, 0, 0)
}

// storm are clients that call in every manner.
type storm struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	calls  atomic.Int64

	mu     sync.Mutex
	counts tally // by "route outcome", and "gone" for those who hung up
	wrong  []string
}

func newStorm(t testing.TB, listen string, g *gate, clients int) *storm {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &storm{cancel: cancel, counts: tally{}}
	for i := range clients {
		c := newCaller(t, listen)
		random := rand.New(rand.NewPCG(uint64(i), 7)) //nolint:gosec // no secret
		w.wg.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				if w.one(c, g, random, fmt.Sprintf("%d/%d", i, k)) {
					continue
				}
				select { // a refused client calms down
				case <-ctx.Done():
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
	t.Cleanup(w.stop)
	return w
}

// one makes one call, and reports whether it was let in.
func (w *storm) one(c *caller, g *gate, random *rand.Rand, name string) (admitted bool) {
	route := "chores"
	if random.IntN(4) == 0 {
		route = "work"
	}
	take := time.Duration(5+random.IntN(75)) * time.Millisecond
	header := http.Header{headerCall: {name}, headerTake: {take.String()}}
	var written atomic.Bool
	ctx, cancel := context.WithCancel(httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) { written.Store(info.Err == nil) },
	}))
	defer cancel()
	switch random.IntN(10) {
	case 0:
		header.Set(headerTake, "reset")
	case 1:
		hangUp := time.AfterFunc(time.Duration(5+random.IntN(300))*time.Millisecond, func() {
			g.excuse(name)
			cancel()
		})
		defer hangUp.Stop()
	}
	a, err := c.do(ctx, "/"+route, header)
	w.calls.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	outcome := a.outcome()
	switch {
	case errors.Is(err, context.Canceled):
		if written.Load() {
			w.counts["gone"]++
		}
		return false
	case err != nil:
		w.wrong = append(w.wrong, err.Error())
		return false
	case a.problem.Type == typeBase+"upstream-reset":
		outcome = "reset"
	case outcome == "bulkhead-full" || outcome == "bulkhead-timeout":
		if a.status != http.StatusServiceUnavailable || a.header.Get("retry-after") == "" || a.problem.Type != typeBase+outcome {
			w.wrong = append(w.wrong, fmt.Sprintf("%d %v %s", a.status, a.header, a.body))
		}
		w.counts[route+" "+outcome]++
		return false
	case a.status != http.StatusOK:
		w.wrong = append(w.wrong, fmt.Sprintf("%d %v %s", a.status, a.header, a.body))
	}
	w.counts[route+" "+outcome]++
	return true
}

func (w *storm) stop() {
	w.cancel()
	w.wg.Wait()
}

func (w *storm) awaitMore(t testing.TB, n int64) {
	t.Helper()
	more(t, &w.calls, n, "calls")
}
