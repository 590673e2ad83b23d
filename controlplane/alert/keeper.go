package alert

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// lookEvery is how often conditions are looked at.
const lookEvery = 3 * time.Second

// Store keeps alerts.
type Store interface {
	// Alerts are all that are kept.
	Alerts(ctx context.Context) ([]Alert, error)
	// PutAlerts replaces all that are kept: all or nothing, and durable.
	PutAlerts(ctx context.Context, all []Alert) error
}

// Config is what a Keeper needs; all members are required.
type Config struct {
	Log   *slog.Logger
	Store Store
	Now   func() time.Time
	// Look returns what there is to judge, without Openings.
	Look func(context.Context) (Facts, error)
	// Events are the data planes' events after an ID, at most limit.
	Events func(after uint64, limit int) []telemetry.Event
	// Alertmanagers and Webhooks are told; they must not block.
	Alertmanagers interface{ Send(all []Alert) }
	Webhooks      interface{ Send(changed []Alert) }
}

// Keeper is the alerts. Its methods may be called from any goroutine; only one
// may call Run.
type Keeper struct {
	cfg      Config
	openings openings
	unsaved  bool // the store has not taken the newest change

	mu     sync.Mutex // guards what follows
	alerts []Alert
}

// Load reads what an earlier run left.
func Load(ctx context.Context, cfg Config) (*Keeper, error) {
	stored, err := cfg.Store.Alerts(ctx)
	if err != nil {
		return nil, fmt.Errorf("alerts: %w", err)
	}
	return &Keeper{cfg: cfg, alerts: resume(stored, cfg.Now())}, nil
}

// Alerts are those that are pending, firing or lately resolved, sorted by name
// and labels.
func (k *Keeper) Alerts() []Alert {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.alerts)
}

// Run looks every few seconds until ctx ends.
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
			k.cfg.Log.Error("alerts cannot be judged or kept just now", "error", err)
		}
		failing = err != nil
	}
}

// look judges once. A store that fails keeps nobody from being told.
func (k *Keeper) look(ctx context.Context) error {
	facts, err := k.cfg.Look(ctx)
	if err != nil {
		return err
	}
	k.openings.read(k.cfg.Events)
	facts.Openings = k.openings.count(facts.Now)
	before := k.Alerts()
	// In whole milliseconds, as it is shown and stored.
	after := Next(before, Conditions(facts), facts.Stale(), facts.Now.UTC().Truncate(time.Millisecond))
	changed := untold(after)
	k.mu.Lock()
	k.alerts = after
	k.mu.Unlock()
	k.report(before, after)
	k.cfg.Webhooks.Send(changed)
	k.cfg.Alertmanagers.Send(slices.DeleteFunc(slices.Clone(after), func(a Alert) bool { return a.State == Pending }))
	k.unsaved = k.unsaved || !slices.EqualFunc(before, after, func(a, b Alert) bool {
		return a.Key() == b.Key() && a.State == b.State && a.Since.Equal(b.Since) && a.Told == b.Told
	})
	if !k.unsaved {
		return nil
	}
	if err := k.cfg.Store.PutAlerts(ctx, after); err != nil {
		return fmt.Errorf("store alerts: %w", err)
	}
	k.unsaved = false
	return nil
}

func (k *Keeper) report(before, after []Alert) {
	old := make(map[string]State, len(before))
	for i := range before {
		old[before[i].Key()] = before[i].State
	}
	for i := range after {
		a := &after[i]
		was := old[a.Key()]
		switch {
		case a.State == Firing && was != Firing:
			k.cfg.Log.Warn("alert fires", "alert", a.Name, "severity", string(a.Severity), "labels", a.Labels, "summary", a.Summary)
		case a.State == Resolved && was == Firing:
			k.cfg.Log.Info("alert resolved", "alert", a.Name, "labels", a.Labels)
		}
	}
}
