package policy

import (
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
)

type fieldState struct {
	state state
	note  string // what that means for the user, beyond "not enforced"
}

// enforcement lists every field of the schema, as Kind.path without indexes and
// map keys. A field below one that is notYet needs no line of
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
	add(enforced, `Edge.spec.listeners.tls Edge.spec.listeners.tls.certFile Edge.spec.listeners.tls.keyFile
		Edge.spec.maxBody Edge.spec.probes`)

	add(enforced, `
		Service.spec.hosts Service.spec.paths
		Service.spec.endpoints Service.spec.endpoints.address Service.spec.endpoints.port
		Service.spec.dns Service.spec.dns.name Service.spec.dns.port
		Service.spec.protocol Service.spec.connectTimeout
		Service.spec.connections Service.spec.connections.max
		Service.spec.outlierEjection Service.spec.outlierEjection.consecutive5xx
		Service.spec.outlierEjection.baseEjection Service.spec.outlierEjection.maxEjected`)
	add(enforced, `
		Service.spec.tls Service.spec.tls.ca Service.spec.tls.serverName
		Service.spec.healthCheck Service.spec.healthCheck.path Service.spec.healthCheck.interval
		Service.spec.rewrite Service.spec.rewrite.host Service.spec.rewrite.prefix`)

	const p = "ResiliencePolicy.spec."
	add(enforced, p+"service "+p+"mode "+p+"retryBudget "+p+"retryBudget.percent "+p+"retryBudget.minConcurrency "+p+"routes")
	add(enforced, p+"pools "+p+"pools.maxConcurrency "+p+"pools.maxQueue "+p+"pools.maxWait "+p+"pools.timeout")
	add(notYet, p+"shedding "+p+"priority "+p+"synthetic")

	const r = p + "routes."
	add(enforced, r+"name "+r+"match "+r+"match.methods "+r+"match.path "+r+"match.path.exact "+r+"match.path.prefix "+
		r+"match.path.template "+r+"match.path.regex "+r+"match.headers "+r+"match.headers.name "+r+"match.headers.exact "+
		r+"match.headers.prefix "+r+"match.headers.regex "+r+"match.headers.present "+r+"priority")
	add(enforced, p+"wrapUpstreamErrors "+r+"wrapUpstreamErrors")
	add(enforced, r+"timeout "+r+"timeout.request "+r+"timeout.perTry "+r+"timeout.idle "+r+"timeout.deadlineHeader "+r+"deadlineHeader "+r+"pool")
	note(enforced, r+"cascade", "checked by validation, which is all it is for")
	add(enforced, r+"cascade.client "+r+"cascade.service "+r+"cascade.db "+r+"cascade.cache")
	add(enforced, r+"retry "+r+"retry.attempts "+r+"retry.retryOn "+r+"retry.backoff "+r+"retry.backoff.base "+r+"retry.backoff.max "+
		r+"retry.honorRetryAfter "+r+"retry.honorRetryAfter.max")
	add(enforced, r+"retry.idempotency "+r+"retry.idempotency.header "+r+"retry.idempotency.generate")
	add(enforced, r+"breaker "+r+"breaker.consecutiveFailures "+r+"breaker.recoveryTimeout "+r+"breaker.backoff "+
		r+"breaker.backoff.multiplier "+r+"breaker.backoff.max "+r+"breaker.halfOpen "+r+"breaker.halfOpen.probes "+
		r+"breaker.halfOpen.successes "+r+"breaker.failures "+
		r+"breaker.failureRate "+r+"breaker.failureRate.percent "+r+"breaker.failureRate.window "+r+"breaker.failureRate.minRequests "+
		r+"breaker.slowCalls "+r+"breaker.slowCalls.threshold "+r+"breaker.slowCalls.percent "+r+"breaker.slowCalls.window "+r+"breaker.slowCalls.minRequests")
	add(enforced, r+"timeout.body "+r+"upgrades")
	add(notYet, r+"deadLetter "+r+"fallback "+r+"flags")

	const o = "ServiceLevelObjective.spec."
	add(enforced, o+"service "+o+"routes "+o+"priorities "+o+"objective "+o+"window "+o+"indicator "+
		o+"indicator.availability "+o+"indicator.availability.bad "+o+"indicator.latency "+o+"indicator.latency.threshold")
	add(notYet, o+"indicator.jobSuccess")
	add(enforced, o+"budgetPolicy "+o+"budgetPolicy.consumed "+o+"budgetPolicy.actions")

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
	s := enforcement[c.schema]
	if s.state != notYet {
		return
	}
	message := last(c.path) + " is accepted, not enforced yet"
	if s.note != "" {
		message += ": " + s.note
	}
	d.report(diag.NotEnforced, c.line, c.column, c.path, message, "")
}
