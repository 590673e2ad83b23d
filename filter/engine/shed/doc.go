// Package shed drops the less important requests of a service while it is
// under load. It is values and steps like the other guards: no clock, no
// randomness of its own, no allocation, whole numbers only.
//
// Load is one of three things (Signal): the requests in flight against a fixed
// limit, the same against a limit that is learnt, or what the service says of
// itself. A class is dropped from its threshold on; Critical never is.
//
// All VMs of one Envoy share one State per service. Admit reads a copy of it
// and changes nothing. What a VM sees, it gathers in Samples of its own, and
// hands over by Merge some times a second; whoever hands over after a window's
// end closes that window for all, so there is one leader per window, chosen by
// the compare-and-swap of the caller.
//
// # How the limit is learnt
//
// A window knows how many calls were answered, how long they took, and so, by
// Little's law, two numbers: how many were in flight, and how many would have
// been, had each taken what calls of its kind take when nothing waits (its
// base). The second is the work in flight; their ratio is the stretch.
//
//   - Calls are stretched: work is what the service can do at once. The limit
//     becomes a little more than that, in one step, however large it was.
//   - They are not, and requests were dropped: the limit rises as the work does.
//   - The limit was cut, and the work fell with it: calls did not wait for each
//     other, the service has become slower. So the bases were wrong: they are
//     taken anew, and the limit is what it was.
//   - While requests are dropped the bases shrink slowly, so that a base which
//     is too long is found out the same way.
//   - Too few calls to tell: nothing changes, so a service at one request a
//     second is never shed.
//
// A limit starts at its greatest value, and nothing is ever probed by refusing
// requests that a healthy service could take.
//
// It imports math/bits, nothing else.
package shed
