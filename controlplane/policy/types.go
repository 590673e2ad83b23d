package policy

import "github.com/seawall-mesh/seawall/controlplane/diag"

// APIVersion is the only version that this build reads.
const APIVersion = "seawall.io/v1alpha1"

// The kinds, as written in `kind`.
const (
	KindEdge                  = "Edge"
	KindService               = "Service"
	KindResiliencePolicy      = "ResiliencePolicy"
	KindServiceLevelObjective = "ServiceLevelObjective"
	KindChaosExperiment       = "ChaosExperiment"
	KindFeatureFlag           = "FeatureFlag"
)

// Set is everything that one load found, sorted by name within each kind.
type Set struct {
	Edges       []Edge                  `json:"edges"`
	Services    []Service               `json:"services"`
	Policies    []ResiliencePolicy      `json:"policies"`
	SLOs        []ServiceLevelObjective `json:"slos"`
	Experiments []ChaosExperiment       `json:"experiments"`
	Flags       []FeatureFlag           `json:"flags"`
	// Hash is 16 hex digits over the resolved set. File names, the order of
	// documents, comments and the way a value is spelled do not change it.
	Hash string `json:"hash"`
}

// TypeMeta names the schema and the kind of an object.
type TypeMeta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// Metadata identifies an object within its kind.
type Metadata struct {
	// Name is an RFC 1123 label: it goes into URLs and stat names.
	Name string `json:"name" policy:"required,format=label"`
}

// Edge is one set of listeners and what they serve. Without any Edge,
// `--listen` makes one named "default" that serves every service.
type Edge struct {
	TypeMeta
	Metadata Metadata `json:"metadata" policy:"required"`
	Spec     EdgeSpec `json:"spec" policy:"required"`
	Pos      diag.Pos `json:"-"`
}

// Service is an upstream.
type Service struct {
	TypeMeta
	Metadata Metadata    `json:"metadata" policy:"required"`
	Spec     ServiceSpec `json:"spec" policy:"required"`
	Pos      diag.Pos    `json:"-"`
}

// ResiliencePolicy holds the guards of one service, route by route. A service
// has at most one.
type ResiliencePolicy struct {
	TypeMeta
	Metadata Metadata             `json:"metadata" policy:"required"`
	Spec     ResiliencePolicySpec `json:"spec" policy:"required"`
	Pos      diag.Pos             `json:"-"`
}

// ServiceLevelObjective is a promise about a service and what happens when its
// error budget is used up.
type ServiceLevelObjective struct {
	TypeMeta
	Metadata Metadata                  `json:"metadata" policy:"required"`
	Spec     ServiceLevelObjectiveSpec `json:"spec" policy:"required"`
	Pos      diag.Pos                  `json:"-"`
}

// ChaosExperiment is a fault, whom it may hit and when it must stop.
type ChaosExperiment struct {
	TypeMeta
	Metadata Metadata            `json:"metadata" policy:"required"`
	Spec     ChaosExperimentSpec `json:"spec" policy:"required"`
	Pos      diag.Pos            `json:"-"`
}

// FeatureFlag is a switch that services read, by hand or by the error rate of
// what the feature depends on.
type FeatureFlag struct {
	TypeMeta
	Metadata Metadata        `json:"metadata" policy:"required"`
	Spec     FeatureFlagSpec `json:"spec" policy:"required"`
	Pos      diag.Pos        `json:"-"`
}
