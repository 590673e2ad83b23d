package telemetry

import "time"

// Retention is for how long counts are kept, and how finely: what is older
// costs less, so that a window of a year takes a bounded space. Each is at
// least the one before.
type Retention struct {
	Minutes time.Duration // single minutes stay apart
	Tens    time.Duration // then ten minutes do
	Hours   time.Duration // then hours
	Days    time.Duration // then days of 24 h, in UTC; older ones are forgotten
}

// DefaultRetention cuts the edge of a window of up to two days at the minute,
// of 30 days at ten minutes (0.02 % of it), of 90 days at the hour (0.05 %) and
// of a year at the day (0.3 %).
func DefaultRetention() Retention {
	const day = 24 * time.Hour
	return Retention{Minutes: 2 * day, Tens: 35 * day, Hours: 100 * day, Days: 400 * day}
}

// snap moves the start of a window that ends with the minute now up to where
// counts of that age can be cut. Asking so whatever the store has pruned yet,
// a window is cut alike before and after.
func (r Retention) snap(start, now int64) int64 {
	grain := r.grain(now - start)
	return start + (grain-start%grain)%grain
}

// grain is how many minutes counts of so many minutes ago are kept by.
func (r Retention) grain(ago int64) int64 {
	switch age := time.Duration(ago) * time.Minute; {
	case age <= r.Minutes:
		return 1
	case age <= r.Tens:
		return 10
	case age <= r.Hours:
		return 60
	}
	return 1440
}
