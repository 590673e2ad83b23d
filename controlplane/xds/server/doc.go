// Package server serves the compiled model to Envoys over delta ADS: LDS, RDS,
// CDS, EDS, SDS, and ECDS for the filter.
//
// # How a node is moved to a new target
//
// A node that already runs something is moved in phases, each begun when the
// one before is acknowledged:
//
//	plan      ECDS, with the routes that vanish kept in the plan as retired
//	clusters  CDS, EDS and SDS, additions and changes only
//	routes    LDS and RDS
//	removals  what is no longer referred to
//
// so that at no time a route names a cluster or a plan entry that the node
// does not have. A rejected plan stops there: the other types, and the plan
// before, stay, and it is not sent again before there is another; Envoy would
// take the same bytes for no change and acknowledge them. Other rejected types
// are tried again, ever more rarely (a port may become free). An Envoy that has
// just started gets everything at once.
//
// ECDS versions are those of the plan without retired routes, and end in ".rN"
// in the N-th VM: so a control plane that restarts, and knows nothing else of a
// node, pushes nothing that the node has, and does not move it back to a VM
// that it was healed from.
//
// # What is never sent
//
// Nothing before the first model. No Edge without listeners: it is refused as
// a whole and the one before stays in force. A node that no Edge selects (any
// more), or several do, or that does not have the filter's module, keeps what
// it has; package fleet says why. So deleting an Edge, or all files, stops
// nothing: to take a data plane out of service, stop its Envoy. Deleting a
// Service is an ordinary edit, its hosts become 404.
//
// # Why not go-control-plane's SnapshotCache
//
// The phases hold types back per node, removals are separate from additions,
// and after a restart of the control plane it is unknown what a node had, only
// that it has something: a cache of whole snapshots has no word for either.
// The protocol itself is small (subscription.go); the library's Snapshot still
// checks that references are complete, and its hashes are the versions.
//
// It imports ir, translate and fleet, nothing else of the project.
package server
