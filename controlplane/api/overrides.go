package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

// Overrides is what operators force upon breakers and gates; *override.Table is
// one.
type Overrides interface {
	Get(k override.Key) (override.Override, bool)
	Set(ctx context.Context, r override.Request, p override.Precondition) (override.Override, error)
	Lift(ctx context.Context, k override.Key, reason, by string, p override.Precondition) error
}

// AuditLog is who changed what by hand.
type AuditLog interface {
	// Audit is the newest entries with an ID below before (0 = all), newest
	// first, at most limit.
	Audit(ctx context.Context, before int64, limit int) ([]audit.Entry, error)
}

// OverrideRequest is the body of a PUT on a breaker's override.
type OverrideRequest struct {
	State  string `json:"state" doc:"open (refuse all) or closed (admit all)."`
	Reason string `json:"reason" doc:"Why, for those who find the breaker so."`
	For    string `json:"for" doc:"How long, such as 10m; 1s to 24h. It ends by itself then, with the control plane or without."`
	By     string `json:"by,omitempty" doc:"Who; local where nobody says so. Not verified on loopback, where no token is asked."`
}

// LiftRequest is the body of a DELETE: of an override, or of an open item.
type LiftRequest struct {
	Reason string `json:"reason" doc:"Why."`
	By     string `json:"by,omitempty" doc:"Who; local where nobody says so. Not verified on loopback, where no token is asked."`
}

// Override is a breaker's override.
type Override struct {
	Service string    `json:"service" doc:"Service."`
	Route   string    `json:"route" doc:"Route."`
	State   string    `json:"state" doc:"open or closed."`
	Reason  string    `json:"reason" doc:"Why."`
	By      string    `json:"by" doc:"Who."`
	Since   time.Time `json:"since" doc:"When it was set."`
	Until   time.Time `json:"until" doc:"When it ends by itself."`
}

func (s *Server) overrideEndpoints() []endpoint {
	const known = "404 where no policy in force has such a breaker, or where it is not overridden."
	key := func(r *http.Request) override.Key {
		return override.Key{Kind: override.Breaker, Service: r.PathValue("service"), Route: r.PathValue("route")}
	}
	show := func(o override.Override) any {
		return Override{o.Service, o.Route, o.State, o.Reason, o.By, o.Since, o.Until}
	}
	set := func(r *http.Request) (w wanted, err error) {
		var body OverrideRequest
		err = readBody(r, &body)
		return wanted{body.State, body.Reason, body.For, body.By}, err
	}
	return append(s.overridable("/breakers/{service}/{route}/override", "BreakerOverride", key, show, set, []endpoint{
		{summary: "What an operator forced upon a breaker. " + known, answer: Override{}},
		{
			summary: "Force a breaker open or closed on all nodes, until a moment. It replaces an earlier override; If-Match and If-None-Match: * keep it from replacing another than the one that was seen. " + known,
			body:    OverrideRequest{}, answer: Override{},
		},
		{summary: "Let a breaker decide by itself again. The reason is in the body, or in ?reason= for clients that cannot send one. " + known},
	}), endpoint{
		path: "/audit", id: "listAudit", summary: "Who changed what by hand, and what changed by itself, newest first; the newest 100,000 entries are kept.",
		params: []param{paramLimit, paramCursor}, answer: List[audit.Entry]{},
		handle: s.auditPage,
	})
}

// wanted is what the body of a PUT asks for.
type wanted struct{ state, reason, length, by string }

// overridable completes the endpoints of what can be overridden, given as GET,
// PUT and DELETE.
func (s *Server) overridable(path, id string, key func(*http.Request) override.Key, show func(override.Override) any, set func(*http.Request) (wanted, error), e []endpoint) []endpoint {
	overrides := s.cfg.Overrides
	shown := func(o override.Override) reply { return reply{body: show(o), tag: o.Tag()} }
	get, put, del := &e[0], &e[1], &e[2]
	get.path, get.id, get.tagged = path, "get"+id, true
	get.handle = func(r *http.Request, _ query) (any, error) {
		k := key(r)
		o, ok := overrides.Get(k)
		if !ok {
			return nil, overrideProblem(k, override.ErrNone)
		}
		return shown(o), nil
	}
	put.method, put.path, put.id, put.tagged = http.MethodPut, path, "put"+id, true
	put.handle = func(r *http.Request, _ query) (any, error) {
		w, err := set(r)
		if err != nil {
			return nil, err
		}
		p, err := precondition(r)
		if err != nil {
			return nil, err
		}
		length, err := policy.ParseDuration(w.length)
		if err != nil {
			return nil, problemf(typeInvalid, "for: %v; write 10m, 1h30m or 24h", shorten(err.Error(), 100))
		}
		k := key(r)
		o, err := overrides.Set(r.Context(), override.Request{Key: k, State: w.state, Reason: w.reason, By: w.by, For: time.Duration(length)}, p)
		if err != nil {
			return nil, overrideProblem(k, err)
		}
		return shown(o), nil
	}
	del.method, del.path, del.id, del.params, del.body = http.MethodDelete, path, "delete"+id, []param{paramReason}, LiftRequest{}
	del.handle = func(r *http.Request, q query) (any, error) {
		body, p, err := readLift(r, q)
		if err != nil {
			return nil, err
		}
		k := key(r)
		if err := overrides.Lift(r.Context(), k, body.Reason, body.By, p); err != nil {
			return nil, overrideProblem(k, err)
		}
		return reply{}, nil
	}
	return e
}

// readLift reads what a DELETE says.
func readLift(r *http.Request, q query) (body LiftRequest, p override.Precondition, err error) {
	body.Reason = q.reason
	if r.ContentLength != 0 {
		if err := readBody(r, &body); err != nil {
			return body, p, err
		}
	}
	p, err = precondition(r)
	return body, p, err
}

// overrideProblem maps what package override refuses; anything else is a fault
// of ours.
func overrideProblem(k override.Key, err error) error {
	place, what := shorten(k.Service+"/"+k.Route, 150), "breaker"
	if k.Kind == override.Release {
		place, what = shorten(k.Service, 150), "gate"
	}
	var invalid *override.InvalidError
	switch {
	case errors.As(err, &invalid):
		return problemf(typeInvalid, "%s %s", invalid.Field, invalid.Problem)
	case errors.Is(err, override.ErrUnknown) && k.Kind == override.Release:
		return problemf(typeNotFound, "no policy in force names the service %s", place)
	case errors.Is(err, override.ErrUnknown):
		return problemf(typeNotFound, "no policy in force has a breaker at %s", place)
	case errors.Is(err, override.ErrNone):
		return problemf(typeNotFound, "the %s of %s is not overridden", what, place)
	case errors.Is(err, override.ErrChanged):
		return problemf(typePrecondition, "the override of %s is not the one that was expected", place)
	}
	return err
}

// auditPage reads one page from the store: the log is longer than other lists.
func (s *Server) auditPage(r *http.Request, q query) (any, error) {
	before, err := q.beforeID()
	if err != nil {
		return nil, err
	}
	entries, err := s.cfg.Audit.Audit(r.Context(), before, q.limit+1)
	if err != nil {
		return nil, err
	}
	return newestPage(q, entries, func(e audit.Entry) int64 { return e.ID }), nil
}
