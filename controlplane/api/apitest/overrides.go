package apitest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/budget"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// Overrides is the real table of overrides for the listed breakers and their
// services, over a log in memory. Nothing ends by itself in it but by the clock.
func Overrides(ctx context.Context, now func() time.Time, breakers func() []telemetry.Breaker) (*override.Table, *Log) {
	log := &Log{}
	table, err := override.Load(ctx, override.Config{
		Log: slog.New(slog.DiscardHandler), Store: log, Now: now,
		Known: func(k override.Key) bool {
			return slices.ContainsFunc(breakers(), func(b telemetry.Breaker) bool {
				return b.Service == k.Service && (b.Route == k.Route || k.Kind == override.Release)
			})
		},
		Changed: func([]override.Override) error { return nil },
	})
	if err != nil {
		panic(err) // memory has no errors
	}
	return table, log
}

// Postmortems is the real keeper of budget policies, over the same log, in which
// the Source's Open ones are open.
func Postmortems(ctx context.Context, now func() time.Time, log *Log, src api.Source) *budget.Keeper {
	if s, ok := src.(*Source); ok {
		log.standings = s.Open
	}
	keeper, err := budget.Load(ctx, budget.Config{
		Log: slog.New(slog.DiscardHandler), Store: log, Now: now,
		Look: func(context.Context) ([]slo.Objective, []slo.Status, error) { return nil, nil, nil },
	})
	if err != nil {
		panic(err) // memory has no errors
	}
	return keeper
}

// Log is an override.Store, a budget.Store and an api.AuditLog in memory.
type Log struct {
	mu        sync.Mutex
	version   int64
	entries   []audit.Entry
	standings []budget.Standing
	Err       error // of everything, if set
}

// Overrides is none: memory starts empty.
func (l *Log) Overrides(context.Context) ([]override.Override, error) { return nil, l.Err }

// PutOverride appends the entry.
func (l *Log) PutOverride(_ context.Context, _ override.Override, entry audit.Entry) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Err != nil {
		return 0, l.Err
	}
	l.version++
	l.add(entry)
	return l.version, nil
}

// DropOverride appends the entry.
func (l *Log) DropOverride(_ context.Context, _ override.Key, entry audit.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Err == nil {
		l.add(entry)
	}
	return l.Err
}

// Standings are those of the last PutStandings.
func (l *Log) Standings(context.Context) ([]budget.Standing, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.standings), l.Err
}

// PutStandings keeps them and appends the entries.
func (l *Log) PutStandings(_ context.Context, all []budget.Standing, entries []audit.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Err != nil {
		return l.Err
	}
	l.standings = all
	for _, e := range entries {
		l.add(e)
	}
	return nil
}

// Append appends an entry of something that has no store here.
func (l *Log) Append(entry audit.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(entry)
}

func (l *Log) add(entry audit.Entry) {
	entry.ID = int64(len(l.entries) + 1)
	l.entries = append(l.entries, entry)
}

// Audit is a page of the entries, newest first.
func (l *Log) Audit(_ context.Context, before int64, limit int) ([]audit.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var page []audit.Entry
	for _, e := range slices.Backward(l.entries) {
		if (before == 0 || e.ID < before) && len(page) < limit {
			page = append(page, e)
		}
	}
	return page, l.Err
}
