//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// The control plane is killed right after edits, again and again, under load:
// each time it comes back to the same Envoy, what was saved last is what is
// served, and no request is lost or counted twice.
func TestControlPlaneKilledWhilePushing(t *testing.T) {
	t.Parallel()
	const kills = 6
	service := newUpstream(t)
	service.Set("/broken", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	version := func(i int) shop {
		s := shop{endpoints: []string{service.Addr()}, slo: true, routes: []route{
			{name: "steady", breaker: breaker(5, "1h")}, {name: "broken", breaker: breaker(5, "1h")},
			// The route of the same calls has another name each time.
			{name: fmt.Sprintf("guest-%d", i), path: "/guest"},
		}}
		return s
	}
	u := startUp(t, upConfig{policy: version(0).yaml()})
	opener := newCaller(t, u.listen)
	for range 5 {
		require.False(t, opener.call(t, "/broken").refused())
	}
	u.awaitBreaker("broken", "open")
	envoy := u.envoyPID()
	l := startLoad(t, u.listen, 6, "/steady/1", "/broken/1", "/guest/1")
	for i := 1; i <= kills; i++ {
		inForce := get[status](u, "status").PolicyHash
		writePolicy(t, u.cfg.policies, version(i).yaml())
		// Once it is loaded, the push is under way; every other time not even that.
		eventually(t, soon, func() (bool, string) {
			return i%2 == 0 || get[status](u, "status").PolicyHash != inForce, "the edit is not seen"
		})
		u.kill()
		if i%3 == 0 { // and edited once more while it is away
			writePolicy(t, u.cfg.policies, version(100+i).yaml())
		}
		l.awaitMore(t, 50)
		u.again()
		require.Equal(t, envoy, u.envoyPID(), "another Envoy")
		l.awaitMore(t, 50)
		require.Empty(t, l.failures(), "after kill %d", i)
	}
	calls := l.stop()
	require.Equal(t, []string{"broken breaker-open", "guest ok", "steady ok"}, calls.names())
	require.EqualValues(t, 5, service.Calls("/broken"))
	u.awaitBreaker("broken", "open")

	want := calls.plus(tally{"broken 5xx": 5})
	sum := func() tally {
		got := tally{}
		for _, row := range list[trafficRow](u, "traffic?window=15m") {
			for outcome, n := range row.Outcomes {
				route := row.Route
				if len(route) > 5 && route[:5] == "guest" {
					route = "guest"
				}
				got[route+" "+outcome] += int(n)
			}
		}
		return got
	}
	eventually(t, soon, func() (bool, string) {
		got := sum()
		return got.equal(want), fmt.Sprintf("traffic is %v, not %v", got, want)
	})
	u.awaitBatches()
	require.Equal(t, want, sum())
	require.EqualValues(t, want.total(), list[objective](u, "slos")[0].Total)
	u.stop()
}

// Both are killed, as by a machine that loses its power: the next start has a
// new Envoy, the same data, and nothing twice.
func TestBothKilled(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	u := startUp(t, upConfig{policy: shop{endpoints: []string{service.Addr()}, slo: true, routes: []route{{name: "steady"}}}.yaml()})
	c := newCaller(t, u.listen)
	for range 50 {
		require.Equal(t, http.StatusOK, c.call(t, "/steady").status)
	}
	u.awaitOutcomes(tally{"steady ok": 50})
	old := u.envoyPID()
	require.NoError(t, u.cmd.Process.Kill())
	require.NoError(t, syscall.Kill(old, syscall.SIGKILL))
	<-u.exited

	u.again()
	require.NotEqual(t, old, u.envoyPID())
	require.Len(t, processesBelow(filepath.Join(u.cfg.data, "envoy")), 1)
	c = newCaller(t, u.listen)
	for range 50 {
		require.Equal(t, http.StatusOK, c.call(t, "/steady").status)
	}
	u.awaitOutcomes(tally{"steady ok": 100})
	u.stop()
}

// A control plane that comes back on other addresses cannot be found by the
// Envoy that was left: that one is drained and replaced, never doubled.
func TestBackOnOtherAddresses(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	u := startUp(t, upConfig{policy: shop{endpoints: []string{service.Addr()}, routes: []route{{name: "steady"}}}.yaml()})
	old := u.envoyPID()
	u.kill()
	require.True(t, alive(old))
	listen := u.listen
	u.cfg.addresses = addresses{listen: listen}
	u.launch()
	u.awaitServed()
	require.Equal(t, listen, u.listen, "clients find it where it was")
	require.NotEqual(t, old, u.envoyPID())
	require.False(t, alive(old), "two data planes")
	require.Len(t, processesBelow(filepath.Join(u.cfg.data, "envoy")), 1)
	require.Equal(t, http.StatusOK, newCaller(t, u.listen).call(t, "/steady").status)
	u.stop()
}
