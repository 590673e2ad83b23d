package policy

import (
	"fmt"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// state is what this build does with a field.
type state int

const (
	enforced state = iota + 1
	// notYet is accepted with a warning and does nothing, everything below it
	// included.
	notYet
	// notAvailable is refused: to ignore it would loosen a security promise.
	notAvailable
)

type fieldState struct {
	state state
	note  string // what that means for the user, beyond "not enforced"
}

// enforcement lists every field of the schema, as Kind.path without indexes and
// map keys. A field below one that is notYet or notAvailable needs no line of
// its own; everything else does (TestEnforcementIsComplete). Whoever builds a
// field changes its line here, and its warning is gone.
var enforcement = buildEnforcement()

func buildEnforcement() map[string]fieldState {
	table := map[string]fieldState{}
	add := func(s state, paths string) {
		for path := range strings.FieldsSeq(paths) {
			table[path] = fieldState{state: s}
		}
	}
	note := func(s state, path, text string) { table[path] = fieldState{s, text} }

	for _, kind := range kindNames() {
		add(enforced, kind+".apiVersion "+kind+".kind "+kind+".metadata "+kind+".metadata.name "+kind+".spec")
	}

	add(enforced, `
		Edge.spec.listeners Edge.spec.listeners.address Edge.spec.listeners.port
		Edge.spec.nodes Edge.spec.nodes.cluster Edge.spec.nodes.id
		Edge.spec.services Edge.spec.failureMode Edge.spec.trustedHops`)
	note(notAvailable, "Edge.spec.listeners.tls", "the listener would serve plain text")
	add(notYet, `Edge.spec.maxBody Edge.spec.probes`)

	add(enforced, `
		Service.spec.hosts Service.spec.paths
		Service.spec.endpoints Service.spec.endpoints.address Service.spec.endpoints.port
		Service.spec.dns Service.spec.dns.name Service.spec.dns.port
		Service.spec.protocol Service.spec.connectTimeout
		Service.spec.connections Service.spec.connections.max
		Service.spec.outlierEjection Service.spec.outlierEjection.consecutive5xx
		Service.spec.outlierEjection.baseEjection Service.spec.outlierEjection.maxEjected`)
	note(notAvailable, "Service.spec.tls", "requests would travel in plain text")
	add(notYet, `Service.spec.healthCheck Service.spec.rewrite`)

	const p = "ResiliencePolicy.spec."
	add(enforced, p+"service "+p+"mode "+p+"retryBudget "+p+"retryBudget.percent "+p+"retryBudget.minConcurrency "+p+"routes")
	add(enforced, p+"pools "+p+"pools.maxConcurrency "+p+"pools.maxQueue "+p+"pools.maxWait "+p+"pools.timeout")
	add(notYet, p+"shedding "+p+"priority "+p+"synthetic")

	const r = p + "routes."
	add(enforced, r+"name "+r+"match "+r+"match.methods "+r+"match.path "+r+"match.path.exact "+r+"match.path.prefix "+
		r+"match.path.template "+r+"match.path.regex "+r+"match.headers "+r+"match.headers.name "+r+"match.headers.exact "+
		r+"match.headers.prefix "+r+"match.headers.regex "+r+"match.headers.present "+r+"priority")
	add(enforced, r+"timeout "+r+"timeout.request "+r+"timeout.perTry "+r+"timeout.idle "+r+"timeout.deadlineHeader "+r+"deadlineHeader "+r+"pool")
	note(enforced, r+"cascade", "checked by validation, which is all it is for")
	add(enforced, r+"cascade.client "+r+"cascade.service "+r+"cascade.db "+r+"cascade.cache")
	add(enforced, r+"retry "+r+"retry.attempts "+r+"retry.retryOn "+r+"retry.backoff "+r+"retry.backoff.base "+r+"retry.backoff.max "+
		r+"retry.honorRetryAfter "+r+"retry.honorRetryAfter.max")
	note(notYet, r+"retry.idempotency", "no key is stamped, so POST and PATCH are not retried")
	add(enforced, r+"breaker "+r+"breaker.consecutiveFailures "+r+"breaker.recoveryTimeout "+r+"breaker.backoff "+
		r+"breaker.backoff.multiplier "+r+"breaker.backoff.max "+r+"breaker.halfOpen "+r+"breaker.halfOpen.probes "+
		r+"breaker.halfOpen.successes "+r+"breaker.failures "+
		r+"breaker.failureRate "+r+"breaker.failureRate.percent "+r+"breaker.failureRate.window "+r+"breaker.failureRate.minRequests "+
		r+"breaker.slowCalls "+r+"breaker.slowCalls.threshold "+r+"breaker.slowCalls.percent "+r+"breaker.slowCalls.window "+r+"breaker.slowCalls.minRequests")
	add(notYet, r+"timeout.body "+r+"upgrades "+r+"deadLetter "+r+"fallback "+r+"flags")

	const o = "ServiceLevelObjective.spec."
	add(enforced, o+"service "+o+"routes "+o+"priorities "+o+"objective "+o+"window "+o+"indicator "+
		o+"indicator.availability "+o+"indicator.availability.bad "+o+"indicator.latency "+o+"indicator.latency.threshold")
	add(notYet, o+"indicator.jobSuccess")
	note(notYet, o+"budgetPolicy", "steps that are reached are shown, nothing acts on them")

	note(notYet, "ChaosExperiment.spec", "the experiment cannot be started")
	note(notYet, "FeatureFlag.spec", "nobody reads the flag")
	return table
}

// stateOf finds the line of a field: its own, or that of the nearest field
// above which takes in what is below.
func stateOf(schema string) (fieldState, bool) {
	if s, ok := enforcement[schema]; ok {
		return s, true
	}
	for {
		i := strings.LastIndexByte(schema, '.')
		if i < 0 {
			return fieldState{}, false
		}
		schema = schema[:i]
		if s, ok := enforcement[schema]; ok && s.state != enforced {
			return s, true
		}
	}
}

// enforcement reports a field that this build does not enforce, once, at the
// outermost such field.
func (d *decoder) enforcement(c cursor) {
	s, ok := enforcement[c.schema]
	if !ok {
		return
	}
	name, code, message := last(c.path), "", ""
	switch s.state {
	case notYet:
		code, message = diag.NotEnforced, name+" is accepted, not enforced yet"
	case notAvailable:
		code, message = diag.NotAvailable, name+" is not available yet"
	default:
		return
	}
	if s.note != "" {
		message += fmt.Sprintf(": %s", s.note)
	}
	d.report(code, c.line, c.column, c.path, message, "")
}
