package server

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/fleet"
)

// healing is how a node is brought back whose Envoy acknowledged a plan that
// its workers do not run: a new vm_id, hence new VMs and fresh guards.
//
// Such an Envoy lets traffic pass without the filter, and rejects every later
// plan for the same vm_id (FACTS, "ACK ≠ loaded").
type healing struct {
	rev      int       // vm_id revision, 1 at first
	ackedAt  time.Time // ECDS was acknowledged last
	healed   []string  // plan hashes that were tried, the last few
	notUntil time.Time
}

// maxHealed is how many healed plan hashes a node remembers.
const maxHealed = 32

// sick says why the node needs a new VM, "" if it does not.
func (n *node) sick(now time.Time, say func(plan string) fleet.WorkerVerdict) string {
	if n.stream == nil || n.want == nil || (n.run != n.want && n.refuse != n.want) || n.heal.ackedAt.IsZero() {
		return ""
	}
	// What the workers should run: what Envoy acknowledged last.
	at, should := n.heal.ackedAt, n.run
	if n.refuse == n.want {
		at, should = n.reject[ecds].at, n.good
	}
	if should == nil || now.Sub(at) < n.cfg.HealAfter || now.Before(n.heal.notUntil) {
		return ""
	}
	sub := &n.stream.subs[ecds]
	if !sub.asked || !sub.hasAsked(should.sets[ecds]) {
		return ""
	}
	v := say(should.edge.Filter.PlanHash)
	// Without telemetry nothing is known. A VM that is behind may be finishing
	// its last streams; where the number of workers is unknown, only all of
	// them being behind is a sign.
	if v.Enough || v.Behind == 0 || (v.Unknown && v.On > 0) {
		return ""
	}
	return fmt.Sprintf("acknowledged plan %s, but %d of %d VMs still run another after %s",
		should.edge.Filter.PlanHash, v.Behind, v.Alive, n.cfg.HealAfter)
}

// healUp moves the node to the next vm_id; at most once per plan, and ever
// more rarely. It reports whether it did; the caller retargets.
func (n *node) healUp(now time.Time, why string) bool {
	plan := n.want.edge.Filter.PlanHash
	if slices.Contains(n.heal.healed, plan) || n.heal.rev >= maxRev {
		return false
	}
	n.heal.healed = append(n.heal.healed, plan)
	if len(n.heal.healed) > maxHealed {
		n.heal.healed = n.heal.healed[1:]
	}
	n.heal.rev++
	n.heal.notUntil = now.Add(backoff(2*n.cfg.HealAfter, len(n.heal.healed)))
	n.tell(now, slog.LevelWarn, EventHealed, fmt.Sprintf("%s: pushed again as vm_id %s, guards start afresh", why, vmID(n.heal.rev)))
	return true
}

// adopt takes over the VM revision that a node's plan says it is in, after a
// restart of the control plane.
func (n *node) adopt(versions map[string]string) bool {
	rev := n.heal.rev
	for _, v := range versions {
		rev = max(rev, revOf(v))
	}
	changed := rev != n.heal.rev
	n.heal.rev = rev
	return changed
}
