package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/alert"
)

// ExerciseAlerts runs the suite of alert stores. fresh makes empty data for one
// test; what it returns opens the same data again each time.
func ExerciseAlerts(t *testing.T, fresh func(t *testing.T) func() alert.Store) {
	t.Helper()
	firing := alert.Alert{
		Name: alert.ErrorBudgetBurn, State: alert.Firing, Severity: alert.Page, Began: start, Since: start.Add(time.Nanosecond),
		Labels: map[string]string{"slo": "payments", "burn_tier": "fast", "odd": "'; DROP TABLE alert; -- ünï\x00"}, Summary: "burns", Action: "look", Told: true,
	}
	pending := alert.Alert{Name: alert.TelemetryStale, State: alert.Pending, Severity: alert.Page, Began: start, Since: start, Labels: map[string]string{}}
	kept := func(t *testing.T, s alert.Store) []alert.Alert {
		t.Helper()
		all, err := s.Alerts(t.Context())
		require.NoError(t, err)
		return all
	}
	for name, test := range map[string]func(*testing.T, func() alert.Store){
		"nothing is kept at first": func(t *testing.T, open func() alert.Store) { require.Empty(t, kept(t, open())) },
		"what was put is there after reopening": func(t *testing.T, open func() alert.Store) {
			require.NoError(t, open().PutAlerts(t.Context(), []alert.Alert{firing, pending}))
			require.Equal(t, []alert.Alert{firing, pending}, kept(t, open()))
		},
		"a put replaces": func(t *testing.T, open func() alert.Store) {
			s := open()
			require.NoError(t, s.PutAlerts(t.Context(), []alert.Alert{firing, pending}))
			ended := firing
			ended.State, ended.Told = alert.Resolved, false
			require.NoError(t, s.PutAlerts(t.Context(), []alert.Alert{ended}))
			require.Equal(t, []alert.Alert{ended}, kept(t, open()))
		},
		"a put that fails changes nothing": func(t *testing.T, open func() alert.Store) {
			s := open()
			require.NoError(t, s.PutAlerts(t.Context(), []alert.Alert{firing}))
			require.Error(t, s.PutAlerts(t.Context(), []alert.Alert{pending, pending}), "one alert twice")
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.Error(t, s.PutAlerts(ctx, nil))
			require.Equal(t, []alert.Alert{firing}, kept(t, s))
		},
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}
