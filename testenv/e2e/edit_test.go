//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An edit that cannot be read changes nothing but what is said of it, and is
// forgotten once it is mended. A start over a broken folder serves what was
// accepted last.
func TestBrokenEdit(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	good := shop{endpoints: []string{service.Addr()}, routes: []route{{name: "charge"}}}
	u := startUp(t, upConfig{policy: good.yaml()})
	inForce := get[status](u, "status").PolicyHash
	require.Empty(t, list[finding](u, "policy/diagnostics"))
	c := newCaller(t, u.listen)

	broken := strings.Replace(good.yaml(), "timeout: {request: 10s}", "timeout: {request: soon}", 1)
	require.NotEqual(t, good.yaml(), broken)
	line := 1 + strings.Count(broken[:strings.Index(broken, "soon")], "\n")
	file := filepath.Join(u.cfg.policies, policyFile)
	requireRefused := func() {
		t.Helper()
		eventually(t, soon, func() (bool, string) {
			return len(list[finding](u, "policy/diagnostics")) > 0, "nothing is said of the broken edit"
		})
		all := list[finding](u, "policy/diagnostics")
		require.Len(t, all, 1)
		require.Equal(t, "error", all[0].Severity)
		require.Equal(t, file, all[0].File)
		require.Equal(t, line, all[0].Line)
		require.Regexp(t, `^SW\d{4}$`, all[0].Code)
		require.Equal(t, inForce, get[status](u, "status").PolicyHash)
		require.Equal(t, http.StatusOK, u.ready())
		require.Equal(t, http.StatusOK, c.call(t, "/charge").status)

		out, code := u.seawall("status")
		require.Zero(t, code)
		require.Contains(t, out, fmt.Sprintf("%s:%d:", file, line))
		require.Contains(t, out, "refused")
		eventually(t, soon, func() (bool, string) {
			log := u.stderr.String()
			return strings.Contains(log, file) && strings.Contains(log, fmt.Sprintf(`"line":%d`, line)), "the log does not name the place"
		})
	}
	writePolicy(t, u.cfg.policies, broken)
	requireRefused()

	// A control plane that starts now has nothing but the broken edit and what
	// it kept.
	u.stop()
	u.again()
	c = newCaller(t, u.listen)
	requireRefused()

	mended := good
	mended.routes = append(mended.routes, route{name: "refund"})
	require.Equal(t, http.StatusNotFound, c.call(t, "/refund").status)
	u.edit(mended.yaml())
	require.Empty(t, list[finding](u, "policy/diagnostics"))
	require.Equal(t, http.StatusOK, c.call(t, "/refund").status)
	out, _ := u.seawall("status")
	require.NotContains(t, out, "refused")
	u.stop()
}

// A folder that is emptied, or taken away, is a mistake and not a wish.
func TestPoliciesThatVanish(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	good := shop{endpoints: []string{service.Addr()}, routes: []route{{name: "charge"}}}
	u := startUp(t, upConfig{policy: good.yaml()})
	c := newCaller(t, u.listen)
	inForce := get[status](u, "status").PolicyHash

	removePolicy(t, u.cfg.policies)
	eventually(t, soon, func() (bool, string) {
		return len(list[finding](u, "policy/diagnostics")) > 0, "nothing is said of the missing policies"
	})
	require.Equal(t, inForce, get[status](u, "status").PolicyHash)
	require.Equal(t, http.StatusOK, c.call(t, "/charge").status)
	good.routes = append(good.routes, route{name: "refund"})
	u.edit(good.yaml())
	require.Empty(t, list[finding](u, "policy/diagnostics"))

	aside := u.cfg.policies + ".aside"
	move(t, u.cfg.policies, aside)
	eventually(t, soon, func() (bool, string) {
		return len(list[finding](u, "policy/diagnostics")) > 0, "nothing is said of the missing folder"
	})
	require.Equal(t, http.StatusOK, c.call(t, "/refund").status)
	good.routes = append(good.routes, route{name: "offers"})
	writePolicy(t, aside, good.yaml())
	move(t, aside, u.cfg.policies)
	eventually(t, soon, func() (bool, string) {
		return len(list[finding](u, "policy/diagnostics")) == 0 && c.call(t, "/offers").status == http.StatusOK, "the folder that is back is not read"
	})
	u.stop()
}
