package shed

import "math/bits"

// mulDiv is a·b/c, rounded down; the greatest number where it is more than that.
func mulDiv(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi >= c {
		return ^uint64(0)
	}
	q, _ := bits.Div64(hi, lo, c)
	return q
}

// fell reports whether a is less than b by more than chance, where so many
// calls were counted: by 2/√n, and an eighth at least.
func fell(a, b uint32, n uint64) bool {
	return uint64(a)*fellDen < uint64(b)*fellNum && mulDiv(uint64(b-a), uint64(b-a)*n, 4) > uint64(b)*uint64(b)
}

// root is the square root of n, rounded down.
func root(n uint64) uint64 {
	if n == 0 {
		return 0
	}
	r := uint64(1) << ((bits.Len64(n) + 1) / 2) // no less than the root: Newton's steps only fall
	for {
		next := (r + n/r) / 2
		if next >= r {
			return r
		}
		r = next
	}
}

// thousandths bounds a limit or work, so that sums of two of them fit.
func thousandths(n uint64) uint32 { return uint32(min(n, MaxLimit*milli)) }
