package telemetry

import (
	"context"
	"slices"
	"sync"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// blockSpans are the lengths in minutes of the blocks that a window is cut
// into, longest first. Most stores have their sums.
var blockSpans = [...]int64{1440, 60, 10, 1}

// aheadLimit bounds the blocks that one question reads for later ones.
const aheadLimit = 16

// lateLimit bounds the minutes that are remembered as changed; with more, all
// have changed.
const lateLimit = 4096

// ledger keeps what every objective counted in stretches of time that are over.
// Windows move by a minute a minute, so nearly all of their blocks are the same
// the next time; a block is read once, and again when late counts have changed
// it.
type ledger struct {
	mu     sync.Mutex // held while reading, so that one question reads for all
	book   *slo.Book  // whose counts these are
	blocks map[block][]slo.Counts

	late struct {
		sync.Mutex
		minutes map[int64]bool // written since the last look
	}
}

// block is the minutes start to start+span-1, start being a multiple of span.
type block struct{ start, span int64 }

func (l *ledger) init() { l.late.minutes = map[int64]bool{} }

// touched takes notice of counts that were stored in the minute at.
func (l *ledger) touched(rows []contract.Row, at int64) {
	l.late.Lock()
	defer l.late.Unlock()
	for n := range rows {
		if len(l.late.minutes) > lateLimit {
			return
		}
		l.late.minutes[min(rows[n].Minute, at)] = true
	}
}

// forgetLate drops the blocks that late counts have changed. It must be called
// after each reading as well as before it: what is stored meanwhile may be in
// the block or not.
func (l *ledger) forgetLate() {
	l.late.Lock()
	minutes := l.late.minutes
	l.late.minutes = map[int64]bool{}
	l.late.Unlock()
	if len(minutes) > lateLimit {
		l.blocks = nil
		return
	}
	for m := range minutes {
		for _, span := range blockSpans {
			delete(l.blocks, block{m - m%span, span})
		}
	}
}

// since is, for each of the starts, which ascend, what every objective of the
// book has counted from there to the minute now.
func (l *ledger) since(ctx context.Context, store Store, book *slo.Book, keep Retention, starts []int64, now int64) ([][]slo.Counts, error) {
	// Batches that are on their way still write the last whole minute.
	open := now - 1
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.book != book {
		l.book, l.blocks = book, nil
	}
	l.forgetLate()
	used := map[block][]slo.Counts{}
	totals := make([][]slo.Counts, len(starts))
	later := make([]slo.Counts, book.Len())
	for n := len(starts) - 1; n >= 0; n-- {
		end := now + 1
		if n+1 < len(starts) {
			end = starts[n+1]
		}
		if live := max(starts[n], open); live < end {
			sums, err := store.Sums(ctx, []int64{live, end}, book.Latency())
			if err != nil {
				return nil, err
			}
			addAll(later, book.Count(sums[0]))
		}
		blocks := carve(starts[n], min(end, open))
		if err := l.read(ctx, store, book, blocks, used); err != nil {
			return nil, err
		}
		for _, b := range blocks {
			addAll(later, used[b])
		}
		totals[n] = slices.Clone(later)
	}
	if err := l.ahead(ctx, store, book, keep, starts, now, used); err != nil {
		return nil, err
	}
	l.blocks = used // what no window needs any more goes
	l.forgetLate()
	return totals, nil
}

// ahead reads what the next questions will need, a little at a time: a start
// that moves into a longer block needs all its parts at once. When it is k parts
// into one block, the first k parts of the next are there, and all of them when
// it stands at its beginning.
func (l *ledger) ahead(ctx context.Context, store Store, book *slo.Book, keep Retention, starts []int64, now int64, used map[block][]slo.Counts) error {
	left := aheadLimit
	for _, s := range starts {
		for level := range len(blockSpans) - 1 {
			whole, part := blockSpans[level], blockSpans[level+1]
			next := s + (whole-s%whole)%whole
			if part < keep.grain(now-next) {
				break
			}
			for b := (block{next + part, part}); b.start <= s+whole && b.start+part <= min(next+whole, now-1); b.start += part {
				counts, ok := l.blocks[b]
				if ok {
					used[b] = counts
				}
				if ok || used[b] != nil || left == 0 {
					continue
				}
				left--
				if err := l.read(ctx, store, book, []block{b}, used); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// read puts the counts of all blocks, which follow one another, into used.
func (l *ledger) read(ctx context.Context, store Store, book *slo.Book, blocks []block, used map[block][]slo.Counts) error {
	for from := 0; from < len(blocks); {
		if counts, ok := l.blocks[blocks[from]]; ok {
			used[blocks[from]] = counts
			from++
			continue
		}
		to, bounds := from, []int64{blocks[from].start}
		for ; to < len(blocks) && l.blocks[blocks[to]] == nil; to++ {
			bounds = append(bounds, blocks[to].start+blocks[to].span)
		}
		sums, err := store.Sums(ctx, bounds, book.Latency())
		if err != nil {
			return err
		}
		for n, b := range blocks[from:to] {
			used[b] = book.Count(sums[n])
		}
		from = to
	}
	return nil
}

// carve cuts the minutes from ≤ m < to into as few blocks as can be.
func carve(from, to int64) []block {
	var blocks []block
	for from < to {
		for _, span := range blockSpans {
			if from%span == 0 && from+span <= to {
				blocks = append(blocks, block{from, span})
				from += span
				break
			}
		}
	}
	return blocks
}

func addAll(sums, more []slo.Counts) {
	for n := range sums {
		sums[n] = sums[n].Add(more[n])
	}
}
