package policy

// FeatureFlagSpec is the spec of a FeatureFlag.
type FeatureFlagSpec struct {
	// Default is its value when nobody has switched it; false where absent.
	Default     bool         `json:"default"`
	AutoDisable *AutoDisable `json:"autoDisable,omitempty"`
}

// AutoDisable switches a flag off by itself.
type AutoDisable struct {
	When AutoDisableWhen `json:"when" policy:"required"`
	// For is how long it stays off; default 10m.
	For Duration `json:"for" policy:"min=1s,max=30d"`
}

// AutoDisableWhen is the error rate of a route that switches a flag off.
type AutoDisableWhen struct {
	// Service and Route name what is watched.
	Service string `json:"service" policy:"required,format=label"`
	// Route is a route of Service.
	Route string `json:"route" policy:"required,format=label"`
	// ErrorRate is the share of bad requests; default 50%.
	ErrorRate   Ratio    `json:"errorRate" policy:"min=1%,max=100%"`
	Window      Duration `json:"window" policy:"min=10s,max=1h"`         // default 1m
	MinRequests int      `json:"minRequests" policy:"min=1,max=1000000"` // default 20
}
