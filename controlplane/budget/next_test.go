package budget_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/budget"
	"github.com/seawall-mesh/seawall/controlplane/slo"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// payments promises 99.9 %, and has the budget policy of DESIGN section 4.
var payments = slo.Objective{
	Name: "payments", Service: "payments", ObjectivePPM: 999_000, Window: 30 * 24 * time.Hour,
	BudgetPolicy: []slo.BudgetStep{
		{ConsumedPPM: 500_000, Actions: []string{"increase-alerting"}},
		{ConsumedPPM: 750_000, Actions: []string{"limit-releases", "halt-chaos"}},
		{ConsumedPPM: 1_000_000, Actions: []string{"freeze-releases", "focus-on-reliability", "mandatory-postmortem", "shed-low"}},
	},
}

// status is the objective's after so many bad requests in a million: 1,000 of
// them are its budget.
func status(o slo.Objective, bad uint64, stale bool) slo.Status {
	fresh := slo.Freshness{LastBatch: noon, MaxAge: time.Minute}
	if stale {
		fresh.LastBatch = time.Time{}
	}
	return slo.Evaluate(o, func(int64, int64) slo.Counts { return slo.Counts{Total: 1_000_000, Bad: bad} }, noon, fresh)
}

// look is one of several looks in a row.
type look struct {
	bad   uint64
	stale bool
	gone  bool // the objective is in force no more
	close bool // a person closes the post-mortem first
	want  string
	log   string
}

const all = "increase-alerting limit-releases halt-chaos freeze-releases focus-on-reliability mandatory-postmortem shed-low"

func TestActionsComeAndGo(t *testing.T) {
	t.Parallel()
	for name, looks := range map[string][]look{
		"a step is reached exactly": {
			{bad: 499}, {bad: 500, want: "increase-alerting", log: "+increase-alerting"},
		},
		"steps are cumulative": {
			{bad: 999, want: "increase-alerting limit-releases halt-chaos", log: "+halt-chaos +increase-alerting +limit-releases"},
			{bad: 1000, want: all, log: "+focus-on-reliability +freeze-releases +mandatory-postmortem +shed-low"},
		},
		"they stay on the edge of their step": {
			{bad: 750, want: "increase-alerting limit-releases halt-chaos", log: "+halt-chaos +increase-alerting +limit-releases"},
			{bad: 675, want: "increase-alerting limit-releases halt-chaos"},
			{bad: 674, want: "increase-alerting", log: "-halt-chaos -limit-releases"},
			{bad: 749, want: "increase-alerting"},
			{bad: 450, want: "increase-alerting"},
			{bad: 0, log: "-increase-alerting"},
		},
		"nothing moves while telemetry is stale": {
			{bad: 500, want: "increase-alerting", log: "+increase-alerting"},
			{bad: 0, stale: true, want: "increase-alerting"},
			{bad: 2000, stale: true, want: "increase-alerting"},
			{bad: 0, log: "-increase-alerting"},
		},
		"a post-mortem waits for a person": {
			{bad: 1000, want: all, log: "+focus-on-reliability +freeze-releases +halt-chaos +increase-alerting +limit-releases +mandatory-postmortem +shed-low"},
			{bad: 0, want: "mandatory-postmortem", log: "-focus-on-reliability -freeze-releases -halt-chaos -increase-alerting -limit-releases -shed-low"},
			{gone: true, want: ""}, // still there, but of no objective in force
			{bad: 0, want: "mandatory-postmortem"},
			{bad: 0, close: true},
		},
		"a closed post-mortem opens again only when its step was left": {
			{bad: 1000, want: all, log: "+focus-on-reliability +freeze-releases +halt-chaos +increase-alerting +limit-releases +mandatory-postmortem +shed-low"},
			{bad: 1100, close: true, want: strings.Replace(all, "mandatory-postmortem ", "", 1)},
			{bad: 950, want: strings.Replace(all, "mandatory-postmortem ", "", 1)},
			{bad: 800, want: "increase-alerting limit-releases halt-chaos", log: "-focus-on-reliability -freeze-releases -shed-low"},
			{bad: 1000, want: all, log: "+focus-on-reliability +freeze-releases +mandatory-postmortem +shed-low"},
		},
		"an objective that is gone has none": {
			{bad: 500, want: "increase-alerting", log: "+increase-alerting"},
			{gone: true, log: "-increase-alerting"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var standing []budget.Standing
			for n, l := range looks {
				if l.close {
					at := slices.IndexFunc(standing, func(s budget.Standing) bool { return s.Action == "mandatory-postmortem" })
					standing[at].Closed = true
				}
				objectives, statuses := []slo.Objective{payments}, []slo.Status{status(payments, l.bad, l.stale)}
				if l.gone {
					objectives, statuses = nil, nil
				}
				var changes []budget.Change
				standing, changes = budget.Next(standing, objectives, statuses, noon.Add(time.Duration(n)*time.Second))
				var log []string
				for _, c := range changes {
					log = append(log, map[bool]string{true: "+", false: "-"}[c.Began]+c.Action)
					require.NotEmpty(t, c.Reason)
				}
				require.Equal(t, l.want, strings.Join(budget.Actions(standing, objectives)["payments"], " "), "look %d", n)
				require.Equal(t, l.log, strings.Join(log, " "), "look %d", n)
			}
		})
	}
}

func TestTheReasonHasTheNumber(t *testing.T) {
	t.Parallel()
	_, changes := budget.Next(nil, []slo.Objective{payments}, []slo.Status{status(payments, 600, false)}, noon)
	require.Equal(t, "60.0 % of the error budget is consumed", changes[0].Reason)
}

// TestNextAgreesWithItself: whatever happens, what stands follows from the
// changes, a second look changes nothing, and between a step and nine tenths of
// it nothing moves.
func TestNextAgreesWithItself(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var standing []budget.Standing
		mail := payments
		mail.Name, mail.Service = "mail", "mail"
		for range rapid.IntRange(1, 30).Draw(t, "looks") {
			var objectives []slo.Objective
			var statuses []slo.Status
			bad := map[string]uint64{}
			stale := rapid.Bool().Draw(t, "stale")
			for _, o := range []slo.Objective{payments, mail} {
				if rapid.IntRange(0, 9).Draw(t, "absent") == 0 {
					continue
				}
				bad[o.Name] = rapid.Uint64Range(0, 1300).Draw(t, "bad")
				objectives, statuses = append(objectives, o), append(statuses, status(o, bad[o.Name], stale))
			}
			after, changes := budget.Next(standing, objectives, statuses, noon)
			was, is := names(standing), names(after)
			for _, c := range changes {
				name := fmt.Sprint(c.Key)
				if c.Began == was[name] || c.Began != is[name] {
					t.Fatalf("%v is no change from %v to %v", c, was, is)
				}
				was[name] = c.Began
				if !c.Began {
					delete(was, name)
				}
			}
			if fmt.Sprint(was) != fmt.Sprint(is) {
				t.Fatalf("%v by the changes, %v in truth", was, is)
			}
			if again, more := budget.Next(after, objectives, statuses, noon.Add(time.Hour)); len(more) > 0 || !slices.Equal(again, after) {
				t.Fatalf("a second look changes %v to %v", after, again)
			}
			for _, o := range objectives {
				for _, step := range o.BudgetPolicy {
					for _, action := range step.Actions {
						in := is[fmt.Sprint(budget.Key{Objective: o.Name, Action: action})]
						limit := uint64(step.ConsumedPPM) / 1000
						if !stale && bad[o.Name] >= limit && !in {
							t.Fatalf("%s with %d bad: %s is not in force", o.Name, bad[o.Name], action)
						}
						if !stale && bad[o.Name]*10 < limit*9 && in && action != "mandatory-postmortem" {
							t.Fatalf("%s with %d bad: %s is in force", o.Name, bad[o.Name], action)
						}
					}
				}
			}
			standing = after
		}
	})
}

func names(standing []budget.Standing) map[string]bool {
	set := map[string]bool{}
	for _, s := range standing {
		set[fmt.Sprint(s.Key)] = true
	}
	return set
}
