package delta

import (
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/policy"
)

// Effect is what a difference does.
type Effect string

// The effects.
const (
	Loosens  Effect = "loosens"
	Tightens Effect = "tightens"
	Changes  Effect = "changes"
)

// direction says how a field bears on what is let through.
type direction int

const (
	neutral direction = iota + 1 // and so is all below it that has no line of its own
	greater                      // a greater value loosens
	smaller                      // a smaller value loosens
	limit                        // a greater value loosens, and 0 is no limit
	more                         // a longer list loosens
	fewer                        // a shorter list loosens
	guard                        // to have it tightens
	help                         // to have it loosens
	ranked                       // by the order of its words, see ranks
)

// ranks are words from the tightest to the loosest.
var ranks = map[string][]string{
	"Edge.spec.failureMode":      {"closed", "open"},
	"ResiliencePolicy.spec.mode": {"enforce", "shadow", "disabled"},
}

// directions has a line for each field that is not neutral by one above it
// (TestEveryFieldHasADirection).
var directions = buildDirections()

func buildDirections() map[string]direction {
	table := map[string]direction{}
	add := func(d direction, prefix, paths string) {
		for path := range strings.FieldsSeq(paths) {
			table[prefix+path] = d
		}
	}
	const edge = "Edge.spec"
	add(neutral, "", "Edge Service FeatureFlag")
	add(ranked, edge, ".failureMode")
	add(greater, edge, ".trustedHops")
	add(limit, edge, ".maxBody")
	add(more, edge, ".probes") // each is let through unguarded

	const service = "Service.spec"
	add(guard, service, ".tls .outlierEjection .healthCheck")
	add(greater, service, ".connectTimeout .connections.max .outlierEjection.consecutive5xx .healthCheck.interval")
	add(smaller, service, ".outlierEjection.baseEjection .outlierEjection.maxEjected")
	add(neutral, service, ".connections .tls.ca .tls.serverName .healthCheck.path")

	const p = "ResiliencePolicy.spec"
	add(guard, "", "ResiliencePolicy")
	add(neutral, "ResiliencePolicy", ".apiVersion .kind .metadata .spec")
	add(ranked, p, ".mode")
	add(neutral, p, ".priority .synthetic .retryBudget .shedding.thresholds .shedding.signal")
	add(greater, p, ".pools.maxConcurrency .pools.maxQueue .pools.maxWait")
	add(limit, p, ".pools.timeout")
	add(guard, p, ".shedding .pools")
	add(greater, p, ".shedding.signal.inflight.limit .shedding.signal.adaptive.min .shedding.signal.adaptive.max .shedding.thresholds.low .shedding.thresholds.medium")
	add(limit, p, ".shedding.thresholds.high")
	add(help, p, ".priority.trusted .synthetic.trusted")
	add(greater, p, ".retryBudget.percent .retryBudget.minConcurrency")

	const r = p + ".routes"
	add(neutral, r, " .match .priority .timeout .deadLetter .fallback .flags .wrapUpstreamErrors .cascade .upgrades .deadlineHeader")
	add(limit, r, ".timeout.request .timeout.perTry .timeout.body .timeout.idle")
	add(guard, r, ".timeout.deadlineHeader .breaker .pool")
	add(more, r, ".upgrades .retry.retryOn")
	add(help, r, ".retry .retry.honorRetryAfter .retry.idempotency .retry.idempotency.generate")
	add(greater, r, ".retry.attempts .retry.honorRetryAfter.max .breaker.slowCalls.threshold .breaker.failureRate.percent .breaker.failureRate.minRequests .breaker.slowCalls.percent .breaker.slowCalls.minRequests .breaker.halfOpen.probes")
	add(smaller, r, ".retry.backoff.base .retry.backoff.max .breaker.recoveryTimeout .breaker.backoff.multiplier .breaker.backoff.max .breaker.halfOpen.successes")
	add(neutral, r, ".retry.backoff .retry.idempotency.header .breaker.backoff .breaker.halfOpen .breaker.failureRate.window .breaker.slowCalls.window")
	add(limit, r, ".breaker.consecutiveFailures")
	add(guard, r, ".breaker.failureRate .breaker.slowCalls")
	add(fewer, r, ".breaker.failures")

	const o = "ServiceLevelObjective.spec"
	add(guard, "", "ServiceLevelObjective")
	add(neutral, "ServiceLevelObjective", ".apiVersion .kind .metadata .spec")
	add(smaller, o, ".objective")
	add(fewer, o, ".indicator.availability.bad")
	add(greater, o, ".indicator.latency.threshold")

	const c = "ChaosExperiment.spec"
	add(help, "", "ChaosExperiment")
	add(neutral, "ChaosExperiment", ".apiVersion .kind .metadata .spec")
	add(guard, c, ".guardrails.window .guardrails.requireFlag .guardrails.abortWhen.breakerOpen .notify")
	add(greater, c, ".guardrails.maxDuration")
	add(limit, c, ".guardrails.abortWhen.errorBudgetConsumed .guardrails.abortWhen.errorRateDelta .guardrails.abortWhen.p95Above")
	add(neutral, c, ".guardrails .notify.webhooks .notify.before .guardrails.window.days .guardrails.window.from .guardrails.window.to .guardrails.window.timezone .guardrails.abortWhen")
	return table
}

// directionOf is the line of a field, or neutral where one above it says that
// of all that is below; ok is false where nobody has thought of it.
func directionOf(schema string) (d direction, ok bool) {
	if d, ok := directions[schema]; ok {
		return d, true
	}
	for {
		i := strings.LastIndexByte(schema, '.')
		if i < 0 {
			return neutral, false
		}
		schema = schema[:i]
		if d, ok := directions[schema]; ok {
			return neutral, d == neutral
		}
	}
}

// effect compares two values of a field; nil is one that is not there.
func effect(schema string, before, after any) Effect {
	d, _ := directionOf(schema)
	there := func(v any) bool { return v != nil && v != false && v != "" }
	loosens := func(yes bool) Effect {
		if yes {
			return Loosens
		}
		return Tightens
	}
	switch d {
	case guard, help:
		if there(before) == there(after) {
			return Changes
		}
		return loosens(there(after) == (d == help))
	case greater, smaller, limit:
		x, y := amount(before), amount(after)
		if x == y {
			return Changes
		}
		if (d == limit) && (x == 0 || y == 0) {
			return loosens(y == 0)
		}
		return loosens((y > x) == (d != smaller))
	case more, fewer:
		gone, come := lists(before, after)
		if (gone == 0) == (come == 0) {
			return Changes
		}
		return loosens((come > 0) == (d == more))
	case ranked:
		x, y := slices.Index(ranks[schema], word(before)), slices.Index(ranks[schema], word(after))
		if x < 0 || y < 0 || x == y {
			return Changes
		}
		return loosens(y > x)
	case neutral:
	}
	return Changes
}

func word(v any) string {
	s, _ := v.(string)
	return s
}

// amount is a number, a duration, a share or a size, as a number of its
// smallest units; what is not there is 0.
func amount(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case string:
		if d, err := policy.ParseDuration(v); err == nil {
			return float64(d)
		}
		if r, err := policy.ParseRatio(v); err == nil {
			return float64(r)
		}
		if s, err := policy.ParseByteSize(v); err == nil {
			return float64(s)
		}
	}
	return 0
}

// lists counts what the one list has and the other has not.
func lists(before, after any) (gone, come int) {
	a, _ := before.([]any)
	b, _ := after.([]any)
	missing := func(from, in []any) (n int) {
		for _, v := range from {
			if !slices.Contains(in, v) {
				n++
			}
		}
		return n
	}
	return missing(a, b), missing(b, a)
}
