// Package audit has the record of who changed what by hand, when, and why. It
// is a leaf: whatever can be changed by hand appends to a log, and the API shows
// it.
package audit

import "time"

// Entry is one change: a member of GET audit.
type Entry struct {
	ID      int64      `json:"id"` // ascends
	At      time.Time  `json:"at"`
	By      string     `json:"by"`      // who, as far as it is known; "seawall" for what ended by itself
	Action  string     `json:"action"`  // such as breaker-open
	Subject string     `json:"subject"` // what was changed, such as breakers/payments/charge
	Reason  string     `json:"reason"`
	Until   *time.Time `json:"until"` // when it ends by itself; nil where it does not
}

// The author of what ended by itself.
const System = "seawall"
