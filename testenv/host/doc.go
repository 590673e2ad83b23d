// Package host runs a proxy-wasm module outside Envoy, in wazero, as Envoy
// 1.40 would run it: one VM per worker and one on the main thread, a canary VM
// for each new configuration, process-wide shared data and metrics, ticks and
// calls out in virtual time, traps and reloads. It sees .wasm bytes and the
// ABI (proxy-wasm 0.2.1), nothing of the filter's source.
//
// Where Envoy surprises (a compare-and-swap with 0 overwrites, a plugin start
// that fails in the workers only is acknowledged, an old plan's unanswered
// calls are dropped with it) the host surprises in the same way; host_test.go
// has one case per quirk and names its source. What it leaves out: gRPC calls
// out, network filters, body buffering limits and local_reply_config.
//
//	m, err := host.Compile(ctx, wasm, host.CompileConfig{})
//	h, err := host.New(ctx, host.Config{Module: m, Workers: 2, PluginConfig: plan})
//	out, err := h.Worker(0).Exchange(host.Request{Method: "GET", Path: "/", Route: "payments/charge"},
//		host.Response{Code: 200})
//	h.Advance(time.Second) // ticks run, calls out are answered
//
// A Host belongs to one goroutine, but for this: different workers may be
// driven from different goroutines, as long as none runs Advance, Poll, Push
// or Close at that time.
package host
