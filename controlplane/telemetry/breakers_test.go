package telemetry_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

func breakerLines(e *env) []string {
	lines := []string{}
	for _, b := range e.ingest.Breakers() {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s/%s %s %s %s", b.Service, b.Route, b.Node, b.State, b.Cause)))
	}
	return lines
}

func state(s string, gen uint64, cause string) contract.BreakerState {
	return contract.BreakerState{Service: "payments", Route: "charge", State: s, Gen: gen, SinceNS: noon.UnixNano(), RetryAtNS: noon.Add(time.Minute).UnixNano(), Cause: cause}
}

func event(from, to string, gen uint64, cause string) contract.Event {
	return contract.Event{AtNS: noon.UnixNano(), Kind: "breaker", Service: "payments", Route: "charge", From: from, To: to, Gen: gen, Cause: cause}
}

func TestBreakers(t *testing.T) {
	charge := []telemetry.Route{{Service: "payments", Route: "charge"}}
	with := func(vm byte, seq uint64, states []contract.BreakerState, events ...contract.Event) contract.Batch {
		b := batch(vm, seq)
		b.Breakers, b.Events = states, events
		return b
	}
	at := func(b contract.Batch, node string, boot byte, born time.Time) contract.Batch {
		b.Node, b.Boot, b.BootNS = node, strings.Repeat(string(boot), 32), born.UnixNano()
		return b
	}
	open := []contract.BreakerState{state("open", 5, "timeout")}
	for name, tc := range map[string]struct {
		known   []telemetry.Route
		batches []contract.Batch
		pass    time.Duration
		want    []string
	}{
		"no node yet":       {charge, nil, 0, []string{"payments/charge  closed"}},
		"never left closed": {charge, []contract.Batch{batch('a', 1)}, 0, []string{"payments/charge edge-1 closed"}},
		"open":              {charge, []contract.Batch{with('a', 1, open)}, 0, []string{"payments/charge edge-1 open timeout"}},
		"an older word of another VM": {
			charge, []contract.Batch{with('a', 1, open), with('c', 1, []contract.BreakerState{state("closed", 4, "")})}, 0,
			[]string{"payments/charge edge-1 open timeout"},
		},
		"a newer word": {
			charge, []contract.Batch{with('a', 1, open), with('c', 1, []contract.BreakerState{state("half-open", 6, "timeout")})}, 0,
			[]string{"payments/charge edge-1 half-open timeout"},
		},
		"an event is newer than the record": {
			charge, []contract.Batch{with('a', 1, open, event("open", "half-open", 6, ""), event("half-open", "closed", 7, ""))}, 0,
			[]string{"payments/charge edge-1 closed"},
		},
		"half-open keeps the cause": {
			charge, []contract.Batch{with('a', 1, open, event("open", "half-open", 6, ""))}, 0, []string{"payments/charge edge-1 half-open timeout"},
		},
		"other events say nothing": {
			charge, []contract.Batch{with('a', 1, open, contract.Event{AtNS: 1, Kind: "panic", Service: "payments", Route: "charge", To: "closed", Gen: 9})}, 0,
			[]string{"payments/charge edge-1 open timeout"},
		},
		"a new process starts afresh": {
			charge, []contract.Batch{with('a', 1, open), at(batch('d', 1), "edge-1", 'c', noon)}, 0, []string{"payments/charge edge-1 closed"},
		},
		"a word of the process before it": {
			charge, []contract.Batch{at(batch('d', 1), "edge-1", 'c', noon), with('a', 1, open)}, 0, []string{"payments/charge edge-1 closed"},
		},
		"two nodes": {
			charge, []contract.Batch{with('a', 1, open), at(batch('d', 1), "edge-2", 'c', noon)}, 0,
			[]string{"payments/charge edge-1 open timeout", "payments/charge edge-2 closed"},
		},
		"a node that went silent":            {charge, []contract.Batch{with('a', 1, open)}, 301 * time.Second, []string{"payments/charge  closed"}},
		"a route that lost its breaker":      {[]telemetry.Route{}, []contract.Batch{with('a', 1, open)}, 0, []string{}},
		"a duplicate still says where it is": {charge, []contract.Batch{with('a', 1, nil), with('a', 1, open)}, 0, []string{"payments/charge edge-1 open timeout"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := setup(t)
			e.ingest.SetPolicy(nil, nil, tc.known)
			for _, b := range tc.batches {
				e.send(b)
			}
			e.pass(tc.pass)
			require.Equal(t, tc.want, breakerLines(e))
		})
	}
}

func TestBreakerTimes(t *testing.T) {
	e := setup(t)
	b := batch('a', 1)
	b.Breakers = []contract.BreakerState{state("open", 1, "5xx"), state("closed", 1, "")}
	b.Breakers[1].Route = "refund"
	e.send(b)
	got := e.ingest.Breakers()
	require.Len(t, got, 2, "all are listed before there is a policy")
	require.Equal(t, noon, *got[0].Since)
	require.Equal(t, noon.Add(time.Minute), *got[0].RetryAt)
	require.Nil(t, got[1].RetryAt, "a closed breaker waits for nothing")
}

// TestBreakersInAnyOrder: whatever the order in which VMs' batches come, the
// same state remains.
func TestBreakersInAnyOrder(t *testing.T) {
	var batches []contract.Batch
	for gen := uint64(1); gen <= 12; gen++ {
		b := batch("acd"[gen%3], gen)
		s := state([]string{"open", "half-open", "closed"}[(gen-1)%3], gen, "reset")
		b.Breakers = []contract.BreakerState{s}
		b.Events = []contract.Event{event("", s.State, gen, "reset")}
		batches = append(batches, b)
	}
	want := []string{"payments/charge edge-1 closed reset"}
	for seed := range uint64(5) {
		e := setup(t)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
		for _, b := range batches {
			e.send(b)
		}
		require.Equal(t, want, breakerLines(e), "seed %d", seed)
	}
}

func TestEvents(t *testing.T) {
	e := setup(t)
	require.Equal(t, []telemetry.Event{}, e.ingest.Events(0, 10))
	b := batch('a', 1)
	b.Events = []contract.Event{event("closed", "open", 1, "5xx"), {AtNS: noon.UnixNano(), Kind: "panic"}}
	e.send(b)
	e.send(b)
	got := e.ingest.Events(0, 10)
	require.Len(t, got, 2, "a batch that is seen again happens once")
	require.Equal(t, map[string]any{"from": "closed", "to": "open", "cause": "5xx", "gen": uint64(1)}, got[0].Data)
	require.Equal(t, "edge-1", got[0].Node)
	require.Equal(t, got[0].ID+1, got[1].ID)
	require.Greater(t, got[0].ID, uint64(noon.UnixMicro()), "later than those of an earlier process")
	require.Equal(t, got[1:], e.ingest.Events(got[0].ID, 10))
	require.Equal(t, got[:1], e.ingest.Events(0, 1))
	require.Empty(t, e.ingest.Events(got[1].ID, 10))
	require.Empty(t, e.ingest.Events(1<<63, 10))

	for seq := uint64(2); seq < 8; seq++ {
		b := batch('a', seq)
		for n := range 2000 {
			b.Events = append(b.Events, contract.Event{AtNS: int64(n), Kind: "panic"})
		}
		e.send(b)
	}
	all := e.ingest.Events(got[0].ID, 1_000_000)
	require.Len(t, all, 10_000)
	require.EqualValues(t, 2002, e.ingest.Stats().DroppedEvents)
	require.Equal(t, got[1].ID+12_000, all[9999].ID)
	require.Equal(t, all[7000:], e.ingest.Events(all[6999].ID, 1_000_000))
}
