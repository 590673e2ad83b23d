// Package telemetry takes in what the filters have counted and answers
// questions about it: traffic, SLOs, breakers, events.
//
// Batches come by POST /v1/batches, are checked, and wait for the one writer,
// which stores many in one transaction and acknowledges them only after the
// commit. A batch is counted exactly once however often and in whatever order
// it is sent: the store remembers per (node, vm) what it has seen, in the same
// transaction as the counts. What can never be accepted is answered 4xx, and
// the filter drops it; whatever may pass later is answered 503, and the filter
// keeps it.
//
// A batch that cannot be true is refused (guard.go), and rows of routes that no
// policy has are left out. What every objective counted in stretches that are
// over is remembered (ledger.go), so that questions cost what has changed.
//
// Counts live in the Store (an interface here; implementations are in
// controlplane/store). Breaker states and events live in memory: every batch
// repeats the former, and the latter are a bounded ring.
package telemetry
