//go:build linux

package e2e

import (
	"errors"
	"net/http"
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
				// Once the port is closed there is nobody to connect to. All
				// else would be a request that was let in and not answered.
				require.True(t, errors.Is(f.err, syscall.ECONNREFUSED), "a request was lost: %v", f.err)
			}
			require.NotEmpty(t, l.failures(), "the port is still open")
			now := time.Now().Unix() / 60
			require.Equal(t, calls.plus(tally{"slow ok": 1}), u.stored(now-5, now+1))
			require.Equal(t, 0, u.ready())
		})
	}
}
