package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/slo"
)

// Class is what kind of change is to be released.
type Class string

// The classes. Canary is a change that few users will meet.
const (
	Normal   Class = "normal"
	Canary   Class = "canary"
	Security Class = "security"
	Rollback Class = "rollback"
	P0       Class = "p0"
)

// Classes are all classes.
func Classes() []Class { return []Class{Normal, Canary, Security, Rollback, P0} }

// mayAlways reports whether a class passes whatever the budget says.
func (c Class) mayAlways() bool { return c == Security || c == Rollback || c == P0 }

// Answer is what the gate says.
type Answer string

// The answers.
const (
	Allow   Answer = "allow"
	Deny    Answer = "deny"
	Unknown Answer = "unknown"
)

// Code is why, for programs.
type Code string

// The codes of DESIGN section 5.
const (
	FreezeReleases   Code = "freeze-releases"
	LimitReleases    Code = "limit-releases"
	FastBurn         Code = "fast-burn"
	ChaosRunning     Code = "chaos-running"
	TelemetryStale   Code = "telemetry-stale"
	InsufficientData Code = "insufficient-data"
	Overridden       Code = "override"
	NoSuchService    Code = "no-such-service"
)

// Reason is why the gate says so, or what it would say without an exemption.
type Reason struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Override is what a person has told the gate to say.
type Override struct {
	Answer Answer // Allow or Deny
	Reason string
	By     string
	Until  time.Time
}

// Objective is an objective as its policy has it, and its status with the
// actions that are in force.
type Objective struct {
	Policy slo.Objective
	Status slo.Status
}

// Facts are what a decision is made of.
type Facts struct {
	Service string
	Known   bool  // the policies in force name the service
	Class   Class // of the change
	// OnUnknown is what the pipeline wants where the gate does not know; Unknown
	// to be told so.
	OnUnknown Answer
	Override  *Override
	// Stale says that no telemetry has come for so long that the objectives may
	// not be trusted.
	Stale bool
	// Objectives are those of the service.
	Objectives []Objective
	// Experiments are the chaos experiments that run on the service.
	Experiments []string
}

// Decision is the gate's answer.
type Decision struct {
	Answer  Answer
	Reasons []Reason
	// Exempted says that the class alone let pass what would have been denied.
	Exempted bool
}

// limitAt is the share of the budget from which on an objective without a
// budget policy limits releases; it freezes them at all of it.
const limitAt = slo.PPM * 3 / 4

// Decide answers by the order that the package's comment gives.
func Decide(f Facts) Decision {
	if !f.Known {
		return Decision{Unknown, []Reason{{NoSuchService, fmt.Sprintf("no policy in force names the service %q", f.Service)}}, false}
	}
	var unknown []Reason
	if f.Stale {
		unknown = append(unknown, Reason{TelemetryStale, "no telemetry has arrived of late, so the objectives may not be trusted"})
	}
	if o := f.Override; o != nil {
		r := Reason{Overridden, fmt.Sprintf("%s has set this to %s until %s: %s", o.By, o.Answer, o.Until.UTC().Format(time.RFC3339), o.Reason)}
		return Decision{o.Answer, append([]Reason{r}, unknown...), false}
	}
	if f.Stale {
		return f.unknown(unknown)
	}
	denied := f.denials()
	switch {
	case f.Class.mayAlways():
		return Decision{Allow, denied, len(denied) > 0}
	case f.Class == Canary:
		denied = slices.DeleteFunc(denied, func(r Reason) bool { return r.Code == LimitReleases })
	}
	if len(denied) > 0 {
		return Decision{Deny, denied, false}
	}
	if unknown = f.insufficient(); len(unknown) > 0 {
		return f.unknown(unknown)
	}
	return Decision{Allow, nil, false}
}

func (f Facts) unknown(why []Reason) Decision {
	if f.OnUnknown == Allow || f.OnUnknown == Deny {
		return Decision{f.OnUnknown, why, false}
	}
	return Decision{Unknown, why, false}
}

// denials are all reasons against a release of class normal.
func (f Facts) denials() []Reason {
	var frozen, burning, limited, chaos []Reason
	for _, objective := range f.Objectives {
		o := objective.Status
		freeze, limit := objective.releases()
		budget := fmt.Sprintf("%s has consumed %s of its error budget (%s)", o.Name, o.ConsumedText(), o.RemainingText())
		switch {
		case freeze:
			frozen = append(frozen, Reason{FreezeReleases, budget})
		case limit:
			limited = append(limited, Reason{LimitReleases, budget})
		}
		for _, b := range o.Burn {
			if b.Firing && b.Tier == slo.TierFast {
				burning = append(burning, Reason{FastBurn, fmt.Sprintf("%s is burning its error budget %.1f times too fast over %s and %.1f over %s",
					o.Name, b.LongRate, b.Long, b.ShortRate, b.Short)})
			}
		}
	}
	if len(f.Experiments) > 0 {
		chaos = []Reason{{ChaosRunning, "running on the service: " + strings.Join(f.Experiments, ", ")}}
	}
	return slices.Concat(frozen, burning, chaos, limited)
}

// releases says whether the objective freezes or limits releases: by its budget
// policy, or by the usual one where it has none.
func (o Objective) releases() (freeze, limit bool) {
	if len(o.Policy.BudgetPolicy) == 0 {
		return o.Policy.Reached(o.Status.Bad, o.Status.Total, slo.PPM), o.Policy.Reached(o.Status.Bad, o.Status.Total, limitAt)
	}
	return slices.Contains(o.Status.Actions, policy.ActionFreezeReleases), slices.Contains(o.Status.Actions, policy.ActionLimitReleases)
}

func (f Facts) insufficient() []Reason {
	if len(f.Objectives) == 0 {
		return []Reason{{InsufficientData, "no objective tells how the service does"}}
	}
	var why []Reason
	for _, o := range f.Objectives {
		if s := o.Status; s.State == slo.InsufficientData {
			why = append(why, Reason{InsufficientData, fmt.Sprintf("%s has seen %d requests in %s, too few to judge by", s.Name, s.Total, s.Window)})
		}
	}
	return why
}
