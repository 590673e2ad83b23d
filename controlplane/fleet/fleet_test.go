package fleet

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type clock struct{ at time.Time }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

func newClock() *clock { return &clock{time.Unix(1_700_000_000, 0).UTC()} }

func synced() map[Kind]Resource {
	out := map[Kind]Resource{}
	for _, k := range []Kind{CDS, EDS, LDS, RDS, ECDS} {
		out[k] = Resource{State: Synced, Version: "v"}
	}
	return out
}

func connected(workers int) XDSState {
	return XDSState{Cluster: "edge", Connected: true, WorkerCount: workers, Edge: "shop", TargetPlanHash: "new", TargetFilterHash: "f", Resources: synced()}
}

// vmSays is one VM's latest report.
type vmSays struct {
	vm, plan string
	served   bool
	ago      time.Duration
}

func TestSyncedWhenAllWorkersSaySo(t *testing.T) {
	for _, c := range []struct {
		name    string
		workers int
		vms     []vmSays
		state   State
		plan    string
		listed  []string
	}{
		{"silence", 2, nil, StateStale, "", nil},
		{"two and the main thread", 2, []vmSays{{"a", "new", false, 0}, {"b", "new", false, 0}, {"c", "new", false, 0}}, StateSynced, "new", []string{"a", "b"}},
		{"two, one of them may be the main thread", 2, []vmSays{{"a", "new", true, 0}, {"b", "new", false, 0}}, StateStale, "", []string{"a", "b"}},
		{"two that served", 2, []vmSays{{"a", "new", true, 0}, {"b", "new", true, 0}}, StateSynced, "new", []string{"a", "b"}},
		{"the main thread lags, both workers served", 2, []vmSays{{"a", "old", false, 0}, {"b", "new", true, 0}, {"c", "new", true, 0}}, StateSynced, "new", []string{"b", "c"}},
		{"a worker lags", 2, []vmSays{{"a", "new", false, 0}, {"b", "new", true, 0}, {"c", "old", true, 0}}, StateStale, "", []string{"b", "c"}},
		{"one lags, none has served: it is shown", 2, []vmSays{{"a", "new", false, 0}, {"b", "new", false, 0}, {"c", "old", false, 0}}, StateStale, "", []string{"a", "c"}},
		{"all still run the old plan", 2, []vmSays{{"a", "old", false, 0}, {"b", "old", false, 0}, {"c", "old", false, 0}}, StateStale, "old", []string{"a", "b"}},
		{"one is silent for 5 s", 2, []vmSays{{"a", "new", false, 6 * time.Second}, {"b", "new", false, 0}, {"c", "new", false, 0}}, StateStale, "", []string{"b", "c"}},
		{"an old VM ends its last streams", 1, []vmSays{{"a", "old", true, 0}, {"b", "new", false, 0}, {"c", "new", true, 0}}, StateSynced, "new", []string{"c"}},
		{"silent for 30 s is not listed", 2, []vmSays{{"a", "new", true, 31 * time.Second}, {"b", "new", true, 29 * time.Second}}, StateStale, "", []string{"b"}},
		{"number unknown, all agree", 0, []vmSays{{"a", "new", false, 0}, {"b", "new", true, 0}}, StateUnknown, "new", []string{"a", "b"}},
		{"number unknown, they differ", 0, []vmSays{{"a", "new", false, 0}, {"b", "old", true, 0}}, StateStale, "", []string{"a", "b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := newClock()
			r := New(now.now)
			require.True(t, r.SetXDS("edge-1", connected(c.workers)))
			for _, v := range c.vms {
				r.Batch(WorkerReport{Node: "edge-1", Boot: "b", BootNS: 1, VM: v.vm, Plan: v.plan, Filter: "f", Served: v.served, At: now.at.Add(-v.ago)})
			}
			n := r.Nodes()[0]
			require.Equal(t, c.state, n.State, n.Reason)
			require.Equal(t, c.state == StateSynced, n.Synced)
			require.Equal(t, c.state == StateSynced, n.Reason == "")
			require.Equal(t, c.plan, n.PlanHash)
			var listed []string
			for _, w := range n.Workers {
				listed = append(listed, w.VM)
			}
			require.Equal(t, c.listed, listed)
		})
	}
}

func TestState(t *testing.T) {
	with := func(k Kind, r Resource) map[Kind]Resource {
		m := synced()
		m[k] = r
		return m
	}
	for _, c := range []struct {
		name   string
		change func(*XDSState)
		state  State
		reason string
	}{
		{"synced", func(*XDSState) {}, StateSynced, ""},
		{"no stream", func(s *XDSState) { s.Connected = false }, StateDisconnected, "no xDS stream"},
		{"rejected", func(s *XDSState) { s.Resources = with(LDS, Resource{State: Rejected, Message: "in use"}) }, StateRejected, "LDS rejected: in use"},
		{"rejected wins over a reason", func(s *XDSState) {
			s.Resources, s.Reason = with(ECDS, Resource{State: Rejected, Message: "no"}), "module"
		}, StateRejected, "ECDS rejected: no"},
		{"stale", func(s *XDSState) { s.Resources = with(RDS, Resource{State: Stale, Message: "sent"}) }, StateStale, "RDS stale: sent"},
		{"held back", func(s *XDSState) { s.Reason = "no Edge selects it" }, StateStale, "no Edge selects it"},
		{"before the first model", func(s *XDSState) { s.TargetPlanHash = "" }, StateStale, "nothing to serve yet"},
		{"workers behind", func(s *XDSState) { s.TargetPlanHash = "newer" }, StateStale, "0 VMs run the plan; 1 workers and the main thread should"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := newClock()
			r := New(now.now)
			s := connected(1)
			c.change(&s)
			r.SetXDS("n", s)
			r.Batch(WorkerReport{Node: "n", Boot: "b", VM: "a", Plan: "new", Filter: "f", Served: true})
			n, ok := r.Node("n")
			require.True(t, ok)
			require.Equal(t, c.state, n.State)
			require.Equal(t, c.reason, n.Reason)
		})
	}
}

func TestBoots(t *testing.T) {
	now := newClock()
	r := New(now.now)
	r.SetXDS("n", connected(1))
	say := func(boot string, ns int64, vm string) {
		r.Batch(WorkerReport{Node: "n", Boot: boot, BootNS: ns, VM: vm, Plan: "new", Filter: "f"})
	}
	vms := func() int { return len(r.nodes["n"].vms) }
	say("b1", 10, "a")
	say("b1", 10, "b")
	say("b2", 20, "c")
	require.Equal(t, 1, vms(), "a later boot replaces all")
	say("b1", 10, "a")
	require.Equal(t, 1, vms(), "a late batch of the process before does not come back")
	require.Equal(t, uint64(1), r.Dropped().StaleBoots)
	now.advance(6 * time.Second)
	say("b3", 5, "d")
	require.Equal(t, "b3", r.nodes["n"].boot, "the clock stepped back: who speaks is the node")
}

func TestOvertakenReportIsIgnored(t *testing.T) {
	now := newClock()
	r := New(now.now)
	r.Batch(WorkerReport{Node: "n", VM: "a", Plan: "new", At: now.at})
	r.Batch(WorkerReport{Node: "n", VM: "a", Plan: "old", At: now.at.Add(-time.Second)})
	n, _ := r.Node("n")
	require.Equal(t, "new", n.Workers[0].PlanHash)
	r.Batch(WorkerReport{Node: "", VM: "a"})
	r.Batch(WorkerReport{Node: "x", VM: ""})
	require.Len(t, r.Nodes(), 1)
}

func TestVerdict(t *testing.T) {
	now := newClock()
	r := New(now.now)
	require.Equal(t, WorkerVerdict{Unknown: true}, r.Workers("n", "new", "f"))
	r.SetXDS("n", connected(2))
	for vm, w := range map[string][2]string{"a": {"new", "f"}, "b": {"old", "f"}, "c": {"old", "older-module"}} {
		r.Batch(WorkerReport{Node: "n", Boot: "b", VM: vm, Plan: w[0], Filter: w[1]})
	}
	require.Equal(t, WorkerVerdict{Alive: 3, On: 1, Behind: 1}, r.Workers("n", "new", "f"))
	require.Equal(t, WorkerVerdict{Alive: 3, On: 1, Behind: 2}, r.Workers("n", "new", ""))
	now.advance(6 * time.Second)
	require.Equal(t, WorkerVerdict{}, r.Workers("n", "new", "f"))
}

func TestBounds(t *testing.T) {
	now := newClock()
	r := NewWithConfig(Config{Now: now.now, MaxNodes: 3, MaxVMs: 2, ForgetAfter: time.Hour})
	for i := range 5 {
		r.Batch(WorkerReport{Node: fmt.Sprint("stranger-", i), VM: "a"})
		now.advance(time.Millisecond)
	}
	require.Len(t, r.Nodes(), 3)
	require.Equal(t, uint64(2), r.Dropped().Nodes)
	for i := range 3 {
		require.True(t, r.SetXDS(fmt.Sprint("edge-", i), connected(1)), "a real node takes a stranger's place")
	}
	require.False(t, r.SetXDS("edge-3", connected(1)), "full of real ones")
	for i := range 4 {
		r.Batch(WorkerReport{Node: "edge-0", VM: fmt.Sprint(i)})
	}
	require.Equal(t, uint64(2), r.Dropped().VMs)
	now.advance(31 * time.Second)
	r.Batch(WorkerReport{Node: "edge-0", VM: "fresh"})
	require.Equal(t, uint64(2), r.Dropped().VMs, "silent ones make room")

	gone := connected(1)
	gone.Connected = false
	r.SetXDS("edge-1", gone)
	now.advance(59 * time.Minute)
	require.Len(t, r.Nodes(), 3)
	now.advance(2 * time.Minute)
	require.Len(t, r.Nodes(), 2, "away for an hour")
	require.Equal(t, uint64(1), r.Dropped().Forgotten)
}

func TestCounts(t *testing.T) {
	r := New(newClock().now)
	r.SetXDS("a", connected(1))
	r.Batch(WorkerReport{Node: "a", VM: "x", Plan: "new", Filter: "f", Served: true})
	bad := connected(1)
	bad.Resources = map[Kind]Resource{ECDS: {State: Rejected}}
	r.SetXDS("b", bad)
	bad.Connected = false
	r.SetXDS("c", bad)
	require.Equal(t, Counts{Nodes: 3, Connected: 2, Synced: 1, Rejected: 1}, r.Counts())
}

// TestMembers holds the JSON members that outside tools rely on (DESIGN
// section 5).
func TestMembers(t *testing.T) {
	r := New(newClock().now)
	r.SetXDS("a", connected(1))
	r.Batch(WorkerReport{Node: "a", VM: "x", Plan: "new", Filter: "f"})
	b, err := json.Marshal(r.Nodes()[0])
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(b, &m))
	for _, k := range []string{"id", "cluster", "connected", "lastSeen", "planHash", "filterHash", "workers", "resources"} {
		require.Contains(t, m, k)
	}
	require.Subset(t, m["workers"].([]any)[0], map[string]any{"vm": "x", "planHash": "new", "lastSeen": "2023-11-14T22:13:20Z"})
	require.Equal(t, map[string]any{"state": "synced", "version": "v", "message": ""}, m["resources"].(map[string]any)["LDS"])
	empty, err := json.Marshal(func() Node { r.SetXDS("b", XDSState{}); n, _ := r.Node("b"); return n }())
	require.NoError(t, err)
	require.Contains(t, string(empty), `"workers":[]`)
	require.Contains(t, string(empty), `"resources":{}`)
}

func TestCopies(t *testing.T) {
	r := New(newClock().now)
	s := connected(1)
	r.SetXDS("a", s)
	s.Resources[LDS] = Resource{State: Rejected}
	n, _ := r.Node("a")
	n.Resources[CDS] = Resource{State: Rejected}
	n, _ = r.Node("a")
	require.Equal(t, synced(), n.Resources)
}

// TestSyncedIsProven draws any set of VMs: synced must never be said while
// fewer VMs than there are workers run the plan.
func TestSyncedIsProven(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		now := newClock()
		r := New(now.now)
		workers := rapid.IntRange(1, 4).Draw(rt, "workers")
		r.SetXDS("n", connected(workers))
		on := 0
		for i := range rapid.IntRange(0, 8).Draw(rt, "vms") {
			ago := rapid.SampledFrom([]time.Duration{0, 4 * time.Second, 6 * time.Second, time.Minute}).Draw(rt, "ago")
			plan := rapid.SampledFrom([]string{"new", "old", ""}).Draw(rt, "plan")
			r.Batch(WorkerReport{Node: "n", Boot: "b", VM: fmt.Sprint(i), Plan: plan, Filter: "f",
				Served: rapid.Bool().Draw(rt, "served"), At: now.at.Add(-ago)})
			if plan == "new" && ago <= aliveFor {
				on++
			}
		}
		n, _ := r.Node("n")
		if n.Synced && on < workers {
			rt.Fatalf("synced with %d of %d", on, workers)
		}
		if n.Synced && n.PlanHash != "new" {
			rt.Fatalf("synced, but planHash is %q", n.PlanHash)
		}
		if len(n.Workers) > workers {
			rt.Fatalf("%d workers listed of %d", len(n.Workers), workers)
		}
		if n.Synced {
			for _, w := range n.Workers {
				if w.PlanHash != n.PlanHash {
					rt.Fatalf("synced, but worker %s is listed with %q", w.VM, w.PlanHash)
				}
			}
		}
	})
}
