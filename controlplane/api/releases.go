package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/budget"
	"github.com/seawall-mesh/seawall/controlplane/gate"
	"github.com/seawall-mesh/seawall/controlplane/override"
)

// maxVersion bounds a deployment's version, in bytes.
const maxVersion = 200

// Postmortems are the open items of budget policies; *budget.Keeper is one.
type Postmortems interface {
	Postmortems() []budget.Postmortem
	Close(ctx context.Context, objective, reason, by string, p override.Precondition) error
}

// ReleaseQuery is a question to the release gate.
type ReleaseQuery struct {
	Service   string
	Class     gate.Class
	OnUnknown gate.Answer // gate.Unknown to be told so
}

// Release is the release gate's answer.
type Release struct {
	Decision   gate.Answer      `json:"decision" doc:"allow, deny or unknown."`
	Reasons    []gate.Reason    `json:"reasons" doc:"Why; with allow, what an override or the change class has passed over."`
	ID         string           `json:"id" doc:"Of this decision, as in the control plane's log."`
	At         time.Time        `json:"at" doc:"When it was made."`
	Deployment *gate.Deployment `json:"deployment" doc:"The newest deployment of the service that is marked; null without any."`
}

// GateOverrideRequest is the body of a PUT on the gate's override.
type GateOverrideRequest struct {
	Decision string `json:"decision" doc:"allow or deny."`
	Reason   string `json:"reason" doc:"Why, for those who find the gate so."`
	For      string `json:"for" doc:"How long, such as 2h; 1s to 24h. It ends by itself then."`
	By       string `json:"by,omitempty" doc:"Who; local where nobody says so. Not verified on loopback, where no token is asked."`
}

// GateOverride is an override of the release gate.
type GateOverride struct {
	Service  string    `json:"service" doc:"Service."`
	Decision string    `json:"decision" doc:"allow or deny."`
	Reason   string    `json:"reason" doc:"Why."`
	By       string    `json:"by" doc:"Who."`
	Since    time.Time `json:"since" doc:"When it was set."`
	Until    time.Time `json:"until" doc:"When it ends by itself."`
}

// DeploymentRequest is the body of a POST of a deployment.
type DeploymentRequest struct {
	Service string `json:"service" doc:"Service that was released."`
	Version string `json:"version" doc:"Version of it; at most 200 bytes in one line."`
	By      string `json:"by,omitempty" doc:"Who; local where nobody says so. Not verified on loopback, where no token is asked."`
}

// Postmortem is an open item.
type Postmortem struct {
	Objective string    `json:"objective" doc:"ServiceLevelObjective whose budget policy wants it."`
	Service   string    `json:"service" doc:"Service."`
	Since     time.Time `json:"since" doc:"When the step was reached."`
}

var (
	paramReason  = param{"reason", "Why, where there is no body.", "string"}
	paramClass   = param{"changeClass", "normal (the default), canary, security, rollback or p0.", "string"}
	paramUnknown = param{"onUnknown", "allow or deny, where the gate does not know; without it the answer is unknown then.", "string"}
)

func (s *Server) releaseEndpoints() []endpoint {
	src, items := s.cfg.Source, s.cfg.Postmortems
	key := func(r *http.Request) override.Key {
		return override.Key{Kind: override.Release, Service: r.PathValue("service")}
	}
	show := func(o override.Override) any {
		return GateOverride{o.Service, o.State, o.Reason, o.By, o.Since, o.Until}
	}
	set := func(r *http.Request) (w wanted, err error) {
		var body GateOverrideRequest
		err = readBody(r, &body)
		return wanted{body.Decision, body.Reason, body.For, body.By}, err
	}
	const known = "404 where no policy in force names the service, or where its gate is not overridden."
	overrides := s.overridable("/can-deploy/{service}/override", "GateOverride", key, show, set, []endpoint{
		{summary: "What an operator has told the release gate to answer. " + known, answer: GateOverride{}},
		{
			summary: "Tell the release gate what to answer for a service, until a moment. It replaces an earlier override; If-Match and If-None-Match: * keep it from replacing another than the one that was seen. " + known,
			body:    GateOverrideRequest{}, answer: GateOverride{},
		},
		{summary: "Let the release gate decide by itself again. The reason is in the body, or in ?reason= for clients that cannot send one. " + known},
	})
	return append(overrides, []endpoint{
		{
			path: "/can-deploy/{service}", id: "canDeploy", summary: "May the service be released now? An unknown service is answered unknown, with no-such-service.",
			params: []param{paramClass, paramUnknown}, answer: Release{},
			handle: func(r *http.Request, q query) (any, error) {
				return src.CanDeploy(r.Context(), ReleaseQuery{Service: r.PathValue("service"), Class: q.class, OnUnknown: q.unknown})
			},
		},
		{
			path: "/deployments", id: "listDeployments", summary: "What was released, newest first; the newest 10,000 are kept.",
			params: []param{paramService, paramLimit, paramCursor}, answer: List[gate.Deployment]{},
			handle: s.deploymentPage,
		},
		{
			method: http.MethodPost, path: "/deployments", id: "postDeployment", summary: "Mark that a version of a service was released. 404 where no policy in force names the service.",
			body: DeploymentRequest{}, answer: gate.Deployment{},
			handle: s.deploy,
		},
		{
			path: "/postmortems", id: "listPostmortems", summary: "The post-mortems that budget policies have opened and nobody has closed yet.",
			params: []param{paramService, paramLimit, paramCursor}, answer: List[Postmortem]{},
			handle: func(_ *http.Request, q query) (any, error) {
				open := each(items.Postmortems(), func(p budget.Postmortem) Postmortem { return Postmortem{p.Objective, p.Service, p.Since} })
				open = ofService(q, open, func(p Postmortem) string { return p.Service })
				return paginate(q, open, func(p Postmortem) string { return p.Objective }), nil
			},
		},
		{
			path: "/postmortems/{objective}", id: "getPostmortem", summary: "The open post-mortem of an objective; 404 where none is open.", answer: Postmortem{}, tagged: true,
			handle: func(r *http.Request, _ query) (any, error) {
				for _, p := range items.Postmortems() {
					if p.Objective == r.PathValue("objective") {
						return reply{body: Postmortem{p.Objective, p.Service, p.Since}, tag: p.Tag()}, nil
					}
				}
				return nil, postmortemProblem(r, budget.ErrNone)
			},
		},
		{
			method: http.MethodDelete, path: "/postmortems/{objective}", id: "closePostmortem",
			summary: "Close the post-mortem of an objective; the reason says where it can be read. A new one opens when the step is reached again after it was left. 404 where none is open.",
			params:  []param{paramReason}, body: LiftRequest{},
			handle: func(r *http.Request, q query) (any, error) {
				body, p, err := readLift(r, q)
				if err != nil {
					return nil, err
				}
				if err := items.Close(r.Context(), r.PathValue("objective"), body.Reason, body.By, p); err != nil {
					return nil, postmortemProblem(r, err)
				}
				return reply{}, nil
			},
		},
	}...)
}

func postmortemProblem(r *http.Request, err error) error {
	objective := shorten(r.PathValue("objective"), 100)
	var invalid *override.InvalidError
	switch {
	case errors.As(err, &invalid):
		return problemf(typeInvalid, "%s %s", invalid.Field, invalid.Problem)
	case errors.Is(err, budget.ErrNone):
		return problemf(typeNotFound, "no post-mortem of %s is open", objective)
	case errors.Is(err, override.ErrChanged):
		return problemf(typePrecondition, "the post-mortem of %s is not the one that was expected", objective)
	}
	return err
}

func (s *Server) deploy(r *http.Request, _ query) (any, error) {
	var body DeploymentRequest
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	if strings.TrimSpace(body.Version) == "" {
		return nil, problemf(typeInvalid, "version is missing")
	}
	k := override.Key{Kind: override.Release, Service: body.Service}
	// The version is what the audit log has as the reason.
	err := override.CheckText("version", body.Version, maxVersion)
	if err == nil {
		err = override.CheckWords(body.Version, body.By)
	}
	if err != nil {
		return nil, overrideProblem(k, err)
	}
	d, err := s.cfg.Source.Deploy(r.Context(), body.Service, body.Version, body.By)
	if err != nil {
		return nil, overrideProblem(k, err)
	}
	return reply{body: d, made: true}, nil
}

// deploymentPage reads one page from the store, as auditPage does.
func (s *Server) deploymentPage(r *http.Request, q query) (any, error) {
	before, err := q.beforeID()
	if err != nil {
		return nil, err
	}
	list, err := s.cfg.Source.Deployments(r.Context(), q.service, before, q.limit+1)
	if err != nil {
		return nil, err
	}
	return newestPage(q, list, func(d gate.Deployment) int64 { return d.ID }), nil
}
