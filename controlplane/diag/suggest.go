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
	best, bestDistance := "", 1+max(1, len(word)/3)
	lower := strings.ToLower(word)
	for _, c := range candidates {
		if len(c) > longestTypo {
			continue
		}
		if d := levenshtein.ComputeDistance(lower, strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
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
