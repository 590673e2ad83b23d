package alert

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/budget"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// Facts are what the other parts of the control plane say at one moment.
type Facts struct {
	Now       time.Time
	SLOs      []slo.Status            // with the actions in force
	Traffic   []telemetry.TrafficRow  // of the last Window
	Breakers  []telemetry.Breaker     // with what operators force
	Openings  map[telemetry.Route]int // how often a breaker opened in FlappingWindow, in the Envoy where that was most often
	Nodes     []fleet.Node
	LastBatch time.Time // zero: never
}

// Condition is something wrong now: an alert once it holds for long enough.
type Condition struct {
	Name     string
	Labels   map[string]string
	Severity Severity
	Summary  string
}

// Conditions is what is wrong, sorted by name and labels.
func Conditions(f Facts) []Condition {
	all := slices.Concat(burns(f.SLOs), rates(f.Traffic), breakers(f), nodes(f))
	return sorted(all, func(c Condition) string { return key(c.Name, c.Labels) })
}

// Stale reports that what filters count cannot be judged.
func (f Facts) Stale() bool {
	return f.LastBatch.IsZero() || f.Now.Sub(f.LastBatch) > telemetry.StaleAfter
}

func condition(name string, labels map[string]string, format string, args ...any) Condition {
	rule, _ := RuleOf(name)
	return Condition{Name: name, Labels: labels, Severity: rule.Severity, Summary: fmt.Sprintf(format, args...)}
}

func burns(all []slo.Status) (out []Condition) {
	for _, s := range all {
		if s.State == slo.Stale {
			continue
		}
		if s.State == slo.Exhausted {
			out = append(out, condition(ErrorBudgetExhausted, map[string]string{LabelSLO: s.Name, LabelService: s.Service},
				"%s has consumed %s of its error budget", s.Name, s.ConsumedText()))
		}
		percent := uint64(100)
		if slices.Contains(s.Actions, policy.ActionIncreaseAlerting) {
			percent = budget.AlertFactor * 100
		}
		for _, b := range s.Burn {
			if !s.Fires(b, percent) {
				continue
			}
			c := condition(ErrorBudgetBurn, map[string]string{LabelSLO: s.Name, LabelService: s.Service, LabelTier: b.Tier},
				"%s burns its error budget %s times too fast over %s, %s over %s", s.Name, decimal(b.LongRate), b.Long, decimal(b.ShortRate), b.Short)
			c.Severity = TierSeverity(b.Tier)
			out = append(out, c)
		}
	}
	return out
}

func rates(rows []telemetry.TrafficRow) (out []Condition) {
	type sum struct{ total, bad, degraded uint64 }
	services, routes := map[string]sum{}, map[telemetry.Route]sum{}
	for _, r := range rows {
		s := services[r.Service]
		services[r.Service] = sum{s.total + r.Total, s.bad + r.Bad, s.degraded + r.Degraded}
		k := telemetry.Route{Service: r.Service, Route: r.Route}
		s = routes[k]
		routes[k] = sum{s.total + r.Total, s.bad + r.Bad, s.degraded + r.Degraded}
	}
	above := func(part, total uint64, share float64) bool {
		return total >= MinRequests && float64(part) > share*float64(total)
	}
	for service, s := range services {
		if above(s.bad, s.total, ErrorRateAbove) {
			out = append(out, condition(HighErrorRate, map[string]string{LabelService: service},
				"%s of the requests to %s failed in the last 5 minutes (%d of %d)", percentOf(s.bad, s.total), service, s.bad, s.total))
		}
	}
	for r, s := range routes {
		if above(s.degraded, s.total, DegradedAbove) {
			out = append(out, condition(DegradedMode, routeLabels(r),
				"%s of the answers of %s/%s were fallbacks in the last 5 minutes (%d of %d)", percentOf(s.degraded, s.total), r.Service, r.Route, s.degraded, s.total))
		}
	}
	return out
}

func breakers(f Facts) (out []Condition) {
	type count struct{ open, all int }
	by := map[telemetry.Route]count{}
	for _, b := range f.Breakers {
		k := telemetry.Route{Service: b.Service, Route: b.Route}
		c := by[k]
		c.all++
		// A half-open one has not recovered yet. Who forces one knows about it.
		if b.State != "closed" && !b.Forced {
			c.open++
		}
		by[k] = c
	}
	for r, c := range by {
		if c.open > 0 {
			out = append(out, condition(CircuitBreakerOpen, routeLabels(r), "the breaker of %s/%s is open in %d of %s", r.Service, r.Route, c.open, envoys(c.all)))
		}
	}
	for r, n := range f.Openings {
		if n >= FlappingOpenings {
			out = append(out, condition(CircuitBreakerFlapping, routeLabels(r), "the breaker of %s/%s opened %d times in 15 minutes", r.Service, r.Route, n))
		}
	}
	return out
}

func nodes(f Facts) (out []Condition) {
	silent := false
	for _, n := range f.Nodes {
		labels := map[string]string{LabelNode: n.ID}
		switch {
		case !n.Connected:
			out = append(out, condition(NodeGone, labels, "node %s is not connected any more", n.ID))
			continue
		case n.State == fleet.StateRejected:
			out = append(out, condition(NodeRejected, labels, "node %s rejected %s", n.ID, rejected(n)))
		}
		if !slices.ContainsFunc(n.Workers, func(w fleet.Worker) bool { return f.Now.Sub(w.LastSeen) <= telemetry.StaleAfter }) {
			silent = true
			out = append(out, condition(TelemetryStale, labels, "node %s is connected and does not report what it counts", n.ID))
		}
	}
	// Where nobody ever reported, nothing is missing yet.
	if f.Stale() && !silent && !f.LastBatch.IsZero() {
		out = append(out, condition(TelemetryStale, map[string]string{}, "no Envoy reports what it counts"))
	}
	return out
}

func rejected(n fleet.Node) string {
	for _, kind := range slices.Sorted(maps.Keys(n.Resources)) {
		if r := n.Resources[kind]; r.State == fleet.Rejected {
			return fmt.Sprintf("its %s: %.300s", kind, r.Message)
		}
	}
	return "what it was sent"
}

func routeLabels(r telemetry.Route) map[string]string {
	return map[string]string{LabelService: r.Service, LabelRoute: r.Route}
}

func envoys(n int) string {
	if n == 1 {
		return "1 Envoy"
	}
	return strconv.Itoa(n) + " Envoys"
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

func percentOf(part, total uint64) string {
	return decimal(100*float64(part)/float64(total)) + " %"
}
