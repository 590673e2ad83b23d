package window_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/engine/window"
)

const (
	second = int64(1e9)
	base   = int64(1_780_000_000) * second
	length = 10 * second
)

func add(w *window.Window, at int64, n int, hit bool) (t window.Total) {
	for range n {
		t = w.Add(length, at, hit)
	}
	return t
}

func TestBucketsLeaveTheWindow(t *testing.T) {
	t.Parallel()
	var w window.Window
	add(&w, base, 3, true)
	add(&w, base+second/2, 1, false)
	require.Equal(t, window.Total{Calls: 5, Hits: 3}, add(&w, base+5*second, 1, false))
	require.Equal(t, window.Total{Calls: 6, Hits: 3}, add(&w, base+10*second-1, 1, false), "the first bucket is still inside")
	require.Equal(t, window.Total{Calls: 3, Hits: 0}, add(&w, base+10*second, 1, false), "and now is not")
	require.Equal(t, window.Total{Calls: 1, Hits: 1}, add(&w, base+1000*second, 1, true))
}

func TestBucketsBeginWithTheFirstCall(t *testing.T) {
	t.Parallel()
	var w window.Window
	add(&w, base+second/3, 1, true)
	require.Equal(t, base+second/3, w.Since)
	add(&w, base+second/3+2*second+5, 1, true)
	require.Equal(t, base+second/3+2*second, w.Since, "buckets follow each other without gaps")
	require.Equal(t, window.Count{Calls: 1, Hits: 1}, w.Counts[2])
}

func TestClockSteppingBack(t *testing.T) {
	t.Parallel()
	day := 24 * 3600 * second
	var w window.Window
	add(&w, base, 4, true)
	require.Equal(t, window.Total{Calls: 5, Hits: 4}, add(&w, base-second/2, 1, false), "a reading a little older counts now")
	require.Equal(t, base, w.Since)
	require.Equal(t, window.Total{Calls: 1, Hits: 1}, add(&w, base-day, 1, true), "of what was before a step nobody knows the age")
	require.Equal(t, window.Total{Calls: 2, Hits: 1}, add(&w, base-day+9*second, 1, false), "it goes on from there")
	require.Equal(t, window.Total{Calls: 2, Hits: 0}, add(&w, base-day+10*second, 1, false))
}

func TestNoRateIsRounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		total   window.Total
		minimum uint32
		ppm     int64
		want    bool
	}{
		"a third is not 34 %":          {window.Total{Calls: 3, Hits: 1}, 1, 340_000, false},
		"a third is not 333,334 ppm":   {window.Total{Calls: 3, Hits: 1}, 1, 333_334, false},
		"a third is above 333,333 ppm": {window.Total{Calls: 3, Hits: 1}, 1, 333_333, true},
		"just half":                    {window.Total{Calls: 1_000_000, Hits: 500_000}, 1, 500_000, true},
		"one less than half":           {window.Total{Calls: 1_000_000, Hits: 499_999}, 1, 500_000, false},
		"all of the most there can be": {window.Total{Calls: 10 << 32, Hits: 10 << 32}, 1, 1_000_000, true},
		"all but one":                  {window.Total{Calls: 10 << 32, Hits: 10<<32 - 1}, 1, 1_000_000, false},
		"too few":                      {window.Total{Calls: 9, Hits: 9}, 10, 1, false},
		"just enough":                  {window.Total{Calls: 10, Hits: 9}, 10, 900_000, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, c.total.Reaches(c.minimum, c.ppm))
		})
	}
}

// Against a list of calls: all of the last nine tenths are in the window, and
// none that is older than it.
func TestAgainstAList(t *testing.T) {
	t.Parallel()
	type call struct {
		at  int64
		hit bool
	}
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.Int64Range(1, 3600*second).Draw(t, "length")
		width := max(length/window.Buckets, 1)
		var w window.Window
		var calls []call
		now := base
		for range rapid.IntRange(1, 60).Draw(t, "n") {
			now += rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, length/5+1), rapid.Int64Range(0, 2*length)).Draw(t, "wait")
			c := call{now, rapid.Bool().Draw(t, "hit")}
			calls = append(calls, c)
			got := w.Add(length, c.at, c.hit)
			var least, most window.Total
			for _, c := range calls {
				hit := uint64(0)
				if c.hit {
					hit = 1
				}
				if now-c.at < 9*width {
					least.Calls, least.Hits = least.Calls+1, least.Hits+hit
				}
				if now-c.at < 10*width {
					most.Calls, most.Hits = most.Calls+1, most.Hits+hit
				}
			}
			require.GreaterOrEqual(t, got.Calls, least.Calls)
			require.GreaterOrEqual(t, got.Hits, least.Hits)
			require.LessOrEqual(t, got.Calls, most.Calls)
			require.LessOrEqual(t, got.Hits, most.Hits)
		}
	})
}

func TestACountDoesNotWrap(t *testing.T) {
	t.Parallel()
	w := window.Window{Since: base}
	w.Counts[0] = window.Count{Calls: ^uint32(0), Hits: 7}
	require.Equal(t, window.Total{Calls: uint64(^uint32(0)), Hits: 7}, w.Add(length, base, true))
}

func FuzzAddOnAnything(f *testing.F) {
	f.Add(int64(1), int64(-1)<<63, int64(1)<<62, int64(-1)<<62, uint32(3), uint32(9))
	f.Fuzz(func(t *testing.T, since, length, now, step int64, calls, hits uint32) {
		w := window.Window{Since: since}
		for i := range w.Counts {
			w.Counts[i] = window.Count{Calls: calls, Hits: min(hits, calls)}
		}
		for range 30 {
			total := w.Add(length, now, true)
			require.GreaterOrEqual(t, total.Calls, uint64(1))
			require.LessOrEqual(t, total.Hits, total.Calls)
			now += step
		}
	})
}
