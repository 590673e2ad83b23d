// Package breaker is the circuit breaker as values: a State, its Params, and
// two steps, Admit before a call and Settle after it. It has no clock, no
// lock and no randomness of its own, so the same inputs give the same bytes
// native and in Wasm, and a caller may retry a step in a compare-and-swap
// loop.
//
//	closed ──failures in a row, or a rate──▶ open ──recovery time──▶ half-open
//	   ▲                                      ▲                        │   │
//	   │                                      └──one probe failed──────┘   │
//	   └──────────Successes probes succeeded, or one and then no traffic───┘
//
// Every transition raises State.Gen. A Ticket carries the generation that it
// was given in, and a result of another generation changes nothing: what was
// sent before the breaker opened says nothing about the service after it.
//
// It imports math/bits and engine/window, nothing else.
package breaker
