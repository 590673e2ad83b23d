//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A pool of seven under a hundred clients, with answers that take their time,
// connections that break, clients that hang up, and policies that are pushed:
// the service never has more than seven calls of clients that still wait for
// them, each request is counted as what it was, and in the end the pool is
// whole.
func TestPoolInAStorm(t *testing.T) {
	t.Parallel()
	for workers, length := range map[int]time.Duration{1: 5 * time.Second, 2: 5 * time.Second, 4: 20 * time.Second} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			t.Parallel()
			poolInAStorm(t, upConfig{workers: workers}, stormLength(length), 0)
		})
	}
}

// The same, and again and again a VM of the filter traps: before it looks at a
// request, and before and after a permit is written down as given or taken
// back. That costs what was under way in this VM, and its permits for as long as
// its calls may run; nobody else is let in meanwhile.
func TestPoolInAStormOfTraps(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			t.Parallel()
			poolInAStorm(t, upConfig{workers: workers, binary: trapdoorBinary(t)}, stormLength(14*time.Second), 4*time.Second)
		})
	}
}

func stormLength(short time.Duration) time.Duration {
	if *long {
		return time.Minute
	}
	return short
}

// poolInAStorm lets a VM trap each trapEvery, 0: never.
func poolInAStorm(t *testing.T, cfg upConfig, length, trapEvery time.Duration) {
	const limit, queue, clients = 7, 80, 100
	g := newGate(t)
	policy := func(i int, patience string) string {
		s := work(g, fmt.Sprintf("maxConcurrency: %d, maxQueue: %d, %s", limit, queue+i%3, patience))
		s.routes[0].timeout = fmt.Sprintf("%ds", 60+i%4)
		s.routes[2].breaker = breaker(5+i%2, "1h")
		return s.yaml()
	}
	const calm = "maxWait: 50s"
	stormy := "maxWait: 500ms"
	if trapEvery > 0 {
		stormy += ", timeout: 3s" // a permit outlives its VM by this and five seconds
	}
	cfg.policy = policy(0, stormy)
	u := startUp(t, cfg)
	log := u.keepAccessLog()
	w := newStorm(t, u.listen, g, clients)
	var traps []trap
	pushes := 0
	for began := time.Now(); time.Since(began) < length; {
		pushes++
		u.edit(policy(pushes, stormy))
		w.awaitMore(t, 50)
		if trapEvery > 0 && time.Since(began) > trapEvery*time.Duration(len(traps))+trapEvery/2 {
			traps = append(traps, w.trap(u, g, trapdoors[len(traps)%len(trapdoors)]))
		}
	}
	w.stop()

	most := g.atMost()
	require.Empty(t, w.wrong, "answers that should not be")
	require.LessOrEqual(t, most, limit, "calls at once")
	require.Equal(t, limit, most, "the pool was never full")
	u.edit(policy(0, calm))
	u.requireWhole(g, limit, queue)

	lines := log.all()
	w.compare(t, g, lines, tally{"work ok": limit + queue, "work bulkhead-full": 1})
	counts, lost := tally{}, tally{}
	for _, s := range lines {
		if s.Call == "" {
			continue // it was gone before its headers were there
		}
		counts[s.key()]++
		for _, trap := range traps {
			if trap.mayLose(s) {
				lost[s.key()]++
				break
			}
		}
	}
	t.Logf("%d pushes, %d traps, at most %d inside: %v; may be lost: %v", pushes, len(traps), most, counts, lost)
	for _, name := range []string{"work ok", "chores ok", "work reset", "chores aborted", "chores bulkhead-full", "chores bulkhead-timeout"} {
		require.NotZero(t, counts[name], "no %s: that was no storm", name)
	}
	for name := range counts {
		if _, outcome, _ := strings.Cut(name, " "); outcome == trapped {
			require.NotEmpty(t, traps, "a VM trapped")
			delete(counts, name)
		}
	}
	// What a dead VM had parked another one sends after ten to fifteen seconds.
	eventually(t, 2*soon, func() (bool, string) { return within(u.outcomes(), counts, lost) })
	u.awaitBatches()
	got := u.outcomes()
	ok, why := within(got, counts, lost)
	require.True(t, ok, why)
	t.Logf("%d of %d were lost", counts.total()-got.total(), lost.total())
	u.stop()
}

// within reports whether nothing is counted that was not seen, and all that
// was seen but for what may be lost.
func within(got, seen, mayLose tally) (bool, string) {
	for name := range got.plus(seen) {
		if missing := seen[name] - got[name]; missing < 0 || missing > mayLose[name] {
			return false, fmt.Sprintf("%d of %s are not accounted for: traffic is %v, Envoy saw %v, and %v may be lost", missing, name, got, seen, mayLose)
		}
	}
	return true, ""
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
	listen string
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ended  atomic.Int64

	mu    sync.Mutex
	calls map[string]string // "route outcome" by the call's name; outcome gone: it hung up
	wrong []string
}

// gone is the outcome of a call whose client hung up: it cannot know more.
const gone = "gone"

func newStorm(t testing.TB, listen string, g *gate, clients int) *storm {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &storm{listen: listen, cancel: cancel, calls: map[string]string{}}
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
	header := named(name)
	header.Set(headerTake, take.String())
	ctx, cancel := context.WithCancel(context.Background())
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
	w.ended.Add(1)
	outcome := a.outcome()
	var wrong string
	switch {
	case errors.Is(err, context.Canceled):
		outcome = gone
	case err != nil:
		wrong = err.Error()
	case a.status == http.StatusOK:
	case a.problem.Type == typeBase+"upstream-reset":
		outcome = "reset"
	case a.problem.Type == typeBase+"proxy-error":
		outcome = trapped
	case a.status != http.StatusServiceUnavailable || a.header.Get("retry-after") == "" || a.problem.Type != typeBase+outcome,
		outcome != "bulkhead-full" && outcome != "bulkhead-timeout":
		wrong = fmt.Sprintf("%d %v %s", a.status, a.header, a.body)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[name] = route + " " + outcome
	if wrong != "" {
		w.wrong = append(w.wrong, wrong)
	}
	return outcome == "ok" || outcome == "reset"
}

// named gives a call its name: for the service, and for Envoy's log.
func named(name string) http.Header {
	return http.Header{headerCall: {name}, "User-Agent": {name}}
}

func (w *storm) stop() {
	w.cancel()
	w.wg.Wait()
}

func (w *storm) awaitMore(t testing.TB, n int64) {
	t.Helper()
	more(t, &w.ended, n, "calls")
}

// compare requires that Envoy saw what the clients saw, call by call, and the
// service what Envoy let through to it. others are calls that are not the
// storm's, by route and outcome.
//
// Only of a client that hung up nobody can say what Envoy saw of it, if
// anything: httptrace's WroteRequest comes before the request has left the
// transport's buffer. What Envoy has seen of it is compared all the same.
func (w *storm) compare(t testing.TB, g *gate, lines []sighting, others tally) {
	t.Helper()
	seen, calls, rest := map[string]string{}, map[string]int{}, tally{}
	for _, s := range lines {
		if _, ours := w.calls[s.Call]; !ours {
			if s.Call != "" {
				rest[s.key()]++
			}
			continue
		}
		require.Empty(t, seen[s.Call], "call %s came twice", s.Call)
		seen[s.Call] = s.key()
	}
	require.Equal(t, others, rest)
	g.mu.Lock()
	for _, v := range g.came {
		calls[v.call]++
	}
	g.mu.Unlock()
	hungUp, unseen := 0, 0
	for call, said := range w.calls {
		route, outcome, _ := strings.Cut(said, " ")
		if outcome == gone {
			hungUp++
			if seen[call] == "" {
				unseen++
			}
		} else if outcome != "reset" || seen[call] != route+" "+trapped { // the service broke off what a dead VM had let in
			require.Equal(t, said, seen[call], "call %s, as its client saw it and as Envoy did", call)
		}
		switch _, outcome, _ = strings.Cut(seen[call], " "); outcome {
		case "ok", "reset":
			require.Equal(t, 1, calls[call], "call %s: %s", call, outcome)
		case "aborted", trapped:
			require.LessOrEqual(t, calls[call], 1, "call %s: %s", call, outcome)
		default:
			require.Zero(t, calls[call], "call %s: %s", call, outcome)
		}
	}
	t.Logf("%d calls; %d clients hung up, of %d of them Envoy saw nothing", len(w.calls), hungUp, unseen)
}
