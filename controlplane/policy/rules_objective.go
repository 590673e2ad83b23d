package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

func (w *world) objectiveRules(o *object, s ServiceLevelObjectiveSpec) {
	if w.service(o, "spec.service", s.Service) {
		for i, route := range s.Routes {
			w.route(o, fmt.Sprintf("spec.routes[%d]", i), s.Service, route)
		}
	}
	if !o.isBad("spec.objective") && (s.Objective <= 0 || s.Objective >= 100*percent) {
		o.fail(diag.ObjectiveRange, "spec.objective", "write 99.9%", "objective %s leaves no budget or promises nothing: above 0%% and below 100%%", s.Objective)
	}
	if !o.isBad("spec.window") && s.Window%minute != 0 {
		o.fail(diag.OutOfRange, "spec.window", "", "window %s is not a whole number of minutes, in which requests are counted", s.Window)
	}
	if job := s.Indicator.JobSuccess; job != nil && !o.isBad("spec.indicator") {
		w.queue(o, s.Service, job.Queue)
	}
	budgetSteps(o, s.BudgetPolicy)
}

func (w *world) queue(o *object, service, queue string) {
	routes, ok := w.routesOf(service)
	if !ok {
		return
	}
	var known []string
	for i := range routes {
		if d := routes[i].DeadLetter; d != nil && !slices.Contains(known, d.Queue) {
			known = append(known, d.Queue)
		}
	}
	w.refers(o, diag.UnknownQueue, "spec.indicator.jobSuccess.queue", "dead-letter queue of "+service, queue, known)
}

func budgetSteps(o *object, steps []BudgetStep) {
	if o.isBad("spec.budgetPolicy") {
		return
	}
	for i := 1; i < len(steps); i++ {
		if steps[i].Consumed <= steps[i-1].Consumed {
			o.fail(diag.BudgetStepOrder, fmt.Sprintf("spec.budgetPolicy[%d].consumed", i), "", "consumed %s does not rise above the step before it, %s", steps[i].Consumed, steps[i-1].Consumed)
		}
	}
}

func (w *world) experimentRules(o *object, s ChaosExperimentSpec) {
	if w.service(o, "spec.service", s.Service) {
		for i, route := range s.Routes {
			w.route(o, fmt.Sprintf("spec.routes[%d]", i), s.Service, route)
		}
	}
	if !o.isBad("spec.fault") {
		if l := s.Fault.Latency; l != nil && l.Max < l.Min {
			o.maxBelow("spec.fault.latency.max", "max", l.Max, "min", l.Min)
		}
		if e := s.Fault.PoolExhaustion; e != nil {
			w.poolOf(o, s.Service, e.Pool)
		}
		if s.Fault.Error != nil && s.At == AtAttempt {
			w.safeToReplace(o, s)
		}
	}
	if win := s.Guardrails.Window; win != nil && !o.isBad("spec.guardrails.window") && win.From >= win.To {
		o.fail(diag.BadTime, "spec.guardrails.window.to", "", "from %s is not before to %s", win.From, win.To)
	}
	// A warning only: a missing flag keeps the experiment from starting, which is safe.
	w.refers(o, diag.UndeclaredFlag, "spec.guardrails.requireFlag", "FeatureFlag", s.Guardrails.RequireFlag, sortedNames(w.flags))
}

func (w *world) poolOf(o *object, service, pool string) {
	p := w.policies[service]
	if p == nil || p.isBad("spec.pools") {
		return
	}
	known := []string{}
	for name := range spec[ResiliencePolicy](p).Spec.Pools {
		known = append(known, name)
	}
	slices.Sort(known)
	w.refers(o, diag.UnknownPool, "spec.fault.poolExhaustion.pool", "pool of "+service, pool, known)
}

// safeToReplace refuses a per-attempt error on a route where the upstream may
// have acted already and a retry would make it act again.
func (w *world) safeToReplace(o *object, s ChaosExperimentSpec) {
	routes, ok := w.routesOf(s.Service)
	if !ok {
		return
	}
	var unsafe []string
	for i := range routes {
		r := &routes[i]
		if len(s.Routes) > 0 && !slices.Contains(s.Routes, r.Name) {
			continue
		}
		if r.Retry != nil && r.Retry.Idempotency != nil {
			continue
		}
		safe := len(r.Match.Methods) > 0
		for _, m := range r.Match.Methods {
			safe = safe && slices.Contains(safeMethods, m)
		}
		if !safe {
			unsafe = append(unsafe, r.Name)
		}
	}
	if len(unsafe) > 0 {
		o.fail(diag.UnsafeFault, "spec.fault.error", "use at: edge, or routes with safe methods or an idempotency key",
			"a per-attempt error on %s, which takes unsafe methods without an idempotency key: the upstream has already acted", strings.Join(unsafe, ", "))
	}
}

func (w *world) flagRules(o *object, s FeatureFlagSpec) {
	if s.AutoDisable == nil || o.isBad("spec.autoDisable") {
		return
	}
	when := s.AutoDisable.When
	if w.service(o, "spec.autoDisable.when.service", when.Service) {
		w.route(o, "spec.autoDisable.when.route", when.Service, when.Route)
	}
}
