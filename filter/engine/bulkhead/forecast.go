package bulkhead

import "math/bits"

const (
	// Enough is how many calls must have come back before their mean counts
	// for anything.
	Enough = 8
	// FreshNS is for how long, in ns, what was learnt is believed while no call
	// comes back. Where calls take longer, it is twice their mean.
	FreshNS = 10e9
)

// Pace is how long calls hold their permits, learnt from those that came back.
// Whatever is in doubt makes it shorter or unknown: a forecast that is wrong
// should be wrong towards waiting. The zero value knows nothing.
type Pace struct {
	MeanNS int64 // plain over the first Enough calls, then the newest weighs 1/Enough; rounded down
	Seen   uint8 // calls, Enough at most
	At     int64 // when the last one came back, Unix ns
}

// learn takes a call that came back at now and had held its permit for held ns.
func (p *Pace) learn(now, held int64) {
	if !p.fresh(now) {
		*p = Pace{}
	}
	p.Seen = min(p.Seen+1, Enough)
	off, n := held-p.MeanNS, int64(p.Seen)
	p.MeanNS += off / n
	if off%n < 0 {
		p.MeanNS--
	}
	p.At = now
}

// fresh reports whether what was learnt is of about now: a clock that was set
// makes it old, whichever way.
func (p *Pace) fresh(now int64) bool {
	age := now - p.At
	limit := max(FreshNS, add(p.MeanNS, p.MeanNS))
	return -limit <= age && age <= limit
}

// outlasts reports whether calls, one after the other on so many permits, take
// longer than ns. ns is not negative.
func (p *Pace) outlasts(ns int64, calls int, permits uint32) bool {
	needHi, needLo := bits.Mul64(uint64(p.MeanNS), uint64(calls))
	haveHi, haveLo := bits.Mul64(uint64(ns), uint64(permits))
	return needHi > haveHi || (needHi == haveHi && needLo > haveLo)
}

// late forecasts whether the deadline of r would pass before its turn comes. It
// is for a State that has been swept, and has no permit for r.
func (s *State) late(p Params, now int64, r Request) bool {
	if r.BudgetNS <= 0 || s.Pace.Seen < Enough || !s.Pace.fresh(now) {
		return false
	}
	permits, ahead := min(p.Limit, MaxPermits), 0
	for i := range s.Waiters {
		w := &s.Waiters[i]
		if w.Priority > r.Priority {
			break // r is served before it
		}
		if w.Deadline == 0 || !s.Pace.outlasts(w.Deadline-now, ahead+1, permits) {
			ahead++ // else it will have given up
		}
	}
	return s.Pace.outlasts(r.BudgetNS, ahead+1, permits)
}
