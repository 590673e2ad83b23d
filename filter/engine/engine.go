// Package engine is the decision core of the filter: the guards that a request
// passes, composed in their fixed order.
//
// A step takes values and returns values: Admit before the call, Settle after
// it. The caller owns the clock, the randomness, the shared records and the
// compare-and-swap loop around a step. There are no floats, no maps, no
// goroutines and no allocation, so native and Wasm give the same bytes.
//
// It imports its own guards and math/bits, nothing else.
package engine

import "github.com/seawall-mesh/seawall/filter/engine/breaker"

// Guard is one of the things that can refuse or change a request.
type Guard uint8

// The guards.
const (
	None Guard = iota
	Deadline
	Shed
	Breaker
	Pool
	Probe
	Chaos
)

// Order is the order in which a request passes the guards, which clients can
// see: no time left is told before load, load before an open breaker; nothing
// queues for a pool while its breaker is open; a half-open breaker's probe is
// taken last of all, so that it is never held by a request that queues.
// Deadline, Shed, Pool and Chaos do not exist yet.
var Order = [...]Guard{Deadline, Shed, Breaker, Pool, Probe, Chaos}

// Params is what a route is guarded with.
type Params struct {
	Breaker    breaker.Params
	HasBreaker bool
}

// State is a route's guards at rest.
type State struct {
	Breaker breaker.State
}

// Decision is what the guards decided.
type Decision struct {
	By           Guard // which one refused, None: admitted
	RetryAfterNS int64 // refused: when to try again, from now
	Changed      bool  // the State differs from the one given: store it
	Moved        breaker.Transition
}

// Ticket names the admission that a result belongs to. It is given where the
// Decision is None, and must be settled once.
type Ticket struct {
	Breaker breaker.Ticket
}

// Result is the end of an admitted call.
type Result struct {
	Breaker breaker.Result
}

// Admit passes one request through the guards at now (Unix ns). random is 64
// random bits.
func Admit(s State, p *Params, now int64, random uint64) (State, Decision, Ticket) {
	if !p.HasBreaker {
		return s, Decision{}, Ticket{}
	}
	// With a pool, a closed or open breaker decides here, and a probe is taken
	// once the permit is held.
	next, d, t := breaker.Admit(s.Breaker, p.Breaker, now, random)
	s.Breaker = next
	decision := Decision{RetryAfterNS: d.RetryAfterNS, Changed: d.Changed, Moved: d.Moved}
	if !d.Admit {
		decision.By = Breaker
	}
	return s, decision, Ticket{Breaker: t}
}

// Settle takes the result of an admitted request at now (Unix ns). changed is
// false where the State is as it was. random is 64 random bits.
func Settle(s State, p *Params, now int64, random uint64, t Ticket, r Result) (_ State, moved breaker.Transition, changed bool) {
	if !p.HasBreaker {
		return s, moved, false
	}
	s.Breaker, moved, changed = breaker.Settle(s.Breaker, p.Breaker, now, random, t.Breaker, r.Breaker)
	return s, moved, changed
}
