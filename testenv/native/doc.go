// Package native runs the filter's plugin in this process, as plain Go: one VM
// per worker and one on the main thread, shared data, metrics and queues in
// memory, virtual time. Here a debugger, the race detector and coverage work.
//
// It is a second opinion on testenv/host: it imitates the proxy at the level
// of plugin.Host and knows nothing of Wasm, and a scenario must leave the same
// trace in both.
//
//	w, err := native.New(native.Config{Workers: 2, Plan: plan, Node: "edge-1"})
//	trace, err := scenario.Run(ctx, script, w)
//
// A World belongs to one goroutine.
package native
