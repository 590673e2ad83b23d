package policy

// Defaults are set before a value is decoded, so that what the file says always
// wins and an explicit 0 stays a 0. Where a default depends on another field,
// finish sets it afterwards.

type defaulter interface{ setDefaults() }

// finisher completes a value after decoding. given says which keys the file
// has; of a value that is not in the file at all, none.
type finisher interface {
	finish(given func(key string) bool)
}

func (s *EdgeSpec) setDefaults() { s.FailureMode = FailureModeOpen }

func (l *Listener) setDefaults() { l.Address = "127.0.0.1" }

func (s *ServiceSpec) setDefaults() {
	s.Paths = []string{"/"}
	s.Protocol = ProtocolHTTP1
	s.ConnectTimeout = 2 * second
}

func (t *ServiceTLS) setDefaults() { t.CA = "system" }

// 1000 is what the field runs with; Envoy's own default is 1024.
func (c *Connections) setDefaults() { c.Max = 1000 }

func (o *OutlierEjection) setDefaults() {
	*o = OutlierEjection{Consecutive5xx: 5, BaseEjection: 30 * second, MaxEjected: 50 * percent}
}

func (h *HealthCheck) setDefaults() { h.Interval = 5 * second }

func (s *ResiliencePolicySpec) setDefaults() { s.Mode = ModeEnforce }

func (p *Pool) setDefaults() { p.MaxWait = 5 * second }

func (p *Pool) finish(given func(string) bool) {
	if !given("maxWait") && p.Timeout > 0 {
		p.MaxWait = min(p.MaxWait, p.Timeout)
	}
}

func (s *Signal) finish(given func(string) bool) {
	if !given("inflight") && !given("adaptive") && !given("orca") {
		s.Adaptive = &AdaptiveSignal{}
		s.Adaptive.setDefaults()
	}
}

func (s *AdaptiveSignal) setDefaults() { s.Min, s.Max = 10, 1000 }

func (s *ORCASignal) setDefaults() { s.Metric = "cpu_utilization" }

func (t *Thresholds) setDefaults() { t.Low, t.Medium = 70*percent, 90*percent }

func (b *RetryBudget) setDefaults() { b.Percent, b.MinConcurrency = 20*percent, 3 }

func (r *Route) setDefaults() { r.Priority = "medium" }

// What reads a set looks in one place only.
func (r *Route) finish(func(string) bool) {
	if r.Timeout.DeadlineHeader == "" {
		r.Timeout.DeadlineHeader = r.DeadlineHeader
	}
	r.DeadlineHeader = ""
}

// 15 s and 5 min are Envoy's own defaults, which operators know. A default
// perTry would cut calls that are slow but succeed today.
func (t *Timeout) setDefaults() { t.Request, t.Idle = 15*second, 5*minute }

// 429 is not in the default: without a Retry-After, another try adds to the
// load that it complains about.
func (r *Retry) setDefaults() {
	r.Attempts = 3
	r.RetryOn = Outcomes{"503", "reset", "timeout", "connect-failure"}
	r.HonorRetryAfter = &RetryAfter{}
	r.HonorRetryAfter.setDefaults()
}

// A client waits behind the edge, so the first wait is far below the second
// that suits a background caller; the retry budget and the breaker guard
// against storms.
func (b *RetryBackoff) setDefaults() { b.Base = 100 * millisecond }

func (b *RetryBackoff) finish(given func(string) bool) {
	if !given("max") {
		b.Max = max(10*second, b.Base)
	}
}

func (r *RetryAfter) setDefaults() { r.Max = 10 * second }

func (i *Idempotency) setDefaults() { i.Header = "idempotency-key" }

func (b *Breaker) setDefaults() {
	b.ConsecutiveFailures = 5
	b.RecoveryTimeout = minute
	b.Failures = Outcomes{"5xx", "reset", "timeout", "connect-failure"}
}

// A breaker by rate alone has no run of failures: under much traffic five in a
// row are nothing.
func (b *Breaker) finish(given func(string) bool) {
	if !given("consecutiveFailures") && (b.FailureRate != nil || b.SlowCalls != nil) {
		b.ConsecutiveFailures = 0
	}
	if b.Backoff.Max == 0 {
		b.Backoff.Max = max(5*minute, b.RecoveryTimeout)
	}
}

func (b *BreakerBackoff) setDefaults() { b.Multiplier = one * 3 / 2 }

func (h *HalfOpen) setDefaults() { h.Probes, h.Successes = 3, 3 }

func (f *FailureRate) setDefaults() {
	*f = FailureRate{Percent: 50 * percent, Window: 10 * second, MinRequests: 20}
}

func (s *SlowCalls) setDefaults() {
	*s = SlowCalls{Percent: 50 * percent, Window: 10 * second, MinRequests: 20}
}

func (d *DeadLetter) setDefaults() { d.MaxAttempts = 3 }

func (b *DeadLetterBackoff) setDefaults() { b.Base = 5 * second }

func (b *DeadLetterBackoff) finish(given func(string) bool) {
	if !given("max") {
		b.Max = max(10*minute, b.Base)
	}
}

func (c *CachedFallback) setDefaults() { c.MaxAge, c.MaxBody = 5*minute, 64<<10 }

func (s *StaticFallback) setDefaults() { s.Status = 200 }

func (s *ServiceLevelObjectiveSpec) setDefaults() { s.Window = 30 * day }

func (a *Availability) setDefaults() {
	a.Bad = Outcomes{
		"5xx", "reset", "timeout", "connect-failure",
		"shed", "breaker-open", "bulkhead-full", "bulkhead-timeout", "deadline",
	}
}

func (s *ChaosExperimentSpec) setDefaults() {
	s.At = AtAttempt
	s.Ramp = []RampStep{
		{Percent: 1 * percent, Hold: 5 * minute},
		{Percent: 5 * percent, Hold: 5 * minute},
		{Percent: 10 * percent, Hold: 10 * minute},
	}
}

func (e *ErrorFault) setDefaults() { e.Status = 503 }

func (g *Guardrails) setDefaults() { g.MaxDuration = 30 * minute }

func (w *TimeWindow) setDefaults() {
	*w = TimeWindow{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "09:00", To: "17:00", Timezone: "UTC"}
}

func (a *AbortWhen) setDefaults() {
	a.ErrorBudgetConsumed, a.ErrorRateDelta, a.BreakerOpen = 75*percent, 5*percent, true
}

func (n *Notify) setDefaults() { n.Before = minute }

func (d *AutoDisable) setDefaults() { d.For = 10 * minute }

func (w *AutoDisableWhen) setDefaults() {
	w.ErrorRate, w.Window, w.MinRequests = 50*percent, minute, 20
}
