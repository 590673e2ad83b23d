package app

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/budget"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// source is what the API shows of the running parts.
type source struct {
	version    string
	filterHash string
	loader     *loader
	fleet      *fleet.Registry
	ingest     *telemetry.Ingest
	overrides  *override.Table
	budgets    *budget.Keeper
	alerts     *alerts
	store      releaseStore
	log        *slog.Logger
	exempted   exemptions
	ready      atomic.Bool // the first accepted policy has been served
}

var _ api.Source = (*source)(nil)

// awaitServed returns once a node serves the policies in force, or with false
// when ctx ends first.
func (s *source) awaitServed(ctx context.Context) bool {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for s.fleet.Counts().Synced == 0 {
		select {
		case <-ctx.Done():
			return false
		case <-poll.C:
		}
	}
	s.ready.Store(true)
	return true
}

func (s *source) Status() api.Status {
	in, counts := s.loader.current(), s.fleet.Counts()
	return api.Status{
		Version: s.version, PolicyHash: in.set.Hash, FilterHash: s.filterHash, Services: len(in.set.Services),
		Nodes:    api.NodeCounts{Connected: counts.Connected, Synced: counts.Synced, Rejected: counts.Rejected},
		LoadedAt: &in.at, Gaps: s.ingest.Gaps(),
	}
}

func (s *source) Policy() *policy.Set           { return s.loader.current().set }
func (s *source) Diagnostics() *api.RefusedLoad { return s.loader.refused() }
func (s *source) Nodes() []fleet.Node           { return s.fleet.Nodes() }
func (s *source) Pools() []telemetry.Pool       { return s.ingest.Pools() }
func (s *source) Alerts() []alert.Alert         { return s.alerts.Alerts() }

// SLOs are the objectives' statuses, with the actions that are in force on them.
func (s *source) SLOs(ctx context.Context) ([]slo.Status, error) {
	statuses, err := s.ingest.SLOs(ctx)
	if err == nil {
		s.budgets.Show(s.loader.current().objectives, statuses)
	}
	return statuses, err
}

// Breakers are the data planes' word, with what operators have forced upon them.
// An override counts as forced from the moment at which it is set, though its
// node may say the state a second later.
func (s *source) Breakers() []telemetry.Breaker {
	forced := map[override.Key]override.Override{}
	for _, o := range s.overrides.InForce() {
		forced[o.Key] = o // gates too, under keys of their own
	}
	list := s.ingest.Breakers()
	for i := range list {
		b := &list[i]
		if o, ok := forced[override.Key{Kind: override.Breaker, Service: b.Service, Route: b.Route}]; ok {
			b.Forced, b.Reason, b.Until = true, o.Reason, &o.Until
		}
	}
	return list
}

func (s *source) Traffic(ctx context.Context, window time.Duration) ([]telemetry.TrafficRow, error) {
	return s.ingest.Traffic(ctx, window)
}
