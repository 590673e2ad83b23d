package compile

import (
	"slices"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/slo"
)

// Objectives are the objectives of the set that the proxy can count, sorted by
// name. Job objectives are counted by the dead-letter queue and are left out.
func Objectives(set *policy.Set) []slo.Objective {
	var list []slo.Objective
	for _, o := range set.SLOs {
		objective := slo.Objective{
			Name:         o.Metadata.Name,
			Service:      o.Spec.Service,
			Routes:       slices.Clone(o.Spec.Routes),
			Priorities:   slices.Clone(o.Spec.Priorities),
			ObjectivePPM: int64(o.Spec.Objective),
			Window:       time.Duration(o.Spec.Window),
		}
		switch {
		case o.Spec.Indicator.Latency != nil:
			objective.LatencyThreshold = time.Duration(thresholdUS(o.Spec.Indicator.Latency)) * time.Microsecond
		case o.Spec.Indicator.JobSuccess != nil:
			continue
		case o.Spec.Indicator.Availability != nil:
			objective.Bad = slices.Clone([]string(o.Spec.Indicator.Availability.Bad))
		}
		for _, step := range o.Spec.BudgetPolicy {
			objective.BudgetPolicy = append(objective.BudgetPolicy, slo.BudgetStep{
				ConsumedPPM: int64(step.Consumed),
				Actions:     slices.Clone(step.Actions),
			})
		}
		list = append(list, objective)
	}
	slices.SortFunc(list, func(a, b slo.Objective) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// thresholdUS is a latency threshold as the histogram has it: whole
// microseconds, a fraction rounded up.
func thresholdUS(l *policy.Latency) int64 {
	return (int64(l.Threshold) + 999) / 1000
}
