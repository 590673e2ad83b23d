package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// policyRules checks a ResiliencePolicy: its references and how its guards fit
// together. Of a route with findings nothing more is said.
func (w *world) policyRules(o *object, s ResiliencePolicySpec) {
	w.service(o, "spec.service", s.Service)
	if s.Mode == ModeShadow && !o.isBad("spec.mode") {
		o.fail(diag.NotEnforced, "spec.mode", "", "mode shadow is accepted, not enforced yet: the guards are off and nothing is decided")
	}
	poolRules(o, s.Pools)
	sheddingRules(o, s.Shedding)
	routeNames(o, s.Routes)
	w.reachRules(o, s)
	w.poolsFit(o, s)
	for i := range s.Routes {
		r, path := &s.Routes[i], fmt.Sprintf("spec.routes[%d]", i)
		if o.isBad(path) {
			continue
		}
		headerRules(o, path, r.Match.Headers)
		timeoutRules(o, path, r)
		cascadeRules(o, path, r)
		retryRules(o, path, r)
		breakerRules(o, path, r)
		deadlineRules(o, path, r)
		if d := r.DeadLetter; d != nil && d.Backoff.Max < d.Backoff.Base {
			o.maxBelow(path+".deadLetter.backoff.max", "backoff.max", d.Backoff.Max, "backoff.base", d.Backoff.Base)
		}
		if f := r.Fallback; f != nil && f.Cached == nil && f.Static == nil {
			o.fail(diag.MissingField, path+".fallback", "", "fallback needs cached, static or both")
		}
		if f := r.Fallback; f != nil {
			staticRules(o, path+".fallback.static", f.Static)
		}
		w.routeReferences(o, path, r, s.Pools)
	}
}

func (w *world) routeReferences(o *object, path string, r *Route, pools map[string]Pool) {
	if r.Pool != "" && !o.isBad("spec.pools") {
		known := make([]string, 0, len(pools))
		for name := range pools {
			known = append(known, name)
		}
		slices.Sort(known)
		if w.refers(o, diag.UnknownPool, path+".pool", "pool", r.Pool, known) {
			poolFits(o, path, r, pools[r.Pool])
		}
	}
	for i, flag := range r.Flags {
		w.refers(o, diag.UnknownFlag, fmt.Sprintf("%s.flags[%d]", path, i), "FeatureFlag", flag, sortedNames(w.flags))
	}
}

func poolRules(o *object, pools map[string]Pool) {
	for name, p := range pools { // findings are sorted in the end
		path := "spec.pools." + name
		if p.Timeout > 0 && p.MaxWait > p.Timeout && !o.isBad(path) {
			o.fail(diag.PoolWaitTooLong, path+".maxWait", "timeout bounds wait and call together", "maxWait %s is longer than timeout %s", p.MaxWait, p.Timeout)
		}
	}
}

// poolsFit warns where pools let in more calls than there may be connections.
// Over HTTP/2 many calls share one.
func (w *world) poolsFit(o *object, s ResiliencePolicySpec) {
	service := w.services[s.Service]
	if service == nil || service.isBad("spec.connections") || service.isBad("spec.protocol") || o.isBad("spec.pools") {
		return
	}
	upstream := spec[Service](service).Spec
	if upstream.Protocol != ProtocolHTTP1 {
		return
	}
	limit, all, told := upstream.Connections.Max, 0, false
	where := service.place("spec.connections.max")
	for name, p := range s.Pools {
		if all += p.MaxConcurrency; p.MaxConcurrency > limit {
			told = true
			o.fail(diag.PoolAboveLimit, "spec.pools."+name+".maxConcurrency", "", "pool %q lets in %d calls, but service %q has at most %d connections (%s)", name, p.MaxConcurrency, s.Service, limit, where)
		}
	}
	if all > limit && !told {
		o.fail(diag.PoolAboveLimit, "spec.pools", "", "the pools together let in %d calls, but service %q has at most %d connections (%s)", all, s.Service, limit, where)
	}
}

// poolFits warns of a wait that the request's own time ends first. A default
// wait is not worth a word: the shorter of the two holds.
func poolFits(o *object, path string, r *Route, p Pool) {
	written := o.node("spec.pools."+r.Pool+".maxWait") != nil
	if p.MaxQueue > 0 && written && r.Timeout.Request > 0 && p.MaxWait >= r.Timeout.Request {
		o.fail(diag.WaitOutlivesRequest, path+".pool", "lower maxWait of the pool, or raise timeout.request: it bounds wait and call together",
			"maxWait %s of pool %q is not shorter than timeout.request %s, which ends the wait first", p.MaxWait, r.Pool, r.Timeout.Request)
	}
}

func deadlineRules(o *object, path string, r *Route) {
	here, there := path+".timeout.deadlineHeader", path+".deadlineHeader"
	if o.node(here) != nil && o.node(there) != nil {
		o.fail(diag.NotExactlyOne, there, "keep the one in timeout", "deadlineHeader is written twice, here and in timeout")
		return
	}
	if o.node(here) == nil {
		here = there
	}
	if strings.Trim(r.Timeout.DeadlineHeader, lowerAlnum+"-_.") != "" {
		o.fail(diag.BadHeader, here, "", "%q: of other signs than letters and digits, a deadlineHeader takes - _ and .", r.Timeout.DeadlineHeader)
	}
	if r.Timeout.DeadlineHeader == "grpc-timeout" {
		o.fail(diag.BadHeader, here, "grpc-timeout is obeyed by itself where the service has protocol: grpc", "deadlineHeader holds integer milliseconds, and grpc-timeout does not")
	}
}

func sheddingRules(o *object, s *Shedding) {
	if s == nil || o.isBad("spec.shedding") {
		return
	}
	t := s.Thresholds
	if t.Low > t.Medium {
		o.fail(diag.ThresholdOrder, "spec.shedding.thresholds.low", "", "low %s is above medium %s: low would be dropped later", t.Low, t.Medium)
	}
	if t.High > 0 && t.High < t.Medium {
		o.fail(diag.ThresholdOrder, "spec.shedding.thresholds.high", "", "high %s is below medium %s: high would be dropped first", t.High, t.Medium)
	}
	if a := s.Signal.Adaptive; a != nil && a.Max < a.Min {
		o.fail(diag.MaxBelowBase, "spec.shedding.signal.adaptive.max", "", "max %d is below min %d", a.Max, a.Min)
	}
}

func routeNames(o *object, routes []Route) {
	first := map[string]int{}
	for i := range routes {
		path := fmt.Sprintf("spec.routes[%d].name", i)
		name := routes[i].Name
		if name == "" || o.isBad(path) {
			continue
		}
		if j, twice := first[name]; twice {
			o.fail(diag.DuplicateRoute, path, "", "route %q already exists in line %d", name, o.place(fmt.Sprintf("spec.routes[%d].name", j)).Line)
			continue
		}
		first[name] = i
	}
}

func (m Match) everything() bool {
	return len(m.Methods) == 0 && len(m.Headers) == 0 && (m.Path == nil || m.Path.Prefix == "/")
}

func headerRules(o *object, path string, headers []HeaderMatch) {
	for i, h := range headers {
		n := o.node(fmt.Sprintf("%s.match.headers[%d]", path, i))
		given := 0
		for _, key := range []string{"exact", "prefix", "regex", "present"} {
			if n.child(key) != nil {
				given++
			}
		}
		if given != 1 {
			o.fail(diag.NotExactlyOne, fmt.Sprintf("%s.match.headers[%d]", path, i), "present: true takes any value", "header %s takes exactly one of exact, prefix, regex, present", h.Name)
		}
	}
}

func timeoutRules(o *object, path string, r *Route) {
	t := r.Timeout
	if t.PerTry > 0 && t.Request > 0 && t.PerTry > t.Request {
		o.fail(diag.PerTryTooLong, path+".timeout.perTry", "", "perTry %s is longer than request %s, which comes first", t.PerTry, t.Request)
	}
}

// cascadeRules checks client > request and perTry (else request) > service >
// db, cache, as far as they are declared.
func cascadeRules(o *object, path string, r *Route) {
	c := r.Cascade
	if c == nil {
		return
	}
	inner, innerName := r.Timeout.PerTry, "timeout.perTry"
	if inner == 0 {
		inner, innerName = r.Timeout.Request, "timeout.request"
	}
	mustExceed := func(key, outerName string, outer Duration, name string, d Duration) {
		if d > 0 && outer > 0 && outer <= d {
			o.fail(diag.CascadeBroken, path+".cascade."+key, "", "%s %s must be longer than %s %s, or the outer layer gives up first", outerName, outer, name, d)
		}
	}
	if c.Client > 0 && r.Timeout.Request == 0 {
		o.fail(diag.CascadeBroken, path+".cascade.client", "set timeout.request below it", "the client gives up after %s, but timeout.request is 0: no limit", c.Client)
	}
	mustExceed("client", "cascade.client", c.Client, "timeout.request", r.Timeout.Request)
	mustExceed("service", innerName, inner, "cascade.service", c.Service)
	outer, outerName := c.Service, "cascade.service"
	if outer == 0 {
		outer, outerName = inner, innerName
	}
	mustExceed("db", outerName, outer, "cascade.db", c.DB)
	mustExceed("cache", outerName, outer, "cascade.cache", c.Cache)
}

func retryRules(o *object, path string, r *Route) {
	if r.Retry == nil {
		return
	}
	path += ".retry"
	if b := r.Retry.Backoff; b.Max < b.Base {
		o.maxBelow(path+".backoff.max", "backoff.max", b.Max, "backoff.base", b.Base)
	}
	retriesFit(o, path, r)
	resetAndTimeout(o, path, r)
	unsafeRetries(o, path, r)
}

// retriesFit checks that the last try can still happen: attempts × perTry and
// the longest back-offs between them within the request's time.
func retriesFit(o *object, path string, r *Route) {
	t, b := r.Timeout, r.Retry.Backoff
	if t.PerTry == 0 || t.Request == 0 || t.PerTry > t.Request {
		return
	}
	tries := Duration(r.Retry.Attempts) * t.PerTry
	waits, wait := Duration(0), b.Base
	for range r.Retry.Attempts - 1 {
		waits += min(wait, b.Max)
		wait = min(2*wait, b.Max)
	}
	if tries+waits > t.Request {
		o.fail(diag.RetriesDoNotFit, path, "raise timeout.request, or lower retry.attempts, timeout.perTry or the back-off",
			"%d tries of %s and back-offs of %s take %s, more than timeout.request %s", r.Retry.Attempts, t.PerTry, waits, tries+waits, t.Request)
	}
}

func resetAndTimeout(o *object, path string, r *Route) {
	on := r.Retry.RetryOn
	reset, timeout := slices.Index(on, "reset"), slices.Index(on, "timeout")
	switch {
	case reset >= 0 && timeout < 0:
		o.fail(diag.ResetAndTimeout, fmt.Sprintf("%s.retryOn[%d]", path, reset), "add timeout", "Envoy cannot retry reset without timeout")
	case timeout >= 0 && reset < 0:
		o.fail(diag.ResetAndTimeout, fmt.Sprintf("%s.retryOn[%d]", path, timeout), "add reset", "Envoy cannot retry timeout without reset")
	case timeout >= 0 && r.Timeout.PerTry == 0 && o.node(path+".retryOn") != nil:
		o.fail(diag.TimeoutNoRetry, fmt.Sprintf("%s.retryOn[%d]", path, timeout), "set timeout.perTry", "a timeout leaves no time for another try without timeout.perTry")
	}
}

func unsafeRetries(o *object, path string, r *Route) {
	if r.Retry.Idempotency != nil {
		return
	}
	var unsafe []string
	for _, m := range r.Match.Methods {
		if !IdempotentMethod(m) {
			unsafe = append(unsafe, m)
		}
	}
	if len(unsafe) > 0 {
		o.fail(diag.UnsafeRetry, path, "add idempotency: {header: Idempotency-Key, generate: true}, or give these methods a route without retry",
			"retry of %s without an idempotency key: the service may act twice", strings.Join(unsafe, ", "))
	}
}

func breakerRules(o *object, path string, r *Route) {
	b := r.Breaker
	if b == nil {
		return
	}
	if b.Backoff.Max < b.RecoveryTimeout {
		o.maxBelow(path+".breaker.backoff.max", "backoff.max", b.Backoff.Max, "recoveryTimeout", b.RecoveryTimeout)
	}
	if s := b.SlowCalls; s != nil && r.Timeout.Request > 0 && s.Threshold > r.Timeout.Request {
		o.fail(diag.NeverSlow, path+".breaker.slowCalls.threshold", "lower threshold",
			"no call can take threshold %s: timeout.request %s ends it first", s.Threshold, r.Timeout.Request)
	}
}

func (o *object) maxBelow(path, maxName string, limit Duration, baseName string, base Duration) {
	o.fail(diag.MaxBelowBase, path, "", "%s %s is below %s %s", maxName, limit, baseName, base)
}

// node is the value at a path, or nil.
func (o *object) node(path string) *node {
	n := o.root
	for part := range strings.SplitSeq(path, ".") {
		name, index, indexed := strings.Cut(part, "[")
		e := n.child(name)
		if e == nil {
			return nil
		}
		n = e.value
		if indexed {
			i := 0
			if _, err := fmt.Sscanf(index, "%d]", &i); err != nil || i >= len(n.items) {
				return nil
			}
			n = n.items[i]
		}
	}
	return n
}
