// Package e2e tests the product as its users have it: the seawall binary as a
// process, a real Envoy, a programmable upstream, policy files that are edited,
// and processes that are killed. It looks only at what a client, an upstream,
// the API and the folders show; what they must show is in DESIGN sections 2
// and 5. It has tests only and is imported by nothing.
package e2e
