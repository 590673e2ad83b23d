package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

// Overrides is what operators force upon breakers; *override.Table is one.
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

// LiftRequest is the body of a DELETE on a breaker's override.
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

const overridePath = "/breakers/{service}/{route}/override"

func (s *Server) overrideEndpoints() []endpoint {
	overrides := s.cfg.Overrides
	const known = "404 where no policy in force has such a breaker, or where it is not overridden."
	shown := func(o override.Override) reply {
		return reply{body: Override{o.Service, o.Route, o.State, o.Reason, o.By, o.Since, o.Until}, tag: o.Tag()}
	}
	return []endpoint{
		{
			path: overridePath, id: "getBreakerOverride", summary: "What an operator forced upon a breaker. " + known, answer: Override{}, tagged: true,
			handle: func(r *http.Request, _ query) (any, error) {
				k := breakerKey(r)
				o, ok := overrides.Get(k)
				if !ok {
					return nil, overrideProblem(k, override.ErrNone)
				}
				return shown(o), nil
			},
		},
		{
			method: http.MethodPut, path: overridePath, id: "putBreakerOverride",
			summary: "Force a breaker open or closed on all nodes, until a moment. It replaces an earlier override; If-Match and If-None-Match: * keep it from replacing another than the one that was seen. " + known,
			body:    OverrideRequest{}, answer: Override{}, tagged: true,
			handle: func(r *http.Request, _ query) (any, error) {
				var body OverrideRequest
				if err := readBody(r, &body); err != nil {
					return nil, err
				}
				p, err := precondition(r)
				if err != nil {
					return nil, err
				}
				length, err := policy.ParseDuration(body.For)
				if err != nil {
					return nil, problemf(typeInvalid, "for: %v; write 10m, 1h30m or 24h", shorten(err.Error(), 100))
				}
				k := breakerKey(r)
				o, err := overrides.Set(r.Context(), override.Request{Key: k, State: body.State, Reason: body.Reason, By: body.By, For: time.Duration(length)}, p)
				if err != nil {
					return nil, overrideProblem(k, err)
				}
				return shown(o), nil
			},
		},
		{
			method: http.MethodDelete, path: overridePath, id: "deleteBreakerOverride",
			summary: "Let a breaker decide by itself again. The reason is in the body, or in ?reason= for clients that cannot send one. " + known,
			params:  []param{{"reason", "Why, where there is no body.", "string"}}, body: LiftRequest{},
			handle: func(r *http.Request, q query) (any, error) {
				body := LiftRequest{Reason: q.reason}
				if r.ContentLength != 0 {
					if err := readBody(r, &body); err != nil {
						return nil, err
					}
				}
				p, err := precondition(r)
				if err != nil {
					return nil, err
				}
				k := breakerKey(r)
				if err := overrides.Lift(r.Context(), k, body.Reason, body.By, p); err != nil {
					return nil, overrideProblem(k, err)
				}
				return reply{}, nil
			},
		},
		{
			path: "/audit", id: "listAudit", summary: "Who changed what by hand, newest first; the newest 100,000 entries are kept.",
			params: []param{paramLimit, paramCursor}, answer: List[audit.Entry]{},
			handle: s.auditPage,
		},
	}
}

func breakerKey(r *http.Request) override.Key {
	return override.Key{Service: r.PathValue("service"), Route: r.PathValue("route")}
}

// overrideProblem maps what package override refuses; anything else is a fault
// of ours.
func overrideProblem(k override.Key, err error) error {
	place := shorten(k.Service+"/"+k.Route, 150)
	var invalid *override.InvalidError
	switch {
	case errors.As(err, &invalid):
		return problemf(typeInvalid, "%s %s", invalid.Field, invalid.Problem)
	case errors.Is(err, override.ErrUnknown):
		return problemf(typeNotFound, "no policy in force has a breaker at %s", place)
	case errors.Is(err, override.ErrNone):
		return problemf(typeNotFound, "the breaker of %s is not overridden", place)
	case errors.Is(err, override.ErrChanged):
		return problemf(typePrecondition, "the override of %s is not the one that was expected", place)
	}
	return err
}

// auditPage reads one page from the store: the log is longer than other lists.
func (s *Server) auditPage(r *http.Request, q query) (any, error) {
	before := int64(0)
	if q.after != "" {
		n, err := strconv.ParseInt(q.after, 10, 64)
		if err != nil || n < 1 {
			return nil, problemf(typeBadQuery, "the cursor did not come from this list; start again without one")
		}
		before = n
	}
	entries, err := s.cfg.Audit.Audit(r.Context(), before, q.limit+1)
	if err != nil {
		return nil, err
	}
	page := List[audit.Entry]{Items: entries}
	if len(entries) > q.limit {
		page.Items = entries[:q.limit]
		page.Next = cursor(strconv.FormatInt(page.Items[q.limit-1].ID, 10))
	}
	if page.Items == nil {
		page.Items = []audit.Entry{}
	}
	return page, nil
}
