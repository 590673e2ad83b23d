package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// Open opens the same data again each time it is called; the stores it returns
// are closed with the test.
type Open func() telemetry.Store

// start is some minute that is no multiple of ten.
var start = time.Date(2026, 11, 24, 12, 34, 0, 0, time.UTC)

// Exercise runs the suite. fresh makes empty data for one test.
func Exercise(t *testing.T, fresh func(t *testing.T) Open) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Open){
		"an empty store":                      empty,
		"what was applied is there":           applied,
		"equal kinds add up":                  addUp,
		"bounds cut by minute":                cut,
		"a batch counts once":                 once,
		"a batch counts once after reopening": reopened,
		"batches may overtake one another":    overtaking,
		"gaps are bounded":                    gaps,
		"VMs are apart":                       apart,
		"a minute ahead of us is ours":        ahead,
		"coarse rows are marked":              coarse,
		"boundaries":                          boundaries,
		"pruning":                             pruning,
		"what is old is kept coarsely":        coarsening,
		"pruning sums up first":               pruningSumsUp,
		"a forgotten minute is not counted":   forgotten,
		"days are days of UTC":                daysOfUTC,
		"attempts":                            attempts,
		"routes":                              routes,
		"hostile numbers and bounds":          hostile,
		"a cancelled call does nothing":       cancelled,
		"odd names":                           oddNames,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
	t.Run("any order, repetition and age agrees with a model", func(t *testing.T) { model(t, fresh) })
}

func batch(vm string, seq uint64, rows ...contract.Row) contract.Batch {
	return contract.Batch{Schema: contract.BatchSchema, Node: "edge-1", VM: vm, Seq: seq, Rows: rows}
}

func row(minute int64, n uint64) contract.Row {
	return contract.Row{
		Minute: minute, Service: "payments", Route: "charge", Priority: "critical",
		Counts: []contract.Count{{Outcome: "ok", N: n}},
	}
}

func apply(t require.TestingT, s telemetry.Store, at time.Time, batches ...contract.Batch) []telemetry.Applied {
	done, err := s.Apply(context.Background(), at, batches)
	require.NoError(t, err)
	require.Len(t, done, len(batches))
	return done
}

// total is the number of requests from one minute to another, exclusive.
func total(t require.TestingT, s telemetry.Store, from, to int64) (n uint64) {
	for _, c := range sums(t, s, from, to)[0].Cells {
		n += c.N
	}
	return n
}

func sums(t require.TestingT, s telemetry.Store, bounds ...int64) []slo.Sums {
	got, err := s.Sums(context.Background(), bounds, true)
	require.NoError(t, err)
	require.Len(t, got, len(bounds)-1)
	return got
}

func empty(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	heard, err := s.LastBatches(t.Context())
	require.NoError(t, err)
	require.Empty(t, heard)
	require.Equal(t, make([]slo.Sums, 2), sums(t, s, now-100_000, now, now+1))
	got, err := s.Sums(t.Context(), []int64{now}, true)
	require.NoError(t, err)
	require.Empty(t, got)
	gone, err := s.Prune(t.Context(), start, keepAll(0), start)
	require.NoError(t, err)
	require.Zero(t, gone)
	routes, err := s.Routes(t.Context())
	require.NoError(t, err)
	require.Empty(t, routes)
}

func applied(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	r := contract.Row{
		Minute: now, Service: "payments", Route: "charge", Priority: "high",
		Counts: []contract.Count{
			{Outcome: "ok", N: 5}, {Outcome: "5xx", Status: 503, N: 2},
			{Outcome: "5xx", Status: 500, N: 1}, {Outcome: "breaker-open", Degraded: true, N: 3},
			{Outcome: "5xx", Status: 503, Synthetic: true, N: 6},
		},
		Good:    []contract.Bucket{{LeUS: 1000, N: 4}, {LeUS: -1, N: 1}},
		Bad:     []contract.Bucket{{LeUS: 1000, N: 3}},
		Aborted: []contract.Bucket{{LeUS: 5000, N: 2}},
	}
	require.Equal(t, []telemetry.Applied{{}}, apply(t, s, start, batch("a", 1, r)))
	got := sums(t, s, now, now+1)[0]
	cell := slo.Cell{Service: "payments", Route: "charge", Priority: "high"}
	with := func(outcome string, status uint16, degraded bool, n uint64) slo.Cell {
		c := cell
		c.Outcome, c.Status, c.Degraded, c.N = outcome, status, degraded, n
		return c
	}
	test := with("5xx", 503, false, 6)
	test.Synthetic = true
	require.ElementsMatch(t, []slo.Cell{
		test, with("ok", 0, false, 5), with("5xx", 503, false, 2), with("5xx", 500, false, 1), with("breaker-open", 0, true, 3),
	}, got.Cells)
	bucket := func(class slo.Class, le int64, n uint64) slo.Latency {
		return slo.Latency{Service: "payments", Route: "charge", Priority: "high", Class: class, LeUS: le, N: n}
	}
	require.ElementsMatch(t, []slo.Latency{
		bucket(slo.LatencyGood, 1000, 4), bucket(slo.LatencyGood, -1, 1), bucket(slo.LatencyBad, 1000, 3),
		bucket(slo.LatencyAborted, 5000, 2),
	}, got.Latency)
	without, err := s.Sums(t.Context(), []int64{now, now + 1}, false)
	require.NoError(t, err)
	require.Empty(t, without[0].Latency)
	requireHeard(t, s, map[string]time.Time{"edge-1": start})
}

func addUp(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	apply(t, s, start, batch("a", 1, row(now, 1), row(now, 2)), batch("b", 1, row(now, 4)))
	apply(t, s, start, batch("a", 2, row(now, 8)))
	got := sums(t, s, now, now+1)[0]
	require.Len(t, got.Cells, 1)
	require.EqualValues(t, 15, got.Cells[0].N)
}

func cut(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	apply(t, s, start, batch("a", 1, row(now-2, 1), row(now-1, 10), row(now, 100)))
	for name, tc := range map[string]struct {
		from, to int64
		want     uint64
	}{
		"all":                {now - 2, now + 1, 111},
		"lower bound is in":  {now - 1, now + 1, 110},
		"upper bound is out": {now - 2, now, 11},
		"one":                {now - 1, now, 10},
		"before all":         {now - 90, now - 2, 0},
		"nothing":            {now, now, 0},
	} {
		require.Equal(t, tc.want, total(t, s, tc.from, tc.to), name)
	}
}

func once(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	b := batch("a", 1, row(now, 7))
	require.Equal(t, []telemetry.Applied{{}, {Duplicate: true}}, apply(t, s, start, b, b))
	require.Equal(t, []telemetry.Applied{{Duplicate: true}}, apply(t, s, start, b))
	require.EqualValues(t, 7, total(t, s, now, now+1))
}

func reopened(t *testing.T, open Open) {
	now := start.Unix() / 60
	apply(t, open(), start, batch("a", 1, row(now, 7)), batch("a", 3, row(now, 1)))
	s := open()
	require.EqualValues(t, 8, total(t, s, now, now+1))
	require.Equal(t, []telemetry.Applied{{Duplicate: true}, {Late: true}, {Duplicate: true}},
		apply(t, s, start, batch("a", 3, row(now, 1)), batch("a", 2, row(now, 2)), batch("a", 2, row(now, 2))))
	require.EqualValues(t, 10, total(t, s, now, now+1))
	other := batch("a", 1)
	other.Node = "edge-2"
	apply(t, s, start.Add(time.Second), other)
	requireHeard(t, s, map[string]time.Time{"edge-1": start, "edge-2": start.Add(time.Second)})
}

// requireHeard requires that each node's newest batch came at that time.
func requireHeard(t *testing.T, s telemetry.Store, want map[string]time.Time) {
	t.Helper()
	heard, err := s.LastBatches(t.Context())
	require.NoError(t, err)
	require.Len(t, heard, len(want))
	for node, at := range want {
		require.WithinDuration(t, at, heard[node], 0, node)
	}
}

func overtaking(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	var got []telemetry.Applied
	for _, seq := range []uint64{3, 1, 8, 5, 5, 2, 2, 8} {
		got = append(got, apply(t, s, start, batch("a", seq, row(now, 1)))...)
	}
	require.Equal(t, []telemetry.Applied{
		{}, {Late: true}, {Missing: 4}, {Late: true}, {Duplicate: true}, {Late: true}, {Duplicate: true}, {Duplicate: true},
	}, got)
	require.EqualValues(t, 5, total(t, s, now, now+1))
}

// gaps: a hostile or broken sender of even numbers only must not fill the
// store, and what is forgotten is lost, never doubled.
func gaps(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	for seq := uint64(2); seq <= 400; seq += 2 {
		apply(t, s, start, batch("a", seq, row(now, 1)))
	}
	for _, seq := range []uint64{2, 200, 400} {
		require.True(t, apply(t, s, start, batch("a", seq, row(now, 1)))[0].Duplicate, "seq %d", seq)
	}
	require.True(t, apply(t, s, start, batch("a", 1, row(now, 1)))[0].Duplicate, "the oldest gap is forgotten")
	require.True(t, apply(t, s, start, batch("a", 399, row(now, 1)))[0].Late, "the newest gap is known")
	require.Greater(t, apply(t, s, start, batch("a", 1<<62, row(now, 1)))[0].Missing, uint64(1<<60))
	require.EqualValues(t, 202, total(t, s, now, now+1))
}

func apart(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	other := batch("a", 1, row(now, 1))
	other.Node = "edge-2"
	require.Equal(t, []telemetry.Applied{{}, {}, {}},
		apply(t, s, start, batch("a", 1, row(now, 1)), batch("b", 1, row(now, 1)), other))
	require.EqualValues(t, 3, total(t, s, now, now+1))
}

func ahead(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	apply(t, s, start, batch("a", 1, row(now+1, 1), row(now+5000, 2)))
	require.EqualValues(t, 3, total(t, s, now, now+1))
}

func coarse(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	r := row(now, 1)
	r.Coarse = true
	apply(t, s, start, batch("a", 1, row(now, 1), r, row(now-1, 1)))
	for minute, want := range map[int64]bool{now: true, now - 1: false} {
		got := sums(t, s, minute, minute+1)[0].Cells
		require.Len(t, got, 1)
		require.Equal(t, want, got[0].Coarse)
	}
}

func boundaries(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	declare := func(bounds ...int64) map[int64]int64 {
		since, err := s.Boundaries(context.Background(), bounds)
		require.NoError(t, err)
		return since
	}
	require.Equal(t, map[int64]int64{1000: 0, 5000: 0}, declare(1000, 5000), "no data yet: all data will do")
	r := row(now, 1)
	r.Good = []contract.Bucket{{LeUS: 5000, N: 1}}
	apply(t, s, start, batch("a", 1, r))
	require.Equal(t, map[int64]int64{1000: 0, 2500: now + 1, 5000: 0}, declare(1000, 2500, 5000), "a new one is good for later minutes")
	s = open()
	require.Equal(t, map[int64]int64{1000: 0, 2500: now + 1}, declare(1000, 2500), "remembered")
	require.Equal(t, map[int64]int64{5000: now + 1}, declare(5000), "one that was away starts anew")
	require.Empty(t, declare())
}

func pruning(t *testing.T, open Open) {
	s := open()
	const day = 1440
	// A request in every hour of five days, so that all summed-up spans exist.
	first := start.Unix() / 60
	seq := uint64(0)
	for m := first; m <= first+5*day; m += 60 {
		seq++
		r := row(m, 1)
		r.Good = []contract.Bucket{{LeUS: 1000, N: 1}}
		apply(t, s, time.Unix(m*60, 0), batch("a", seq, r))
	}
	early := batch("early", 1)
	apply(t, s, time.Unix(first*60, 0), early)
	now := first + 5*day
	keep := now - 2*day
	before := total(t, s, keep, now+1)
	gone, err := s.Prune(t.Context(), time.Unix(now*60, 0), keepAll(2*24*time.Hour), time.Unix(keep*60, 0))
	require.NoError(t, err)
	require.Positive(t, gone)
	require.Equal(t, before, total(t, s, keep, now+1), "what is kept is whole")
	require.Zero(t, total(t, s, 0, keep-day), "the rest is gone")
	require.Equal(t, []telemetry.Applied{{}, {Duplicate: true}},
		apply(t, s, time.Unix(now*60, 0), early, batch("a", seq)), "silent VMs are forgotten, others not")

	// The series goes with its last minute, and comes back.
	_, err = s.Prune(t.Context(), time.Unix((now+2*day)*60, 0), keepAll(0), start)
	require.NoError(t, err)
	require.Zero(t, total(t, s, 0, now+1))
	later := time.Unix((now+3*day)*60, 0)
	apply(t, s, later, batch("a", seq+1, row(now+3*day, 4)))
	require.EqualValues(t, 4, total(t, s, 0, now+3*day+1))
}

// keepAll keeps minutes until they are forgotten.
func keepAll(d time.Duration) telemetry.Retention {
	return telemetry.Retention{Minutes: d, Tens: d, Hours: d, Days: d}
}

// steps keeps minutes for an hour, tens for six, hours for two days, and days
// for ten.
var steps = telemetry.Retention{Minutes: time.Hour, Tens: 6 * time.Hour, Hours: 48 * time.Hour, Days: 240 * time.Hour}

func prune(t require.TestingT, s telemetry.Store, at time.Time, keep telemetry.Retention) {
	_, err := s.Prune(context.Background(), at, keep, time.Time{})
	require.NoError(t, err)
}

func coarsening(t *testing.T, open Open) {
	s := open()
	const day = 1440
	// One request in every seventh minute of four days.
	first, now := start.Unix()/60, start.Unix()/60+4*day
	seq := uint64(0)
	counted := func(from, to int64) (n uint64) {
		for m := first; m <= now; m += 7 {
			if m >= from && m < to {
				n++
			}
		}
		return n
	}
	for m := first; m <= now; m += 7 {
		seq++
		r := row(m, 1)
		r.Attempts = 2
		r.Good = []contract.Bucket{{LeUS: 1000, N: 1}}
		apply(t, s, time.Unix(m*60, 0), batch("a", seq, r))
	}
	prune(t, s, time.Unix(now*60, 0), steps)
	ceil := func(m, grain int64) int64 { return m + (grain-m%grain)%grain }
	for name, tc := range map[string]struct{ ago, grain int64 }{
		"minutes": {59, 1}, "tens": {5*60 + 3, 10}, "hours": {26*60 + 7, 60}, "days": {3*day + 11, day},
	} {
		from := ceil(now-tc.ago, tc.grain)
		require.Equal(t, counted(from, now+1), total(t, s, now-tc.ago, now+1), name)
		// Neighbours stay apart: each request is in exactly one of them.
		two := sums(t, s, first-day, now-tc.ago, now+1)
		require.Equal(t, counted(first, now+1), two[0].Cells[0].N+two[1].Cells[0].N, name)
		require.Equal(t, two[1].Cells[0].N, two[1].Latency[0].N, name)
		require.Equal(t, 2*two[1].Cells[0].N, two[1].Attempts[0].N, name)
	}
	// Late counts find their way into what is left of their time.
	seq++
	apply(t, s, time.Unix(now*60, 0), batch("a", seq, row(now-3*day, 1000)))
	require.Equal(t, counted(first, now+1)+1000, total(t, s, first-day, now+1))
	require.Equal(t, counted(ceil(now-3*day+11, day), now+1), total(t, s, now-3*day+11, now+1))
	// A bound that is new now is good only for what comes from now on.
	since, err := open().Boundaries(t.Context(), []int64{2000})
	require.NoError(t, err)
	require.Greater(t, since[2000], now-7)
	require.LessOrEqual(t, since[2000], now+1)
}

// pruningSumsUp: after a long silence no batch has made the sums.
func pruningSumsUp(t *testing.T, open Open) {
	s := open()
	const day = 1440
	first := start.Unix() / 60
	apply(t, s, start, batch("a", 1, row(first-70, 1))) // from now on spans are summed up
	for m := int64(1); m <= 30; m++ {
		apply(t, s, start.Add(time.Duration(m)*time.Minute), batch("a", uint64(m)+1, row(first+m, 1)))
	}
	for _, days := range []int64{1, 3, 5} {
		gone, err := s.Prune(t.Context(), time.Unix((first+days*day)*60, 0), steps, time.Time{})
		require.NoError(t, err)
		require.Equal(t, days < 5, gone > 0, "of minutes, tens and then hours")
		require.EqualValues(t, 31, total(t, s, first-day-720, first+days*day+1), "after %d days", days)
	}
	r := row(first, 1)
	r.Good = []contract.Bucket{{LeUS: 1000, N: 1}}
	apply(t, s, time.Unix((first+5*day)*60, 0), batch("a", 99, r))
	since, err := s.Boundaries(t.Context(), []int64{2000})
	require.NoError(t, err)
	require.Greater(t, since[2000], first, "buckets of which only a day's sum is kept count too")
}

func forgotten(t *testing.T, open Open) {
	s := open()
	const day = 1440
	now := start.Unix() / 60
	apply(t, s, start, batch("a", 1, row(now, 1)))
	prune(t, s, start, steps)
	done := apply(t, s, start, batch("a", 2, row(now-20*day, 7), row(1, 8), row(now-9*day, 1)))
	require.EqualValues(t, 15, done[0].Dropped)
	require.EqualValues(t, 2, total(t, s, 0, now+1))
}

// daysOfUTC: a day that a time zone makes 23 or 25 hours long, and the one that
// only leap years have, are 1,440 minutes like all others.
func daysOfUTC(t *testing.T, open Open) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	for _, around := range []time.Time{
		time.Date(2026, 3, 29, 3, 0, 0, 0, berlin), time.Date(2026, 10, 25, 3, 0, 0, 0, berlin), time.Date(2028, 2, 29, 12, 0, 0, 0, time.UTC),
	} {
		s := open()
		first := around.Add(-48 * time.Hour).Truncate(24 * time.Hour)
		seq := uint64(around.Unix()) // ascends, as the store is the same
		for h := range 24 * 5 {
			at := first.Add(time.Duration(h) * time.Hour)
			apply(t, s, at, batch("a", seq+uint64(h), row(at.Unix()/60, 1)))
		}
		prune(t, s, first.Add(5*24*time.Hour), telemetry.Retention{Days: 240 * time.Hour})
		for d := range int64(5) {
			day := first.Unix()/60 + d*1440
			require.EqualValues(t, 24, total(t, s, day, day+1440), "day %d around %s", d, around)
		}
	}
}

func attempts(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	r := row(now, 2)
	r.Attempts = 5
	apply(t, s, start, batch("a", 1, r, row(now, 1)))
	apply(t, s, start, batch("b", 1, r))
	got := sums(t, s, now, now+1)[0]
	require.Equal(t, []slo.Attempts{{Service: "payments", Route: "charge", Priority: "critical", N: 10}}, got.Attempts)
	require.Len(t, got.Cells, 1)
	require.EqualValues(t, 5, got.Cells[0].N)
}

func routes(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	other, low := row(now, 1), row(now, 1)
	other.Route, low.Priority = "refund", "low"
	apply(t, s, start, batch("a", 1, row(now, 1), other, low))
	for _, s := range []telemetry.Store{s, open()} {
		got, err := s.Routes(t.Context())
		require.NoError(t, err)
		require.ElementsMatch(t, []telemetry.Route{{Service: "payments", Route: "charge"}, {Service: "payments", Route: "refund"}}, got)
	}

	// Those of policies are known before anything is counted, until they were
	// not told of for as long as VMs are.
	told := []telemetry.Route{{Service: "payments", Route: "charge"}, {Service: "orders", Route: "list"}}
	require.NoError(t, s.KnowRoutes(t.Context(), start, told))
	require.NoError(t, s.KnowRoutes(t.Context(), start.Add(time.Hour), told[:1]))
	all := append(told, telemetry.Route{Service: "payments", Route: "refund"})
	for _, c := range []struct {
		from time.Time
		want []telemetry.Route
	}{{start, all}, {start.Add(time.Minute), []telemetry.Route{all[0], all[2]}}} {
		_, err := s.Prune(t.Context(), start, keepAll(time.Hour), c.from)
		require.NoError(t, err)
		got, err := open().Routes(t.Context())
		require.NoError(t, err)
		require.ElementsMatch(t, c.want, got)
	}
}

// hostile: numbers that would overflow, and ever new statuses and bounds, keep
// the store working; what is sent next is counted.
func hostile(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	for n := range uint64(30) {
		r := row(now, 1<<40)
		for k := range uint64(1000) {
			r.Counts = append(r.Counts, contract.Count{Outcome: "5xx", Status: uint16(k), N: 1 << 40})
			r.Good = append(r.Good, contract.Bucket{LeUS: int64(n*1000 + k + 1), N: 1 << 40})
		}
		apply(t, s, start, batch("a", n+1, r))
	}
	r := row(now, 1)
	r.Route = "refund"
	apply(t, s, start, batch("b", 1, r))
	got := sums(t, s, now, now+1)[0]
	require.Less(t, len(got.Latency), 2000)
	for _, c := range got.Cells {
		require.LessOrEqual(t, c.N, uint64(1<<60))
		if c.Route == "refund" {
			require.EqualValues(t, 1, c.N)
		}
	}
}

func cancelled(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Apply(ctx, start, []contract.Batch{batch("a", 1, row(now, 1))})
	require.Error(t, err)
	_, err = s.Sums(ctx, []int64{now, now + 1}, true)
	require.Error(t, err)
	require.Zero(t, total(t, s, now, now+1))
	require.False(t, apply(t, s, start, batch("a", 1, row(now, 1)))[0].Duplicate)
}

func oddNames(t *testing.T, open Open) {
	s, now := open(), start.Unix()/60
	var want []string
	var rows []contract.Row
	for n, name := range []string{"", "'; DROP TABLE counts; --", "ünï/cödé", strings.Repeat("x", 253), "a b", "%", "Payments", "payments"} {
		r := row(now, uint64(n+1))
		r.Service = name
		rows = append(rows, r)
		want = append(want, fmt.Sprint(name, n+1))
	}
	apply(t, s, start, batch("a", 1, rows...))
	var got []string
	for _, c := range sums(t, s, now, now+1)[0].Cells {
		got = append(got, fmt.Sprint(c.Service, c.N))
	}
	require.ElementsMatch(t, want, got)
}
