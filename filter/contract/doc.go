// Package contract holds what the filter and the control plane share: the
// Plan (control plane → filter, over ECDS), the Batch (filter → control plane,
// over HTTP) and the outcome words.
//
// It is a leaf: it may import the standard library (without fmt, reflect and
// encoding/json: they would double the filter) and jsonlite, nothing else.
//
// Each document has one writer and one reader. A Plan is written by
// encoding/json in package compile and read by ParsePlan in the filter; a Batch
// is written by AppendBatch in the filter and read by encoding/json in package
// telemetry. Round-trip and fuzz tests here hold the two sides together.
package contract
