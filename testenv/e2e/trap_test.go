//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// headerTrapdoor lets the VM die that sees it (filter/trapdoor.go), at one of
// trapdoors.
const headerTrapdoor = "x-trapdoor"

var trapdoors = []string{"headers", "unwritten", "written"}

// trapdoorBinary is a seawall whose filter is the one with a trapdoor.
func trapdoorBinary(t testing.TB) string {
	t.Helper()
	binary, err := buildTrapdoor()
	require.NoError(t, err)
	return binary
}

var buildTrapdoor = sync.OnceValues(func() (binary string, err error) {
	dir := filepath.Dir(seawallBinary)
	wasm, overlay := filepath.Join(dir, "trapdoor.wasm"), filepath.Join(dir, "overlay.json")
	binary = filepath.Join(dir, "seawall-trapdoor")
	build := func(env string, args ...string) error {
		cmd := exec.Command("go", append([]string{"build", "-trimpath"}, args...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if env != "" {
			cmd.Env = append(cmd.Env, strings.Fields(env)...)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %v: %w\n%s", args, err, out)
		}
		return nil
	}
	if err := build("GOOS=wasip1 GOARCH=wasm", "-buildmode=c-shared", "-tags=trapdoor", "-ldflags=-s -w", "-o", wasm, "../../filter"); err != nil {
		return "", err
	}
	embedded, err := filepath.Abs("../../filter/module/dist/filter.wasm")
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {embedded: wasm}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return "", err
	}
	return binary, build("", "-overlay", overlay, "-o", binary, "../../controlplane/cmd/seawall")
})

// trap is one death of a VM, some time in between.
type trap struct{ from, to time.Time }

// mayLose reports whether a request may have been counted by the VM that died,
// and by nobody else: it was under way then, or had ended so shortly before that
// the count was not parked yet.
func (p trap) mayLose(s sighting) bool {
	const notParked = time.Second
	return s.end().After(p.from.Add(-notParked)) && s.Start.Before(p.to)
}

// letTrap makes a VM die, whichever gets the call.
func (u *up) letTrap(where, call string) (p trap) {
	u.t.Helper()
	header := named(call)
	header.Set(headerTrapdoor, where)
	header.Set(headerTake, "5ms")
	before := u.traps()
	p.from = time.Now()
	a, err := newCaller(u.t, u.listen).try("/work", header)
	require.NoError(u.t, err)
	eventually(u.t, soon, func() (bool, string) {
		return u.traps() > before, fmt.Sprintf("no VM died of %s; it was answered %d %s", where, a.status, a.body)
	})
	p.to = time.Now()
	return p
}

// traps is how many VMs have died, as Envoy's log has it.
func (u *up) traps() int {
	return strings.Count(readFile(filepath.Join(u.cfg.data, "envoy", "envoy.log")), "unlock of unlocked mutex")
}

// trap is letTrap in a storm, whose gate need not count the call.
func (w *storm) trap(u *up, g *gate, where string) trap {
	u.t.Helper()
	name := fmt.Sprintf("trap %d at %s", u.traps(), where)
	g.excuse(name)
	w.mu.Lock()
	w.calls[name] = "trap " + gone // whatever it sees
	w.mu.Unlock()
	return u.letTrap(where, name)
}

// A VM traps while it has a pool's permits and waiters. Its calls go on, and
// their permits are nobody else's for as long as they may run and five seconds
// more; whoever called or waited in it is answered, none before or after its
// time; and then the pool is whole.
func TestPoolOfAVMThatTraps(t *testing.T) {
	t.Parallel()
	const limit, queue = 3, 5
	const timeout, held = 2 * time.Second, 7 * time.Second
	for _, where := range trapdoors {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			g := newGate(t)
			policy := func(patience string) string {
				return work(g, fmt.Sprintf("maxConcurrency: %d, maxQueue: %d, %s", limit, queue, patience)).yaml()
			}
			u := startUp(t, upConfig{workers: 1, binary: trapdoorBinary(t), policy: policy("maxWait: 1900ms, timeout: 2s")})
			began := time.Now()
			var inside, waiters []*errand
			for range limit {
				inside = append(inside, send(t, newCaller(t, u.listen), "/work", "held", nil))
			}
			g.awaitHolds(t, "/work", limit)
			for range queue - 1 {
				waiters = append(waiters, send(t, newCaller(t, u.listen), "/work", "waits", nil))
			}
			u.awaitWaiting("work", queue-1)
			u.letTrap(where, "trap")
			require.Less(t, time.Since(began), timeout, "too slow for what this test is about")
			require.Equal(t, limit, g.holds("/work"), "the calls go on")
			g.open("/work", http.StatusOK)
			for _, e := range inside {
				a := e.wait(t)
				require.Equal(t, http.StatusServiceUnavailable, a.status)
				require.Equal(t, typeBase+"proxy-error", a.problem.Type)
			}

			// Nobody gets in meanwhile.
			c := newCaller(t, u.listen)
			for a := (answer{}); a.status != http.StatusOK; {
				require.Less(t, time.Since(began), held+soon, "the permits do not come back")
				a = c.call(t, "/work")
			}
			require.GreaterOrEqual(t, time.Since(began), held, "a permit of the dead VM was given away")
			for _, e := range waiters {
				require.Equal(t, http.StatusServiceUnavailable, e.wait(t).status)
				require.Less(t, e.took, held+3*time.Second, "a waiter is stranded")
			}
			require.Equal(t, limit+1, g.calls("/work"), "a waiter of the dead VM was let in")
			g.shut("/work")
			u.edit(policy("maxWait: 50s"))
			u.requireWhole(g, limit, queue)
			u.stop()
		})
	}
}
