package plugin

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/contract"
)

func TestBuckets(t *testing.T) {
	t.Parallel()
	b := newBounds([]int64{1, 10})
	for d, want := range map[int64]int{0: 0, 1_000: 0, 1_001: 1, 10_000: 1, 10_001: 2, 1 << 62: 2} {
		require.Equal(t, want, b.bucket(d), d)
	}
	require.Zero(t, newBounds(nil).bucket(5))
}

func TestStatusesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRow(rowKey{bounds: newBounds(nil)}, 1)
	for i := range 40 {
		r.add(contract.ServerError, uint16(500+i), 0)
		r.add(contract.ClientError, uint16(400+i), 0)
		r.add(contract.OK, 200, 0)
	}
	w := r.wire()
	require.Len(t, w.Counts, 3+2*maxStatuses)
	require.Contains(t, w.Counts, contract.Count{Outcome: "5xx", N: 40 - maxStatuses})
	require.Contains(t, w.Counts, contract.Count{Outcome: "ok", N: 40})
	require.EqualValues(t, 120, r.total())
}

func TestFoldMergesOldMinutes(t *testing.T) {
	t.Parallel()
	l, b := newLedger(), newBounds([]int64{1000})
	for minute := range int64(100) {
		for _, route := range []string{"a", "b"} {
			l.row(rowKey{service: "s", route: route, bounds: b, minute: minute}, minute).add(contract.OK, 200, 5)
		}
	}
	l.fold(99 - keptMinutes)
	require.Len(t, l.rows, 2*(keptMinutes+1)+2)
	coarseRows := 0
	for _, r := range l.rows {
		w := r.wire()
		if w.Coarse {
			coarseRows++
			require.EqualValues(t, 38, w.Minute)
			require.EqualValues(t, 39, w.Counts[0].N)
			require.EqualValues(t, 39, w.Good[0].N)
		}
	}
	require.Equal(t, 2, coarseRows)
	require.Zero(t, l.lost)
}

func TestLedgerIsBoundedAndCountsWhatItLoses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		hot, staged, b := newLedger(), newLedger(), newBounds(nil)
		var added, lost uint64
		routes := rapid.IntRange(50, 300).Draw(t, "routes")
		for minute := range int64(rapid.IntRange(1, 40).Draw(t, "minutes")) {
			for i := range routes {
				added++
				if r := hot.row(rowKey{route: strconv.Itoa(i), bounds: b, minute: minute}, minute); r != nil {
					r.add(contract.OK, 200, -1)
				} else {
					lost++
				}
			}
			staged.absorb(hot)
			staged.fold(minute - 20)
			require.LessOrEqual(t, len(staged.rows), maxRows)
			require.Len(t, staged.index, len(staged.rows))
			require.Empty(t, hot.rows)
		}
		var kept uint64
		for len(staged.rows) > 0 {
			for _, r := range staged.take(1000) {
				kept += r.total()
			}
		}
		require.Empty(t, staged.index)
		require.LessOrEqual(t, kept, added)
		require.LessOrEqual(t, added-kept, staged.lost+lost, "what is missing is counted as lost")
	})
}

func TestRingKeepsTheNewest(t *testing.T) {
	t.Parallel()
	var r, from ring
	for i := range int64(maxEvents + 10) {
		from.add(contract.Event{AtNS: i})
	}
	r.absorb(&from)
	require.EqualValues(t, 10, r.lost)
	got := r.take()
	require.Len(t, got, maxEvents)
	require.EqualValues(t, 10, got[0].AtNS)
	require.Empty(t, r.take())
}
