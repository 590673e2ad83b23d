package budget

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/slo"
)

// lookEvery is how often the objectives are looked at.
const lookEvery = time.Second

// The audit log's words, beside the actions themselves.
const (
	actionLifted = "-lifted" // behind an action that left
	actionClosed = "postmortem-closed"
)

// ErrNone says that no post-mortem of the objective is open.
var ErrNone = errors.New("no post-mortem of the objective is open")

// Store keeps standings.
type Store interface {
	// Standings are all that are kept.
	Standings(ctx context.Context) ([]Standing, error)
	// PutStandings replaces all that are kept and appends the entries to the
	// audit log: both are durable together, or not at all.
	PutStandings(ctx context.Context, all []Standing, entries []audit.Entry) error
}

// Config is what a Keeper needs; all members are required.
type Config struct {
	Log   *slog.Logger
	Store Store
	Now   func() time.Time
	// Look returns the objectives in force and their status now.
	Look func(context.Context) ([]slo.Objective, []slo.Status, error)
}

// Keeper is what stands. Its methods may be called from any goroutine.
type Keeper struct {
	cfg Config

	change sync.Mutex // held over a whole change, the store's part included

	mu        sync.Mutex // guards what follows
	standings []Standing
}

// Load reads what an earlier run left.
func Load(ctx context.Context, cfg Config) (*Keeper, error) {
	stored, err := cfg.Store.Standings(ctx)
	if err != nil {
		return nil, fmt.Errorf("actions of budget policies: %w", err)
	}
	return &Keeper{cfg: cfg, standings: stored}, nil
}

// Standings is what stands, as of the last look.
func (k *Keeper) Standings() []Standing {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.standings)
}

// Show puts the actions in force into statuses, by those statuses: what is
// shown agrees with itself, whenever the last look was.
func (k *Keeper) Show(objectives []slo.Objective, statuses []slo.Status) {
	standings, _ := Next(k.Standings(), objectives, statuses, k.cfg.Now())
	actions := Actions(standings, objectives)
	for i := range statuses {
		statuses[i].Actions = append([]string{}, actions[statuses[i].Name]...)
	}
}

// Run looks at the objectives until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := k.look(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			k.cfg.Log.Error("the objectives' budget policies cannot be followed just now", "error", err)
		}
		failing = err != nil
	}
}

func (k *Keeper) look(ctx context.Context) error {
	objectives, statuses, err := k.cfg.Look(ctx)
	if err != nil {
		return err
	}
	k.change.Lock()
	defer k.change.Unlock()
	before, now := k.Standings(), k.now()
	after, changes := Next(before, objectives, statuses, now)
	if slices.Equal(before, after) {
		return nil
	}
	entries := make([]audit.Entry, len(changes))
	for i, c := range changes {
		entries[i] = audit.Entry{At: now, By: audit.System, Action: c.Action, Subject: "slos/" + c.Objective, Reason: c.Reason}
		if !c.Began {
			entries[i].Action += actionLifted
		}
	}
	if err := k.put(ctx, after, entries); err != nil {
		return err
	}
	for _, e := range entries {
		k.cfg.Log.Warn("budget policy", "action", e.Action, "objective", e.Subject, "reason", e.Reason)
	}
	return nil
}

// Postmortem is a post-mortem that is open.
type Postmortem struct {
	Objective, Service string
	Since              time.Time
}

// Tag tells this post-mortem from every other one of its objective, as an ETag
// without its quotes.
func (p Postmortem) Tag() string { return strconv.FormatInt(p.Since.UnixMilli(), 36) }

// Postmortems are those that are open, sorted by objective.
func (k *Keeper) Postmortems() []Postmortem {
	var open []Postmortem
	for _, s := range k.Standings() {
		if s.waits() {
			open = append(open, Postmortem{s.Objective, s.Service, s.Since})
		}
	}
	return open
}

// Close closes the post-mortem of an objective. The error is an
// *override.InvalidError, ErrNone or override.ErrChanged, or a fault of ours.
func (k *Keeper) Close(ctx context.Context, objective, reason, by string, p override.Precondition) error {
	if err := override.CheckWords(reason, by); err != nil {
		return err
	}
	k.change.Lock()
	defer k.change.Unlock()
	all := k.Standings()
	at := slices.IndexFunc(all, func(s Standing) bool { return s.Objective == objective && s.waits() })
	tag := ""
	if at >= 0 {
		tag = Postmortem{Since: all[at].Since}.Tag()
	}
	switch {
	case !p.Met(tag, at >= 0):
		return override.ErrChanged
	case at < 0:
		return ErrNone
	}
	all[at].Closed = true
	entry := audit.Entry{At: k.now(), By: cmp.Or(by, override.DefaultBy), Action: actionClosed, Subject: "postmortems/" + objective, Reason: reason}
	if err := k.put(ctx, all, []audit.Entry{entry}); err != nil {
		return err
	}
	k.cfg.Log.Warn("post-mortem closed", "objective", objective, "by", entry.By, "reason", reason)
	return nil
}

// now is in whole milliseconds: what is shown and what is stored is one value.
func (k *Keeper) now() time.Time { return k.cfg.Now().UTC().Truncate(time.Millisecond) }

func (k *Keeper) put(ctx context.Context, all []Standing, entries []audit.Entry) error {
	if err := k.cfg.Store.PutStandings(ctx, all, entries); err != nil {
		return fmt.Errorf("store the actions of budget policies: %w", err)
	}
	k.mu.Lock()
	k.standings = all
	k.mu.Unlock()
	return nil
}
