package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Duration is a time in nanoseconds, written 250ms, 1.5s, 2m, 1h30m or 30d.
type Duration int64

// Ratio is a share in parts per million, written 5% or 0.01%.
type Ratio int64

// Factor is a multiplier in parts per million, written 1.5.
type Factor int64

// ByteSize is a size in bytes, written 512B, 64KiB, 10MiB or 1GiB.
type ByteSize int64

// Outcomes is a list of outcome words and statuses ("503"), as words.
type Outcomes []string

const (
	percent Ratio = 10_000

	microsecond Duration = 1_000
	millisecond          = 1_000 * microsecond
	second               = 1_000 * millisecond
	minute               = 60 * second
	hour                 = 60 * minute
	day                  = 24 * hour

	// maxDuration keeps sums and products of a few durations within int64.
	maxDuration = 3660 * day
)

// durationUnits from the largest to the smallest.
var durationUnits = []struct {
	name string
	unit Duration
}{{"d", day}, {"h", hour}, {"m", minute}, {"s", second}, {"ms", millisecond}, {"us", microsecond}}

// ParseDuration reads a duration: one or more numbers with their units d, h,
// m, s, ms or us, the largest first. A plain 0 is a duration too. It refuses
// signs, fractions of a nanosecond and anything above ten years.
func ParseDuration(s string) (Duration, error) {
	if s == "0" {
		return 0, nil
	}
	total, last, rest := Duration(0), len(durationUnits), s
	for rest != "" {
		number := leading(rest, "0123456789.")
		rest = rest[len(number):]
		word := leading(rest, "dhmsu")
		rest = rest[len(word):]
		unit, rank := unitNamed(word)
		if unit == 0 || number == "" || (last < len(durationUnits) && rank <= last) {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		last = rank
		part, err := scaled(number, int64(unit))
		if err != nil || part > int64(maxDuration) {
			return 0, fmt.Errorf("%q is not a duration of at most ten years in whole nanoseconds", s)
		}
		if total += Duration(part); total > maxDuration {
			return 0, fmt.Errorf("%q is more than ten years", s)
		}
	}
	if s == "" {
		return 0, fmt.Errorf("%q is not a duration", s)
	}
	return total, nil
}

func unitNamed(word string) (Duration, int) {
	for i, u := range durationUnits {
		if u.name == word {
			return u.unit, i
		}
	}
	return 0, 0
}

// String is the shortest spelling that ParseDuration reads back: 1m30s, 1.5s.
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	rest := d
	if rest < 0 { // never parsed; a difference in a message may be
		b.WriteByte('-')
		rest = -rest
	}
	for _, u := range durationUnits {
		whole := rest / u.unit
		switch {
		case whole == 0:
		case u.unit <= second: // the rest as a fraction of the first small unit
			b.WriteString(decimal(int64(rest), int64(u.unit)) + u.name)
			return b.String()
		default:
			b.WriteString(strconv.FormatInt(int64(whole), 10) + u.name)
			rest %= u.unit
		}
	}
	if rest > 0 {
		b.WriteString(decimal(int64(rest), int64(microsecond)) + "us")
	}
	return b.String()
}

// MarshalJSON writes the spelling of String.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *Duration) UnmarshalJSON(b []byte) (err error) {
	*d, err = unmarshal(b, ParseDuration)
	return err
}

// ParseRatio reads a share in percent with at most four decimals.
func ParseRatio(s string) (Ratio, error) {
	number, ok := strings.CutSuffix(s, "%")
	if !ok {
		return 0, fmt.Errorf("%q is not a percentage", s)
	}
	ppm, err := scaled(number, int64(percent))
	if err != nil {
		return 0, fmt.Errorf("%q is not a percentage with at most four decimals", s)
	}
	return Ratio(ppm), nil
}

// String is the share in percent.
func (r Ratio) String() string { return decimal(int64(r), int64(percent)) + "%" }

// MarshalJSON writes the spelling of String.
func (r Ratio) MarshalJSON() ([]byte, error) { return json.Marshal(r.String()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Ratio) UnmarshalJSON(b []byte) (err error) {
	*r, err = unmarshal(b, ParseRatio)
	return err
}

// one is the Factor 1.
const one Factor = 1_000_000

// ParseFactor reads a decimal number with at most six decimals.
func ParseFactor(s string) (Factor, error) {
	ppm, err := scaled(s, int64(one))
	if err != nil {
		return 0, fmt.Errorf("%q is not a number with at most six decimals", s)
	}
	return Factor(ppm), nil
}

// String is the number.
func (f Factor) String() string { return decimal(int64(f), int64(one)) }

// MarshalJSON writes the spelling of String, as a number.
func (f Factor) MarshalJSON() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalJSON reads what MarshalJSON wrote.
func (f *Factor) UnmarshalJSON(b []byte) (err error) {
	*f, err = ParseFactor(string(b))
	return err
}

// sizeUnits from the largest to the smallest.
var sizeUnits = []struct {
	name string
	unit ByteSize
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseByteSize reads a size in whole bytes, at most 1 TiB.
func ParseByteSize(s string) (ByteSize, error) {
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		if size, err := scaled(number, int64(u.unit)); err == nil && size <= 1<<40 {
			return ByteSize(size), nil
		}
		break
	}
	return 0, fmt.Errorf("%q is not a size", s)
}

// String is the size in the largest unit that fits without a fraction.
func (s ByteSize) String() string {
	for _, u := range sizeUnits {
		if s != 0 && s%u.unit == 0 {
			return strconv.FormatInt(int64(s/u.unit), 10) + u.name
		}
	}
	return "0B"
}

// MarshalJSON writes the spelling of String.
func (s ByteSize) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *ByteSize) UnmarshalJSON(b []byte) (err error) {
	*s, err = unmarshal(b, ParseByteSize)
	return err
}

// MarshalJSON writes honorRetryAfter: false where it was switched off, for to
// leave it out means its default.
func (r Retry) MarshalJSON() ([]byte, error) {
	type plain Retry
	if r.HonorRetryAfter != nil {
		return json.Marshal(plain(r))
	}
	return json.Marshal(struct {
		plain
		HonorRetryAfter bool `json:"honorRetryAfter"`
	}{plain(r), false})
}

func unmarshal[T any](b []byte, parse func(string) (T, error)) (T, error) {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		var zero T
		return zero, err
	}
	return parse(s)
}

func leading(s, chars string) string {
	return s[:len(s)-len(strings.TrimLeft(s, chars))]
}

// scaled is number × unit, exactly, without floats. It refuses signs,
// exponents and a result that is no whole number or does not fit.
func scaled(number string, unit int64) (int64, error) {
	whole, fraction, dotted := strings.Cut(number, ".")
	if whole == "" || (dotted && fraction == "") || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	fraction = strings.TrimRight(fraction, "0")
	if len(fraction) > 18 {
		return 0, strconv.ErrRange
	}
	numerator, err := strconv.ParseUint(whole+fraction, 10, 64)
	if err != nil {
		return 0, strconv.ErrRange
	}
	denominator := uint64(1)
	for range fraction {
		denominator *= 10
	}
	hi, lo := bits.Mul64(numerator, uint64(unit))
	if hi >= denominator {
		return 0, strconv.ErrRange
	}
	quotient, rest := bits.Div64(hi, lo, denominator)
	if rest != 0 {
		return 0, strconv.ErrSyntax
	}
	if quotient > math.MaxInt64 {
		return 0, strconv.ErrRange
	}
	return int64(quotient), nil
}

// decimal is n/unit as a decimal number without needless zeros; unit is a
// power of ten.
func decimal(n, unit int64) string {
	s := strconv.FormatInt(n/unit, 10)
	rest := n % unit
	if rest == 0 {
		return s
	}
	width := len(strconv.FormatInt(unit, 10)) - 1
	return s + "." + strings.TrimRight(fmt.Sprintf("%0*d", width, rest), "0")
}
