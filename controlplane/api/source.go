package api

import (
	"context"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/gate"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// Source is what the control plane knows, asked once per request. It is called
// from many goroutines; what it returns belongs to the caller. Lists may come
// in any order. An error means that something could not be read just now.
type Source interface {
	// Status is the summary. Ready and Refused are filled in by this package.
	Status() Status
	// Policy is the set in force; nil before the first accepted load.
	Policy() *policy.Set
	// Diagnostics is the last load if it was refused; nil if it was accepted.
	Diagnostics() *RefusedLoad
	Nodes() []fleet.Node
	Breakers() []telemetry.Breaker
	Pools() []telemetry.Pool
	// Alerts are those that are pending, firing or lately resolved.
	Alerts() []alert.Alert
	// Traffic covers the whole minutes of window and the current one.
	Traffic(ctx context.Context, window time.Duration) ([]telemetry.TrafficRow, error)
	// SLOs are with the actions that are in force on them.
	SLOs(ctx context.Context) ([]slo.Status, error)
	// CanDeploy asks the release gate.
	CanDeploy(ctx context.Context, q ReleaseQuery) (Release, error)
	// Deploy marks that a version was released. The error is
	// override.ErrUnknown where no policy in force names the service.
	Deploy(ctx context.Context, service, version, by string) (gate.Deployment, error)
	// Deployments are the newest marks with an ID below before (0 = all) of a
	// service ("" = all), newest first, at most limit.
	Deployments(ctx context.Context, service string, before int64, limit int) ([]gate.Deployment, error)
}

// RefusedLoad is a load of policies that had errors, so that the policies
// before it stayed in force.
type RefusedLoad struct {
	At       time.Time
	Findings diag.List
}

// Status is the control plane in one look.
type Status struct {
	Version    string          `json:"version" doc:"Version of the control plane."`
	PolicyHash string          `json:"policyHash" doc:"Content hash of the policies in force, 16 hex digits; empty before the first accepted load."`
	FilterHash string          `json:"filterHash" doc:"SHA-256 of the filter module that is pushed to nodes, 64 hex digits."`
	Services   int             `json:"services" doc:"Number of services in the policies in force."`
	Nodes      NodeCounts      `json:"nodes" doc:"Nodes by state."`
	Ready      bool            `json:"ready" doc:"The first accepted policy has been served."`
	Gaps       []telemetry.Gap `json:"gaps" doc:"Stretches of the last day that counts may lack, oldest first."`
	LoadedAt   *time.Time      `json:"loadedAt" doc:"When the policies in force were loaded; null before the first accepted load."`
	Refused    *Refusal        `json:"refused" doc:"The last load, if it was refused: the policies before it stayed in force. Null if it was accepted. Its findings are at policy/diagnostics."`
}

// NodeCounts counts the nodes that are known by state. A node may be in several.
type NodeCounts struct {
	Connected int `json:"connected" doc:"Nodes with an open xDS stream."`
	Synced    int `json:"synced" doc:"Nodes whose workers all run the plan that they should."`
	Rejected  int `json:"rejected" doc:"Nodes that refused at least one resource type."`
}

// Refusal counts the findings of a refused load.
type Refusal struct {
	At       time.Time `json:"at" doc:"When the load was tried."`
	Errors   int       `json:"errors" doc:"Findings that stopped it."`
	Warnings int       `json:"warnings" doc:"Findings that would not have."`
}

// Finding is the shape of a diag.Diagnostic in JSON, spelled out for the pages
// and for OpenAPI.
type Finding struct {
	Code     string        `json:"code" doc:"Stable code, SWnnnn; seawall explain tells more."`
	Severity diag.Severity `json:"severity" doc:"error or warning."`
	File     string        `json:"file" doc:"File that was read."`
	Line     int           `json:"line" doc:"From 1; 0 is unknown."`
	Column   int           `json:"column" doc:"From 1; 0 is unknown."`
	Path     string        `json:"path" doc:"Field, such as spec.routes[0].breaker.recoveryTimeout."`
	Message  string        `json:"message" doc:"What is wrong."`
	Hint     string        `json:"hint" doc:"What to do about it; may be empty."`
	Excerpt  string        `json:"excerpt,omitempty" doc:"Source lines with a caret under the place."`
	Docs     string        `json:"docs" doc:"Where to read about the code."`
}

func findings(load *RefusedLoad) []Finding {
	if load == nil {
		return nil
	}
	out := make([]Finding, 0, len(load.Findings))
	for _, d := range load.Findings {
		out = append(out, Finding{d.Code, d.Severity, d.Pos.File, d.Pos.Line, d.Pos.Column, d.Path, d.Message, d.Hint, d.Excerpt, diag.Docs(d.Code)})
	}
	return out
}

// PolicyObject is one document of the policies in force, defaults filled in.
type PolicyObject struct {
	APIVersion string          `json:"apiVersion" doc:"seawall.io/v1alpha1."`
	Kind       string          `json:"kind" doc:"Edge, Service, ResiliencePolicy, ServiceLevelObjective, ChaosExperiment or FeatureFlag."`
	Metadata   policy.Metadata `json:"metadata" doc:"The object's name."`
	Spec       any             `json:"spec" doc:"As in the policy file, with defaults filled in."`
}

func policyObjects(set *policy.Set) []PolicyObject {
	if set == nil {
		return nil
	}
	var out []PolicyObject
	add := func(kind string, meta policy.Metadata, spec any) {
		out = append(out, PolicyObject{policy.APIVersion, kind, meta, spec})
	}
	for _, o := range set.Edges {
		add(policy.KindEdge, o.Metadata, o.Spec)
	}
	for _, o := range set.Services {
		add(policy.KindService, o.Metadata, o.Spec)
	}
	for _, o := range set.Policies {
		add(policy.KindResiliencePolicy, o.Metadata, o.Spec)
	}
	for _, o := range set.SLOs {
		add(policy.KindServiceLevelObjective, o.Metadata, o.Spec)
	}
	for _, o := range set.Experiments {
		add(policy.KindChaosExperiment, o.Metadata, o.Spec)
	}
	for _, o := range set.Flags {
		add(policy.KindFeatureFlag, o.Metadata, o.Spec)
	}
	return out
}
