package window

// Buckets is how many parts a window has. What it counts spans nine to ten
// tenths of its length: the newest bucket is still being filled.
const Buckets = 10

// Window is the counts of one sliding window. The zero value is empty. It is a
// value: copying it is taking a snapshot.
type Window struct {
	Since  int64 // start of the newest bucket, Unix ns
	Counts [Buckets]Count
}

// Count is one bucket, the newest first.
type Count struct {
	Calls uint32
	Hits  uint32 // of Calls
}

// Add counts one call at now (Unix ns) in a window of length ns, and returns
// all that are in it then. Where the clock stepped back by a bucket or more,
// nobody knows how old the counts are: they are forgotten, so that a step never
// opens a breaker, and never keeps counts until the clock has caught up.
func (w *Window) Add(length, now int64, hit bool) Total {
	width := max(length/Buckets, 1)
	if age := now - w.Since; age < 0 || age >= width {
		w.slide(width, now)
	}
	newest := &w.Counts[0]
	if newest.Calls != ^uint32(0) {
		newest.Calls++
		if hit {
			newest.Hits++
		}
	}
	return w.total()
}

// Total is what a window holds.
type Total struct{ Calls, Hits uint64 }

// Reaches reports whether there are at least minimum calls, and ppm or more of
// a million of them are hits. ppm is at most a million.
func (t Total) Reaches(minimum uint32, ppm int64) bool {
	// Both sides stay far below 2^64: ten buckets of 2^32 are less than 2^36.
	return t.Calls >= uint64(minimum) && t.Hits*1_000_000 >= t.Calls*uint64(ppm)
}

func (w *Window) total() (t Total) {
	for i := range w.Counts {
		t.Calls += uint64(w.Counts[i].Calls)
		t.Hits += uint64(w.Counts[i].Hits)
	}
	return t
}

// slide makes the bucket of now the newest.
func (w *Window) slide(width, now int64) {
	age := now - w.Since
	back := now < w.Since // age alone does not tell: it may have wrapped
	switch {
	case back && age < 0 && age > -width:
		// Another worker's clock reading, or a small step: the newest takes it.
	case back, age < 0, age/width >= Buckets:
		*w = Window{Since: now}
	default:
		n := age / width
		copy(w.Counts[n:], w.Counts[:Buckets-n])
		clear(w.Counts[:n])
		w.Since += n * width
	}
}
