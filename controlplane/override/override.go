package override

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seawall-mesh/seawall/controlplane/audit"
)

// The bounds of what an operator may ask for.
const (
	MinFor    = time.Second
	MaxFor    = 24 * time.Hour
	maxReason = 500 // bytes
	maxBy     = 100 // bytes
)

// DefaultBy is who changes something where nobody says so.
const DefaultBy = "local"

// Kind is what an override holds.
type Kind string

// The kinds.
const (
	Breaker Kind = "breaker" // of a service's route
	Release Kind = "release" // the gate for releases of a service
)

// The states that a breaker can be forced into, and what the gate can be told
// to answer.
const (
	Open   = "open"   // refuses
	Closed = "closed" // admits, whatever happens
	Allow  = "allow"
	Deny   = "deny"
)

// Key names a breaker or a gate.
type Key struct {
	Kind    Kind
	Service string
	Route   string // "" for a gate
}

// Subject is the key in the audit log.
func (k Key) Subject() string {
	if k.Kind == Release {
		return "can-deploy/" + k.Service
	}
	return "breakers/" + k.Service + "/" + k.Route
}

// The actions in the audit log.
const (
	reset   = "reset"
	expired = "override-expired"
)

// Action is what the audit log calls what was done to an override of the kind:
// a state, reset or override-expired.
func (k Kind) Action(what string) string { return string(k) + "-" + what }

// stateMember is the member of a request that has the state, and what it can be.
func (k Kind) stateMember() (member string, states []string) {
	if k == Release {
		return "decision", []string{Allow, Deny}
	}
	return "state", []string{Open, Closed}
}

// Override holds a breaker or a gate in one state until a moment.
type Override struct {
	Key

	State   string // open | closed; allow | deny
	Reason  string
	By      string
	Since   time.Time
	Until   time.Time
	Version int64 // of this override; ascends over all overrides ever set
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

// Met reports whether the condition holds for what has this tag, if it exists.
func (p Precondition) Met(tag string, exists bool) bool {
	switch {
	case p.None && exists, p.Any && !exists:
		return false
	case p.Tags == nil:
		return true
	case !exists:
		return false
	}
	return slices.Contains(p.Tags, tag)
}

// The errors of Set and Lift that are the caller's to mend.
var (
	ErrUnknown = errors.New("the policies in force have nothing there to override")
	ErrNone    = errors.New("there is no override")
	ErrChanged = errors.New("it is not the one that was expected")
)

// InvalidError is a request that cannot be granted.
type InvalidError struct {
	Field   string // state | decision | reason | by | for
	Problem string
}

// Error names the field and what is wrong with it.
func (e *InvalidError) Error() string { return e.Field + ": " + e.Problem }

func (r Request) check() error {
	if member, states := r.Kind.stateMember(); !slices.Contains(states, r.State) {
		return &InvalidError{member, "must be " + strings.Join(states, " or ")}
	}
	if r.For < MinFor || r.For > MaxFor {
		return &InvalidError{"for", fmt.Sprintf("must be between %s and %s: an override ends by itself", MinFor, "24h")}
	}
	return CheckWords(r.Reason, r.By)
}

// CheckWords refuses what must not stand in the audit log as the reason and the
// author of a change, with an *InvalidError.
func CheckWords(reason, by string) error {
	if strings.TrimSpace(reason) == "" {
		return &InvalidError{"reason", "is missing: say why, for those who find it so"}
	}
	if err := CheckText("reason", reason, maxReason); err != nil {
		return err
	}
	return CheckText("by", by, maxBy)
}

// CheckText refuses a member that is longer than most bytes or no text in one
// line, with an *InvalidError.
func CheckText(member, text string, most int) error {
	if !printable(text, most) {
		return &InvalidError{member, fmt.Sprintf("must be at most %d bytes of text in one line", most)}
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
	// PutOverride replaces the override of its key, gives it a Version above
	// all before, which it returns, and appends the entry.
	PutOverride(ctx context.Context, o Override, entry audit.Entry) (version int64, err error)
	// DropOverride forgets the override of a key and appends the entry.
	DropOverride(ctx context.Context, k Key, entry audit.Entry) error
}
