// Package realenvoy gives tests a real Envoy.
//
// [Binary] finds or installs one and fails the test, saying what to do, where
// none can be had. SEAWALL_ENVOY=off skips the test instead and counts it: each
// skipped scenario is one line in the file that SEAWALL_NOT_RUN names, so that
// `make test` can end with how many were not run.
//
// [Start] runs one process, unsupervised, to be killed, stopped and looked at;
// [Launch] runs one as `seawall up` does. Both listen on free loopback ports
// only, keep everything under the test's temporary folder, and leave no process
// behind, not even when the test binary is killed ([Start]).
//
// [NewHost] runs one module as HTTP filter with the surface of testenv/host: a
// client pinned to each worker, an upstream whose answers the test gives one by
// one, calls out, pushes with Envoy's verdict, the plugin's log and metrics. It
// needs no control plane: configurations travel by file. Time is real, so
// nothing here returns at once:
//
//	h, err := realenvoy.NewHost(t, realenvoy.HostConfig{Wasm: wasm, PluginConfig: plan})
//	s := h.Worker(0).Request(host.Request{Route: "payments/charge"})
//	headers, reached := s.Upstream(time.Second)
//	s.Respond(host.Response{Code: 503})
//	result := s.Done()
//	err = h.Push(realenvoy.Update{Update: host.Update{PluginConfig: next}})
//
// What testenv/host can do and a real Envoy cannot: a virtual clock (Advance,
// SetClock), traps at a chosen host call (TrapAt) and another worker between
// two chosen calls (Interleave), which worker or when a log line came from,
// listing shared data, counting calls and VMs (see the stats instead). Response
// has to come about: of its failures Respond makes UpstreamReset and
// MidBodyReset, others are a Cluster ("refused", "empty", "full", "late") or
// a Route with a timeout; Flags, Details and Duration are Envoy's own. Route names must
// be known at the start. A worker's VM is killed by what its module does.
//
// The same cases (testenv/hosttest) run on both.
package realenvoy
