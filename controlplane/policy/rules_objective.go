package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/slo"
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
	if !o.isBad("spec.objective") && s.Objective > 0 && s.Objective < 100*percent {
		neverFires(o, s)
	}
	w.countsNothing(o, s)
}

// neverFires warns of what even an outage of the whole window cannot reach.
func neverFires(o *object, s ServiceLevelObjectiveSpec) {
	most := float64(100*percent) / float64(100*percent-s.Objective)
	var tiers []string
	for _, t := range slo.Unreachable(int64(s.Objective)) {
		tiers = append(tiers, fmt.Sprintf("%s (above %g)", t.Name, t.Threshold))
	}
	if len(tiers) > 0 {
		o.fail(diag.AlertNeverFires, "spec.objective", "", "with objective %s the budget burns at most %.4g times too fast, so these burn alerts can never fire: %s",
			s.Objective, most, strings.Join(tiers, ", "))
	}
	for i, step := range s.BudgetPolicy {
		path := fmt.Sprintf("spec.budgetPolicy[%d].consumed", i)
		if float64(step.Consumed)/float64(100*percent) > most && !o.isBad(path) && !o.isBad("spec.budgetPolicy") {
			o.fail(diag.StepNeverReached, path, "", "consumed %s is never reached: with objective %s, a window of failures alone consumes %.4g%%", step.Consumed, s.Objective, 100*most)
		}
	}
}

// countsNothing warns of requests that the objective looks at and that there
// cannot be.
func (w *world) countsNothing(o *object, s ServiceLevelObjectiveSpec) {
	p := w.policies[s.Service]
	routes, ok := w.routesOf(s.Service)
	if !ok || p == nil || o.isBad("spec.routes") {
		return
	}
	routes = slices.Clone(routes)
	if len(s.Routes) > 0 {
		routes = slices.DeleteFunc(routes, func(r Route) bool { return !slices.Contains(s.Routes, r.Name) })
	}
	if len(routes) == 0 {
		return
	}
	header := spec[ResiliencePolicy](p).Spec.Priority
	for i, class := range s.Priorities {
		path := fmt.Sprintf("spec.priorities[%d]", i)
		there := slices.ContainsFunc(routes, func(r Route) bool { return r.Priority == class })
		if !there && !o.isBad(path) && (header == nil || !header.Trusted) {
			o.fail(diag.ClassNeverThere, path, "", "no request is %s: no route here has that priority, and clients may not name theirs", class)
		}
	}
	l := s.Indicator.Latency
	if l == nil || o.isBad("spec.indicator") || o.isBad("spec.indicator.latency.threshold") {
		return
	}
	longest := Duration(0)
	for _, r := range routes {
		if r.Timeout.Request == 0 {
			return
		}
		longest = max(longest, r.Timeout.Request)
	}
	if l.Threshold >= longest {
		o.fail(diag.NeverTooSlow, "spec.indicator.latency.threshold", "", "no answer takes longer than threshold %s: timeout.request %s ends the request first, as a timeout", l.Threshold, longest)
	}
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
	for i, step := range steps {
		for j, action := range step.Actions {
			if action == ActionShedLow {
				o.fail(diag.NotEnforced, fmt.Sprintf("spec.budgetPolicy[%d].actions[%d]", i, j), "", "shed-low is accepted, not enforced yet: it is shown, nothing is shed")
			}
		}
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
	w.guardrailRules(o, s)
	// A warning only: a missing flag keeps the experiment from starting, which is safe.
	w.refers(o, diag.UndeclaredFlag, "spec.guardrails.requireFlag", "FeatureFlag", s.Guardrails.RequireFlag, sortedNames(w.flags))
}

// guardrailRules warns of guardrails that nobody chose, that come before the
// ramp's end, or that have nothing to look at.
func (w *world) guardrailRules(o *object, s ChaosExperimentSpec) {
	const path = "spec.guardrails"
	if o.isBad(path) || o.isBad("spec.ramp") {
		return
	}
	if o.node(path) == nil {
		o.fail(diag.NoGuardrails, path, "write guardrails: {} for the defaults", "no guardrails: by default it ends after %s, and early on a burnt budget, more errors or an open breaker", s.Guardrails.MaxDuration)
	}
	ramp := Duration(0)
	for _, step := range s.Ramp {
		ramp += step.Hold
	}
	if ramp > s.Guardrails.MaxDuration {
		o.fail(diag.RampCutShort, path+".maxDuration", "", "maxDuration %s ends the experiment before its ramp of %s does", s.Guardrails.MaxDuration, ramp)
	}
	const budget, breaker = path + ".abortWhen.errorBudgetConsumed", path + ".abortWhen.breakerOpen"
	if w.incomplete || o.isBad("spec.service") || o.isBad("spec.routes") {
		return
	}
	if o.node(budget) != nil && !slices.ContainsFunc(w.objects, func(other *object) bool {
		return other.kind == KindServiceLevelObjective && (other.isBad("spec.service") || spec[ServiceLevelObjective](other).Spec.Service == s.Service)
	}) {
		o.fail(diag.BlindGuardrail, budget, "", "service %q has no ServiceLevelObjective, so no budget of it is ever consumed", s.Service)
	}
	routes, known := w.routesOf(s.Service)
	if known && s.Guardrails.AbortWhen.BreakerOpen && o.node(breaker) != nil && !slices.ContainsFunc(routes, func(r Route) bool {
		return r.Breaker != nil && (len(s.Routes) == 0 || slices.Contains(s.Routes, r.Name))
	}) {
		o.fail(diag.BlindGuardrail, breaker, "", "no route that the experiment hits has a breaker, so none ever opens")
	}
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
