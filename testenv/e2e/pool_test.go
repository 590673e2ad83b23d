//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// work is a shop with one pool, of which the routes "work" (critical) and
// "chores" (low) take their permits; the route "free" has none.
func work(g *gate, pool string) shop {
	return shop{
		endpoints: []string{g.addr()}, pools: "{work: {" + pool + "}}",
		routes: []route{
			{name: "work", timeout: "60s", more: "pool: work\npriority: critical"},
			{name: "chores", timeout: "60s", more: "pool: work\npriority: low"},
			{name: "free", timeout: "60s"},
		},
	}
}

// requireRefused is what a client is told that gets no permit.
func requireRefused(t testing.TB, a answer, decision string) {
	t.Helper()
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, decision, a.decision())
	require.Equal(t, typeBase+decision, a.problem.Type)
	require.Equal(t, "1", a.header.Get("retry-after"))
	require.NotEmpty(t, a.header.Get("x-request-id"))
	require.Equal(t, a.header.Get("x-request-id"), a.problem.Instance)
}

// What a full pool does to its callers, and that it is whole afterwards.
func TestPoolRefusals(t *testing.T) {
	t.Parallel()
	const permits, queue = 3, 2
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			t.Parallel()
			g := newGate(t)
			u := startUp(t, upConfig{workers: workers, policy: work(g, fmt.Sprintf("maxConcurrency: %d, maxQueue: %d, maxWait: 4s", permits, queue)).yaml()}) // all must be refused meanwhile
			want := tally{}
			for round := range 2 {
				var held []*errand
				for i := range permits {
					held = append(held, send(t, newCaller(t, u.listen), "/work", fmt.Sprintf("held %d", i), nil))
					g.awaitHolds(t, "/work", i+1)
				}
				var waits []*errand
				for i := range queue {
					waits = append(waits, send(t, newCaller(t, u.listen), "/work", fmt.Sprintf("waits %d", i), nil))
				}
				u.awaitWaiting("work", queue)
				c := newCaller(t, u.listen).fresh()
				for range 8 {
					for _, path := range []string{"/work", "/chores"} {
						started := time.Now()
						requireRefused(t, c.call(t, path), "bulkhead-full")
						require.Less(t, time.Since(started), time.Second, "it is told at once")
						want[path[1:]+" bulkhead-full"]++
					}
				}
				// A route without the pool does not feel it.
				free := send(t, c, "/free", "free", nil)
				g.awaitHolds(t, "/free", 1)
				g.letGo("/free", 1, http.StatusOK)
				require.Equal(t, http.StatusOK, free.wait(t).status)
				for i, e := range waits {
					requireRefused(t, e.wait(t), "bulkhead-timeout")
					require.GreaterOrEqual(t, e.took, 3900*time.Millisecond, "waiter %d", i)
					require.Less(t, e.took, 8*time.Second, "waiter %d", i)
				}
				require.Equal(t, permits, g.holds("/work"))
				require.Equal(t, permits*(round+1), g.calls("/work"), "calls of the service")
				require.Equal(t, permits, g.letGo("/work", permits, http.StatusOK))
				for _, e := range held {
					require.Equal(t, http.StatusOK, e.wait(t).status)
				}
				want["work ok"] += permits
				want["work bulkhead-timeout"] += queue
				want["free ok"]++
				u.awaitPool("work", permits, 0, 0) // else the next round's waiters seem to be there before they are
			}
			u.awaitOutcomes(want)
			u.awaitPool("work", permits, 0, 0)
			p := u.pool("work")
			require.Equal(t, want["work ok"], p.Granted)
			require.Equal(t, want["work bulkhead-full"]+want["chores bulkhead-full"], p.Full)
			require.Equal(t, want["work bulkhead-timeout"], p.TimedOut)
			u.stop()
		})
	}
}

// From a queue that is full of both, critical requests are served before low
// ones, and those of a class in the order in which they came.
func TestPoolServesByPriorityThenArrival(t *testing.T) {
	t.Parallel()
	const each = 8
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			t.Parallel()
			g := newGate(t)
			policy := work(g, fmt.Sprintf("maxConcurrency: 1, maxQueue: %d, maxWait: 60s", 2*each))
			for i := range policy.routes { // one path for both, so that the gate sees one order
				policy.routes[i].path = "/in/" + policy.routes[i].name
			}
			u := startUp(t, upConfig{workers: workers, policy: policy.yaml()})
			first := send(t, newCaller(t, u.listen), "/in/chores", "first", nil)
			g.awaitHolds(t, "/in/chores", 1)
			var all []*errand
			var critical, low []string
			for i := range 2 * each { // low and critical in turn, low first
				route, names := "chores", &low
				if i%2 == 1 {
					route, names = "work", &critical
				}
				name := fmt.Sprintf("%s %d", route, i)
				*names = append(*names, name)
				all = append(all, send(t, newCaller(t, u.listen), "/in/"+route, name, nil))
				u.awaitWaiting("work", i+1)
			}
			requireRefused(t, newCaller(t, u.listen).call(t, "/in/work"), "bulkhead-full")

			for i := range 2*each + 1 {
				eventually(t, soon, func() (bool, string) {
					calls := g.calls("/in/chores") + g.calls("/in/work")
					return calls == i+1, fmt.Sprintf("%d calls, not %d", calls, i+1)
				})
				require.Equal(t, 1, g.letGo("/in/", 1, http.StatusOK), "inside at once, call %d", i+1)
			}
			require.Equal(t, http.StatusOK, first.wait(t).status)
			for _, e := range all {
				require.Equal(t, http.StatusOK, e.wait(t).status)
			}
			require.Equal(t, 1, g.atMost())
			require.Equal(t, slices.Concat([]string{"first"}, critical, low), g.order(""))
		})
	}
}

// An edit of a limit holds at once for those who wait, strands nobody, and
// takes no permit from those who have one.
func TestPoolResizedByAnEdit(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	pool := func(limit, queue int) string {
		return work(g, fmt.Sprintf("maxConcurrency: %d, maxQueue: %d, maxWait: 60s", limit, queue)).yaml()
	}
	u := startUp(t, upConfig{workers: 4, policy: pool(2, 20)})
	var all []*errand
	for i := range 12 {
		all = append(all, send(t, newCaller(t, u.listen), "/work", fmt.Sprint(i), nil))
	}
	g.awaitHolds(t, "/work", 2)
	u.awaitWaiting("work", 10)

	saved := time.Now()
	writePolicy(t, u.cfg.policies, pool(5, 20))
	g.awaitHolds(t, "/work", 5)
	t.Logf("three waiters more are served %s after the edit", time.Since(saved).Round(time.Millisecond))
	require.Less(t, time.Since(saved), 3*time.Second)
	u.awaitWaiting("work", 7)

	// Smaller than what is held, and a queue shorter than what waits: nobody
	// goes in until three have left, and nobody is thrown out.
	u.edit(pool(2, 3))
	u.awaitPool("work", 2, 5, 7)
	requireRefused(t, newCaller(t, u.listen).call(t, "/work"), "bulkhead-full")
	for left := range 3 {
		require.Equal(t, 1, g.letGo("/work", 1, http.StatusOK))
		g.awaitHolds(t, "/work", 4-left)
		u.awaitPool("work", 2, 4-left, 7)
		require.Equal(t, 5, g.calls("/work"), "calls after %d have left", left+1)
	}
	require.Equal(t, 1, g.letGo("/work", 1, http.StatusOK))
	g.awaitCalls(t, "/work", 6)
	require.Equal(t, 2, g.holds("/work"))
	u.awaitWaiting("work", 6)

	// A policy without the pool limits nobody: who waits goes on.
	gone := work(g, "maxConcurrency: 1")
	gone.pools = ""
	for i := range gone.routes {
		gone.routes[i].more = strings.ReplaceAll(gone.routes[i].more, "pool: work\n", "")
	}
	u.edit(gone.yaml())
	g.awaitHolds(t, "/work", 8)
	g.open("/work", http.StatusOK)
	for _, e := range all {
		require.Equal(t, http.StatusOK, e.wait(t).status)
	}

	// And back: those that ran without it are not in it.
	g.shut("/work")
	u.edit(pool(2, 20))
	for range 4 {
		all = append(all, send(t, newCaller(t, u.listen), "/work", "again", nil))
	}
	g.awaitHolds(t, "/work", 2)
	u.awaitWaiting("work", 2)
	g.open("/work", http.StatusOK)
	for _, e := range all {
		require.Equal(t, http.StatusOK, e.wait(t).status)
	}
	u.stop()
}
