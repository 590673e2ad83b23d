//go:build linux

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Clients that hang up, with a permit or in the queue, leave nothing behind.
func TestPoolOfClientsThatLeave(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			poolOfClientsThatLeave(t, protocol)
		})
	}
}

func poolOfClientsThatLeave(t *testing.T, protocol string) {
	g := newGate(t)
	u := startUp(t, upConfig{workers: 4, policy: work(g, "maxConcurrency: 2, maxQueue: 20, maxWait: 60s").yaml()})
	another := func() *caller { return newCaller(t, u.listen) }
	if protocol == "HTTP/2" { // all over a few connections: a client's end is a stream's end
		var few []*caller
		for range 3 {
			c := newCaller(t, u.listen)
			c.http2()
			few = append(few, c)
		}
		next := 0
		another = func() *caller {
			next++
			return few[next%len(few)]
		}
	}
	for round := range 5 {
		var stay []*errand
		var leave []func()
		for range 2 {
			_, hangUp := sendUntil(t, another(), "/work", "leaves", nil)
			leave = append(leave, hangUp)
		}
		g.awaitHolds(t, "/work", 2)
		for range 4 {
			_, hangUp := sendUntil(t, another(), "/work", "leaves", nil)
			leave = append(leave, hangUp)
		}
		u.awaitWaiting("work", 4)
		for range 3 {
			stay = append(stay, send(t, another(), "/work", "stays", nil))
		}
		u.awaitWaiting("work", 7)
		for _, hangUp := range leave[2:] {
			hangUp()
		}
		u.awaitWaiting("work", 3)
		for _, hangUp := range leave[:2] {
			hangUp()
		}
		g.awaitCalls(t, "/work", 5*round+4)
		for range stay {
			eventually(t, soon, func() (bool, string) { return g.letGo("/work", 1, http.StatusOK) == 1, "nobody is inside" })
		}
		for _, e := range stay {
			require.Equal(t, http.StatusOK, e.wait(t).status)
		}
		require.Equal(t, 5*(round+1), g.calls("/work"), "a call of a client that had left was passed on")
	}
	u.awaitPool("work", 2, 0, 0)
	u.stop()
}

// A request waits with its body, however large: nothing of it is buffered up to
// a limit, or lost.
func TestPoolHoldsLargeBodies(t *testing.T) {
	t.Parallel()
	const size = 6 << 20
	g := newGate(t)
	u := startUp(t, upConfig{workers: 2, policy: work(g, "maxConcurrency: 1, maxQueue: 5, maxWait: 60s").yaml()})
	first := send(t, newCaller(t, u.listen), "/work", "first", nil)
	g.awaitHolds(t, "/work", 1)
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		c := newCaller(t, u.listen)
		if protocol == "HTTP/2" {
			c.http2()
		}
		c.body = strings.Repeat("0123456789abcdef", size/16)
		large := send(t, c, "/work", protocol, nil)
		u.awaitWaiting("work", 1)
		u.awaitBatches()
		require.True(t, large.pending())
		require.Equal(t, 1, g.letGo("/work", 1, http.StatusOK))
		require.Equal(t, http.StatusOK, first.wait(t).status)
		eventually(t, soon, func() (bool, string) { return g.last("/work").call == protocol, "it is not passed on" })
		require.EqualValues(t, size, g.last("/work").size)
		first = large
	}
	g.open("/work", http.StatusOK)
	require.Equal(t, http.StatusOK, first.wait(t).status)
	u.stop()
}

// An orderly end lets go out who is in, and lets in who waits.
func TestStopWithAQueue(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	u := startUp(t, upConfig{workers: 2, policy: work(g, "maxConcurrency: 2, maxQueue: 20, maxWait: 60s").yaml()})
	var all []*errand
	for i := range 8 {
		all = append(all, send(t, newCaller(t, u.listen), "/work", fmt.Sprint(i), nil))
	}
	g.awaitHolds(t, "/work", 2)
	u.awaitWaiting("work", 6)
	envoy := u.envoyPID()
	require.NoError(t, u.cmd.Process.Signal(syscall.SIGTERM))
	eventually(t, soon, func() (bool, string) {
		conn, err := net.Dial("tcp", u.listen)
		if err != nil {
			return true, ""
		}
		_ = conn.Close()
		return false, "it does not begin to end"
	})
	require.Equal(t, 2, g.holds("/work"))
	g.open("/work", http.StatusOK)
	for _, e := range all {
		require.Equal(t, http.StatusOK, e.wait(t).status)
	}
	u.requireStopped(envoy)
}

// Permits die with their Envoy: the next one's pool is whole.
func TestPoolOfAnEnvoyThatWasKilled(t *testing.T) {
	t.Parallel()
	const limit, queue = 3, 5
	g := newGate(t)
	u := startUp(t, upConfig{workers: 2, policy: work(g, fmt.Sprintf("maxConcurrency: %d, maxQueue: %d, maxWait: 50s", limit, queue)).yaml()})
	var all []*errand
	for i := range limit + queue {
		all = append(all, send(t, newCaller(t, u.listen), "/work", fmt.Sprint(i), nil))
	}
	g.awaitHolds(t, "/work", limit)
	u.awaitPool("work", limit, limit, queue)
	old := u.envoyPID()
	require.NoError(t, syscall.Kill(old, syscall.SIGKILL))
	for _, e := range all {
		<-e.done
		require.Error(t, e.err)
	}
	eventually(t, startLimit, func() (bool, string) {
		pid := u.envoyPID()
		return pid != 0 && pid != old && alive(pid) && get[status](u, "status").Nodes.Synced == 1, "no new Envoy"
	})
	u.requireWhole(g, limit, queue)
	u.stop()
}
