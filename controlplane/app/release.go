package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/gate"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// releaseStore keeps what the gate for releases needs.
type releaseStore interface {
	gate.Deployments
	AppendAudit(ctx context.Context, entry audit.Entry) error
}

// exemptEvery is how often a class that passes a closed gate is noted for a
// service: pipelines ask again and again.
const exemptEvery = time.Minute

// exemptions remembers what was noted last.
type exemptions struct {
	mu   sync.Mutex
	last map[exemption]time.Time
}

type exemption struct {
	service string
	class   gate.Class
}

// due reports whether it is to be noted now, and takes it as noted. Keys are of
// services that the policies name, so there are not many.
func (e *exemptions) due(k exemption, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if last, ok := e.last[k]; ok && now.Sub(last) < exemptEvery {
		return false
	}
	if e.last == nil {
		e.last = map[exemption]time.Time{}
	}
	e.last[k] = now
	return true
}

// CanDeploy asks the gate.
func (s *source) CanDeploy(ctx context.Context, q api.ReleaseQuery) (api.Release, error) {
	in, now := s.loader.current(), time.Now()
	f := gate.Facts{Service: q.Service, Known: s.loader.names(q.Service), Class: q.Class, OnUnknown: q.OnUnknown}
	out := api.Release{ID: rand.Text(), At: now.UTC().Truncate(time.Millisecond)}
	if f.Known {
		statuses, err := s.SLOs(ctx)
		if err != nil {
			return out, fmt.Errorf("objectives of %s: %w", q.Service, err)
		}
		policies := map[string]slo.Objective{}
		for _, o := range in.objectives {
			policies[o.Name] = o
		}
		for _, status := range statuses {
			if status.Service == q.Service {
				f.Objectives = append(f.Objectives, gate.Objective{Policy: policies[status.Name], Status: status})
			}
		}
		f.Stale = now.Sub(s.ingest.Stats().LastBatch) > telemetry.StaleAfter
		// Experiments cannot be started yet, so none runs.
		if o, ok := s.overrides.Get(override.Key{Kind: override.Release, Service: q.Service}); ok {
			f.Override = &gate.Override{Answer: gate.Answer(o.State), Reason: o.Reason, By: o.By, Until: o.Until}
		}
		marks, err := s.store.ListDeployments(ctx, q.Service, 0, 1)
		if err != nil {
			return out, fmt.Errorf("deployments of %s: %w", q.Service, err)
		}
		if len(marks) > 0 {
			out.Deployment = &marks[0]
		}
	}
	d := gate.Decide(f)
	out.Decision, out.Reasons = d.Answer, append([]gate.Reason{}, d.Reasons...)
	s.log.Info("release gate", "id", out.ID, "service", q.Service, "changeClass", string(q.Class), "decision", string(d.Answer), "reasons", d.Reasons)
	if d.Exempted && s.exempted.due(exemption{q.Service, q.Class}, now) {
		k := override.Key{Kind: override.Release, Service: q.Service}
		entry := audit.Entry{At: out.At, By: audit.System, Action: "release-exempted", Subject: k.Subject(),
			Reason: fmt.Sprintf("a change of class %s may pass in spite of %s (decision %s)", q.Class, d.Reasons[0].Code, out.ID)}
		if err := s.store.AppendAudit(ctx, entry); err != nil {
			return out, fmt.Errorf("audit: %w", err)
		}
	}
	return out, nil
}

// Deploy marks that a version was released. The error is override.ErrUnknown or
// a fault of ours.
func (s *source) Deploy(ctx context.Context, service, version, by string) (gate.Deployment, error) {
	d := gate.Deployment{At: time.Now().UTC().Truncate(time.Millisecond), Service: service, Version: version, By: cmp.Or(by, override.DefaultBy)}
	if !s.loader.names(service) {
		return d, override.ErrUnknown
	}
	entry := audit.Entry{At: d.At, By: d.By, Action: "deployment", Subject: "deployments/" + service, Reason: version}
	id, err := s.store.PutDeployment(ctx, d, entry)
	d.ID = id
	return d, err
}

// lastDeployments is the newest mark of each service that the policies have.
func (s *source) lastDeployments(ctx context.Context) (all []gate.Deployment, err error) {
	for _, service := range s.loader.current().set.Services {
		marks, err := s.store.ListDeployments(ctx, service.Metadata.Name, 0, 1)
		if err != nil {
			return nil, fmt.Errorf("deployments of %s: %w", service.Metadata.Name, err)
		}
		all = append(all, marks...)
	}
	return all, nil
}

// Deployments are the marks, newest first.
func (s *source) Deployments(ctx context.Context, service string, before int64, limit int) ([]gate.Deployment, error) {
	return s.store.ListDeployments(ctx, service, before, limit)
}
