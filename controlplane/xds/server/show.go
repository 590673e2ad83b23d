package server

import (
	"cmp"
	"fmt"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/fleet"
)

// state is the node as package fleet shows it.
func (n *node) state(now time.Time) fleet.XDSState {
	s := fleet.XDSState{
		Cluster: n.cluster, Connected: n.stream != nil, WorkerCount: n.meta.workers, Version: n.meta.version,
		Edge: n.edge, Reason: cmp.Or(n.block, n.note), TargetFilterHash: n.cfg.FilterSHA256, Seen: n.seen,
	}
	g := n.want
	if g == nil {
		g = n.run // keeps what it has
	}
	if g != nil {
		s.TargetPlanHash, s.VMID = g.edge.Filter.PlanHash, g.module.VMID
	}
	if n.stream != nil {
		n.last = map[fleet.Kind]fleet.Resource{}
		for k := range kindCount {
			n.last[kinds[k].name] = n.resource(now, k, g)
		}
	}
	s.Resources = n.last
	return s
}

func (n *node) resource(now time.Time, k kind, g *generation) fleet.Resource {
	sub := &n.stream.subs[k]
	r := fleet.Resource{State: fleet.Stale}
	if g == nil {
		r.Version = sub.holds()
		return r
	}
	target := g.sets[k]
	if sub.has(target, true) && (sub.asked || len(target.names) == 0) {
		r.State, r.Version = fleet.Synced, target.version
		return r
	}
	r.Version = sub.holds()
	if k == ecds && n.want != nil && n.want == n.refuse {
		r.State, r.Message = fleet.Rejected, n.reject[k].message
		return r
	}
	for name, version := range n.reject[k].versions {
		if in := target.byName[name]; (in == nil && version == "") || (in != nil && in.GetVersion() == version) {
			r.State, r.Message = fleet.Rejected, n.reject[k].message
			return r
		}
	}
	switch {
	case n.want == nil:
		r.Message = "held back"
	case n.want == n.refuse && k != ecds:
		r.Message = "waits for a plan that is accepted"
	case n.want != n.run:
		r.Message = "waits for the update before"
	case n.phase == phasePlan && k != ecds:
		r.Message = "waits for ECDS"
	case n.phase == phaseClusters && (k == lds || k == rds):
		r.Message = "waits for CDS and EDS"
	case sub.pending != nil && now.Sub(n.since) > n.cfg.StageTimeout:
		r.Message = fmt.Sprintf("sent, not acknowledged within %s", n.cfg.StageTimeout)
	case sub.pending != nil:
		r.Message = "sent"
	case !sub.asked:
		r.Message = "not asked for yet"
	}
	return r
}
