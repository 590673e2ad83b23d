package slo

import (
	"strconv"
	"strings"
)

// AttainedText is the attained share with three decimals, as "99.850 %", or
// "-" without requests. It is cut, not rounded: 99.9999 % must not read as
// 100 % when something has failed.
func (s Status) AttainedText() string {
	if s.Total == 0 {
		return "-"
	}
	good := s.Total - min(s.Bad, s.Total)
	// In parts of 1e5, by division first where the product would overflow.
	parts := mulDiv(good, 100_000, s.Total)
	return strconv.FormatUint(parts/1000, 10) + "." + pad(parts%1000, 3) + " %"
}

// ConsumedText is the consumed share of the budget with one decimal, as
// "150.0 %", or "-" without requests.
func (s Status) ConsumedText() string {
	if s.Budget.Consumed == nil {
		return "-"
	}
	return strconv.FormatFloat(*s.Budget.Consumed*100, 'f', 1, 64) + " %"
}

// RemainingText says how many bad requests the budget still allows, as
// "5,000 left", or by how many it is exceeded, as "5,000 over"; cut to whole
// requests that may still fail, rounded up to whole ones too many.
func (s Status) RemainingText() string {
	r := s.Budget.Remaining
	if s.Total == 0 {
		return "-"
	}
	if r < 0 {
		over := uint64(-r)
		if float64(over) < -r {
			over++
		}
		return thousands(over) + " over"
	}
	return thousands(uint64(r)) + " left"
}

// DowntimeText is what of the budget is left, in minutes of a total outage of
// those that the objective allows, as "-21.6 of 43.2 min", or "43.2 min" without
// requests.
func (s Status) DowntimeText() string {
	allowed := strconv.FormatFloat(s.Budget.AllowedMinutes, 'f', 1, 64) + " min"
	if s.Budget.RemainingMinutes == nil {
		return allowed
	}
	return strconv.FormatFloat(*s.Budget.RemainingMinutes, 'f', 1, 64) + " of " + allowed
}

func thousands(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

func pad(n uint64, width int) string {
	s := strconv.FormatUint(n, 10)
	return strings.Repeat("0", max(0, width-len(s))) + s
}
