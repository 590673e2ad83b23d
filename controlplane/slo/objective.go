package slo

import "time"

// PPM is one whole in parts per million: 999,000 of it is 99.9 %.
const PPM = 1_000_000

// Objective is one ServiceLevelObjective, resolved: defaults filled in, names
// as the policy writes them. Exactly one indicator holds: latency where
// LatencyThreshold is positive, else availability.
type Objective struct {
	Name       string
	Service    string
	Routes     []string // empty: all matched routes of the service
	Priorities []string // empty: all classes

	ObjectivePPM int64         // share of good requests that is promised, 1 to PPM
	Window       time.Duration // rolling, whole minutes; a day is 24 h

	Bad              []string      // availability: outcome words, statuses as "503", and "degraded"; empty is DefaultBad()
	LatencyThreshold time.Duration // latency: slower than this is bad; must be a histogram boundary

	BudgetPolicy []BudgetStep // ascending
}

// BudgetStep is what is done once a share of the budget is consumed.
type BudgetStep struct {
	ConsumedPPM int64    // of the budget; above PPM is possible
	Actions     []string // words of DESIGN section 4, budgetPolicy
}

// DefaultBad is the list of outcomes that `bad` stands for where an
// availability indicator names none. The same list tells good from bad in
// traffic.
func DefaultBad() []string {
	return []string{
		"5xx", "reset", "timeout", "connect-failure", "shed", "breaker-open",
		"bulkhead-full", "bulkhead-timeout", "deadline",
	}
}

// minutes is the window in whole minutes, at least one.
func (o Objective) minutes() int64 {
	return max(1, int64(o.Window/time.Minute))
}

// budgetPPM is the share that may be bad.
func (o Objective) budgetPPM() uint64 {
	return uint64(min(max(PPM-o.ObjectivePPM, 0), PPM))
}

// divisorPPM is the budget where something is divided by it: an objective of
// 100 % reads as 99.9999 % there, so that rates stay finite.
func (o Objective) divisorPPM() uint64 {
	return max(1, o.budgetPPM())
}
