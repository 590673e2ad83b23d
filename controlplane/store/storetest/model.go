package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// model sends batches in any order, again and again, with minutes from now to
// days ago, while the clock jumps ahead and what is old is pruned; then any
// stretch of time must read as a plain list of all that was sent does.
func model(t *testing.T, fresh func(t *testing.T) Open) {
	type sent struct {
		batch contract.Batch
		times int
	}
	rapid.Check(t, func(rt *rapid.T) {
		s := fresh(t)()
		now, latest := start, start
		var all []sent
		counted := map[int64]uint64{}
		slow := map[int64]uint64{}
		next := map[string]uint64{}
		send := func(n int) {
			b := &all[n]
			done := apply(rt, s, now, b.batch)
			require.Equal(rt, b.times > 0, done[0].Duplicate)
			if b.times++; b.times > 1 {
				return
			}
			for _, r := range b.batch.Rows {
				minute := min(r.Minute, now.Unix()/60)
				counted[minute] += r.Counts[0].N
				slow[minute] += r.Good[0].N
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"time passes": func(rt *rapid.T) {
				step := rapid.SampledFrom([]time.Duration{
					time.Second, time.Minute, 11 * time.Minute, 59 * time.Minute, 5 * time.Hour, 26 * time.Hour, -3 * time.Minute,
				}).Draw(rt, "step")
				now = now.Add(step)
				if now.After(latest) {
					latest = now
				}
			},
			"prune": func(*rapid.T) { prune(rt, s, now, steps) },
			"make a batch": func(rt *rapid.T) {
				vm := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "vm")
				next[vm]++
				var rows []contract.Row
				for range rapid.IntRange(0, 3).Draw(rt, "rows") {
					age := rapid.OneOf(rapid.Int64Range(-1, 15), rapid.Int64Range(0, 4000)).Draw(rt, "age")
					r := row(now.Unix()/60-age, rapid.Uint64Range(0, 9).Draw(rt, "n"))
					r.Route = rapid.SampledFrom([]string{"charge", "refund"}).Draw(rt, "route")
					r.Good = []contract.Bucket{{LeUS: -1, N: rapid.Uint64Range(0, 9).Draw(rt, "slow")}}
					rows = append(rows, r)
				}
				all = append(all, sent{batch: batch(vm, next[vm], rows...)})
			},
			"send any": func(rt *rapid.T) {
				if len(all) == 0 {
					rt.Skip("none yet")
				}
				send(rapid.IntRange(0, len(all)-1).Draw(rt, "which"))
			},
			"": func(rt *rapid.T) {
				// Bounds that can be cut, whatever has been pruned.
				cut := func(m int64) int64 {
					grain := int64(1440)
					switch age := time.Duration(latest.Unix()/60-m) * time.Minute; {
					case age <= steps.Minutes:
						grain = 1
					case age <= steps.Tens:
						grain = 10
					case age <= steps.Hours:
						grain = 60
					}
					return m + (grain-m%grain)%grain
				}
				last := now.Unix()/60 + 1 - rapid.Int64Range(0, 100).Draw(rt, "end")
				middle := last - rapid.Int64Range(0, 200).Draw(rt, "middle")
				first := middle - rapid.Int64Range(0, 5000).Draw(rt, "length")
				from, mid, to := cut(first), cut(middle), cut(last)
				for n, got := range sums(rt, s, from, mid, to) {
					lo, hi := []int64{from, mid}[n], []int64{mid, to}[n]
					var want, wantSlow, have, haveSlow uint64
					for minute := lo; minute < hi; minute++ {
						want += counted[minute]
						wantSlow += slow[minute]
					}
					for _, c := range got.Cells {
						have += c.N
					}
					for _, l := range got.Latency {
						haveSlow += l.N
					}
					require.Equal(rt, fmt.Sprint(want, wantSlow), fmt.Sprint(have, haveSlow), "minutes %d to %d", lo, hi)
				}
			},
		})
	})
}
