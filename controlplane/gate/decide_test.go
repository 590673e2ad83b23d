package gate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/gate"
	"github.com/seawall-mesh/seawall/controlplane/slo"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// objective is one after bad of total requests, in all of its windows where
// burning, else in the whole one only, with the actions in force.
func objective(total, bad uint64, burning, policy bool, actions ...string) gate.Objective {
	o := slo.Objective{Name: "availability", Service: "payments", ObjectivePPM: 999_000, Window: 30 * 24 * time.Hour}
	if policy {
		o.BudgetPolicy = []slo.BudgetStep{{ConsumedPPM: 1, Actions: actions}}
	}
	s := slo.Evaluate(o, func(from, to int64) slo.Counts {
		if !burning && to-from < 30*24*60 {
			return slo.Counts{}
		}
		return slo.Counts{Total: total, Bad: bad}
	}, noon, slo.Freshness{LastBatch: noon, MaxAge: time.Minute})
	s.Actions = actions
	return gate.Objective{Policy: o, Status: s}
}

func well() gate.Objective { return objective(1_000_000, 10, false, true) }

func TestDecide(t *testing.T) {
	t.Parallel()
	const million = 1_000_000
	limited := []gate.Objective{objective(million, 800, false, true, "limit-releases")}
	frozen := []gate.Objective{objective(million, 1500, false, true, "limit-releases", "freeze-releases")}
	burning := []gate.Objective{objective(10_000, 900, true, true)}
	override := func(a gate.Answer) *gate.Override {
		return &gate.Override{Answer: a, Reason: "agreed", By: "ada", Until: noon}
	}
	type ask = map[gate.Class]string
	same := func(s string) ask {
		return ask{gate.Normal: s, gate.Canary: s, gate.Security: s, gate.Rollback: s, gate.P0: s}
	}
	exempt := func(normal, canary, passing string) ask {
		return ask{gate.Normal: normal, gate.Canary: canary, gate.Security: passing, gate.Rollback: passing, gate.P0: passing}
	}
	for name, c := range map[string]struct {
		facts gate.Facts
		want  ask
	}{
		"well":                         {gate.Facts{Objectives: []gate.Objective{well()}}, same("allow")},
		"limited":                      {gate.Facts{Objectives: limited}, exempt("deny limit-releases", "allow", "allow limit-releases !")},
		"frozen":                       {gate.Facts{Objectives: frozen}, exempt("deny freeze-releases", "deny freeze-releases", "allow freeze-releases !")},
		"one of two objectives frozen": {gate.Facts{Objectives: append([]gate.Objective{well()}, frozen...)}, exempt("deny freeze-releases", "deny freeze-releases", "allow freeze-releases !")},
		"burning fast":                 {gate.Facts{Objectives: burning}, exempt("deny fast-burn", "deny fast-burn", "allow fast-burn !")},
		"an experiment":                {gate.Facts{Objectives: []gate.Objective{well()}, Experiments: []string{"brownout"}}, exempt("deny chaos-running", "deny chaos-running", "allow chaos-running !")},
		"an experiment over a limit":   {gate.Facts{Objectives: limited, Experiments: []string{"brownout"}}, exempt("deny chaos-running limit-releases", "deny chaos-running", "allow chaos-running limit-releases !")},
		"exhausted, and the budget policy does not freeze": {
			gate.Facts{Objectives: []gate.Objective{objective(million, 1500, false, true, "focus-on-reliability")}}, same("allow"),
		},
		"no budget policy, three quarters": {gate.Facts{Objectives: []gate.Objective{objective(million, 750, false, false)}}, exempt("deny limit-releases", "allow", "allow limit-releases !")},
		"no budget policy, just below":     {gate.Facts{Objectives: []gate.Objective{objective(million, 749, false, false)}}, same("allow")},
		"no budget policy, exhausted":      {gate.Facts{Objectives: []gate.Objective{objective(million, 1000, false, false)}}, exempt("deny freeze-releases", "deny freeze-releases", "allow freeze-releases !")},
		"too few requests":                 {gate.Facts{Objectives: []gate.Objective{objective(999, 0, false, true)}}, exempt("unknown insufficient-data", "unknown insufficient-data", "allow")},
		"no requests":                      {gate.Facts{Objectives: []gate.Objective{objective(0, 0, false, false)}}, exempt("unknown insufficient-data", "unknown insufficient-data", "allow")},
		"no objective":                     {gate.Facts{}, exempt("unknown insufficient-data", "unknown insufficient-data", "allow")},
		"too few requests, allowed":        {gate.Facts{OnUnknown: gate.Allow}, exempt("allow insufficient-data", "allow insufficient-data", "allow")},
		"too few requests, denied":         {gate.Facts{OnUnknown: gate.Deny}, exempt("deny insufficient-data", "deny insufficient-data", "allow")},
		"too few requests and chaos":       {gate.Facts{OnUnknown: gate.Allow, Experiments: []string{"x"}}, exempt("deny chaos-running", "deny chaos-running", "allow chaos-running !")},
		"stale":                            {gate.Facts{Stale: true, Objectives: []gate.Objective{well()}}, same("unknown telemetry-stale")},
		"stale, allowed":                   {gate.Facts{Stale: true, OnUnknown: gate.Allow, Objectives: frozen}, same("allow telemetry-stale")},
		"stale, denied":                    {gate.Facts{Stale: true, OnUnknown: gate.Deny}, same("deny telemetry-stale")},
		"told to allow":                    {gate.Facts{Objectives: frozen, Override: override(gate.Allow)}, same("allow override")},
		"told to deny":                     {gate.Facts{Objectives: []gate.Objective{well()}, Override: override(gate.Deny)}, same("deny override")},
		"told to deny, stale, allowed":     {gate.Facts{Stale: true, OnUnknown: gate.Allow, Override: override(gate.Deny)}, same("deny override telemetry-stale")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.facts.Known, c.facts.Service = true, "payments"
			for class, want := range c.want {
				f := c.facts
				f.Class = class
				require.Equal(t, want, text(gate.Decide(f)), class)
				f.Known = false
				require.Equal(t, "unknown no-such-service", text(gate.Decide(f)), class)
			}
		})
	}
}

// text is a decision in words; "!" says that the class alone lets it pass.
func text(d gate.Decision) string {
	words := []string{string(d.Answer)}
	for _, r := range d.Reasons {
		words = append(words, string(r.Code))
	}
	if d.Exempted {
		words = append(words, "!")
	}
	return strings.Join(words, " ")
}

func TestMessagesHaveTheNumbers(t *testing.T) {
	t.Parallel()
	f := gate.Facts{Known: true, Class: gate.Normal, Objectives: []gate.Objective{objective(10_000_000, 15_000, true, false)}}
	require.Equal(t, "availability has consumed 150.0 % of its error budget (5,000 over)", gate.Decide(f).Reasons[0].Message)
	f.Objectives = []gate.Objective{objective(10_000, 900, true, true)}
	require.Equal(t, "availability is burning its error budget 90.0 times too fast over 1h and 90.0 over 5m", gate.Decide(f).Reasons[0].Message)
	f.Objectives = []gate.Objective{objective(12, 0, false, true)}
	require.Equal(t, "availability has seen 12 requests in 30d, too few to judge by", gate.Decide(f).Reasons[0].Message)
	f.Override = &gate.Override{Answer: gate.Allow, Reason: "agreed", By: "ada", Until: noon}
	require.Equal(t, "ada has set this to allow until 2026-11-25T12:00:00Z: agreed", gate.Decide(f).Reasons[0].Message)
}

// TestTheGateIsMonotonic: whatever is true of a service, a class that may do
// more is never denied what one that may do less is allowed, --on-unknown decides
// only what is unknown without it, and each answer but a plain allow has a reason.
func TestTheGateIsMonotonic(t *testing.T) {
	t.Parallel()
	rank := map[gate.Answer]int{gate.Deny: 0, gate.Unknown: 1, gate.Allow: 2}
	rapid.Check(t, func(t *rapid.T) {
		f := gate.Facts{Known: rapid.IntRange(0, 9).Draw(t, "known") > 0, Stale: rapid.IntRange(0, 4).Draw(t, "stale") == 0}
		for range rapid.IntRange(0, 3).Draw(t, "objectives") {
			actions := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"limit-releases", "freeze-releases", "halt-chaos"}), 0, 3, rapid.ID).Draw(t, "actions")
			f.Objectives = append(f.Objectives, objective(rapid.Uint64Range(0, 100_000).Draw(t, "total"), rapid.Uint64Range(0, 200).Draw(t, "bad"),
				rapid.Bool().Draw(t, "burning"), rapid.Bool().Draw(t, "policy"), actions...))
		}
		if rapid.Bool().Draw(t, "chaos") {
			f.Experiments = []string{"brownout"}
		}
		answers := map[gate.Class]gate.Answer{}
		for _, class := range gate.Classes() {
			f.Class, f.OnUnknown = class, gate.Unknown
			d := gate.Decide(f)
			answers[class] = d.Answer
			if d.Answer != gate.Allow && len(d.Reasons) == 0 {
				t.Fatalf("%s without a reason", d.Answer)
			}
			for _, wish := range []gate.Answer{gate.Allow, gate.Deny} {
				f.OnUnknown = wish
				got := gate.Decide(f).Answer
				if d.Answer != gate.Unknown && got != d.Answer || d.Answer == gate.Unknown && f.Known && got != wish {
					t.Fatalf("%s became %s by --on-unknown %s", d.Answer, got, wish)
				}
				if !f.Known && got != gate.Unknown {
					t.Fatalf("an unknown service is answered %s", got)
				}
			}
		}
		if rank[answers[gate.Normal]] > rank[answers[gate.Canary]] && answers[gate.Canary] == gate.Deny || rank[answers[gate.Canary]] > rank[answers[gate.P0]] ||
			answers[gate.P0] != answers[gate.Rollback] || answers[gate.P0] != answers[gate.Security] {
			t.Fatalf("%v", answers)
		}
	})
}
