//go:build linux

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// An operator forces breakers on a running data plane: it is effective on every
// worker at once, moves no other breaker, and is in the audit log.
func TestBreakersAreForcedByHand(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/broken", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	u := startUp(t, upConfig{workers: 4, policy: shop{endpoints: []string{service.Addr()}, routes: []route{
		{name: "steady", breaker: breaker(5, "1h")}, {name: "broken", breaker: breaker(5, "1h")},
	}}.yaml()})
	c := newCaller(t, u.listen).fresh()
	for k := range 6 {
		require.Equal(t, k == 5, c.call(t, "/broken").refused())
	}

	force := func(args ...string) {
		t.Helper()
		out, code := u.seawall(append([]string{"breakers"}, args...)...)
		require.Zero(t, code, out)
	}
	settles := func(path string, refused bool) {
		t.Helper()
		eventually(t, soon, func() (bool, string) { return c.call(t, path).refused() == refused, path + " is not as it was forced" })
		for range 40 {
			require.Equal(t, refused, c.call(t, path).refused(), path)
		}
	}
	force("open", "shop/steady", "--reason", "drill", "--for", "1h")
	settles("/steady", true)
	force("close", "shop/broken", "--reason", "drill", "--for", "1h")
	settles("/broken", false)
	force("reset", "shop/steady", "--reason", "over")
	settles("/steady", false)
	force("reset", "shop/broken", "--reason", "over")
	settles("/broken", true) // as it was before: nothing has moved it meanwhile

	out, code := u.seawall("audit")
	require.Zero(t, code, out)
	require.Equal(t, 2, strings.Count(out, "breaker-reset"), out)
}

// A forced breaker ends by itself while nobody is there to end it.
func TestAnOverrideEndsWithoutAControlPlane(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	u := startUp(t, upConfig{workers: 2, policy: shop{endpoints: []string{service.Addr()}, routes: []route{{name: "steady", breaker: breaker(5, "1h")}}}.yaml()})
	c := newCaller(t, u.listen).fresh()
	const length = 6 * time.Second
	before := time.Now()
	out, code := u.seawall("breakers", "open", "shop/steady", "--reason", "drill", "--for", "6s")
	set := time.Now()
	require.Zero(t, code, out)
	eventually(t, length/2, func() (bool, string) { return c.call(t, "/steady").refused(), "it is not forced open" })
	u.kill()

	var ended time.Time
	eventually(t, 2*length, func() (bool, string) {
		ended = time.Now()
		return !c.call(t, "/steady").refused(), "it is still forced open"
	})
	require.Greater(t, ended.Sub(before), length-100*time.Millisecond, "ended too early")
	require.Less(t, ended.Sub(set), length+time.Second, "ended too late")
	for range 20 {
		require.False(t, c.call(t, "/steady").refused())
	}
	u.again()
	eventually(t, soon, func() (bool, string) {
		out, code := u.seawall("audit")
		return code == 0 && strings.Contains(out, "breaker-override-expired"), out
	})
	require.False(t, c.call(t, "/steady").refused(), "a restart has brought it back")
}
