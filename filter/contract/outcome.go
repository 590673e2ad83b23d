package contract

import "slices"

// Outcome is how a request ended. Each request ends with exactly one; the
// first cause wins. The words are those of policies, metrics, telemetry and
// docs (DESIGN section 1).
type Outcome uint8

// The outcomes, in the order of their wire numbers. Append only: shared data
// and stored rows outlive a build.
const (
	OK              Outcome = iota // 1xx to 3xx
	ClientError                    // 4xx, an upstream's or Envoy's 400/404/408/413/431
	ServerError                    // 5xx, an upstream's answer
	Reset                          // the upstream reset the stream
	Timeout                        // no answer in time
	ConnectFailure                 // no connection, or no healthy upstream
	Shed                           // refused: load
	BreakerOpen                    // refused: breaker
	BulkheadFull                   // refused: pool and queue full
	BulkheadTimeout                // refused: waited too long for a permit
	Deadline                       // refused: no time left
	Aborted                        // the client left before an answer
	Injected                       // chaos

	// OutcomeCount is the number of outcomes.
	OutcomeCount = int(Injected) + 1
)

var outcomeNames = [OutcomeCount]string{
	"ok", "4xx", "5xx", "reset", "timeout", "connect-failure", "shed", "breaker-open",
	"bulkhead-full", "bulkhead-timeout", "deadline", "aborted", "injected",
}

// String is the outcome's word in policies, metrics and telemetry.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "unknown"
}

// ParseOutcome is the inverse of String.
func ParseOutcome(s string) (Outcome, bool) {
	for i, n := range outcomeNames {
		if n == s {
			return Outcome(i), true
		}
	}
	return 0, false
}

// Refusal reports whether Seawall itself refused the request.
func (o Outcome) Refusal() bool {
	return o >= Shed && o <= Deadline
}

// Good reports whether o is good by the default `bad` of an SLO: ok and 4xx
// are, aborted and injected are neither good nor bad.
func (o Outcome) Good() bool { return o == OK || o == ClientError }

// Bad reports whether o is bad by the default `bad` of an SLO.
func (o Outcome) Bad() bool { return !o.Good() && o != Aborted && o != Injected }

// OutcomeSet is a set of outcomes and of single statuses, as `failures`,
// `retryOn` and `bad` list them. The zero value matches nothing.
type OutcomeSet struct {
	mask     uint32
	statuses []uint16
}

// ParseOutcomeSet reads a list such as ["5xx", "reset", "503"]. ok is false,
// with the offending word, where one is neither an outcome nor a status of 100
// to 599.
func ParseOutcomeSet(words []string) (set OutcomeSet, bad string, ok bool) {
	for _, w := range words {
		if o, known := ParseOutcome(w); known {
			set.mask |= 1 << o
			continue
		}
		status, valid := parseStatus(w)
		if !valid {
			return OutcomeSet{}, w, false
		}
		set.statuses = append(set.statuses, status)
	}
	return set, "", true
}

// Has reports whether a request that ended with o, and was answered by the
// upstream with status (0 where it was not), belongs to the set. A number in
// the list matches an upstream's answer only, never a reply of Envoy's.
func (s OutcomeSet) Has(o Outcome, status uint16) bool {
	if s.mask&(1<<o) != 0 {
		return true
	}
	if o != OK && o != ClientError && o != ServerError {
		return false
	}
	return slices.Contains(s.statuses, status)
}

// NamesBelow reports whether the set lists a single status below limit.
func (s OutcomeSet) NamesBelow(limit uint16) bool {
	return slices.ContainsFunc(s.statuses, func(status uint16) bool { return status < limit })
}

func parseStatus(s string) (uint16, bool) {
	if len(s) != 3 {
		return 0, false
	}
	var n uint16
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + uint16(s[i]-'0')
	}
	return n, n >= 100 && n <= 599
}

// Priority is a request's class for shedding and for queue order.
type Priority uint8

// The classes, most important first.
const (
	Critical Priority = iota
	High
	Medium // the default
	Low

	// PriorityCount is the number of classes.
	PriorityCount = int(Low) + 1
)

var priorityNames = [PriorityCount]string{"critical", "high", "medium", "low"}

// String is the class's word in policies and telemetry.
func (p Priority) String() string {
	if int(p) < len(priorityNames) {
		return priorityNames[p]
	}
	return "unknown"
}

// ParsePriority is the inverse of String.
func ParsePriority(s string) (Priority, bool) {
	for i, n := range priorityNames {
		if n == s {
			return Priority(i), true
		}
	}
	return Medium, false
}
