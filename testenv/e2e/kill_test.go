//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/store/sqlite"
	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// The control plane is killed under load, stays away over the end of a minute,
// and comes back over the same data: traffic and protection go on, the same
// Envoy is adopted, and no request is lost, counted twice or counted in
// another minute than its own.
func TestControlPlaneKilled(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/broken", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	u := startUp(t, upConfig{policy: shop{endpoints: []string{service.Addr()}, slo: true, routes: []route{
		{name: "steady", breaker: breaker(5, "1h")}, {name: "broken", breaker: breaker(5, "1h")},
	}}.yaml()})
	opener := newCaller(t, u.listen)
	for range 5 {
		require.False(t, opener.call(t, "/broken").refused())
	}
	u.awaitBreaker("broken", "open")
	envoy := u.envoyPID()

	// A few seconds before a minute ends.
	eventually(t, 2*time.Minute, func() (bool, string) {
		s := time.Now().Second()
		return s >= 54 && s < 57, "a minute does not end"
	})
	minute := time.Now().Unix() / 60
	first := tally{"broken 5xx": 5} // a minute ago, or now: see below
	l := startLoad(t, u.listen, 8, "/steady/1", "/broken/1")
	l.awaitMore(t, 100)
	u.kill()
	l.awaitMore(t, 200)
	// Around the end of the minute nobody calls, so that each call is of one
	// minute by any clock.
	eventually(t, soon, func() (bool, string) {
		return time.Now().Unix()/60 > minute || time.Until(time.Unix((minute+1)*60, 0)) < 300*time.Millisecond, "the minute does not end"
	})
	resume := l.pause()
	before := l.seen()
	eventually(t, soon, func() (bool, string) {
		return time.Now().After(time.Unix((minute+1)*60, 300e6)), "no new minute begins"
	})
	resume()
	l.awaitMore(t, 500)
	require.True(t, alive(envoy))
	require.EqualValues(t, 5, service.Calls("/broken"), "calls through the open breaker while nobody controls it")

	u.again()
	require.Equal(t, envoy, u.envoyPID(), "another Envoy")
	require.Len(t, processesBelow(filepath.Join(u.cfg.data, "envoy")), 1, "data planes over one folder")
	l.awaitMore(t, 200)
	calls := l.stop()
	require.Less(t, time.Now().Unix()/60, minute+2, "too slow for what this test is about")
	require.Empty(t, l.failures(), "requests that were lost")
	require.Equal(t, []string{"broken breaker-open", "steady ok"}, calls.names())
	require.EqualValues(t, 5, service.Calls("/broken"))
	u.awaitBreaker("broken", "open")

	u.awaitOutcomes(calls.plus(first))
	o := list[objective](u, "slos")[0]
	require.EqualValues(t, calls.plus(first).total(), o.Total)
	require.EqualValues(t, calls["broken breaker-open"]+first.total(), o.Bad)
	u.stop()

	inFirst, inSecond := u.stored(minute-1, minute+1), u.stored(minute+1, minute+2)
	require.Equal(t, before.plus(first), inFirst, "counts of the minute in which it was killed, and before")
	after := tally{}
	for k, n := range calls {
		after[k] = n - before[k]
	}
	require.Equal(t, after, inSecond, "counts of the minute in which it came back")
	t.Logf("%v before the end of the minute, %v after it", before, after)
}

// stored are the counts from one minute to before another, as they lie on disk.
func (u *up) stored(from, to int64) tally {
	u.t.Helper()
	s, err := sqlite.Open(u.t.Context(), filepath.Join(u.cfg.data, "telemetry.db"))
	require.NoError(u.t, err)
	defer func() { require.NoError(u.t, s.Close()) }()
	sums, err := s.Sums(u.t.Context(), []int64{from, to}, false)
	require.NoError(u.t, err)
	counts := tally{}
	for _, c := range sums[0].Cells {
		require.False(u.t, c.Coarse, "counts that have lost their minute")
		counts[c.Route+" "+c.Outcome] += int(c.N)
	}
	return counts
}

// Envoy is killed under load: it is back by itself and synced, its breakers
// start anew and the API says so, and what was counted is what it had sent.
func TestEnvoyKilled(t *testing.T) {
	t.Parallel()
	const (
		period = 3 * time.Second        // whatever is counted is sent within
		onWay  = 500 * time.Millisecond // from the making of a batch to its being stored
	)
	service := newUpstream(t)
	service.Set("/broken", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	u := startUp(t, upConfig{policy: shop{endpoints: []string{service.Addr()}, slo: true, routes: []route{
		{name: "steady", breaker: breaker(5, "1h")}, {name: "broken", breaker: breaker(5, "1h")},
	}}.yaml()})
	opener := newCaller(t, u.listen)
	for range 5 {
		require.False(t, opener.call(t, "/broken").refused())
	}
	u.awaitBreaker("broken", "open")
	old := u.envoyPID()

	l := startLoad(t, u.listen, 8, "/steady/1")
	u.awaitBatches()
	l.awaitMore(t, 300)
	killed := time.Now()
	require.NoError(t, syscall.Kill(old, syscall.SIGKILL))
	eventually(t, soon, func() (bool, string) { return !alive(old), "it does not die" })
	flushed := time.Now() // when the worker that sent its last batch first sent it
	for _, w := range u.node().Workers {
		if w.LastSeen.Before(flushed) {
			flushed = w.LastSeen
		}
	}
	require.Less(t, killed.Sub(flushed), period)
	eventually(t, startLimit, func() (bool, string) {
		pid := u.envoyPID()
		return pid != 0 && pid != old && alive(pid), "no new Envoy"
	})
	eventually(t, startLimit, func() (bool, string) {
		st := get[status](u, "status")
		return st.Nodes.Synced == 1 && len(l.failures()) > 0 && u.breaker("broken").State == "closed",
			fmt.Sprintf("%d nodes synced, breaker %s", st.Nodes.Synced, u.breaker("broken").State)
	})
	require.Len(t, processesBelow(filepath.Join(u.cfg.data, "envoy")), 1, "data planes over one folder")
	l.awaitMore(t, 300)
	calls := l.stop()

	// The breaker starts anew: five more calls get through.
	service.Forget()
	for range 5 {
		require.False(t, opener.call(t, "/broken").refused())
	}
	require.True(t, opener.call(t, "/broken").refused())
	require.EqualValues(t, 5, service.Calls("/broken"))
	u.awaitBreaker("broken", "open")

	late := 0 // answered after what was sent last, by the Envoy that was killed
	for _, c := range l.calls {
		if c.done.After(flushed.Add(-onWay)) && c.sent.Before(killed) {
			late++
		}
	}
	var got tally
	eventually(t, soon, func() (bool, string) {
		got = u.outcomes()
		return got["broken 5xx"] >= 10 && got["broken breaker-open"] >= 1, fmt.Sprintf("traffic is %v", got)
	})
	u.awaitBatches()
	got = u.outcomes()
	t.Logf("%d answered, %d counted; %d since the last batch, %s before the kill", calls["steady ok"], got["steady ok"], late, killed.Sub(flushed))
	require.Equal(t, 10, got["broken 5xx"])
	require.Equal(t, 1, got["broken breaker-open"])
	require.LessOrEqual(t, got["steady ok"], calls["steady ok"]+len(l.failures()), "more was counted than was called")
	require.GreaterOrEqual(t, got["steady ok"], calls["steady ok"]-late, "counts are lost that had been sent")
	require.Empty(t, got["steady 5xx"]+got["steady reset"], "requests that failed otherwise")
	u.stop()
}
