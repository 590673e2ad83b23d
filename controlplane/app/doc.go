// Package app is the life of a control plane (Serve), of a data plane (Edge), or
// of both on one machine (Run): it opens what they need, wires the packages to
// each other, and ends them in order. Everything in controlplane may be imported
// here; app is imported by cmd/seawall and demo only.
//
// A load of policies goes policy → compile → xds/server; a batch goes
// telemetry → store, then fleet. Both ways meet nowhere but in what the API
// shows.
package app
