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
	// Two, so that a transposition is one typing error in short words too.
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
		if d := levenshtein.ComputeDistance(lower, strings.ToLower(c)); d < bestDistance {
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
