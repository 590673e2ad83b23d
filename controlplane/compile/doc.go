// Package compile turns a policy set into what is served: an ir.Model for
// Envoy's own features and, inside it, the contract.Plan of each edge for the
// filter. It is a pure function: equal sets give equal bytes, in whatever order
// files and documents came.
//
//	model, err := compile.Compile(set, compile.Options{Listen: "127.0.0.1:10000"})
//
// How requests find their route:
//
//   - The most specific host wins, then the longest service path by whole
//     segments. A host whose services do not cover a path falls through to
//     services with a wider host ("*.example.com", "*").
//   - Within a service its policy's routes are tried in their order. What none
//     of them takes is answered 404 under the name "service/". A service without
//     a policy is served whole, as the route "default".
//   - A path that belongs to none of the services of its host, and an unknown
//     host, is answered 404 under "service/" where one service has the host
//     alone, else under the empty name.
//   - A route that retries repeats those of its methods that are idempotent, and
//     with idempotency whatever carries the key.
//
// It imports policy, ir, filter/contract and slo.
package compile
