package policy

// The actions that a step of a budget policy may name.
const (
	ActionIncreaseAlerting    = "increase-alerting"
	ActionLimitReleases       = "limit-releases"
	ActionHaltChaos           = "halt-chaos"
	ActionFreezeReleases      = "freeze-releases"
	ActionFocusOnReliability  = "focus-on-reliability"
	ActionMandatoryPostmortem = "mandatory-postmortem"
	ActionShedLow             = "shed-low"
)

// OutcomeDegraded is the word that, in `bad`, counts answers of a fallback as
// bad; it is no outcome by itself.
const OutcomeDegraded = "degraded"

// ServiceLevelObjectiveSpec is the spec of a ServiceLevelObjective.
type ServiceLevelObjectiveSpec struct {
	// Service is the name of the service that is measured.
	Service string `json:"service" policy:"required,format=label"`
	// Routes narrows what is counted; empty = all routes of the service.
	Routes []string `json:"routes,omitempty" policy:"format=label"`
	// Priorities narrows further; empty = all classes.
	Priorities []string `json:"priorities,omitempty" policy:"enum=critical|high|medium|low"`
	// Objective is the promised share of good requests, above 0% and below 100%.
	Objective Ratio `json:"objective" policy:"required,min=0%,max=100%"`
	// Window is rolling, days of 24 h; default 30d.
	Window    Duration  `json:"window" policy:"min=1h,max=366d"`
	Indicator Indicator `json:"indicator" policy:"required,oneof"`
	// BudgetPolicy are steps by budget consumed, in rising order; cumulative.
	BudgetPolicy []BudgetStep `json:"budgetPolicy,omitempty"`
}

// Indicator says what is bad. Exactly one member is set.
type Indicator struct {
	Availability *Availability `json:"availability,omitempty"`
	Latency      *Latency      `json:"latency,omitempty"`
	JobSuccess   *JobSuccess   `json:"jobSuccess,omitempty"`
}

// Availability counts requests that ended badly.
type Availability struct {
	// Bad are outcomes, statuses and "degraded"; default 5xx, reset, timeout,
	// connect-failure, shed, breaker-open, bulkhead-full, bulkhead-timeout,
	// deadline.
	Bad Outcomes `json:"bad" policy:"outcomes=bad"`
}

// Latency counts requests that took longer than Threshold.
type Latency struct {
	// Threshold is the longest time that is still good.
	Threshold Duration `json:"threshold" policy:"required,min=1ms,max=1h"`
}

// JobSuccess counts the letters of a dead-letter queue that died.
type JobSuccess struct {
	// Queue is one of a deadLetter in the service's policy.
	Queue string `json:"queue" policy:"required,format=label"`
}

// BudgetStep is what happens once so much of the error budget is consumed.
type BudgetStep struct {
	// Consumed is the share of the error budget that is used up; it may exceed 100%.
	Consumed Ratio `json:"consumed" policy:"required,min=1%,max=1000%"`
	// Actions hold from then on, those of earlier steps included.
	Actions []string `json:"actions" policy:"required,enum=increase-alerting|limit-releases|halt-chaos|freeze-releases|focus-on-reliability|mandatory-postmortem|shed-low"`
}
