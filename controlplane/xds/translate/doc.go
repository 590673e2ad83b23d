// Package translate turns an ir.Edge into the protos that Envoy is sent: a
// pure function of its input, every message checked with ValidateAll, equal
// input giving equal bytes.
//
//	LDS   one listener per ir.Listener: HTTP connection manager, hardened for an edge
//	RDS   one route configuration, shared by the listeners
//	CDS   one cluster per ir.Cluster
//	EDS   the endpoints of those that are IP addresses
//	ECDS  the Wasm filter "seawall" with its plan
//
// Static writes the same resources as one bootstrap without a control plane,
// for `seawall render envoy` and for `envoy --mode validate`.
//
// It imports ir, filter/problem (the types that Envoy's own replies name) and
// the protos, nothing else of the project.
package translate
