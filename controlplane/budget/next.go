package budget

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/slo"
)

// AlertFactor is what alerts multiply a burn threshold by while
// increase-alerting is in force on the objective. The product is at least 1:
// what burns slower never exhausts a budget.
const AlertFactor = 0.5

// keepShare is the share of a step that must still be consumed for its actions
// to stay, so that a budget on the edge of a step does not flap.
const keepShare = 0.9

// Key names an action of an objective.
type Key struct{ Objective, Action string }

// Standing is an action whose step is reached, or that waits for a person.
type Standing struct {
	Key

	Service string
	Since   time.Time
	// Closed says that a person has closed the post-mortem while its step is
	// still reached: it is in force no more, and no new one opens until the step
	// has been left.
	Closed bool
}

// Change is an action that came into force or left it.
type Change struct {
	Standing

	Began  bool
	Reason string // why, for the audit log
}

// Next is what stands after a look at all objectives, sorted by objective and
// action, and what has changed since before. While an objective's status is
// stale, or absent, nothing of it moves.
func Next(before []Standing, objectives []slo.Objective, statuses []slo.Status, now time.Time) (after []Standing, changes []Change) {
	was := make(map[Key]Standing, len(before))
	for _, s := range before {
		was[s.Key] = s
	}
	fresh := make(map[string]slo.Status, len(statuses))
	for _, s := range statuses {
		if s.State != slo.Stale {
			fresh[s.Name] = s
		}
	}
	for _, o := range objectives {
		status, known := fresh[o.Name]
		reason := status.ConsumedText() + " of the error budget is consumed"
		for action, step := range firstSteps(o) {
			standing, stood := was[Key{o.Name, action}]
			delete(was, Key{o.Name, action})
			reached := stood
			if known {
				if stood {
					step = int64(math.Ceil(float64(step) * keepShare))
				}
				reached = o.Reached(status.Bad, status.Total, step)
			}
			switch {
			case !stood && !reached:
				continue
			case !stood:
				standing = Standing{Key: Key{o.Name, action}, Since: now}
				changes = append(changes, Change{standing, true, reason})
			case !reached && standing.Closed:
				continue
			case !reached && !standing.waits():
				changes = append(changes, Change{standing, false, reason})
				continue
			}
			standing.Service = o.Service
			after = append(after, standing)
		}
	}
	for _, s := range was {
		switch {
		case s.waits():
			after = append(after, s)
		case !s.Closed:
			changes = append(changes, Change{s, false, "no budget policy in force names it"})
		}
	}
	slices.SortFunc(after, func(a, b Standing) int { return byKey(a.Key, b.Key) })
	slices.SortFunc(changes, func(a, b Change) int { return byKey(a.Key, b.Key) })
	return after, changes
}

func byKey(a, b Key) int {
	return cmp.Or(strings.Compare(a.Objective, b.Objective), strings.Compare(a.Action, b.Action))
}

// waits reports whether only a person can end s.
func (s Standing) waits() bool { return s.Action == policy.ActionMandatoryPostmortem && !s.Closed }

// firstSteps is the share in ppm from which on each action is in force: steps
// are cumulative.
func firstSteps(o slo.Objective) map[string]int64 {
	first := map[string]int64{}
	for _, step := range o.BudgetPolicy {
		for _, a := range step.Actions {
			if at, named := first[a]; !named || step.ConsumedPPM < at {
				first[a] = step.ConsumedPPM
			}
		}
	}
	return first
}

// Actions are the actions in force by objective: in the order of its budget
// policy, then what only waits for a person.
func Actions(standings []Standing, objectives []slo.Objective) map[string][]string {
	in := map[Key]bool{}
	for _, s := range standings {
		if !s.Closed {
			in[s.Key] = true
		}
	}
	all := map[string][]string{}
	for _, o := range objectives {
		add := func(action string) {
			if k := (Key{o.Name, action}); in[k] {
				all[o.Name] = append(all[o.Name], action)
				delete(in, k)
			}
		}
		for _, step := range o.BudgetPolicy {
			for _, a := range step.Actions {
				add(a)
			}
		}
		add(policy.ActionMandatoryPostmortem)
	}
	return all
}
