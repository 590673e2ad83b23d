//go:build linux

package e2e

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// An orderly end under load, with a slow request in flight: whatever was let
// in is answered and counted.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		send func(u *up) error
	}{
		{"SIGTERM", func(u *up) error { return u.cmd.Process.Signal(syscall.SIGTERM) }},
		// As a terminal does it: to all of the group.
		{"Ctrl-C", func(u *up) error { return syscall.Kill(-u.cmd.Process.Pid, syscall.SIGINT) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			service := newUpstream(t)
			service.Set("/slow", upstream.Behaviour{Latency: 3 * time.Second})
			u := startUp(t, upConfig{policy: shop{endpoints: []string{service.Addr()}, routes: []route{{name: "steady"}, {name: "slow"}}}.yaml()})
			l := startLoad(t, u.listen, 8, "/steady/1")
			slow := make(chan answer, 1)
			go func() {
				a, err := newCaller(t, u.listen).try("/slow", nil)
				if err != nil {
					t.Error(err)
				}
				slow <- a
			}()
			eventually(t, soon, func() (bool, string) { return service.Calls("/slow") == 1, "no slow call" })
			l.awaitMore(t, 100)

			envoy := u.envoyPID()
			require.NoError(t, tc.send(u))
			u.requireStopped(envoy)
			calls := l.stop()
			require.Equal(t, http.StatusOK, (<-slow).status)
			for _, f := range l.failures() {
				// Once the port is closed there is nobody to connect to, and the
				// kernel resets what nobody has accepted yet. All else would be a
				// request that was let in and not answered.
				refused, reset := errors.Is(f.err, syscall.ECONNREFUSED), errors.Is(f.err, syscall.ECONNRESET) && !f.reused
				require.True(t, refused || reset, "a request was lost: %v (a used connection: %t)", f.err, f.reused)
			}
			require.NotEmpty(t, l.failures(), "the port is still open")
			require.EqualValues(t, calls["steady ok"], service.Calls("/steady"), "requests that reached the upstream and were not answered")
			now := time.Now().Unix() / 60
			require.Equal(t, calls.plus(tally{"slow ok": 1}), u.stored(now-5, now+1))
			require.Equal(t, 0, u.ready())
		})
	}
}

// A request that never ends does not keep the machine from going down: it is
// cut, in time.
func TestStopDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/endless", upstream.Behaviour{Hang: true})
	u := startUp(t, upConfig{policy: shop{endpoints: []string{service.Addr()}, routes: []route{{name: "steady"}, {name: "endless", timeout: "10m"}}}.yaml()})
	cut := make(chan error, 1)
	go func() {
		_, err := newCaller(t, u.listen).try("/endless", nil)
		cut <- err
	}()
	eventually(t, soon, func() (bool, string) { return service.Calls("/endless") == 1, "no endless call" })
	for range 10 {
		require.Equal(t, http.StatusOK, newCaller(t, u.listen).call(t, "/steady").status)
	}
	u.stop()
	require.Error(t, <-cut)
	now := time.Now().Unix() / 60
	stored := u.stored(now-5, now+1)
	require.Equal(t, 10, stored["steady ok"])
	require.Equal(t, 10, stored.total(), "%v", stored)
}

// Who changes their mind while it starts leaves nothing behind.
func TestStopDuringStart(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		until func(u *up) bool
	}{
		{"at once", func(*up) bool { return true }},
		{"data folder locked", func(u *up) bool { return exists(filepath.Join(u.cfg.data, "lock")) }},
		{"bootstrap written", func(u *up) bool { return exists(filepath.Join(u.cfg.data, "envoy", "bootstrap.json")) }},
		{"envoy started", func(u *up) bool { return u.envoyPID() != 0 }},
		{"envoy's admin known", func(u *up) bool { return exists(filepath.Join(u.cfg.data, "envoy", "admin-address")) }},
		{"node connected", func(u *up) bool { return strings.Contains(u.stderr.String(), "node-connected") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u := launchUp(t, upConfig{policy: shop{endpoints: []string{"127.0.0.1:9"}, routes: []route{{name: "charge"}}}.yaml()})
			eventually(t, startLimit, func() (bool, string) { return tc.until(u), "it does not come so far" })
			started := time.Now()
			require.NoError(t, u.cmd.Process.Signal(syscall.SIGTERM))
			select {
			case <-u.exited:
			case <-time.After(3 * stopLimit):
				t.Fatal("up does not end")
			}
			require.Less(t, time.Since(started), stopLimit)
			if tc.name != "at once" { // the signal may come before anybody listens for it
				require.Equal(t, 0, u.cmd.ProcessState.ExitCode(), "%s\n%s", u.cmd.ProcessState, u.stderr)
			}
			require.Empty(t, processesBelow(u.cfg.data), "processes that are left over")
			require.Empty(t, u.stdout.String(), "it says that it serves")
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
