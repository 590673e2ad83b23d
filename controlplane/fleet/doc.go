// Package fleet keeps what is known of each Envoy: its stream, what it was
// told, what it acknowledged, and, because an ACK is not a proof, what its
// workers say they run.
//
// Two writers feed a Registry: xds/server calls SetXDS with what a stream
// shows, and telemetry ingestion calls Batch with what a VM reported. Readers
// take copies (Nodes, Counts, Workers). The package decides nothing for
// others; whether a node is synced is worked out here, in one place.
//
// It is a leaf: standard library only.
package fleet
