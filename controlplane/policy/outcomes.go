package policy

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// outcomeUses are named by the `policy:"outcomes=…"` tags: which of the words
// make sense in a list. The status is 0 for a word.
var outcomeUses = map[string]func(word string, status int) *flaw{
	"retry":   retryableOutcome,
	"failure": failureOutcome,
	"bad":     badOutcome,
}

// retryableOutcome follows PATTERNS section 3: another try helps after
// failures that pass by, never after a caller's mistake or our own refusal.
func retryableOutcome(word string, status int) *flaw {
	switch {
	case slices.Contains([]string{"5xx", "reset", "timeout", "connect-failure"}, word), status >= 500:
		return nil
	case slices.Contains([]int{408, 409, 425, 429}, status):
		return nil
	case word == "4xx":
		return &flaw{diag.NotRetryable, "4xx is never retried as a class: most are the caller's mistake", "list 408, 409, 425 or 429"}
	case status != 0:
		return &flaw{diag.NotRetryable, fmt.Sprintf("status %d is never retried: another try gives the same answer", status), ""}
	default:
		return &flaw{diag.NotRetryable, fmt.Sprintf("%s is never retried", word), "retry 5xx or single statuses of it, 429, reset, timeout, connect-failure"}
	}
}

func failureOutcome(word string, status int) *flaw {
	if slices.Contains([]string{"4xx", "5xx", "reset", "timeout", "connect-failure"}, word) || status >= 400 {
		return nil
	}
	return &flaw{diag.NotAFailure, fmt.Sprintf("%s says nothing bad about the upstream", word), "use 4xx, 5xx, statuses from 400 on, reset, timeout, connect-failure"}
}

func badOutcome(word string, status int) *flaw {
	if slices.Contains([]string{"ok", "aborted", "injected"}, word) || (status != 0 && status < 400) {
		return &flaw{diag.NeverCounted, fmt.Sprintf("%s is never counted as bad", word), ""}
	}
	return nil
}

// outcomeWord reads one item of an outcome list.
func outcomeWord(n *node) (string, *flaw) {
	word := n.text
	if n.kind == numberNode || n.kind == textNode {
		if _, known := contract.ParseOutcome(word); known || word == OutcomeDegraded {
			return word, nil
		}
		if status, err := strconv.Atoi(word); err == nil && len(word) == 3 && status >= 100 && status <= 599 {
			return word, nil
		}
	}
	return "", &flaw{diag.BadOutcome, shown(n) + " is neither an outcome nor a status of 100 to 599", diag.DidYouMean(word, outcomeWords())}
}

func outcomeWords() []string {
	words := make([]string, 0, contract.OutcomeCount)
	for o := range contract.Outcome(contract.OutcomeCount) {
		words = append(words, o.String())
	}
	return words
}
