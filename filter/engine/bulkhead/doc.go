// Package bulkhead limits how many calls of one kind are out at once: a pool
// of permits, and a bounded queue in front of it.
//
// All VMs of one Envoy share one State per pool. A step takes the State as it
// was read and changes it; the caller writes it back if nobody else has since,
// and starts again with what is there now if somebody has. Who holds a permit,
// or waits for one, is named by the VM (Owner) and the stream within it.
//
//   - There are never more permits out than Params.Limit at the time of a
//     grant. A limit that is lowered takes nobody's permit: none is granted
//     until enough came back.
//   - The best waiter is served first: the most important priority, then the
//     first to arrive. Nobody overtakes: a call that comes while others wait
//     is served at once only if it is the best of them and a permit is free.
//   - A permit is granted to a waiter unclaimed. Its owner claims it when it
//     hears of it, so that a grant to a VM that died is lost for ClaimNS only.
//   - A permit that is never given back, because its VM died, is free again
//     HoldNS after it was claimed, and no earlier: the service may still be at
//     work on that call. A VM that lives renews what it holds.
//   - Who has a budget of time, and would have its turn only after that by the
//     mean time that calls hold their permits, is told so at once. If each call
//     takes that mean, none is refused that could have been answered in time.
//     Only what came back while its owner watched is learnt from: a permit that
//     expired, or was never claimed, says nothing.
//
// A State is large when many wait, so unlike in the other guards it is changed
// in place, and its slices are used again: after a while nothing allocates.
package bulkhead
