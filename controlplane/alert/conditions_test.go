package alert_test

import (
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

var start = time.Date(2026, 3, 14, 15, 9, 0, 0, time.UTC)

// status is an objective of 99.9 % over 30 days whose every window has counted
// the same.
func status(total, bad uint64, actions ...string) slo.Status {
	s := slo.Evaluate(slo.Objective{Name: "pay", Service: "shop", ObjectivePPM: 999_000, Window: 30 * 24 * time.Hour},
		func(int64, int64) slo.Counts { return slo.Counts{Total: total, Bad: bad} }, start, slo.Freshness{LastBatch: start, MaxAge: time.Minute})
	s.Actions = actions
	return s
}

func worker(age time.Duration) []fleet.Worker {
	return []fleet.Worker{{VM: "a", LastSeen: start.Add(-age)}}
}

// What holds is written as name, labels and severity.
func TestConditions(t *testing.T) {
	t.Parallel()
	breaker := func(node, state string, forced bool) telemetry.Breaker {
		return telemetry.Breaker{Service: "shop", Route: "buy", Node: node, State: state, Forced: forced}
	}
	row := func(priority string, total, bad, degraded uint64) telemetry.TrafficRow {
		return telemetry.TrafficRow{Service: "shop", Route: "buy", Priority: priority, Total: total, Bad: bad, Degraded: degraded}
	}
	stale := status(1000, 500)
	stale.State = slo.Stale
	buy := telemetry.Route{Service: "shop", Route: "buy"}
	const burn = "ErrorBudgetBurn map[burn_tier:%s service:shop slo:pay] %s"
	const exhausted = "ErrorBudgetExhausted map[service:shop slo:pay] ticket"
	for name, c := range map[string]struct {
		facts alert.Facts
		want  []string
	}{
		"nothing": {alert.Facts{}, nil},
		"all tiers burn": {alert.Facts{SLOs: []slo.Status{status(10_000, 150)}}, []string{
			fmt.Sprintf(burn, "chronic", "ticket"), fmt.Sprintf(burn, "fast", "page"), fmt.Sprintf(burn, "medium", "page"), fmt.Sprintf(burn, "slow", "ticket"), exhausted,
		}},
		"a slow burn":                   {alert.Facts{SLOs: []slo.Status{status(10_000, 40)}}, []string{fmt.Sprintf(burn, "chronic", "ticket"), fmt.Sprintf(burn, "slow", "ticket"), exhausted}},
		"half of the budget":            {alert.Facts{SLOs: []slo.Status{status(10_000, 5)}}, nil},
		"increase-alerting":             {alert.Facts{SLOs: []slo.Status{status(10_000, 80, policy.ActionIncreaseAlerting)}}, []string{fmt.Sprintf(burn, "chronic", "ticket"), fmt.Sprintf(burn, "fast", "page"), fmt.Sprintf(burn, "medium", "page"), fmt.Sprintf(burn, "slow", "ticket"), exhausted}},
		"another action":                {alert.Facts{SLOs: []slo.Status{status(10_000, 5, policy.ActionHaltChaos)}}, nil},
		"two bad ones":                  {alert.Facts{SLOs: []slo.Status{status(1_000, 2)}}, []string{exhausted}},
		"a stale objective":             {alert.Facts{SLOs: []slo.Status{stale}}, nil},
		"a twentieth fails":             {alert.Facts{Traffic: []telemetry.TrafficRow{row("high", 100, 5, 0)}}, nil},
		"more fails, over all rows":     {alert.Facts{Traffic: []telemetry.TrafficRow{row("high", 100, 0, 0), row("low", 100, 11, 0)}}, []string{"HighErrorRate map[service:shop] page"}},
		"all of nineteen fail":          {alert.Facts{Traffic: []telemetry.TrafficRow{row("high", 19, 19, 19)}}, nil},
		"all of twenty fail":            {alert.Facts{Traffic: []telemetry.TrafficRow{row("high", 20, 20, 0)}}, []string{"HighErrorRate map[service:shop] page"}},
		"fallbacks":                     {alert.Facts{Traffic: []telemetry.TrafficRow{row("high", 100, 0, 6)}}, []string{"DegradedMode map[route:buy service:shop] ticket"}},
		"few fallbacks":                 {alert.Facts{Traffic: []telemetry.TrafficRow{row("high", 100, 0, 5)}}, nil},
		"closed breakers":               {alert.Facts{Breakers: []telemetry.Breaker{breaker("a", "closed", false), breaker("b", "closed", true)}}, nil},
		"an open breaker in one":        {alert.Facts{Breakers: []telemetry.Breaker{breaker("a", "closed", false), breaker("b", "open", false)}}, []string{"CircuitBreakerOpen map[route:buy service:shop] page"}},
		"a half-open breaker":           {alert.Facts{Breakers: []telemetry.Breaker{breaker("a", "half-open", false)}}, []string{"CircuitBreakerOpen map[route:buy service:shop] page"}},
		"one that is forced":            {alert.Facts{Breakers: []telemetry.Breaker{breaker("a", "open", true)}}, nil},
		"two openings":                  {alert.Facts{Openings: map[telemetry.Route]int{buy: 2}}, nil},
		"three openings":                {alert.Facts{Openings: map[telemetry.Route]int{buy: 3}}, []string{"CircuitBreakerFlapping map[route:buy service:shop] ticket"}},
		"a node that is well":           {alert.Facts{Nodes: []fleet.Node{{ID: "e", Connected: true, State: fleet.StateSynced, Workers: worker(time.Second)}}}, nil},
		"a node that is gone":           {alert.Facts{Nodes: []fleet.Node{{ID: "e", State: fleet.StateDisconnected}}}, []string{"NodeGone map[node:e] ticket"}},
		"a node that rejected":          {alert.Facts{Nodes: []fleet.Node{{ID: "e", Connected: true, State: fleet.StateRejected, Workers: worker(0)}}}, []string{"NodeRejected map[node:e] ticket"}},
		"a node that is silent":         {alert.Facts{LastBatch: start.Add(-time.Hour), Nodes: []fleet.Node{{ID: "e", Connected: true, Workers: worker(61 * time.Second)}, {ID: "f", Connected: true, Workers: worker(0)}}}, []string{"TelemetryStale map[node:e] page"}},
		"nobody reports":                {alert.Facts{LastBatch: start.Add(-61 * time.Second)}, []string{"TelemetryStale map[] page"}},
		"nobody ever did":               {alert.Facts{LastBatch: time.Time{}}, nil},
		"somebody did, under a minute ": {alert.Facts{LastBatch: start.Add(-59 * time.Second)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.facts.Now = start
			var got []string
			for _, c := range alert.Conditions(c.facts) {
				got = append(got, fmt.Sprintf("%s %v %s", c.Name, c.Labels, c.Severity))
				require.NotEmpty(t, c.Summary)
			}
			require.Equal(t, c.want, got)
		})
	}
}

// Whoever is called is told what to do, in words that fit a message.
func TestRules(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/alerts.md")
	require.NoError(t, err)
	for _, r := range alert.Rules() {
		require.Greater(t, len(r.Action), 40, r.Name)
		require.LessOrEqual(t, len(r.Action), 300, r.Name)
		require.Positive(t, r.Keep, "%s would flap", r.Name)
		row := regexp.MustCompile("(?m)^\\| `" + r.Name + "` \\| (page|ticket)[^|]*\\|.*\\| (\\d+)(?: min)? \\| (\\d+) min \\|$").FindStringSubmatch(string(page))
		require.Len(t, row, 4, "docs/alerts.md has no row for %s", r.Name)
		require.Equal(t, []string{string(r.Severity), fmt.Sprint(r.For.Minutes()), fmt.Sprint(r.Keep.Minutes())}, row[1:], r.Name)
		got, ok := alert.RuleOf(r.Name)
		require.True(t, ok)
		require.Equal(t, r, got)
	}
	_, ok := alert.RuleOf("Nothing")
	require.False(t, ok)
}
