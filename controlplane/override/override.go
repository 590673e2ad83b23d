package override

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seawall-mesh/seawall/controlplane/audit"
)

// The bounds of what an operator may ask for.
const (
	MinFor     = time.Second
	MaxFor     = 24 * time.Hour
	maxReason  = 500 // bytes
	maxBy      = 100 // bytes
	defaultBy  = "local"
	actionPart = "breaker-"
)

// The states that a breaker can be forced into.
const (
	Open   = "open"   // refuses
	Closed = "closed" // admits, whatever happens
)

// The actions in the audit log.
const (
	ActionOpen    = actionPart + Open
	ActionClosed  = actionPart + Closed
	ActionLifted  = actionPart + "reset"
	ActionExpired = actionPart + "override-expired"
)

// Key names a breaker.
type Key struct{ Service, Route string }

// Subject is the breaker in the audit log.
func (k Key) Subject() string { return "breakers/" + k.Service + "/" + k.Route }

// Override holds a breaker in one state until a moment.
type Override struct {
	Key

	State   string // open | closed
	Reason  string
	By      string
	Since   time.Time
	Until   time.Time
	Version int64 // of this breaker's override; ascends over all overrides ever set
}

// Tag tells this override from every other one, as an ETag without its quotes.
func (o Override) Tag() string { return strconv.FormatInt(o.Version, 36) }

// Request is what an operator asks for.
type Request struct {
	Key

	State  string
	Reason string
	By     string // "" = local
	For    time.Duration
}

// Precondition is what must hold for a change to be made; the zero value is
// always met.
type Precondition struct {
	Tags []string // the override must have one of these tags; nil = no condition
	Any  bool     // there must be one, whatever its tag
	None bool     // there must be none
}

func (p Precondition) met(o Override, exists bool) bool {
	switch {
	case p.None && exists, p.Any && !exists:
		return false
	case p.Tags == nil:
		return true
	case !exists:
		return false
	}
	for _, t := range p.Tags {
		if t == o.Tag() {
			return true
		}
	}
	return false
}

// The errors of Set and Lift that are the caller's to mend.
var (
	ErrUnknown = errors.New("no policy in force has a breaker there")
	ErrNone    = errors.New("the breaker is not overridden")
	ErrChanged = errors.New("the override is not the one that was expected")
)

// InvalidError is a request that cannot be granted.
type InvalidError struct {
	Field   string // state | reason | by | for
	Problem string
}

// Error names the field and what is wrong with it.
func (e *InvalidError) Error() string { return e.Field + ": " + e.Problem }

func (r Request) check() error {
	if r.State != Open && r.State != Closed {
		return &InvalidError{"state", "must be open or closed"}
	}
	if r.For < MinFor || r.For > MaxFor {
		return &InvalidError{"for", fmt.Sprintf("must be between %s and %s: an override ends by itself", MinFor, "24h")}
	}
	return checkWords(r.Reason, r.By)
}

func checkWords(reason, by string) error {
	if strings.TrimSpace(reason) == "" {
		return &InvalidError{"reason", "is missing: say why, for those who find the breaker so"}
	}
	if !printable(reason, maxReason) {
		return &InvalidError{"reason", fmt.Sprintf("must be at most %d bytes of text in one line", maxReason)}
	}
	if !printable(by, maxBy) {
		return &InvalidError{"by", fmt.Sprintf("must be at most %d bytes of text in one line", maxBy)}
	}
	return nil
}

// printable keeps what goes into logs, pages and terminals from steering them.
func printable(s string, most int) bool {
	if len(s) > most || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < ' ' || (r >= 0x7f && r < 0xa0) || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return true
}

// Store keeps overrides and the audit log. A change and its entry are durable
// together, or not at all.
type Store interface {
	// Overrides are all that are kept.
	Overrides(ctx context.Context) ([]Override, error)
	// PutOverride replaces the override of its breaker, gives it a Version above
	// all before, which it returns, and appends the entry.
	PutOverride(ctx context.Context, o Override, entry audit.Entry) (version int64, err error)
	// DropOverride forgets the override of a breaker and appends the entry.
	DropOverride(ctx context.Context, k Key, entry audit.Entry) error
}
