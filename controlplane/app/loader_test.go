package app

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

const shopPolicy = `apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: shop}
spec: {hosts: [shop.local], endpoints: [{address: 127.0.0.1, port: 9001}]}
---
apiVersion: seawall.io/v1alpha1
kind: ResiliencePolicy
metadata: {name: shop}
spec:
  service: shop
  routes: [{name: buy, timeout: {request: %ds}, breaker: {}}]
`

// loading is a loader over one file, with what it applied last.
type loading struct {
	*loader
	t *testing.T

	mu    sync.Mutex
	last  load
	times int

	remembered []string // how often was applied before, and the routes
}

func newLoading(t *testing.T) *loading {
	dir := t.TempDir()
	l := &loading{t: t}
	l.loader = &loader{
		log: slog.New(slog.DiscardHandler), paths: []string{filepath.Join(dir, "shop.yaml")}, listen: "127.0.0.1:10000", accepted: filepath.Join(dir, acceptedFile),
		apply: func(next load) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.last = next
			l.times++
		},
		remember: func(routes []telemetry.Route) error {
			l.remembered = append(l.remembered, fmt.Sprint(l.times, routes))
			return errors.New("disk full")
		},
	}
	l.write(1)
	return l
}

func (l *loading) write(seconds int) {
	l.t.Helper()
	require.NoError(l.t, os.WriteFile(l.paths[0], fmt.Appendf(nil, shopPolicy, seconds), 0o600))
}

// route is the route of the plan that was applied last.
func (l *loading) route() contract.Route {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	plan, err := contract.ParsePlan(l.last.model.Edges[0].Filter.PlanJSON)
	require.NoError(l.t, err)
	return plan.Routes[0]
}

func buyOverride(state string, length time.Duration) override.Override {
	return override.Override{Key: override.Key{Kind: override.Breaker, Service: "shop", Route: "buy"}, State: state, Until: time.Now().Add(length)}
}

// TestOverridesOutliveEdits: an override is put into force on the policies in
// force, stays over an edit, and goes again when it is lifted.
func TestOverridesOutliveEdits(t *testing.T) {
	t.Parallel()
	l := newLoading(t)
	require.NoError(t, l.force([]override.Override{buyOverride("open", time.Hour)}))
	require.Zero(t, l.times, "there is nothing to force yet")
	require.NoError(t, l.first())
	require.Equal(t, "open", l.route().Breaker.Override.State, "those of an earlier run are in the first push")
	require.True(t, l.known(override.Key{Kind: override.Breaker, Service: "shop", Route: "buy"}))
	require.False(t, l.known(override.Key{Kind: override.Breaker, Service: "shop", Route: "sell"}))

	at := l.current().at
	require.NoError(t, l.force([]override.Override{buyOverride("closed", time.Hour)}))
	require.Equal(t, "closed", l.route().Breaker.Override.State)
	require.Equal(t, at, l.current().at, "no load of policies")

	l.write(2)
	_, err := l.load(l.paths)
	require.NoError(t, err)
	require.Equal(t, int64(2*time.Second), l.route().TimeoutNS)
	require.Equal(t, "closed", l.route().Breaker.Override.State)

	require.NoError(t, l.force(nil))
	require.Nil(t, l.route().Breaker.Override)
	require.Equal(t, int64(2*time.Second), l.route().TimeoutNS)
}

// TestTheNewestOfAllIsApplied: edits and overrides at the same time end with the
// last of each.
func TestTheNewestOfAllIsApplied(t *testing.T) {
	t.Parallel()
	l := newLoading(t)
	require.NoError(t, l.first())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 50 {
			l.write(i + 1)
			if _, err := l.load(l.paths); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for i := range 50 {
			if err := l.force([]override.Override{buyOverride([]string{"closed", "open"}[i%2], time.Hour)}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	require.Equal(t, int64(50*time.Second), l.route().TimeoutNS)
	require.Equal(t, "open", l.route().Breaker.Override.State)
}

// TestRoutesAreRememberedBeforeTheyAreInForce: what a filter counts of them is
// believed after a kill. A disk that is full stops no edit.
func TestRoutesAreRememberedBeforeTheyAreInForce(t *testing.T) {
	t.Parallel()
	l := newLoading(t)
	require.NoError(t, l.first())
	raw, err := os.ReadFile(l.paths[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.paths[0], bytes.Replace(raw, []byte("name: buy"), []byte("name: purchase"), 1), 0o600))
	_, err = l.load(l.paths)
	require.NoError(t, err)
	require.Equal(t, 2, l.times)
	require.Len(t, l.remembered, 2)
	require.Regexp(t, "^0 .*{shop buy}", l.remembered[0])
	require.Regexp(t, "^1 .*{shop purchase}", l.remembered[1])
}

// TestAnOverrideOfAGateCompilesNothing: it is of no plan.
func TestAnOverrideOfAGateCompilesNothing(t *testing.T) {
	t.Parallel()
	l := newLoading(t)
	require.NoError(t, l.first())
	times := l.times
	gate := override.Override{Key: override.Key{Kind: override.Release, Service: "shop"}, State: "deny", Until: time.Now().Add(time.Hour)}
	require.NoError(t, l.force([]override.Override{gate}))
	require.Equal(t, times, l.times)
	require.NoError(t, l.force([]override.Override{buyOverride("open", time.Hour), gate}))
	require.Equal(t, times+1, l.times)
	require.True(t, l.known(gate.Key))
	require.False(t, l.known(override.Key{Kind: override.Release, Service: "nosuch"}))
}

// An address that the user asks for and an Edge makes void is told, one that
// nobody asked for is not.
func TestAListenAddressThatAnEdgeMakesVoidIsTold(t *testing.T) {
	t.Parallel()
	const edge = "---\napiVersion: seawall.io/v1alpha1\nkind: Edge\nmetadata: {name: front}\nspec: {listeners: [{port: 10001}]}\n"
	for _, tc := range []struct{ asked, edge, told bool }{{true, true, true}, {true, false, false}, {false, true, false}} {
		l := newLoading(t)
		var log bytes.Buffer
		l.log, l.listenAsked = slog.New(slog.NewTextHandler(&log, nil)), tc.asked
		if tc.edge {
			require.NoError(t, os.WriteFile(l.paths[0], []byte(fmt.Sprintf(shopPolicy, 1)+edge), 0o600))
		}
		require.NoError(t, l.first())
		require.Equal(t, tc.told, strings.Contains(log.String(), "--listen is not used"), "%+v: %s", tc, log.String())
	}
}
