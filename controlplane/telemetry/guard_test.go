package telemetry_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

func totals(t *testing.T, e *env) map[string]uint64 {
	t.Helper()
	rows, err := e.ingest.Traffic(t.Context(), time.Hour)
	require.NoError(t, err)
	all := map[string]uint64{}
	for _, r := range rows {
		all[r.Service+"/"+r.Route] += r.Total
	}
	return all
}

// TestWhatCannotBeTrueIsRefused: it is counted as rejected, and changes nothing.
func TestWhatCannotBeTrueIsRefused(t *testing.T) {
	for name, change := range map[string]func(b *contract.Batch, now time.Time){
		"a clock far ahead":      func(b *contract.Batch, now time.Time) { b.AtNS = now.Add(11 * time.Minute).UnixNano() },
		"a minute in the future": func(b *contract.Batch, now time.Time) { b.Rows[0].Minute = now.Add(11*time.Minute).Unix() / 60 },
		"a year in the future":   func(b *contract.Batch, now time.Time) { b.Rows[0].Minute = now.AddDate(1, 0, 0).Unix() / 60 },
		"an event of the future": func(b *contract.Batch, now time.Time) { b.Events[0].AtNS = now.Add(time.Hour).UnixNano() },
		"the VM of another node": func(b *contract.Batch, _ time.Time) { b.Node = "edge-2" },
		"more requests than exist": func(b *contract.Batch, _ time.Time) {
			b.Rows = []contract.Row{b.Rows[0], b.Rows[0]}
			b.Rows[0].Counts = []contract.Count{{Outcome: "ok", N: 1 << 40}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := setup(t)
			e.send(batch('a', 1, row(e.minute(), ok(1))))
			bad := batch('a', 2, row(e.minute(), ok(1000)))
			bad.Events = []contract.Event{event("closed", "open", 1, "5xx")}
			change(&bad, e.now())
			require.Equal(t, http.StatusBadRequest, e.post(encode(t, bad)).Code)
			s := e.ingest.Stats()
			require.EqualValues(t, 1, s.Rejected)
			require.EqualValues(t, 1, s.Fresh)
			require.Empty(t, e.ingest.Events(0, 10))
			require.Equal(t, map[string]uint64{"payments/charge": 1}, totals(t, e))
			e.send(batch('a', 2, row(e.minute(), ok(1)))) // the number is still free
			require.Equal(t, map[string]uint64{"payments/charge": 2}, totals(t, e))
		})
	}
}

// TestASlightlyFastClockIsForgiven: what it counts goes into our minute.
func TestASlightlyFastClockIsForgiven(t *testing.T) {
	e := setup(t)
	b := batch('a', 1, row(e.minute()+10, ok(3)))
	b.AtNS = e.now().Add(10 * time.Minute).UnixNano()
	e.send(b)
	require.Equal(t, map[string]uint64{"payments/charge": 3}, totals(t, e))
}

// TestUnknownRoutesAreLeftOut: they make no series and no metric, are counted
// as such, and the rest of their batch is counted.
func TestUnknownRoutesAreLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	e := reopen(t, path)
	of := func(service, route string) contract.Row {
		r := row(e.minute(), ok(1))
		r.Service, r.Route = service, route
		return r
	}
	all := []contract.Row{of("payments", "charge"), of("payments", ""), of("payments", "refund"), of("orders", "list"), of("orders", "")}
	e.ingest.SetRoutes([]telemetry.Route{{Service: "payments", Route: "charge"}})
	e.send(batch('a', 1, all...))
	require.Equal(t, map[string]uint64{"payments/charge": 1, "payments/": 1}, totals(t, e))
	require.EqualValues(t, 3, e.ingest.Stats().UnknownRequests)
	e.send(batch('a', 1, all...))
	require.EqualValues(t, 3, e.ingest.Stats().UnknownRequests, "one that was seen before has no effect")

	// A route that has gone may still be told of, by another policy's VM.
	e.ingest.SetRoutes([]telemetry.Route{{Service: "orders", Route: "list"}})
	e.send(batch('a', 2, all...))
	require.Equal(t, map[string]uint64{"payments/charge": 2, "payments/": 2, "orders/list": 1, "orders/": 1}, totals(t, e))
	require.EqualValues(t, 4, e.ingest.Stats().UnknownRequests)

	// After a restart too: counts of it are kept.
	again := reopen(t, path)
	again.ingest.SetRoutes([]telemetry.Route{{Service: "orders", Route: "list"}})
	again.send(batch('a', 3, all...))
	require.EqualValues(t, 3, totals(t, again)["payments/charge"])
	require.EqualValues(t, 1, again.ingest.Stats().UnknownRequests)
}

// TestAgesBeyondRetentionAreLeftOut: a minute of 1970 makes no rows.
func TestAgesBeyondRetentionAreLeftOut(t *testing.T) {
	e := setup(t)
	e.send(batch('a', 1, row(e.minute(), ok(1)), row(1, ok(2)), row(e.minute()-401*1440, ok(4)), row(e.minute()-399*1440, ok(8))))
	require.EqualValues(t, 6, e.ingest.Stats().DroppedRequests)
	sums, err := e.store.Sums(t.Context(), []int64{0, e.minute() - 400*1440, e.minute() + 1}, false)
	require.NoError(t, err)
	require.Empty(t, sums[0].Cells)
	require.EqualValues(t, 9, sums[1].Cells[0].N)
}

// TestEvenTheWorstBatchDoesNotStopTheNext: every number at its limit, in ever
// new statuses and bounds.
func TestEvenTheWorstBatchDoesNotStopTheNext(t *testing.T) {
	e := setup(t)
	e.ingest.SetPolicy([]slo.Objective{
		{Name: "a", Service: "payments", ObjectivePPM: 999_000, Window: time.Hour},
		{Name: "l", Service: "payments", ObjectivePPM: 950_000, Window: time.Hour, LatencyThreshold: time.Millisecond},
	}, []int64{1000}, nil)
	for seq := range uint64(20) {
		r := row(e.minute(), contract.Count{Outcome: "ok", N: 1<<40 - 1<<20})
		for n := range uint64(1000) {
			r.Counts = append(r.Counts, contract.Count{Outcome: "5xx", Status: uint16(n), N: 1})
			r.Good = append(r.Good, contract.Bucket{LeUS: int64(seq*1000 + n + 1), N: 1})
		}
		e.send(batch('a', seq+1, r))
	}
	require.Eventually(t, func() bool {
		all, err := e.ingest.SLOs(context.Background())
		return err == nil && all[0].Total > 1<<40 && all[1].Total == 20_000
	}, 5*time.Second, time.Millisecond)
	_, err := e.ingest.Traffic(t.Context(), time.Hour)
	require.NoError(t, err)
	e.send(batch('b', 1, row(e.minute(), ok(1))))
	require.EqualValues(t, 21, e.ingest.Stats().Fresh, fmt.Sprint(e.ingest.Stats()))
}
