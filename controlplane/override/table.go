package override

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/audit"
)

// Config is what a Table needs; all members are required.
type Config struct {
	Log   *slog.Logger
	Store Store
	Now   func() time.Time
	// Known reports whether the policies in force have such a thing.
	Known func(Key) bool
	// Changed is called after each change, one at a time, with the overrides in
	// force. It puts them into force at the data planes; an error is told to
	// whoever made the change.
	Changed func([]Override) error
}

// Table is the overrides in force. Its methods may be called from any
// goroutine.
type Table struct {
	cfg  Config
	wake chan struct{} // the next expiry may have changed

	change sync.Mutex // held over a whole change, the store's part included

	mu  sync.Mutex // guards what follows
	all map[Key]Override
}

// Load reads the overrides that an earlier run left. Those that have expired
// meanwhile are ended by Run.
func Load(ctx context.Context, cfg Config) (*Table, error) {
	stored, err := cfg.Store.Overrides(ctx)
	if err != nil {
		return nil, fmt.Errorf("overrides: %w", err)
	}
	t := &Table{cfg: cfg, wake: make(chan struct{}, 1), all: map[Key]Override{}}
	for _, o := range stored {
		t.all[o.Key] = o
	}
	return t, nil
}

// InForce are the overrides that have not expired, sorted by kind, service and
// route.
func (t *Table) InForce() []Override {
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Override, 0, len(t.all))
	for _, o := range t.all {
		if o.Until.After(now) {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b Override) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Service, b.Service), strings.Compare(a.Route, b.Route))
	})
	return list
}

// Get is the override of one key that has not expired.
func (t *Table) Get(k Key) (Override, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := t.all[k]
	return o, ok && o.Until.After(t.cfg.Now())
}

// Set puts an override into force, in place of the one that may be there. The error is
// an *InvalidError, ErrUnknown or ErrChanged, or a fault of ours.
func (t *Table) Set(ctx context.Context, r Request, p Precondition) (Override, error) {
	if err := r.check(); err != nil {
		return Override{}, err
	}
	t.change.Lock()
	defer t.change.Unlock()
	if !t.cfg.Known(r.Key) {
		return Override{}, ErrUnknown
	}
	if current, exists := t.Get(r.Key); !p.Met(current.Tag(), exists) {
		return Override{}, ErrChanged
	}
	// Whole milliseconds: what is answered, stored and pushed is one value.
	now := t.cfg.Now().UTC().Truncate(time.Millisecond)
	o := Override{Key: r.Key, State: r.State, Reason: r.Reason, By: cmp.Or(r.By, DefaultBy), Since: now, Until: now.Add(r.For)}
	entry := audit.Entry{At: now, By: o.By, Action: o.Kind.Action(o.State), Subject: o.Subject(), Reason: o.Reason, Until: &o.Until}
	version, err := t.cfg.Store.PutOverride(ctx, o, entry)
	if err != nil {
		return Override{}, fmt.Errorf("store the override of %s: %w", o.Subject(), err)
	}
	o.Version = version
	t.put(o)
	t.cfg.Log.Warn(entry.Action, "service", o.Service, "route", o.Route, "by", o.By, "reason", o.Reason, "until", o.Until)
	return o, t.changed()
}

// Lift ends an override. The error is an *InvalidError, ErrNone or ErrChanged,
// or a fault of ours. One of what no policy has any more may be lifted too.
func (t *Table) Lift(ctx context.Context, k Key, reason, by string, p Precondition) error {
	if err := CheckWords(reason, by); err != nil {
		return err
	}
	t.change.Lock()
	defer t.change.Unlock()
	o, exists := t.Get(k)
	if !p.Met(o.Tag(), exists) {
		return ErrChanged
	}
	if !exists {
		if !t.cfg.Known(k) {
			return ErrUnknown
		}
		return ErrNone
	}
	entry := audit.Entry{At: t.cfg.Now().UTC().Truncate(time.Millisecond), By: cmp.Or(by, DefaultBy), Action: k.Kind.Action(reset), Subject: k.Subject(), Reason: reason}
	if err := t.drop(ctx, k, entry); err != nil {
		return err
	}
	t.cfg.Log.Warn(entry.Action, "service", k.Service, "route", k.Route, "by", entry.By, "reason", reason)
	return t.changed()
}

// Run ends overrides when their time is over, until ctx ends.
func (t *Table) Run(ctx context.Context) error {
	for {
		wait := time.NewTimer(t.expire(ctx))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-t.wake:
			wait.Stop()
		case <-wait.C:
		}
	}
}

const (
	retryExpiry = 5 * time.Second // after the store did not answer
	idleExpiry  = time.Minute     // a wall clock may be set, so the sleep is bounded
)

// expire ends what has expired and returns when to look again.
func (t *Table) expire(ctx context.Context) time.Duration {
	t.change.Lock()
	defer t.change.Unlock()
	now := t.cfg.Now()
	next := now.Add(idleExpiry)
	var over []Override
	t.mu.Lock()
	for _, o := range t.all {
		if !o.Until.After(now) {
			over = append(over, o)
		} else if o.Until.Before(next) {
			next = o.Until
		}
	}
	t.mu.Unlock()
	if len(over) == 0 {
		return next.Sub(now)
	}
	slices.SortFunc(over, func(a, b Override) int { return a.Until.Compare(b.Until) })
	ended := false
	for _, o := range over {
		until := o.Until
		err := t.drop(ctx, o.Key, audit.Entry{At: until, By: audit.System, Action: o.Kind.Action(expired), Subject: o.Subject(), Reason: o.Reason, Until: &until})
		if err != nil {
			if ctx.Err() == nil {
				t.cfg.Log.Error("an override has expired, and could not be taken off the store", "subject", o.Subject(), "error", err)
			}
			next = now.Add(retryExpiry)
			break
		}
		ended = true
		t.cfg.Log.Info(o.Kind.Action(expired), "service", o.Service, "route", o.Route, "state", o.State)
	}
	if ended {
		// The data planes have ended it by themselves: a failure harms nothing.
		if err := t.cfg.Changed(t.InForce()); err != nil {
			t.cfg.Log.Error("policies without the expired override", "error", err)
		}
	}
	return next.Sub(now)
}

func (t *Table) drop(ctx context.Context, k Key, entry audit.Entry) error {
	if err := t.cfg.Store.DropOverride(ctx, k, entry); err != nil {
		return fmt.Errorf("drop the override of %s: %w", k.Subject(), err)
	}
	t.mu.Lock()
	delete(t.all, k)
	t.mu.Unlock()
	return nil
}

func (t *Table) put(o Override) {
	t.mu.Lock()
	t.all[o.Key] = o
	t.mu.Unlock()
}

func (t *Table) changed() error {
	select {
	case t.wake <- struct{}{}:
	default:
	}
	if err := t.cfg.Changed(t.InForce()); err != nil {
		return fmt.Errorf("put the overrides into force: %w", err)
	}
	return nil
}
