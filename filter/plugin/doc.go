// Package plugin turns the callbacks of a proxy into steps of the engine and
// the engine's decisions into effects, through the small Host interface that
// it owns. It knows nothing of Wasm: the same code runs natively in tests.
//
// One VM value lives as long as the Wasm VM of one Envoy worker and survives
// policy pushes; plugin contexts hold nothing. What all workers must agree on
// stands in the host's shared data, written by compare-and-swap, and a gauge
// (which is process-wide) tells the others that a record has changed.
//
// A healthy request costs two host calls before it is sent on (a clock and a
// gauge) and four when it is over (a clock and three properties); nothing is
// allocated.
//
// It imports engine, contract, problem and jsonlite.
package plugin
