// Package apitest has a Source made of fields, for tests of the API and of
// what asks it. It is never part of a binary.
package apitest

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/budget"
	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/gate"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// Source answers with its fields; the zero value is a control plane that has
// just started.
type Source struct {
	Summary     api.Status
	Set         *policy.Set
	Refused     *api.RefusedLoad
	Fleet       []fleet.Node
	BreakerList []telemetry.Breaker
	PoolList    []telemetry.Pool
	AlertList   []alert.Alert
	Rows        []telemetry.TrafficRow
	Objectives  []slo.Status
	StoreErr    error         // of Traffic and SLOs
	Window      time.Duration // of the last call of Traffic
	Open        []budget.Standing
	Stale       bool // telemetry is
	Marked      []gate.Deployment
	Log         *Log         // for the entries of Deploy; may be nil
	Asked       atomic.Int64 // how often the gate was asked
	OpenAfter   int64        // the gate allows from the so manieth question on; 0 = as the objectives say
}

var _ api.Source = (*Source)(nil)

// Status is Summary.
func (s *Source) Status() api.Status { return s.Summary }

// Policy is Set.
func (s *Source) Policy() *policy.Set { return s.Set }

// Diagnostics is Refused.
func (s *Source) Diagnostics() *api.RefusedLoad { return s.Refused }

// Nodes is a copy of Fleet.
func (s *Source) Nodes() []fleet.Node { return append([]fleet.Node(nil), s.Fleet...) }

// Breakers is a copy of BreakerList.
func (s *Source) Breakers() []telemetry.Breaker {
	return append([]telemetry.Breaker(nil), s.BreakerList...)
}

// Pools is a copy of PoolList.
func (s *Source) Pools() []telemetry.Pool { return append([]telemetry.Pool(nil), s.PoolList...) }

// Alerts is a copy of AlertList.
func (s *Source) Alerts() []alert.Alert { return append([]alert.Alert(nil), s.AlertList...) }

// Traffic is a copy of Rows, or StoreErr.
func (s *Source) Traffic(_ context.Context, window time.Duration) ([]telemetry.TrafficRow, error) {
	s.Window = window
	return append([]telemetry.TrafficRow(nil), s.Rows...), s.StoreErr
}

// SLOs is a copy of Objectives, or StoreErr.
func (s *Source) SLOs(context.Context) ([]slo.Status, error) {
	return append([]slo.Status(nil), s.Objectives...), s.StoreErr
}

// CanDeploy is the real gate's answer for the services that are listed.
func (s *Source) CanDeploy(_ context.Context, q api.ReleaseQuery) (api.Release, error) {
	known := slices.ContainsFunc(s.Objectives, func(o slo.Status) bool { return o.Service == q.Service }) ||
		slices.ContainsFunc(s.BreakerList, func(b telemetry.Breaker) bool { return b.Service == q.Service })
	f := gate.Facts{Service: q.Service, Known: known, Class: q.Class, OnUnknown: q.OnUnknown, Stale: s.Stale}
	for _, o := range s.Objectives {
		if o.Service == q.Service {
			// One of another name has no steps: only the actions count.
			f.Objectives = append(f.Objectives, gate.Objective{Policy: slo.Objective{BudgetPolicy: []slo.BudgetStep{{}}}, Status: o})
		}
	}
	d := gate.Decide(f)
	if n := s.Asked.Add(1); s.OpenAfter > 0 && n >= s.OpenAfter {
		d = gate.Decision{Answer: gate.Allow}
	}
	return api.Release{Decision: d.Answer, Reasons: append([]gate.Reason{}, d.Reasons...), ID: "decision-1", At: Now()}, s.StoreErr
}

// Deploy appends to Marked.
func (s *Source) Deploy(_ context.Context, service, version, by string) (gate.Deployment, error) {
	d := gate.Deployment{ID: int64(len(s.Marked) + 1), At: Now(), Service: service, Version: version, By: cmp.Or(by, override.DefaultBy)}
	if !slices.ContainsFunc(s.BreakerList, func(b telemetry.Breaker) bool { return b.Service == service }) {
		return d, override.ErrUnknown
	}
	s.Marked = append(s.Marked, d)
	if s.Log != nil {
		s.Log.Append(audit.Entry{At: d.At, By: d.By, Action: "deployment", Subject: "deployments/" + service, Reason: version})
	}
	return d, s.StoreErr
}

// Deployments is a page of Marked, newest first.
func (s *Source) Deployments(_ context.Context, service string, before int64, limit int) ([]gate.Deployment, error) {
	var page []gate.Deployment
	for _, d := range slices.Backward(s.Marked) {
		if (service == "" || d.Service == service) && (before == 0 || d.ID < before) && len(page) < limit {
			page = append(page, d)
		}
	}
	return page, s.StoreErr
}

// Now is the time at which Incident is told.
func Now() time.Time { return time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC) }

// Incident is a payment service in trouble: an open breaker, a used-up
// objective, a node that rejected a route table and a refused load.
func Incident() *Source {
	ago := func(d time.Duration) time.Time { return Now().Add(-d) }
	at := func(t time.Time) *time.Time { return &t }
	ms := func(f float64) *float64 { return &f }
	const plan, older = "3f9a2c77d01be845", "11c0ffee22d00d33"
	const filter = "9d1f4f2a6e5b0c7788aa99bbccddeeff00112233445566778899aabbccddeeff"
	resources := func(rejected fleet.Kind, text string) map[fleet.Kind]fleet.Resource {
		all := map[fleet.Kind]fleet.Resource{}
		for _, k := range []fleet.Kind{fleet.LDS, fleet.RDS, fleet.CDS, fleet.EDS, fleet.ECDS} {
			all[k] = fleet.Resource{State: fleet.Synced, Version: "v-" + plan[:8]}
		}
		if rejected != "" {
			all[rejected] = fleet.Resource{State: fleet.Rejected, Version: "v-" + older[:8], Message: text}
		}
		return all
	}
	return &Source{
		Summary: api.Status{
			Version: "0.1.0", PolicyHash: plan, FilterHash: filter, Services: 2,
			Nodes: api.NodeCounts{Connected: 2, Synced: 1, Rejected: 1}, LoadedAt: at(ago(12 * time.Minute)),
			Gaps: []telemetry.Gap{{Node: "edge-1", From: ago(3*time.Minute + 1200*time.Millisecond), Until: ago(3 * time.Minute)}},
		},
		Set: &policy.Set{
			Hash: plan,
			Services: []policy.Service{
				{Metadata: policy.Metadata{Name: "fraud"}}, {Metadata: policy.Metadata{Name: "payments"}},
			},
			Policies: []policy.ResiliencePolicy{{Metadata: policy.Metadata{Name: "payments"}}},
		},
		Refused: &api.RefusedLoad{At: ago(40 * time.Second), Findings: diag.List{{
			Code: "SW0102", Severity: diag.Error, Pos: diag.Pos{File: "policies/payments.yaml", Line: 24, Column: 7},
			Path: "spec.routes[0].breaker.recoveryTim", Message: `unknown field "recoveryTim"`, Hint: `did you mean "recoveryTime"?`,
			Excerpt: "  23 |     breaker:\n> 24 |       recoveryTim: 60s\n             ^",
		}, {
			Code: "SW0900", Severity: diag.Warning, Pos: diag.Pos{File: "policies/payments.yaml", Line: 31, Column: 5},
			Path: "spec.routes[1].pool", Message: "accepted, not enforced yet",
		}}},
		Fleet: []fleet.Node{{
			ID: "edge-1", Cluster: "edge", Connected: true, LastSeen: ago(time.Second), PlanHash: plan, FilterHash: filter,
			Workers:   []fleet.Worker{{VM: "a1", PlanHash: plan, LastSeen: ago(time.Second)}, {VM: "b2", PlanHash: plan, LastSeen: ago(time.Second)}},
			Resources: resources("", ""), State: fleet.StateSynced, Synced: true, Edge: "shop", TargetPlanHash: plan, TargetFilterHash: filter, WorkerCount: 2,
		}, {
			ID: "edge-2", Cluster: "edge", Connected: true, LastSeen: ago(2 * time.Second), PlanHash: older, FilterHash: filter,
			Workers:   []fleet.Worker{{VM: "c3", PlanHash: older, LastSeen: ago(2 * time.Second)}},
			Resources: resources(fleet.RDS, "Only unique values for domains are permitted. Duplicate entry of domain payments.local in route shop"),
			State:     fleet.StateRejected, Reason: "RDS was rejected", Edge: "shop", TargetPlanHash: plan, TargetFilterHash: filter, WorkerCount: 2,
		}},
		BreakerList: []telemetry.Breaker{
			{Service: "fraud", Route: "check", Node: "edge-1", State: "closed"},
			{Service: "payments", Route: "charge", Node: "edge-1", State: "open", Since: at(ago(18 * time.Second)), RetryAt: at(Now().Add(42 * time.Second)), Cause: "5xx"},
			{Service: "payments", Route: "refund", Node: "edge-1", State: "half-open", Since: at(ago(3 * time.Second)), Cause: "timeout"},
		},
		PoolList: []telemetry.Pool{
			{Service: "fraud", Pool: "checks", Node: "edge-1", Held: 2, Limit: 10, Granted: 8211},
			{Service: "payments", Pool: "exports", Node: "edge-1", Held: 5, Waiting: 10, Limit: 5, Granted: 312, Full: 44, TimedOut: 7, MaxWait: 1480},
		},
		AlertList: alerts(ago),
		Rows: []telemetry.TrafficRow{
			{Service: "fraud", Route: "check", Priority: "high", Total: 8211, Good: 8211, Outcomes: map[string]uint64{"ok": 8211}, Would: map[string]uint64{}, P50: ms(3.1), P95: ms(9.8), P99: ms(38)},
			{Service: "payments", Route: "charge", Priority: "critical", Total: 10412, Good: 10033, Bad: 379, Aborted: 3, Outcomes: map[string]uint64{"ok": 10033, "5xx": 5, "breaker-open": 374}, Would: map[string]uint64{}, P50: ms(21), P95: ms(118), P99: ms(12_400)},
			{Service: "payments", Route: "", Priority: "medium", Total: 2, Good: 2, Outcomes: map[string]uint64{"4xx": 2}, Would: map[string]uint64{}},
		},
		Objectives: objectives(),
		Open: []budget.Standing{{
			Key: budget.Key{Objective: "payments-availability", Action: policy.ActionMandatoryPostmortem}, Service: "payments", Since: ago(time.Hour),
		}},
	}
}

func alerts(ago func(time.Duration) time.Time) []alert.Alert {
	one := func(name string, state alert.State, severity alert.Severity, age time.Duration, summary string, labels map[string]string) alert.Alert {
		rule, _ := alert.RuleOf(name)
		return alert.Alert{Name: name, State: state, Severity: severity, Since: ago(age), Began: ago(age + rule.For), Labels: labels, Summary: summary, Action: rule.Action}
	}
	slow := one(alert.ErrorBudgetBurn, alert.Firing, alert.Ticket, 3*time.Hour, "payments-availability burns its error budget 1.5 times too fast over 3d, 1.5 over 6h",
		map[string]string{"slo": "payments-availability", "service": "payments", "burn_tier": "chronic"})
	slow.InhibitedBy = "ErrorBudgetBurn/fast"
	return []alert.Alert{
		one(alert.ErrorBudgetBurn, alert.Firing, alert.Page, 4*time.Minute, "payments-availability burns its error budget 36.4 times too fast over 1h, 121.0 over 5m",
			map[string]string{"slo": "payments-availability", "service": "payments", "burn_tier": "fast"}),
		slow,
		one(alert.CircuitBreakerOpen, alert.Pending, alert.Page, 18*time.Second, "the breaker of payments/charge is open in 1 of 2 Envoys",
			map[string]string{"service": "payments", "route": "charge"}),
		one(alert.HighErrorRate, alert.Resolved, alert.Page, 8*time.Minute, "6.1 % of the requests to fraud failed in the last 5 minutes (61 of 1000)", map[string]string{"service": "fraud"}),
		one(alert.NodeRejected, alert.Firing, alert.Ticket, 11*time.Minute, "node edge-2 rejected its RDS: Only unique values for domains are permitted.", map[string]string{"node": "edge-2"}),
	}
}

func objectives() []slo.Status {
	fresh := slo.Freshness{LastBatch: Now(), MaxAge: time.Minute}
	steady := func(c slo.Counts) func(from, to int64) slo.Counts {
		return func(int64, int64) slo.Counts { return c }
	}
	return []slo.Status{
		slo.Evaluate(slo.Objective{
			Name: "payments-availability", Service: "payments", ObjectivePPM: 999_000, Window: 30 * 24 * time.Hour,
			BudgetPolicy: []slo.BudgetStep{{ConsumedPPM: 500_000, Actions: []string{"increase-alerting"}}, {ConsumedPPM: 1_000_000, Actions: []string{"freeze-releases"}}},
		}, steady(slo.Counts{Total: 10_000_000, Bad: 15_000}), Now(), fresh),
		slo.Evaluate(slo.Objective{
			Name: "fraud-latency", Service: "fraud", ObjectivePPM: 950_000, Window: 7 * 24 * time.Hour, LatencyThreshold: 500 * time.Millisecond,
		}, steady(slo.Counts{Total: 120_000, Bad: 1_800}), Now(), fresh),
	}
}
