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
// This package composes what a breaker does; pools and deadlines, which are not
// of one route, are asked by the caller, and Shed and Chaos do not exist yet.
var Order = [...]Guard{Deadline, Shed, Breaker, Pool, Probe, Chaos}

// Params is what a route is guarded with.
type Params struct {
	Breaker    breaker.Params
	HasBreaker bool
	Override   Override
}

// Override is an operator's word in place of the breaker's.
type Override struct {
	Forced     Forced
	NotAfterNS int64 // Unix ns: it ends by itself
}

// Forced is what an Override holds a breaker in.
type Forced uint8

// The overrides: none, refuse all, admit all and count nothing.
const (
	NotForced Forced = iota
	ForcedOpen
	ForcedClosed
)

// In is what the override forces at now (Unix ns).
func (o Override) In(now int64) Forced {
	if now >= o.NotAfterNS {
		return NotForced
	}
	return o.Forced
}

// State is a route's guards at rest.
type State struct {
	Breaker breaker.State
}

// Decision is what the guards decided.
type Decision struct {
	By           Guard // which one refused, None: admitted
	RetryAfterNS int64 // refused: when to try again, from now
	Forced       bool  // by an Override
	Changed      bool  // the State differs from the one given: store it
	Moved        breaker.Transition
}

// Ticket names the admission that a result belongs to. It is given where the
// Decision is None, and must be settled once.
type Ticket struct {
	Breaker breaker.Ticket
	Forced  bool // admitted by an Override: its result says nothing
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
	switch p.Override.In(now) {
	case ForcedOpen:
		// It may be lifted any time, and so is asked again after a recovery time.
		left := p.Override.NotAfterNS - now // > 0, or more than 292 years
		if left < 0 || left > p.Breaker.RecoveryNS {
			left = max(p.Breaker.RecoveryNS, 1)
		}
		return s, Decision{By: Breaker, Forced: true, RetryAfterNS: left}, Ticket{}
	case ForcedClosed:
		return s, Decision{Forced: true}, Ticket{Forced: true}
	case NotForced:
	}
	next, d, t := breaker.Admit(s.Breaker, p.Breaker, now, random)
	s.Breaker = next
	decision := Decision{RetryAfterNS: d.RetryAfterNS, Changed: d.Changed, Moved: d.Moved}
	if !d.Admit {
		decision.By = Breaker
	}
	return s, decision, Ticket{Breaker: t}
}

// Settle takes the result of an admitted request at now (Unix ns). changed is
// false where State and w, which is the caller's copy, are as they were. random
// is 64 random bits.
func Settle(s State, w *breaker.Windows, p *Params, now int64, random uint64, t Ticket, r Result) (_ State, moved breaker.Transition, changed bool) {
	if !p.HasBreaker || t.Forced {
		return s, moved, false
	}
	if p.Override.In(now) != NotForced {
		r.Breaker = breaker.Result{} // a probe gives its place back, no more
	}
	s.Breaker, moved, changed = breaker.SettleWindowed(s.Breaker, w, &p.Breaker, now, random, t.Breaker, r.Breaker)
	return s, moved, changed
}

// Rest closes a breaker that low traffic would leave half-open.
func Rest(s State, p *Params, now int64) (_ State, moved breaker.Transition) {
	if p.HasBreaker && p.Override.In(now) == NotForced {
		s.Breaker, moved = breaker.Rest(s.Breaker, now)
	}
	return s, moved
}
