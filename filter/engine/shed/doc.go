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
//   - Calls are stretched: the work is what the service can do at once. The
//     limit becomes half as much again, in one step, however large it was.
//   - They are not, and requests were dropped: the limit rises.
//   - A limit that was cut is judged. The service did as much with less in
//     flight: others waited, so it is cut again. It did less: calls do not wait
//     for each other, they take that long. So the bases were wrong: they are
//     taken anew, and the limit is what it was before the last cut.
//   - While requests are dropped for long, the limit is cut and judged every
//     now and then, since a base and a limit that are both too great look right
//     to each other.
//   - Too few calls to tell (32 in 10 s): nothing is learnt, so a service at one
//     request a second is never shed; and a limit that binds nobody is forgotten.
//
// A limit starts at its greatest value. A cut only ever drops what the policy
// lets drop, where requests wait or are dropped already: a healthy service is
// not probed, and Critical never sees any of it.
//
// What is never dropped must fit into the service. If it does not, it waits, and
// no limit can help.
//
// It imports math/bits, nothing else.
package shed
