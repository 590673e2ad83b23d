package slo

import (
	"math/bits"
	"time"
)

// month is the window that the tiers' lengths are written for.
const month = 30 * 24 * time.Hour

// MinBadToFire is how many bad requests a long window must hold before its
// tier fires: with one request a minute, one or two unlucky ones would page 20
// times a month at 99.9 %, with three it is 0.15 times
// (research/slo-chaos-dlq.md, "Exact maths").
const MinBadToFire = 3

// TierFast is the tier that spends a budget within days.
const TierFast = "fast"

// tier is one pair of windows that must both burn faster than the threshold.
type tier struct {
	name        string
	long, short time.Duration // for a window of 30 days
	tenths      uint64        // the threshold × 10, exact
}

// tiers are those of the SRE workbook, chapter 5: 2 % of a 30-day budget in an
// hour, 5 % in six, 10 % in a day, 10 % in three.
var tiers = [...]tier{
	{TierFast, time.Hour, 5 * time.Minute, 144},
	{"medium", 6 * time.Hour, 30 * time.Minute, 60},
	{"slow", 24 * time.Hour, 2 * time.Hour, 30},
	{"chronic", 72 * time.Hour, 6 * time.Hour, 10},
}

// scaled are the tier's windows in minutes for an SLO's window. The windows
// shrink and the thresholds stay, so that a tier means the same share of any
// budget; scaling thresholds instead would make "chronic" fire far below
// budget in a week.
func (t tier) scaled(window time.Duration) (long, short int64) {
	scale := func(d time.Duration) int64 {
		// In minutes throughout: nanoseconds squared would overflow.
		m := int64(d/time.Minute) * int64(window/time.Minute)
		whole := int64(month / time.Minute)
		return max(1, (m+whole/2)/whole)
	}
	return scale(t.long), scale(t.short)
}

// Tier is one of the burn alerts that every objective has.
type Tier struct {
	Name      string  // fast | medium | slow | chronic
	Threshold float64 // fires above this burn rate
}

// Unreachable are the tiers that can never fire for an objective of so many
// parts per million: when every request is bad the budget burns 1 ÷ (1 -
// objective) times too fast, and no faster.
func Unreachable(objectivePPM int64) []Tier {
	var never []Tier
	ppm := Objective{ObjectivePPM: objectivePPM}.divisorPPM()
	for _, t := range tiers {
		if !exceeds(1, 1, t.tenths, ppm) {
			never = append(never, Tier{t.name, float64(t.tenths) / 10})
		}
	}
	return never
}

// Windows are the lengths in minutes of all stretches of time that Evaluate
// asks for, in no order and perhaps repeated.
func (o Objective) Windows() []int64 {
	all := []int64{o.minutes()}
	for _, t := range tiers {
		long, short := t.scaled(o.Window)
		all = append(all, long, short)
	}
	return all
}

// exceeds reports bad/total > tenths/10 × ppm/1e6, exactly.
func exceeds(bad, total, tenths, ppm uint64) bool {
	return less(total, tenths*ppm, bad, 10*PPM)
}

// reaches reports bad/total ≥ share/1e6 × ppm/1e6, exactly.
func reaches(bad, total uint64, sharePPM int64, ppm uint64) bool {
	return !less(bad, PPM*PPM, total, uint64(max(sharePPM, 0))*ppm)
}

// less reports a×b < c×d without overflow.
func less(a, b, c, d uint64) bool {
	hi1, lo1 := bits.Mul64(a, b)
	hi2, lo2 := bits.Mul64(c, d)
	return hi1 < hi2 || (hi1 == hi2 && lo1 < lo2)
}

// mulDiv is a×b÷c, rounded down, without overflow of the product. It needs
// a ≤ c and c > 0.
func mulDiv(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	q, _ := bits.Div64(hi, lo, c)
	return q
}
