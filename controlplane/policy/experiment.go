package policy

// Where a fault is injected.
const (
	AtEdge    = "edge"
	AtAttempt = "attempt"
)

// ChaosExperimentSpec is the spec of a ChaosExperiment.
type ChaosExperimentSpec struct {
	// Service is the name of the service that is hit.
	Service string `json:"service" policy:"required,format=label"`
	// Routes narrows it; empty = all routes of the service.
	Routes []string `json:"routes,omitempty" policy:"format=label"`
	Fault  Fault    `json:"fault" policy:"required,oneof,word"`
	// At is edge or attempt (the default): attempt exercises retries and per-try
	// timeouts.
	At string `json:"at" policy:"enum=edge|attempt"`
	// Ramp are the shares of requests hit, one after another; default 1% for
	// 5m, 5% for 5m, 10% for 10m.
	Ramp       []RampStep `json:"ramp" policy:"nonempty"`
	Guardrails Guardrails `json:"guardrails"`
	Notify     *Notify    `json:"notify,omitempty"`
}

// Fault is what is done to a request. Exactly one member is set.
type Fault struct {
	Latency        *LatencyFault        `json:"latency,omitempty"`
	Error          *ErrorFault          `json:"error,omitempty"`
	Reset          *ResetFault          `json:"reset,omitempty" policy:"toggle"`
	Hang           *HangFault           `json:"hang,omitempty" policy:"toggle"`
	SlowBody       *SlowBodyFault       `json:"slowBody,omitempty" policy:"toggle"`
	PoolExhaustion *PoolExhaustionFault `json:"poolExhaustion,omitempty"`
}

// LatencyFault delays by a time between Min and Max, evenly spread.
type LatencyFault struct {
	Min Duration `json:"min" policy:"min=0s,max=1h"` // default 0
	// Max is the longest delay.
	Max Duration `json:"max" policy:"required,min=1ms,max=1h"`
}

// ErrorFault answers with a status.
type ErrorFault struct {
	Status int `json:"status" policy:"min=400,max=599"` // 400 to 599; default 503
}

// ResetFault resets the stream.
type ResetFault struct{}

// HangFault never answers.
type HangFault struct{}

// SlowBodyFault lets the body trickle.
type SlowBodyFault struct{}

// PoolExhaustionFault takes permits out of a pool.
type PoolExhaustionFault struct {
	// Pool is a pool of the service's policy.
	Pool string `json:"pool" policy:"required,format=label"`
	// Percent is the share of its permits that is taken.
	Percent Ratio `json:"percent" policy:"required,min=1%,max=100%"`
}

// RampStep is a share of the requests and how long it is held.
type RampStep struct {
	// Percent is the share of requests that are hit.
	Percent Ratio `json:"percent" policy:"required,min=0.01%,max=100%"`
	// Hold is how long the share stays.
	Hold Duration `json:"hold" policy:"required,min=1s,max=24h"`
}

// Guardrails keep an experiment harmless.
type Guardrails struct {
	// Window is when it may run; nil = any time.
	Window    *TimeWindow `json:"window,omitempty"`
	AbortWhen AbortWhen   `json:"abortWhen"`
	// MaxDuration stops it, whatever else happens; default 30m.
	MaxDuration Duration `json:"maxDuration" policy:"min=1s,max=24h"`
	// RequireFlag names a flag that must be on; empty = none.
	RequireFlag string `json:"requireFlag,omitempty" policy:"format=label"`
}

// TimeWindow is a part of the week.
type TimeWindow struct {
	// Days are mon to sun; default mon to fri.
	Days []string `json:"days" policy:"nonempty,enum=mon|tue|wed|thu|fri|sat|sun"`
	// From is hh:mm; default 09:00.
	From string `json:"from" policy:"format=timeofday"`
	// To is hh:mm, later than From; default 17:00.
	To string `json:"to" policy:"format=timeofday"`
	// Timezone is an IANA name; default UTC.
	Timezone string `json:"timezone" policy:"format=timezone"`
}

// AbortWhen are signs that stop an experiment; 0 or false = not watched.
type AbortWhen struct {
	ErrorBudgetConsumed Ratio `json:"errorBudgetConsumed,omitempty" policy:"min=1%,max=1000%"` // default 75%
	ErrorRateDelta      Ratio `json:"errorRateDelta,omitempty" policy:"min=0.01%,max=100%"`    // default 5%
	// P95Above is the 95th percentile of latency that stops it; none by default.
	P95Above    Duration `json:"p95Above,omitempty" policy:"min=1ms,max=1h"`
	BreakerOpen bool     `json:"breakerOpen"` // default true
}

// Notify tells people before an experiment starts.
type Notify struct {
	// Webhooks are http or https URLs that get a POST.
	Webhooks []string `json:"webhooks" policy:"required,format=url"`
	// Before is the time between notice and start; default 60s.
	Before Duration `json:"before" policy:"min=0s,max=24h"`
}
