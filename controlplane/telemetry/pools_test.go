package telemetry_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
)

func poolLines(e *env) []string {
	lines := []string{}
	for _, p := range e.ingest.Pools() {
		lines = append(lines, fmt.Sprintf("%s/%s@%s %d+%d/%d granted %d full %d timed out %d longest %gms",
			p.Service, p.Pool, p.Node, p.Held, p.Waiting, p.Limit, p.Granted, p.Full, p.TimedOut, p.MaxWait))
	}
	return lines
}

// poolBatch is one VM's word on payments/reads, seq seconds after noon.
func poolBatch(vm byte, seq uint64, states ...contract.PoolState) contract.Batch {
	b := batch(vm, seq)
	b.AtNS = noon.Add(time.Duration(seq) * time.Second).UnixNano()
	b.Pools = states
	return b
}

func reads(held, waiting uint32, granted, full, timedOut uint64) contract.PoolState {
	return contract.PoolState{Service: "payments", Pool: "reads", Held: held, Waiting: waiting, Limit: 5, Granted: granted, Full: full, TimedOut: timedOut}
}

func TestPools(t *testing.T) {
	gone := contract.PoolState{Service: "payments", Pool: "reads", Held: 2}
	other := reads(1, 0, 1, 0, 0)
	other.Pool = "exports"
	waited := reads(0, 0, 1, 0, 0)
	waited.MaxWaitNS = 1_500_000_000
	replan := func(b contract.Batch) contract.Batch {
		b.Plan = "fedcba9876543210"
		return b
	}
	reboot := func(b contract.Batch) contract.Batch {
		b.Boot, b.BootNS = strings.Repeat("c", 32), noon.UnixNano()
		return b
	}
	for name, tc := range map[string]struct {
		batches []contract.Batch
		pass    time.Duration
		want    []string
	}{
		"none": {[]contract.Batch{batch('a', 1)}, 0, []string{}},
		"counters of VMs add up, the newest word on now holds": {
			[]contract.Batch{poolBatch('a', 1, reads(3, 1, 10, 2, 1)), poolBatch('c', 2, reads(5, 4, 20, 0, 5))}, 0,
			[]string{"payments/reads@edge-1 5+4/5 granted 30 full 2 timed out 6 longest 0ms"},
		},
		"a late batch changes nothing": {
			[]contract.Batch{poolBatch('a', 5, reads(1, 0, 10, 2, 1)), poolBatch('a', 4, reads(5, 9, 9, 1, 0))}, 0,
			[]string{"payments/reads@edge-1 1+0/5 granted 10 full 2 timed out 1 longest 0ms"},
		},
		"a batch without pools says nothing": {
			[]contract.Batch{poolBatch('a', 1, reads(1, 0, 1, 0, 0)), poolBatch('a', 2)}, 0,
			[]string{"payments/reads@edge-1 1+0/5 granted 1 full 0 timed out 0 longest 0ms"},
		},
		"a plan without the pool": {
			[]contract.Batch{poolBatch('a', 1, reads(1, 0, 1, 0, 0), other), replan(poolBatch('a', 2, other))}, 0,
			[]string{"payments/exports@edge-1 1+0/5 granted 1 full 0 timed out 0 longest 0ms"},
		},
		"a VM that still runs the plan before": {
			[]contract.Batch{replan(poolBatch('a', 2, other)), poolBatch('c', 1, reads(1, 0, 1, 0, 0))}, 0,
			[]string{"payments/exports@edge-1 1+0/5 granted 1 full 0 timed out 0 longest 0ms"},
		},
		"gone from the plan, calls still run": {
			[]contract.Batch{poolBatch('a', 1, reads(3, 0, 3, 0, 0)), replan(poolBatch('a', 2, gone))}, 0,
			[]string{"payments/reads@edge-1 2+0/0 granted 3 full 0 timed out 0 longest 0ms"},
		},
		"a new process starts afresh": {
			[]contract.Batch{poolBatch('a', 1, reads(3, 0, 3, 0, 0)), reboot(poolBatch('d', 1, reads(1, 0, 1, 0, 0))), poolBatch('a', 2, reads(4, 0, 4, 0, 0))}, 0,
			[]string{"payments/reads@edge-1 1+0/5 granted 1 full 0 timed out 0 longest 0ms"},
		},
		"the longest wait is remembered":      {[]contract.Batch{poolBatch('a', 1, waited), poolBatch('a', 2, reads(0, 0, 1, 0, 0))}, 20 * time.Second, []string{"payments/reads@edge-1 0+0/5 granted 1 full 0 timed out 0 longest 1500ms"}},
		"the longest wait is forgotten again": {[]contract.Batch{poolBatch('a', 1, waited)}, time.Minute, []string{"payments/reads@edge-1 0+0/5 granted 1 full 0 timed out 0 longest 0ms"}},
		"a node that went silent":             {[]contract.Batch{poolBatch('a', 1, reads(3, 0, 3, 0, 0))}, 301 * time.Second, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			e := setup(t)
			for _, b := range tc.batches {
				e.send(b)
			}
			e.pass(tc.pass)
			require.Equal(t, tc.want, poolLines(e))
		})
	}
}

// TestPoolsInAnyOrder: whatever the order in which VMs' batches come, and
// however often, the same remains.
func TestPoolsInAnyOrder(t *testing.T) {
	var batches []contract.Batch
	for seq := uint64(1); seq <= 12; seq++ {
		batches = append(batches, poolBatch("acd"[seq%3], seq, reads(uint32(seq%6), uint32(seq), seq, seq/2, seq/3)))
	}
	batches = append(batches, batches[3:8]...)
	for seed := range uint64(5) {
		e := setup(t)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
		for _, b := range batches {
			e.send(b)
		}
		require.Equal(t, []string{"payments/reads@edge-1 0+12/5 granted 33 full 16 timed out 10 longest 0ms"}, poolLines(e), "seed %d", seed)
	}
}

// TestPoolsOfVMsThatTrap: a process whose VMs come and go keeps its totals, and
// what is remembered of them is bounded.
func TestPoolsOfVMsThatTrap(t *testing.T) {
	e := setup(t)
	for n := range 300 {
		b := poolBatch('a', 1, reads(0, 0, 2, 1, 0))
		b.VM = fmt.Sprintf("%032x", n)
		e.send(b)
	}
	require.Equal(t, []string{"payments/reads@edge-1 0+0/5 granted 600 full 300 timed out 0 longest 0ms"}, poolLines(e))
}
