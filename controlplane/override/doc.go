// Package override holds what operators force upon breakers (open or closed) and
// upon the gate for releases (allow or deny), with a reason and until a moment,
// at most a day ahead.
//
// A breaker's moment is part of the plan, so the data plane ends the override by
// itself when the control plane is gone; here its end makes the policies be
// compiled and pushed without it. Overrides outlive a restart: they are stored
// before they are in force, each change together with its audit entry.
package override
