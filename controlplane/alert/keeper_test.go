package alert_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/store/sqlite"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver notes what it is sent.
type receiver struct{ sent [][]alert.Alert }

func (r *receiver) Send(alerts []alert.Alert) { r.sent = append(r.sent, alerts) }

func (r *receiver) last() []alert.Alert { return r.sent[len(r.sent)-1] }

// all is name and state of everything that was sent.
func (r *receiver) all() (list []string) {
	for _, s := range r.sent {
		for _, a := range s {
			list = append(list, a.Name+a.Labels[alert.LabelTier]+" "+string(a.State))
		}
	}
	return list
}

// desk is a keeper over a real store, with a clock and facts of the test's.
type desk struct {
	t        *testing.T
	path     string
	now      time.Time
	facts    alert.Facts
	events   []telemetry.Event
	lookErr  error
	store    *sqlite.Store
	keeper   *alert.Keeper
	managers *receiver
	webhooks *receiver
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, path: filepath.Join(t.TempDir(), "seawall.db"), now: start, managers: &receiver{}, webhooks: &receiver{}}
	d.load()
	t.Cleanup(func() { _ = d.store.Close() })
	return d
}

// load is a restart.
func (d *desk) load() {
	d.t.Helper()
	if d.store != nil {
		require.NoError(d.t, d.store.Close())
	}
	var err error
	d.store, err = sqlite.Open(d.t.Context(), d.path)
	require.NoError(d.t, err)
	d.keeper, err = alert.Load(d.t.Context(), alert.Config{
		Log: slog.New(slog.DiscardHandler), Store: d.store, Now: func() time.Time { return d.now },
		Look: func(context.Context) (alert.Facts, error) {
			f := d.facts
			f.Now, f.LastBatch = d.now, d.now
			return f, d.lookErr
		},
		Events: func(after uint64, limit int) (page []telemetry.Event) {
			for _, e := range d.events {
				if e.ID > after && len(page) < limit {
					page = append(page, e)
				}
			}
			return page
		},
		Alertmanagers: d.managers, Webhooks: d.webhooks,
	})
	require.NoError(d.t, err)
}

func (d *desk) look(after time.Duration) {
	d.t.Helper()
	d.now = d.now.Add(after)
	require.NoError(d.t, d.keeper.Look(d.t.Context()))
}

// fail makes so many of the requests of the service fail.
func (d *desk) fail(bad uint64) {
	d.facts.Traffic = []telemetry.TrafficRow{{Service: "shop", Route: "buy", Total: 100, Bad: bad}}
}

func TestAlertsOutliveARestartAndAreToldOnce(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fail(50)
	d.look(0)
	require.Empty(t, d.managers.last(), "pending ones are nobody's business yet")
	d.look(5 * time.Minute)
	require.Len(t, d.managers.last(), 1)
	d.look(3 * time.Second)
	require.Equal(t, []string{"HighErrorRate firing"}, d.webhooks.all())
	before := d.keeper.Alerts()

	d.load()
	require.Len(t, d.keeper.Alerts(), 1)
	after := d.keeper.Alerts()[0]
	require.Equal(t, before[0].Since, after.Since)
	require.Equal(t, before[0].Labels, after.Labels)
	d.look(time.Minute)
	require.Equal(t, []string{"HighErrorRate firing"}, d.webhooks.all(), "told twice")
	require.Equal(t, before[0].Since, d.managers.last()[0].Since)

	d.fail(0)
	d.look(time.Second)
	d.load()
	d.look(time.Second)
	require.Equal(t, []string{"HighErrorRate firing"}, d.webhooks.all(), "a restart resolves nothing")
	d.look(5 * time.Minute)
	require.Equal(t, []string{"HighErrorRate firing", "HighErrorRate resolved"}, d.webhooks.all())
	require.Equal(t, alert.Resolved, d.managers.last()[0].State)
	d.load()
	d.look(time.Second)
	require.Equal(t, []string{"HighErrorRate firing", "HighErrorRate resolved"}, d.webhooks.all())
	d.look(alert.ResolvedFor)
	require.Empty(t, d.managers.last())
	d.load()
	require.Empty(t, d.keeper.Alerts())
}

// A webhook hears of the fastest tier, and of a slower one when that remains.
func TestWebhooksAreNotToldOfWhatIsInhibited(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.facts.SLOs = append(d.facts.SLOs, status(100_000, 450)) // slow and chronic
	d.look(0)
	require.Equal(t, []string{"ErrorBudgetBurnslow firing", "ErrorBudgetExhausted firing"}, d.webhooks.all())
	require.Len(t, d.managers.last(), 3, "an Alertmanager has its own inhibition")
	d.facts.SLOs[0] = status(100_000, 150)
	d.look(6 * time.Minute)
	require.Equal(t, []string{"ErrorBudgetBurnslow firing", "ErrorBudgetExhausted firing", "ErrorBudgetBurnchronic firing", "ErrorBudgetBurnslow resolved"}, d.webhooks.all())
}

func TestFlappingIsCountedInEachEnvoy(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	opens := func(node, to string) {
		d.events = append(d.events, telemetry.Event{ID: uint64(len(d.events) + 1), At: d.now, Kind: "breaker", Service: "shop", Route: "buy", Node: node, Data: map[string]any{"to": to}})
	}
	for _, node := range []string{"a", "b", "c", "d"} {
		opens(node, "open")
	}
	d.look(0)
	require.Empty(t, d.keeper.Alerts(), "each opened once")
	opens("a", "half-open")
	opens("a", "closed")
	opens("a", "open")
	d.look(time.Minute)
	require.Empty(t, d.keeper.Alerts(), "one opened twice")
	opens("a", "open")
	d.look(time.Minute)
	require.Len(t, d.keeper.Alerts(), 1)
	require.Equal(t, alert.CircuitBreakerFlapping, d.keeper.Alerts()[0].Name)
	require.Equal(t, alert.Firing, d.keeper.Alerts()[0].State)
	d.look(13 * time.Minute) // the first was 15 minutes ago
	d.look(15 * time.Minute)
	require.Equal(t, alert.Resolved, d.keeper.Alerts()[0].State)
}

// A disk that is full silences nobody, and is caught up with.
func TestAStoreThatFailsSilencesNobody(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.facts.SLOs = append(d.facts.SLOs, status(10_000, 150))
	require.NoError(t, d.store.Close())
	require.Error(t, d.keeper.Look(t.Context()))
	require.NotEmpty(t, d.webhooks.all())
	require.NotEmpty(t, d.managers.last())
	require.NotEmpty(t, d.keeper.Alerts())
	require.Error(t, d.keeper.Look(t.Context()), "what was not stored is tried again though nothing changed")
}

// What cannot be looked at changes nothing.
func TestALookThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.facts.SLOs = append(d.facts.SLOs, status(10_000, 150))
	d.look(0)
	before, sent := d.keeper.Alerts(), len(d.managers.sent)
	d.lookErr = errors.New("store is busy")
	d.now = d.now.Add(time.Hour)
	require.ErrorIs(t, d.keeper.Look(t.Context()), d.lookErr)
	require.Equal(t, before, d.keeper.Alerts())
	require.Len(t, d.managers.sent, sent)
}
