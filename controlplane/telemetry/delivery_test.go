package telemetry_test

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// TestHowBatchesTravelChangesNothing: they are duplicated, reordered, delayed
// for hours, replayed, sent twice at once, and the control plane is started
// anew in between. At any time the counts are those of the batches that have
// come, each once and in the minutes that it says.
func TestHowBatchesTravelChangesNothing(t *testing.T) {
	dir, n := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprintf("%d.db", n))
		e := reopen(t, path)
		defer func() { e.ingest.Close() }()
		var made [][]byte
		var counts []map[string]uint64 // of each batch, by cell
		seqs := [3]uint64{}
		came, want := map[int]bool{}, map[string]uint64{}
		take := func(k int) {
			if came[k] {
				return
			}
			came[k] = true
			for cell, c := range counts[k] {
				want[cell] += c
			}
		}
		post := func(rt *rapid.T, k int) {
			require.Equal(rt, http.StatusNoContent, e.post(made[k]).Code)
			take(k)
		}
		pick := func(rt *rapid.T, name string) int {
			if len(made) == 0 {
				rt.Skip("none is made yet")
			}
			return rapid.IntRange(0, len(made)-1).Draw(rt, name)
		}
		first := e.minute()
		rt.Repeat(map[string]func(*rapid.T){
			"a batch is made, and stays on its way": func(rt *rapid.T) {
				vm := rapid.IntRange(0, len(seqs)-1).Draw(rt, "vm")
				seqs[vm]++
				b := batch("abc"[vm], seqs[vm])
				b.AtNS = e.now().UnixNano()
				cells := map[string]uint64{}
				for range rapid.IntRange(0, 3).Draw(rt, "rows") {
					minute := max(first-60, e.minute()-rapid.Int64Range(0, 60).Draw(rt, "age"))
					r := row(minute)
					r.Route = rapid.SampledFrom([]string{"charge", "refund"}).Draw(rt, "route")
					for _, outcome := range []string{"ok", "shed"} {
						if c := rapid.Uint64Range(0, 5).Draw(rt, outcome); c > 0 {
							r.Counts = append(r.Counts, contract.Count{Outcome: outcome, N: c})
							cells[fmt.Sprint(minute, r.Route, outcome)] += c
						}
					}
					if len(r.Counts) > 0 {
						b.Rows = append(b.Rows, r)
					}
				}
				made, counts = append(made, encode(t, b)), append(counts, cells)
			},
			"one comes, or comes again": func(rt *rapid.T) { post(rt, pick(rt, "batch")) },
			"two come at once, perhaps the same": func(rt *rapid.T) {
				one, other := pick(rt, "one"), pick(rt, "other")
				var wg sync.WaitGroup
				codes := [2]int{}
				for n, k := range []int{one, other} {
					wg.Go(func() { codes[n] = e.post(made[k]).Code })
				}
				wg.Wait()
				require.Equal(rt, [2]int{http.StatusNoContent, http.StatusNoContent}, codes)
				take(one)
				take(other)
			},
			"all are replayed": func(rt *rapid.T) {
				for k := range made {
					if came[k] {
						post(rt, k)
					}
				}
			},
			"time passes": func(rt *rapid.T) {
				if e.minute() < first+6*60 { // within which minutes are kept apart
					e.pass(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(rt, "step"))
				}
			},
			"the control plane is started anew": func(*rapid.T) {
				at := e.now()
				e.ingest.Close()
				e = reopen(t, path)
				e.pass(at.Sub(e.now()))
			},
			"": func(rt *rapid.T) {
				bounds := []int64{}
				for m := first - 60; m <= e.minute()+1; m++ {
					bounds = append(bounds, m)
				}
				sums, err := e.store.Sums(t.Context(), bounds, false)
				require.NoError(rt, err)
				got := map[string]uint64{}
				for k, s := range sums {
					for _, c := range s.Cells {
						got[fmt.Sprint(bounds[k], c.Route, c.Outcome)] += c.N
					}
				}
				require.True(rt, maps.Equal(want, got), "%v, not %v", got, want)
			},
		})
	})
}
