package slo

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Span is a duration that reads and writes as policies write durations, with
// days of 24 h: "30d", "1h", "2d4h".
type Span time.Duration

// String is the span in days, hours, minutes and seconds, without those that
// are zero; parts of a second are cut off. Zero is "0s".
func (s Span) String() string {
	left := time.Duration(s).Truncate(time.Second)
	if left == 0 {
		return "0s"
	}
	var b strings.Builder
	if left < 0 {
		b.WriteByte('-')
		left = -left
	}
	for _, u := range [...]struct {
		size time.Duration
		name byte
	}{{24 * time.Hour, 'd'}, {time.Hour, 'h'}, {time.Minute, 'm'}, {time.Second, 's'}} {
		if n := left / u.size; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10))
			b.WriteByte(u.name)
			left -= n * u.size
		}
	}
	return b.String()
}

// MarshalText makes a Span a JSON string.
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the inverse of MarshalText, for clients of the API.
func (s *Span) UnmarshalText(text []byte) error {
	rest, sign := string(text), time.Duration(1)
	if strings.HasPrefix(rest, "-") {
		rest, sign = rest[1:], -1
	}
	var sum time.Duration
	for first := true; first || rest != ""; first = false {
		i := strings.IndexAny(rest, "dhms")
		if i < 1 {
			return errSpan
		}
		n, err := strconv.ParseUint(rest[:i], 10, 31)
		if err != nil {
			return errSpan
		}
		unit := map[byte]time.Duration{'d': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute, 's': time.Second}[rest[i]]
		if n > uint64((maxSpan-sum)/unit) {
			return errSpan
		}
		sum += time.Duration(n) * unit
		rest = rest[i+1:]
	}
	*s = Span(sign * sum)
	return nil
}

const maxSpan = time.Duration(1<<63 - 1)

var errSpan = errors.New(`not a span such as "2d4h"`)
