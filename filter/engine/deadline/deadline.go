package deadline

import "math/bits"

// None is the time left of a call that has no limit.
const None = 1<<63 - 1

const (
	ms        = 1_000_000
	maxDigits = 8 // of a grpc-timeout
	gRPCLimit = 100_000_000
)

// Left is the least of policy (ns, 0: no limit) and of what the caller gave
// (ns, None: nothing). byCaller says that the caller's is the lesser one. A
// Left of 0 or less is a call whose time is over.
func Left(policy, caller int64) (left int64, byCaller bool) {
	if policy <= 0 {
		policy = None
	}
	if caller < policy {
		return caller, true
	}
	return policy, false
}

// ParseMillis reads a header of whole milliseconds, such as "250". ok is false
// where it is none: then it says nothing. One below zero reads as 0, one that
// is too large as None.
func ParseMillis(b []byte) (ns int64, ok bool) {
	b = trim(b)
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	n, ok := digits(b)
	switch {
	case !ok:
		return None, false
	case negative:
		return 0, true
	}
	return times(n, ms), true
}

// ParseGRPC reads a grpc-timeout such as "250m": at most eight digits and one
// of the units H, M, S, m, u, n. ok is false where it is none.
func ParseGRPC(b []byte) (ns int64, ok bool) {
	if len(b) < 2 || len(b) > maxDigits+1 {
		return None, false
	}
	unit := unitOf(b[len(b)-1])
	n, ok := digits(b[:len(b)-1])
	if !ok || unit == 0 {
		return None, false
	}
	return times(n, unit), true
}

func unitOf(c byte) uint64 {
	switch c {
	case 'H':
		return 3600 * 1000 * ms
	case 'M':
		return 60 * 1000 * ms
	case 'S':
		return 1000 * ms
	case 'm':
		return ms
	case 'u':
		return 1000
	case 'n':
		return 1
	}
	return 0
}

// Millis is ns as whole milliseconds, rounded up, so that a call which has
// time left is never told 0.
func Millis(ns int64) int64 {
	if ns <= 0 {
		return 0
	}
	return (ns-1)/ms + 1
}

// AppendMillis appends Millis in decimal.
func AppendMillis(dst []byte, ns int64) []byte { return decimal(dst, uint64(Millis(ns))) }

// AppendGRPC appends ns as a grpc-timeout, rounded up to what eight digits can
// say.
func AppendGRPC(dst []byte, ns int64) []byte {
	n := uint64(Millis(ns))
	unit := byte('m')
	for _, next := range [...]struct {
		per  uint64
		unit byte
	}{{1000, 'S'}, {60, 'M'}, {60, 'H'}} {
		if n < gRPCLimit {
			break
		}
		n, unit = (n-1)/next.per+1, next.unit
	}
	return append(decimal(dst, n), unit)
}

// digits reads a number without a sign. One of more than 64 bits is the
// largest.
func digits(b []byte) (n uint64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		hi, lo := bits.Mul64(n, 10)
		sum, carry := bits.Add64(lo, uint64(c-'0'), 0)
		if n = sum; hi != 0 || carry != 0 {
			n = 1<<64 - 1
		}
	}
	return n, true
}

// times multiplies, up to None.
func times(n, unit uint64) int64 {
	hi, lo := bits.Mul64(n, unit)
	if hi != 0 || lo > None {
		return None
	}
	return int64(lo)
}

func trim(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func decimal(dst []byte, n uint64) []byte {
	var buf [20]byte
	i := len(buf)
	for {
		i--
		buf[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return append(dst, buf[i:]...)
		}
	}
}
