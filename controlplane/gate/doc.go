// Package gate answers whether a service may be released just now, and keeps the
// marks of what was released.
//
// Decide is pure. It looks at these, in this order; what is above wins:
//
//  1. a service that no policy names: unknown, whatever the pipeline asks for
//  2. an override, which a person set with a reason and until a moment
//  3. telemetry that is stale: unknown
//  4. a class that always may: security, rollback, p0
//  5. a budget policy's freeze-releases, the fast burn tier, a running
//     experiment: deny
//  6. limit-releases: deny, but for the class canary
//  7. too few requests to judge by, or no objective: unknown
//
// Unknown becomes what the pipeline asks for, but for 1. An objective without a
// budget policy limits releases at 75 % of its budget and freezes them at 100 %.
package gate
