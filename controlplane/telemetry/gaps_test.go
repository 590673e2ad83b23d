package telemetry_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// TestAnotherEnvoyLeavesAGap: what the one before may not have sent is told
// once, with the time from which on it may be missing.
func TestAnotherEnvoyLeavesAGap(t *testing.T) {
	at := func(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }
	of := func(boot string, began time.Time, vm byte, seq uint64, made time.Time, rows ...contract.Row) contract.Batch {
		b := batch(vm, seq, rows...)
		b.Boot, b.BootNS, b.AtNS = strings.Repeat(boot, 32), began.UnixNano(), made.UnixNano()
		return b
	}
	full := make([]contract.Row, 1000)
	for n := range full {
		full[n] = row(noon.Unix()/60, ok(1))
	}
	full[len(full)-1].Minute = noon.Unix()/60 - 7
	old := func(vm byte, seq uint64, made time.Time, rows ...contract.Row) contract.Batch {
		return of("b", at(-60), vm, seq, made, rows...)
	}
	fresh := func(seq uint64, made time.Time) contract.Batch { return of("d", at(3), 'e', seq, made) }
	for name, tc := range map[string]struct {
		batches     []contract.Batch
		from, until time.Time // zero: no gap
	}{
		"the same one": {batches: []contract.Batch{old('a', 1, at(-20)), old('c', 1, at(-20)), old('a', 2, at(0)), old('c', 2, at(0.5)), old('a', 3, at(1))}},
		"from the worker on that sent its last batch first": {
			batches: []contract.Batch{old('a', 1, at(-20)), old('c', 1, at(-20)), old('a', 2, at(0)), old('c', 2, at(0.4)), old('a', 3, at(1)), fresh(1, at(4))},
			from:    at(0.4), until: at(3),
		},
		"a VM that trapped long ago is none of its workers": {
			batches: []contract.Batch{old('a', 1, at(-20)), old('c', 1, at(0)), fresh(1, at(4))},
			from:    at(0), until: at(3),
		},
		"not all of its workers may have spoken yet": {
			batches: []contract.Batch{old('a', 1, at(-6)), old('a', 2, at(0)), fresh(1, at(4))},
			from:    at(-60), until: at(3),
		},
		"a full batch is not all": {
			batches: []contract.Batch{old('a', 1, at(-20)), old('c', 1, at(0), full...), fresh(1, at(4))},
			from:    noon.Truncate(time.Minute).Add(-7 * time.Minute), until: at(3),
		},
		"a late batch of the one before": {
			batches: []contract.Batch{old('a', 1, at(-20)), old('a', 2, at(0)), fresh(1, at(4)), old('a', 3, at(1)), fresh(2, at(5))},
			from:    at(0), until: at(3),
		},
		"a clock that was set back": {
			batches: []contract.Batch{old('a', 1, at(-20)), old('a', 2, at(0)), of("d", at(-3000), 'e', 1, at(30))},
			from:    at(-3000), until: at(-3000),
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := setup(t)
			for _, b := range tc.batches {
				e.pass(time.Unix(0, b.AtNS).Sub(e.now()))
				e.send(b)
				e.send(b)
			}
			if tc.until.IsZero() {
				require.Empty(t, e.ingest.Gaps())
				require.Empty(t, e.ingest.Events(0, 10))
				return
			}
			want := telemetry.Gap{Node: "edge-1", From: tc.from.UTC(), Until: tc.until.UTC()}
			require.Equal(t, []telemetry.Gap{want}, e.ingest.Gaps())
			events := e.ingest.Events(0, 10)
			require.Len(t, events, 1)
			require.Equal(t, "telemetry-gap", events[0].Kind)
			require.Equal(t, "edge-1", events[0].Node)
			require.Equal(t, map[string]any{"from": want.From.Format(time.RFC3339Nano), "to": want.Until.Format(time.RFC3339Nano)}, events[0].Data)
			e.pass(25 * time.Hour)
			require.Empty(t, e.ingest.Gaps(), "a day later")
		})
	}
}

// TestADrainedEnvoyLeavesNoGap: whoever has drained it knows.
func TestADrainedEnvoyLeavesNoGap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	reopen(t, path).send(batch('a', 1))
	e := reopen(t, path)
	e.ingest.Drained("edge-1")
	e.pass(time.Hour)
	b := batch('c', 1)
	b.Boot, b.BootNS, b.AtNS = strings.Repeat("d", 32), e.now().UnixNano(), e.now().UnixNano()
	e.send(b)
	require.Empty(t, e.ingest.Gaps())
	b.VM, b.Boot, b.BootNS = strings.Repeat("e", 32), strings.Repeat("f", 32), e.now().Add(time.Second).UnixNano()
	e.send(b)
	require.Len(t, e.ingest.Gaps(), 1, "the next one was not drained")
}

// TestAnotherEnvoyDuringAnAbsence: both were killed. The one that an earlier
// control plane knew is told from the one that began after its last batch.
func TestAnotherEnvoyDuringAnAbsence(t *testing.T) {
	for name, began := range map[string]time.Duration{"the same": -time.Hour, "another": time.Minute} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "seawall.db")
			reopen(t, path).send(batch('a', 1))
			e := reopen(t, path)
			e.pass(2 * time.Minute)
			b := batch('c', 1)
			b.BootNS = noon.Add(began).UnixNano()
			e.send(b)
			if began < 0 {
				require.Empty(t, e.ingest.Gaps())
				return
			}
			require.Equal(t, []telemetry.Gap{{Node: "edge-1", From: noon.Add(-3 * time.Second), Until: noon.Add(time.Minute)}}, e.ingest.Gaps())
		})
	}
}
