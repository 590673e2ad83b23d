package alert

import (
	"slices"
	"time"
)

// Severity says whom an alert calls.
type Severity string

// The severities, as the label `severity`.
const (
	Page   Severity = "page"   // somebody, now
	Ticket Severity = "ticket" // somebody, in working hours
)

// The alerts.
const (
	ErrorBudgetBurn        = "ErrorBudgetBurn"
	ErrorBudgetExhausted   = "ErrorBudgetExhausted"
	HighErrorRate          = "HighErrorRate"
	CircuitBreakerOpen     = "CircuitBreakerOpen"
	CircuitBreakerFlapping = "CircuitBreakerFlapping"
	DegradedMode           = "DegradedMode"
	NodeRejected           = "NodeRejected"
	NodeGone               = "NodeGone"
	TelemetryStale         = "TelemetryStale"
)

// The labels. Every alert has alertname and severity besides.
const (
	LabelName     = "alertname"
	LabelSeverity = "severity"
	LabelSLO      = "slo"
	LabelTier     = "burn_tier"
	LabelService  = "service"
	LabelRoute    = "route"
	LabelNode     = "node"
)

// The thresholds.
const (
	ErrorRateAbove   = 0.05 // HighErrorRate: share of bad requests
	DegradedAbove    = 0.05 // DegradedMode: share of answers that were fallbacks
	MinRequests      = 20   // both: in Window; one of ten would say nothing
	Window           = 5 * time.Minute
	FlappingOpenings = 3 // CircuitBreakerFlapping: times opened in FlappingWindow
	FlappingWindow   = 15 * time.Minute
)

// Rule is what all alerts of a name have in common.
type Rule struct {
	Name     string
	Severity Severity      // of ErrorBudgetBurn: of the fast tiers, see TierSeverity
	For      time.Duration // holds for so long before it fires
	Keep     time.Duration // fires for so long after it held last
	Measured bool          // judged by what filters report: unknown while they are silent
	Action   string        // what to do, for whoever is called
}

// Rules are all of them, in the order in which they are documented.
func Rules() []Rule { return slices.Clone(rules[:]) }

var rules = [...]Rule{
	{ErrorBudgetBurn, Page, 0, 5 * time.Minute, true,
		"Find what fails: `seawall traffic`, `seawall breakers`, the last release in `seawall deployments`. Roll back, or shed what is not needed; `seawall slo` shows how long the budget lasts."},
	{ErrorBudgetExhausted, Ticket, 0, 5 * time.Minute, true,
		"The promise of this window is broken. Follow the budget policy (`seawall slo`): releases wait, reliability comes first."},
	{HighErrorRate, Page, 5 * time.Minute, 5 * time.Minute, true,
		"See which route and which outcome it is: `seawall traffic -o json`. timeout, reset and 5xx come from the upstream; shed, breaker-open and bulkhead-* are Seawall protecting it."},
	{CircuitBreakerOpen, Page, 5 * time.Minute, 2 * time.Minute, true,
		"The upstream has failed for minutes and is not called; its clients get 503 or a fallback. Mend the upstream: the breaker probes it and closes by itself."},
	{CircuitBreakerFlapping, Ticket, 0, 15 * time.Minute, true,
		"The upstream recovers and fails again: it is probably overloaded when traffic returns. Lengthen recoveryTimeout or raise maxRecovery, ask for more successes, or give the upstream more capacity."},
	{DegradedMode, Ticket, 10 * time.Minute, 5 * time.Minute, true,
		"Clients have been getting fallbacks in place of answers for minutes. Mend what the route depends on, or tell its users."},
	{NodeRejected, Ticket, time.Minute, 2 * time.Minute, false,
		"Envoy refused the policies and serves those before. `seawall nodes` shows its own text; mend the policy that it names."},
	{NodeGone, Ticket, 5 * time.Minute, time.Minute, false,
		"An Envoy has lost the control plane; it goes on with the policies that it has. Check that it runs and reaches the xDS address. One taken away on purpose is forgotten after an hour."},
	{TelemetryStale, Page, time.Minute, time.Minute, false,
		"What users see is not being counted, so no objective, error rate or release gate can be trusted. Check that Envoys run and reach the telemetry address; `seawall nodes` shows who is silent."},
}

// RuleOf is the rule of a name.
func RuleOf(name string) (Rule, bool) {
	for i := range rules {
		if rules[i].Name == name {
			return rules[i], true
		}
	}
	return Rule{}, false
}

// Tiers are the values of the label burn_tier, the fastest first: each inhibits
// those after it.
func Tiers() []string { return []string{"fast", "medium", "slow", "chronic"} }

// TierSeverity is the severity of ErrorBudgetBurn: the fast tiers spend a budget
// within days.
func TierSeverity(tier string) Severity {
	if tier == "fast" || tier == "medium" {
		return Page
	}
	return Ticket
}
