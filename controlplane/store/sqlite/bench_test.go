package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// benchBatch is what a busy worker sends each second: many routes, three
// outcomes and six latency buckets on each.
func benchBatch(seq uint64, minute int64, rows int) contract.Batch {
	b := contract.Batch{Schema: contract.BatchSchema, Node: "n", VM: "v", Seq: seq}
	for r := range rows {
		b.Rows = append(b.Rows, contract.Row{
			Minute: minute, Service: fmt.Sprintf("service-%d", r/10), Route: fmt.Sprintf("route-%d", r%10), Priority: "medium",
			Counts: []contract.Count{{Outcome: "ok", N: 100}, {Outcome: "4xx", Status: 404, N: 3}, {Outcome: "5xx", Status: 503, N: 1}},
			Good:   []contract.Bucket{{LeUS: 1000, N: 10}, {LeUS: 2500, N: 50}, {LeUS: 5000, N: 30}, {LeUS: 10000, N: 10}, {LeUS: 25000, N: 3}},
			Bad:    []contract.Bucket{{LeUS: 5000, N: 1}},
		})
	}
	return b
}

// BenchmarkApply is one transaction with one batch of 100 rows.
func BenchmarkApply(b *testing.B) {
	for _, batches := range []int{1, 8} {
		b.Run(fmt.Sprintf("batches=%d", batches), func(b *testing.B) {
			s, err := Open(b.Context(), filepath.Join(b.TempDir(), "x.db"))
			require.NoError(b, err)
			defer s.Close()
			at := time.Unix(1_800_000_000, 0)
			var seq uint64
			for b.Loop() {
				var group []contract.Batch
				for range batches {
					seq++
					group = append(group, benchBatch(seq, at.Unix()/60, 100))
				}
				_, err := s.Apply(b.Context(), at, group)
				require.NoError(b, err)
				at = at.Add(time.Second)
			}
		})
	}
}

// BenchmarkSums reads what a page of 30-day SLOs needs of benchRoutes routes that were
// busy in each of 43,200 minutes.
func BenchmarkSums(b *testing.B) {
	s, err := Open(b.Context(), filepath.Join(b.TempDir(), "x.db"))
	require.NoError(b, err)
	defer s.Close()
	start := time.Unix(1_800_000_000, 0)
	const minutes, benchRoutes = 30 * 1440, 10 // 100 take three minutes to fill
	for m := 0; m < minutes; m += 10 {
		var group []contract.Batch
		for i := range 10 {
			group = append(group, benchBatch(uint64(m+i+1), start.Unix()/60+int64(m+i), benchRoutes))
		}
		_, err := s.Apply(b.Context(), start.Add(time.Duration(m+9)*time.Minute), group)
		require.NoError(b, err)
	}
	now := start.Unix()/60 + minutes - 1
	bounds := []int64{now - 30*1440, now - 3*1440, now - 1440, now - 360, now - 120, now - 60, now - 30, now - 5, now + 1}
	for _, latency := range []bool{false, true} {
		b.Run(fmt.Sprintf("latency=%v", latency), func(b *testing.B) {
			for b.Loop() {
				_, err := s.Sums(b.Context(), bounds, latency)
				require.NoError(b, err)
			}
		})
	}
	b.Run("last two minutes", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Sums(b.Context(), []int64{now - 1, now + 1}, true)
			require.NoError(b, err)
		}
	})
}
