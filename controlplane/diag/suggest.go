package diag

import (
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Words longer than this are no typing errors, and the distance costs their
// product.
const longestTypo = 64

// Nearest is the candidate that word was probably meant to be, or "". Of
// equally near ones it is the first.
func Nearest(word string, candidates []string) string {
	if word == "" || len(word) > longestTypo {
		return ""
	}
	farthest := max(2, len(word)/3)
	if len(word) < 4 {
		farthest = 1
	}
	best, bestDistance := "", farthest+1
	lower := strings.ToLower(word)
	for _, c := range candidates {
		if len(c) > longestTypo {
			continue
		}
		d := levenshtein.ComputeDistance(lower, strings.ToLower(c))
		if d == 2 && transposed(lower, strings.ToLower(c)) {
			d = 1
		}
		if d < bestDistance && d < len(word) { // q is no misspelt p
			best, bestDistance = c, d
		}
	}
	if best != "" || len(word) < 4 {
		return best
	}
	for _, c := range candidates { // Policy is part of ResiliencePolicy
		if strings.Contains(strings.ToLower(c), lower) {
			return c
		}
	}
	return ""
}

// transposed reports whether two neighbours swapped make b of a.
func transposed(a, b string) bool {
	for i := range len(a) - 1 {
		if len(a) == len(b) && a[:i] == b[:i] && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:] {
			return true
		}
	}
	return false
}

// DidYouMean is a hint with the nearest candidate, or else with all of them
// where they are few, or "".
func DidYouMean(word string, candidates []string) string {
	if near := Nearest(word, candidates); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(candidates) == 0 || len(candidates) > 16 {
		return ""
	}
	return "known here: " + strings.Join(candidates, ", ")
}
