package api

import (
	"fmt"
	"strconv"
	"time"
)

// Age is how long before now t was, in its largest unit, as "40s ago"; "-" if
// there is no t. Pages and commands show times like this.
func Age(now time.Time, t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return span(now.Sub(*t)) + " ago"
}

// Until is how long after now t is, as "in 40s"; "now" once it has passed, "-"
// if there is no t.
func Until(now time.Time, t *time.Time) string {
	switch {
	case t == nil || t.IsZero():
		return "-"
	case !t.After(now):
		return "now"
	}
	// Rounded up: a wait must not read shorter than it is.
	return "in " + span((t.Sub(now) + time.Second - 1).Truncate(time.Second))
}

func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// Latency writes milliseconds with as many digits as matter, as "4.2ms",
// "38ms" or "12.5s"; "-" if there is none.
func Latency(ms *float64) string {
	switch {
	case ms == nil:
		return "-"
	case *ms >= 10_000:
		return strconv.FormatFloat(*ms/1000, 'f', 1, 64) + "s"
	case *ms >= 10:
		return strconv.FormatFloat(*ms, 'f', 0, 64) + "ms"
	}
	return strconv.FormatFloat(*ms, 'f', 1, 64) + "ms"
}

// Percent is part of whole with two decimals, as "0.15"; "-" without a whole.
func Percent(part, whole uint64) string {
	if whole == 0 {
		return "-"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 2, 64)
}
