package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// enough is the one rule for "all workers say so". An Envoy with N workers has
// N+1 ticking VMs, and no property tells the main thread's from the others.
// So all workers are proven when N+1 living VMs say it, or when N that have
// served requests do: those are certainly workers. With N unknown it is all
// living VMs.
func enough(workers, alive, on, onServed int) bool {
	if workers <= 0 {
		return alive > 0 && on == alive
	}
	return on >= workers+1 || onServed >= workers
}

func (e *entry) verdict(now time.Time, plan, filter string) WorkerVerdict {
	v := WorkerVerdict{Unknown: e.xds.WorkerCount <= 0}
	served := 0
	for _, m := range e.vms {
		if !m.alive(now) {
			continue
		}
		v.Alive++
		switch {
		case m.plan == plan:
			v.On++
			if m.served {
				served++
			}
		case filter == "" || m.filter == "" || m.filter == filter:
			v.Behind++
		}
	}
	v.Enough = enough(e.xds.WorkerCount, v.Alive, v.On, served)
	return v
}

// common is the value that all workers say, "" if there is none. While VMs of
// an older process or module end their last streams two values may reach the
// count at once: then it is the target's, else the greater crowd's.
func (e *entry) common(now time.Time, target string, value func(*vm) string) string {
	type tally struct{ on, served int }
	alive := 0
	by := map[string]tally{}
	for _, m := range e.vms {
		if !m.alive(now) {
			continue
		}
		alive++
		t := by[value(m)]
		t.on++
		if m.served {
			t.served++
		}
		by[value(m)] = t
	}
	best, bestOn := "", 0
	for _, k := range slices.Sorted(maps.Keys(by)) {
		t := by[k]
		if !enough(e.xds.WorkerCount, alive, t.on, t.served) {
			continue
		}
		if k == target {
			return k
		}
		if t.on > bestOn {
			best, bestOn = k, t.on
		}
	}
	return best
}

func (e *entry) node(now time.Time) Node {
	n := Node{
		ID: e.id, Cluster: e.xds.Cluster, Connected: e.xds.Connected, LastSeen: e.lastSeen,
		PlanHash:   e.common(now, e.xds.TargetPlanHash, func(v *vm) string { return v.plan }),
		FilterHash: e.common(now, e.xds.TargetFilterHash, func(v *vm) string { return v.filter }),
		Resources:  maps.Clone(e.xds.Resources),
		Edge:       e.xds.Edge, TargetPlanHash: e.xds.TargetPlanHash, TargetFilterHash: e.xds.TargetFilterHash,
		WorkerCount: e.xds.WorkerCount, VMID: e.xds.VMID, Version: e.xds.Version,
	}
	if n.Resources == nil {
		n.Resources = map[Kind]Resource{}
	}
	n.Workers = e.workers(now, n.PlanHash)
	n.State, n.Reason = e.state(now, n.Resources)
	n.Synced = n.State == StateSynced
	return n
}

// workers picks the VMs to show. Once all workers agree, those that do not are
// leftovers (a VM that finishes its last streams) and go last; before that the
// laggards go first, so that they are never the ones left out.
func (e *entry) workers(now time.Time, agreed string) []Worker {
	out := make([]Worker, 0, len(e.vms))
	for id, v := range e.vms {
		if now.Sub(v.lastSeen) > listedFor {
			continue
		}
		out = append(out, Worker{VM: id, PlanHash: v.plan, FilterHash: v.filter, Served: v.served, Alive: v.alive(now), LastSeen: v.lastSeen})
	}
	want := agreed
	if agreed == "" {
		want = e.xds.TargetPlanHash
	}
	rank := func(w Worker) int {
		n := 0
		if !w.Alive {
			n += 4
		}
		if (w.PlanHash == want) != (agreed != "") {
			n += 2
		}
		if !w.Served {
			n++
		}
		return n
	}
	slices.SortFunc(out, func(a, b Worker) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.VM, b.VM))
	})
	if n := e.xds.WorkerCount; n > 0 && len(out) > n {
		out = out[:n]
	}
	slices.SortFunc(out, func(a, b Worker) int { return cmp.Compare(a.VM, b.VM) })
	return out
}

func (e *entry) state(now time.Time, resources map[Kind]Resource) (State, string) {
	if !e.xds.Connected {
		return StateDisconnected, "no xDS stream"
	}
	stale := ""
	for _, k := range []Kind{CDS, EDS, SDS, LDS, RDS, ECDS} {
		r, ok := resources[k]
		switch {
		case !ok:
		case r.State == Rejected:
			return StateRejected, fmt.Sprintf("%s rejected: %s", k, r.Message)
		case r.State == Stale && stale == "":
			stale = fmt.Sprintf("%s stale", k)
			if r.Message != "" {
				stale += ": " + r.Message
			}
		}
	}
	if e.xds.Reason != "" {
		return StateStale, e.xds.Reason
	}
	if stale != "" {
		return StateStale, stale
	}
	if e.xds.TargetPlanHash == "" {
		return StateStale, "nothing to serve yet"
	}
	v := e.verdict(now, e.xds.TargetPlanHash, e.xds.TargetFilterHash)
	switch {
	case v.Enough && v.Unknown:
		return StateUnknown, fmt.Sprintf("%s run the plan, but the node does not say how many workers it has", plural(v.On, "VM"))
	case v.Enough:
		return StateSynced, ""
	case v.Alive == 0:
		return StateStale, "no worker has reported in the last 5 s"
	case v.Unknown:
		return StateStale, fmt.Sprintf("%d of %s run the plan", v.On, plural(v.Alive, "VM"))
	default:
		return StateStale, fmt.Sprintf("%s run the plan; %d workers and the main thread should", plural(v.On, "VM"), e.xds.WorkerCount)
	}
}
