package budget_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/budget"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a Keeper over a real store that looks each second of virtual time.
type world struct {
	t      *testing.T
	store  *sqlite.Store
	writes atomic.Int64
	keeper *budget.Keeper
	bad    atomic.Uint64
	fault  atomic.Bool
	stop   func()
}

func start(t *testing.T, path string) *world {
	t.Helper()
	store, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	w := &world{t: t, store: store}
	w.keeper, err = budget.Load(t.Context(), budget.Config{
		Log: slog.New(slog.DiscardHandler), Store: counted{store, &w.writes}, Now: time.Now,
		Look: func(context.Context) ([]slo.Objective, []slo.Status, error) {
			if w.fault.Load() {
				return nil, nil, errors.New("the store is busy")
			}
			return []slo.Objective{payments}, []slo.Status{status(payments, w.bad.Load(), false)}, nil
		},
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- w.keeper.Run(ctx) }()
	w.stop = func() {
		stop()
		require.NoError(t, <-ran)
		require.NoError(t, store.Close())
	}
	return w
}

// counted is a store that counts what is written.
type counted struct {
	*sqlite.Store

	writes *atomic.Int64
}

func (c counted) PutStandings(ctx context.Context, all []budget.Standing, entries []audit.Entry) error {
	c.writes.Add(1)
	return c.Store.PutStandings(ctx, all, entries)
}

func (w *world) after(bad uint64) {
	w.bad.Store(bad)
	<-time.After(1100 * time.Millisecond)
	synctest.Wait()
}

func (w *world) audit() (lines []string) {
	w.t.Helper()
	entries, err := w.store.Audit(w.t.Context(), 0, 100)
	require.NoError(w.t, err)
	for i := range entries {
		e := entries[len(entries)-1-i]
		lines = append(lines, fmt.Sprintf("%s %s by %s: %s", e.Action, e.Subject, e.By, e.Reason))
	}
	return lines
}

// TestActionsOutliveARestart: each coming and going is noted once, restarts and
// a store that is busy notwithstanding.
func TestActionsOutliveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	synctest.Test(t, func(t *testing.T) {
		w := start(t, path)
		w.after(500)
		since := w.keeper.Standings()[0].Since
		w.after(500)
		require.EqualValues(t, 1, w.writes.Load(), "a look that changes nothing writes nothing")
		w.stop()

		<-time.After(time.Minute)
		w = start(t, path)
		require.Equal(t, since, w.keeper.Standings()[0].Since)
		w.after(480)
		w.fault.Store(true)
		w.after(0)
		require.Len(t, w.keeper.Standings(), 1)
		w.fault.Store(false)
		w.after(0)
		require.Empty(t, w.keeper.Standings())
		require.Equal(t, []string{
			"increase-alerting slos/payments by seawall: 50.0 % of the error budget is consumed",
			"increase-alerting-lifted slos/payments by seawall: 0.0 % of the error budget is consumed",
		}, w.audit())
		w.stop()
	})
}

func TestAPostmortemIsClosedByAPerson(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	synctest.Test(t, func(t *testing.T) {
		w := start(t, path)
		shut := func(reason, by string, p override.Precondition) error {
			return w.keeper.Close(t.Context(), "payments", reason, by, p)
		}
		require.ErrorIs(t, shut("wiki/412", "ada", override.Precondition{}), budget.ErrNone)
		w.after(1000)
		w.after(0)
		open := w.keeper.Postmortems()
		require.Len(t, open, 1)
		require.Equal(t, "payments", open[0].Service)

		var invalid *override.InvalidError
		require.ErrorAs(t, shut(" ", "ada", override.Precondition{}), &invalid)
		require.ErrorIs(t, shut("wiki/412", "ada", override.Precondition{Tags: []string{"other"}}), override.ErrChanged)
		require.ErrorIs(t, shut("wiki/412", "ada", override.Precondition{None: true}), override.ErrChanged)
		require.Equal(t, open, w.keeper.Postmortems())
		require.NoError(t, shut("wiki/412", "ada", override.Precondition{Tags: []string{open[0].Tag()}}))
		require.Empty(t, w.keeper.Postmortems())
		w.after(0)
		require.Empty(t, w.keeper.Standings())
		log := w.audit()
		require.Equal(t, "postmortem-closed postmortems/payments by ada: wiki/412", log[len(log)-1])

		// While the step is reached it stays closed, also over a restart.
		w.after(1000)
		require.NotEqual(t, open[0].Tag(), w.keeper.Postmortems()[0].Tag())
		require.NoError(t, shut("wiki/413", "", override.Precondition{}))
		w.stop()
		w = start(t, path)
		w.after(1000)
		require.Empty(t, w.keeper.Postmortems())
		require.Len(t, w.keeper.Standings(), 7)
		w.stop()
	})
}

// TestWhatIsShownAgreesWithItself: an action is shown with the numbers that
// bring it, not a look later.
func TestWhatIsShownAgreesWithItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	synctest.Test(t, func(t *testing.T) {
		w := start(t, path)
		shown := func(bad uint64) []string {
			list := []slo.Status{status(payments, bad, false)}
			w.keeper.Show([]slo.Objective{payments}, list)
			return list[0].Actions
		}
		require.Equal(t, []string{"increase-alerting"}, shown(500))
		require.Equal(t, []string{}, shown(480))
		w.after(500)
		require.Equal(t, []string{"increase-alerting"}, shown(480))
		require.Empty(t, shown(0))
		w.stop()
	})
}
