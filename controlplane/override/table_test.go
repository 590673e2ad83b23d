package override_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var charge, refund = override.Key{Kind: override.Breaker, Service: "payments", Route: "charge"}, override.Key{Kind: override.Breaker, Service: "payments", Route: "refund"}

// world is a Table over a real store, in virtual time where the test runs in a
// bubble of synctest.
type world struct {
	t     *testing.T
	store *sqlite.Store
	table *override.Table

	mu     sync.Mutex
	pushes []string // the overrides in force at each push
	refuse error    // of Changed
}

func open(t *testing.T, path string) *world {
	t.Helper()
	store, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	w := &world{t: t, store: store}
	w.table, err = override.Load(t.Context(), override.Config{
		Log: slog.New(slog.DiscardHandler), Store: store, Now: time.Now,
		Known: func(k override.Key) bool { return k == charge || k == refund },
		Changed: func(list []override.Override) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			var forced []string
			for _, o := range list {
				forced = append(forced, o.Route+" "+o.State)
			}
			w.pushes = append(w.pushes, strings.Join(forced, ", "))
			return w.refuse
		},
	})
	require.NoError(t, err)
	return w
}

func (w *world) close() { require.NoError(w.t, w.store.Close()) }

func (w *world) pushed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.pushes...)
}

func (w *world) set(k override.Key, state string, length time.Duration) override.Override {
	w.t.Helper()
	o, err := w.table.Set(w.t.Context(), override.Request{Key: k, State: state, Reason: "drill", By: "ada", For: length}, override.Precondition{})
	require.NoError(w.t, err)
	return o
}

func (w *world) audit() (lines []string) {
	w.t.Helper()
	entries, err := w.store.Audit(w.t.Context(), 0, 100)
	require.NoError(w.t, err)
	for i := range entries {
		e := entries[len(entries)-1-i]
		lines = append(lines, fmt.Sprintf("%s %s by %s", e.Action, e.Subject, e.By))
	}
	return lines
}

// TestAnOverrideEndsByItself: at its time, not a moment later, and it is taken
// out of the policies and off the store.
func TestAnOverrideEndsByItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	synctest.Test(t, func(t *testing.T) {
		w := open(t, path)
		defer w.close()
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- w.table.Run(ctx) }()

		w.set(charge, override.Open, 10*time.Minute)
		w.set(refund, override.Closed, 2*time.Hour)
		<-time.After(10*time.Minute - time.Millisecond)
		synctest.Wait()
		require.Len(t, w.table.InForce(), 2)
		<-time.After(2 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, []string{"charge open", "charge open, refund closed", "refund closed"}, w.pushed())
		_, still := w.table.Get(charge)
		require.False(t, still)
		<-time.After(2 * time.Hour)
		synctest.Wait()
		require.Empty(t, w.pushed()[3])
		require.Equal(t, []string{
			"breaker-open breakers/payments/charge by ada", "breaker-closed breakers/payments/refund by ada",
			"breaker-override-expired breakers/payments/charge by seawall", "breaker-override-expired breakers/payments/refund by seawall",
		}, w.audit())
		stop()
		require.NoError(t, <-ran)
	})
}

// TestOverridesOutliveARestart: those that expire meanwhile are in no push, and
// the log says that they ended.
func TestOverridesOutliveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	synctest.Test(t, func(t *testing.T) {
		first := open(t, path)
		first.set(charge, override.Open, 10*time.Minute)
		kept := first.set(refund, override.Closed, time.Hour)
		first.close()

		<-time.After(30 * time.Minute)
		w := open(t, path)
		defer w.close()
		require.Equal(t, []override.Override{kept}, w.table.InForce())
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- w.table.Run(ctx) }()
		synctest.Wait()
		require.Equal(t, []string{"refund closed"}, w.pushed())
		require.Equal(t, "breaker-override-expired breakers/payments/charge by seawall", w.audit()[2])
		require.NotEqual(t, kept.Version, w.set(charge, override.Open, time.Minute).Version)
		stop()
		require.NoError(t, <-ran)
	})
}

func TestPreconditions(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "seawall.db"))
	defer w.close()
	request := override.Request{Key: charge, State: override.Open, Reason: "r", For: time.Minute}
	try := func(p override.Precondition) error {
		_, err := w.table.Set(t.Context(), request, p)
		return err
	}
	require.ErrorIs(t, try(override.Precondition{Any: true}), override.ErrChanged)
	require.ErrorIs(t, try(override.Precondition{Tags: []string{"1"}}), override.ErrChanged)
	require.NoError(t, try(override.Precondition{None: true}))
	require.ErrorIs(t, try(override.Precondition{None: true}), override.ErrChanged)
	require.NoError(t, try(override.Precondition{Any: true}))
	o, ok := w.table.Get(charge)
	require.True(t, ok)
	require.Equal(t, "local", o.By)
	require.ErrorIs(t, try(override.Precondition{Tags: []string{}}), override.ErrChanged)
	require.NoError(t, try(override.Precondition{Tags: []string{"x", o.Tag()}}))

	require.ErrorIs(t, w.table.Lift(t.Context(), charge, "r", "", override.Precondition{Tags: []string{o.Tag()}}), override.ErrChanged)
	require.NoError(t, w.table.Lift(t.Context(), charge, "r", "", override.Precondition{}))
	require.ErrorIs(t, w.table.Lift(t.Context(), charge, "r", "", override.Precondition{}), override.ErrNone)
	require.ErrorIs(t, w.table.Lift(t.Context(), override.Key{Kind: override.Breaker, Service: "x", Route: "y"}, "r", "", override.Precondition{}), override.ErrUnknown)
}

// TestOfManyAtOnceOneWins: with If-None-Match exactly one of many operators
// sets the override.
func TestOfManyAtOnceOneWins(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "seawall.db"))
	defer w.close()
	results := make(chan error, 20)
	for range cap(results) {
		go func() {
			_, err := w.table.Set(context.Background(), override.Request{Key: charge, State: override.Open, Reason: "r", For: time.Minute}, override.Precondition{None: true})
			results <- err
		}()
	}
	won := 0
	for range cap(results) {
		if err := <-results; err == nil {
			won++
		} else {
			require.ErrorIs(t, err, override.ErrChanged)
		}
	}
	require.Equal(t, 1, won)
	require.Len(t, w.audit(), 1)
	require.Len(t, w.pushed(), 1)
}

func TestAPushThatFailsIsTold(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "seawall.db"))
	defer w.close()
	w.refuse = errors.New("no")
	_, err := w.table.Set(t.Context(), override.Request{Key: charge, State: override.Open, Reason: "r", For: time.Minute}, override.Precondition{})
	require.ErrorIs(t, err, w.refuse)
	require.Len(t, w.table.InForce(), 1, "it is stored, so the next load puts it into force")
}
