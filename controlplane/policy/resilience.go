package policy

import "github.com/seawall-mesh/seawall/controlplane/diag"

// The modes of a ResiliencePolicy.
const (
	ModeEnforce  = "enforce"
	ModeShadow   = "shadow" // decide and count, never act
	ModeDisabled = "disabled"
)

// ResiliencePolicySpec is the spec of a ResiliencePolicy.
type ResiliencePolicySpec struct {
	// Service is the name of the service it guards.
	Service string `json:"service" policy:"required,format=label"`
	// Mode is enforce (the default), shadow or disabled.
	Mode string `json:"mode" policy:"enum=enforce|shadow|disabled"`
	// Pools are bulkheads by name, shared by the routes that name them.
	Pools map[string]Pool `json:"pools,omitempty"`
	// Shedding drops less important requests under load; nil = never.
	Shedding *Shedding `json:"shedding,omitempty" policy:"toggle"`
	// Priority names the header in which a client may state its class.
	Priority *ClientHeader `json:"priority,omitempty"`
	// Synthetic names the header that marks requests which no SLI counts.
	Synthetic   *ClientHeader `json:"synthetic,omitempty"`
	RetryBudget RetryBudget   `json:"retryBudget"`
	// WrapUpstreamErrors makes a problem document of the service's own 5xx
	// answers that are none; default false.
	WrapUpstreamErrors bool `json:"wrapUpstreamErrors,omitempty"`
	// Routes are tried in this order, the first match wins; at least one.
	Routes []Route `json:"routes" policy:"required"`
}

// Pool is a bulkhead: so many calls at once, so many waiting. Limits are per
// Envoy, exact over its workers.
type Pool struct {
	// MaxConcurrency is 1 to 1024 calls.
	MaxConcurrency int `json:"maxConcurrency" policy:"required,min=1,max=1024"`
	// MaxQueue is how many may wait, 0 to 1024; 0 = none (the default).
	MaxQueue int `json:"maxQueue" policy:"min=0,max=1024"`
	// MaxWait is the longest wait for a permit; default 5s, or Timeout where that
	// is shorter.
	MaxWait Duration `json:"maxWait" policy:"min=1ms,max=10m"`
	// Timeout bounds wait and call together; 0 = no limit of its own (the
	// default).
	Timeout Duration `json:"timeout,omitempty" policy:"min=1ms,max=24h"`
}

// Shedding says from which load on which class of requests is dropped.
// Critical requests never are.
type Shedding struct {
	Signal     Signal     `json:"signal" policy:"oneof"`
	Thresholds Thresholds `json:"thresholds"`
}

// Signal is what "load" means: exactly one member is set; by default
// adaptive.
type Signal struct {
	Inflight *InflightSignal `json:"inflight,omitempty"`
	Adaptive *AdaptiveSignal `json:"adaptive,omitempty"`
	ORCA     *ORCASignal     `json:"orca,omitempty"`
}

// InflightSignal takes requests in flight against a fixed limit.
type InflightSignal struct {
	// Limit is the number of requests in flight that counts as 100% load.
	Limit int `json:"limit" policy:"required,min=1,max=1000000"`
}

// AdaptiveSignal finds the limit of requests in flight by measuring latency.
type AdaptiveSignal struct {
	// Min is the lowest limit; default 10.
	Min int `json:"min" policy:"min=1,max=1000000"`
	// Max is the highest limit; default 1000.
	Max int `json:"max" policy:"min=1,max=1000000"`
}

// ORCASignal takes the load that the service reports about itself.
type ORCASignal struct {
	// Metric is the name in the load report; default cpu_utilization.
	Metric string `json:"metric" policy:"format=metric"`
}

// Thresholds are the loads at which a class starts to be dropped.
type Thresholds struct {
	Low    Ratio `json:"low" policy:"min=1%,max=100%"`            // default 70%
	Medium Ratio `json:"medium" policy:"min=1%,max=100%"`         // default 90%
	High   Ratio `json:"high,omitempty" policy:"min=1%,max=100%"` // 0 = never (the default)
}

// ClientHeader is a header by which a client says something about its request.
type ClientHeader struct {
	// Header is the name of the request header.
	Header string `json:"header" policy:"required,format=header"`
	// Trusted must be true for the client to be believed; default false.
	Trusted bool `json:"trusted"`
}

// RetryBudget bounds retries to a share of the requests in flight, per cluster.
type RetryBudget struct {
	// Percent is the share; default 20%.
	Percent Ratio `json:"percent" policy:"min=0%,max=100%"`
	// MinConcurrency are the retries that are always allowed; default 3.
	MinConcurrency int `json:"minConcurrency" policy:"min=0,max=100000"`
}

// Route is one kind of request and its guards.
type Route struct {
	// Name is unique within the policy; state, counts and reports are kept by it.
	Name  string `json:"name" policy:"required,format=label"`
	Match Match  `json:"match"`
	// Priority is critical, high, medium (the default) or low.
	Priority string  `json:"priority" policy:"enum=critical|high|medium|low"`
	Timeout  Timeout `json:"timeout"`
	// Upgrades are protocols such as websocket that the route lets through.
	Upgrades []string `json:"upgrades,omitempty" policy:"format=token"`
	// DeadlineHeader is another place for timeout.deadlineHeader, and empty once
	// loaded: finish moves it there.
	DeadlineHeader string `json:"deadlineHeader,omitempty" policy:"format=header"`
	// Cascade declares the timeouts of the others, to check them against ours.
	Cascade *Cascade `json:"cascade,omitempty"`
	Retry   *Retry   `json:"retry,omitempty" policy:"toggle"`
	Breaker *Breaker `json:"breaker,omitempty" policy:"toggle"`
	// Pool is the name of the bulkhead pool that the route's calls use.
	Pool       string      `json:"pool,omitempty" policy:"format=label"`
	DeadLetter *DeadLetter `json:"deadLetter,omitempty"`
	Fallback   *Fallback   `json:"fallback,omitempty"`
	// Flags are the feature flags that this route reads; they are sent upstream.
	Flags []string `json:"flags,omitempty" policy:"format=label"`
	// WrapUpstreamErrors goes before the policy's own for this route; nil = as
	// that one says.
	WrapUpstreamErrors *bool    `json:"wrapUpstreamErrors,omitempty"`
	Pos                diag.Pos `json:"-"`
}

// Match says which requests belong to a route; empty members match all.
type Match struct {
	// Methods in upper case; empty = any.
	Methods []string      `json:"methods,omitempty" policy:"format=method"`
	Path    *PathMatch    `json:"path,omitempty" policy:"oneof"`
	Headers []HeaderMatch `json:"headers,omitempty"`
}

// PathMatch matches the path without its query. Exactly one member is set.
type PathMatch struct {
	// Exact is the whole path.
	Exact string `json:"exact,omitempty" policy:"format=path"`
	// Prefix matches whole segments: /v1 takes /v1 and /v1/x, never /v10.
	Prefix string `json:"prefix,omitempty" policy:"format=prefix"`
	// Template matches segments, {name} being any one of them: /users/{id}.
	Template string `json:"template,omitempty" policy:"format=template"`
	// Regex is an RE2 expression for the whole path.
	Regex string `json:"regex,omitempty" policy:"format=regex"`
}

// HeaderMatch matches one request header. Exactly one of Exact, Prefix, Regex
// and Present is set.
type HeaderMatch struct {
	// Name in lower case.
	Name string `json:"name" policy:"required,format=header"`
	// Exact is the whole value.
	Exact string `json:"exact,omitempty" policy:"format=headervalue"`
	// Prefix is how the value begins.
	Prefix string `json:"prefix,omitempty" policy:"format=headervalue"`
	// Regex is an RE2 expression for the whole value.
	Regex string `json:"regex,omitempty" policy:"format=regex"`
	// Present is true where the header must be there and false where it must not.
	Present *bool `json:"present,omitempty"`
}

// Timeout bounds a request; 0 = no limit.
type Timeout struct {
	// Request bounds the whole request, all tries and back-offs; default 15s,
	// 0 for streams.
	Request Duration `json:"request" policy:"min=0s,max=24h"`
	// PerTry bounds one try; default 0: a try may take what Request leaves.
	PerTry Duration `json:"perTry" policy:"min=0s,max=24h"`
	// Body is the time the client has to send its request (408); default 5m, or
	// no limit where Request is 0. Envoy has one for all routes of an edge: the
	// longest.
	Body Duration `json:"body" policy:"min=0s,max=24h"`
	// Idle is the time without a byte in either direction; default 5m.
	Idle Duration `json:"idle" policy:"min=0s,max=24h"`
	// DeadlineHeader is the request header by which callers state the time they
	// have left, in integer milliseconds, in lower case; empty = none is obeyed.
	// grpc-timeout is obeyed on services of protocol grpc in any case.
	DeadlineHeader string `json:"deadlineHeader,omitempty" policy:"format=header"`
}

// EdgeBodyTime is the time for a request to come in where a route says nothing:
// Envoy's advice for an edge.
const EdgeBodyTime = 5 * minute

// BodyTime is how long the route's clients may take to send a request; 0 = no
// limit.
func (t Timeout) BodyTime() Duration {
	switch {
	case t.Body > 0:
		return t.Body
	case t.Request == 0:
		return 0
	default:
		return EdgeBodyTime
	}
}

// Cascade are timeouts of other layers; 0 = not declared.
type Cascade struct {
	// Client is how long callers wait; longer than timeout.request.
	Client Duration `json:"client,omitempty" policy:"min=1ms,max=24h"`
	// Service is the limit that the service sets itself; shorter than timeout.perTry, or timeout.request.
	Service Duration `json:"service,omitempty" policy:"min=1ms,max=24h"`
	// DB is the limit of its database calls; shorter than Service.
	DB Duration `json:"db,omitempty" policy:"min=1ms,max=24h"`
	// Cache is the limit of its cache calls; shorter than Service.
	Cache Duration `json:"cache,omitempty" policy:"min=1us,max=24h"`
}

// Retry tries a failed request again.
type Retry struct {
	// Attempts are all tries, the first one included; 2 to 10, default 3.
	Attempts int `json:"attempts" policy:"min=2,max=10"`
	// RetryOn are the outcomes and statuses worth another try; default 503,
	// reset, timeout, connect-failure.
	RetryOn Outcomes     `json:"retryOn" policy:"outcomes=retry"`
	Backoff RetryBackoff `json:"backoff"`
	// HonorRetryAfter waits as long as an upstream's Retry-After says; default
	// {max: 10s}, nil after `honorRetryAfter: false`.
	HonorRetryAfter *RetryAfter `json:"honorRetryAfter,omitempty" policy:"toggle"`
	// Idempotency makes retries of unsafe methods safe.
	Idempotency *Idempotency `json:"idempotency,omitempty"`
}

// RetryBackoff is the wait before try n+1: at most min(Base·2^(n-1), Max), jittered.
type RetryBackoff struct {
	// Base is the first wait; default 100ms.
	Base Duration `json:"base" policy:"min=1ms,max=1h"`
	// Max caps the waits; default 10s.
	Max Duration `json:"max" policy:"min=1ms,max=1h"`
}

// RetryAfter bounds how far an upstream's Retry-After is obeyed.
type RetryAfter struct {
	// Max is the longest wait; an answer that asks for a longer one, or for more
	// than the request has left, is given to the client with its Retry-After.
	// Default 10s.
	Max Duration `json:"max" policy:"min=1s,max=1h"`
}

// Idempotency is the key that tells the service that two tries are one request.
type Idempotency struct {
	// Header is its name; default Idempotency-Key.
	Header string `json:"header" policy:"format=header"`
	// Generate stamps a key where the client sent none; default false: such a
	// request is then not retried.
	Generate bool `json:"generate"`
}

// Breaker refuses at once what would probably fail.
type Breaker struct {
	// ConsecutiveFailures is the run of failures that opens it, 1 to 1,000,000;
	// default 5, and 0 (off) where only FailureRate or SlowCalls is given.
	ConsecutiveFailures int          `json:"consecutiveFailures,omitempty" policy:"min=1,max=1000000"`
	FailureRate         *FailureRate `json:"failureRate,omitempty"`
	SlowCalls           *SlowCalls   `json:"slowCalls,omitempty"`
	// RecoveryTimeout is the first time open; default 60s.
	RecoveryTimeout Duration       `json:"recoveryTimeout" policy:"min=10ms,max=24h"`
	Backoff         BreakerBackoff `json:"backoff"`
	HalfOpen        HalfOpen       `json:"halfOpen"`
	// Failures are the outcomes and statuses that count; default 5xx, reset,
	// timeout, connect-failure.
	Failures Outcomes `json:"failures" policy:"outcomes=failure"`
	Pos      diag.Pos `json:"-"`
}

// FailureRate opens a breaker by the share of failures in a sliding window of
// ten steps, once the window has MinRequests.
type FailureRate struct {
	Percent     Ratio    `json:"percent" policy:"min=0.0001%,max=100%"`  // default 50%
	Window      Duration `json:"window" policy:"min=1s,max=1h"`          // default 10s
	MinRequests int      `json:"minRequests" policy:"min=1,max=1000000"` // default 20
}

// SlowCalls opens a breaker by the share of calls that took Threshold or longer,
// in a sliding window of ten steps, once the window has MinRequests.
type SlowCalls struct {
	// Threshold is the time from which a call is slow.
	Threshold   Duration `json:"threshold" policy:"required,min=1ms,max=1h"`
	Percent     Ratio    `json:"percent" policy:"min=0.0001%,max=100%"`  // default 50%
	Window      Duration `json:"window" policy:"min=1s,max=1h"`          // default 10s
	MinRequests int      `json:"minRequests" policy:"min=1,max=1000000"` // default 20
}

// BreakerBackoff lengthens the time open each time that probes fail.
type BreakerBackoff struct {
	// Multiplier is the growth on each re-open, at least 1; default 1.5.
	Multiplier Factor `json:"multiplier" policy:"min=1,max=100"`
	// Max caps the time open; default 5m, or recoveryTimeout where that is longer.
	Max Duration `json:"max" policy:"min=10ms,max=24h"`
}

// HalfOpen says how a breaker finds out that the service is well again.
type HalfOpen struct {
	// Probes is how many may be on their way at once, 1 to 32; default 3.
	Probes int `json:"probes" policy:"min=1,max=32"`
	// Successes is how many must succeed to close it; default 3.
	Successes int `json:"successes" policy:"min=1,max=1000000"`
}

// DeadLetter keeps a request that could not be delivered.
type DeadLetter struct {
	// Queue is the name under which its letters are kept; routes may share one.
	Queue string `json:"queue" policy:"required,format=label"`
	// MaxAttempts are the deliveries before it is dead; default 3.
	MaxAttempts int               `json:"maxAttempts" policy:"min=1,max=100"`
	Backoff     DeadLetterBackoff `json:"backoff"`
	// Accept answers 202 at once and delivers later; default false.
	Accept bool `json:"accept"`
}

// DeadLetterBackoff is the wait between deliveries.
type DeadLetterBackoff struct {
	Base Duration `json:"base" policy:"min=10ms,max=24h"` // default 5s
	Max  Duration `json:"max" policy:"min=10ms,max=30d"`  // default 10m
}

// Fallback is what a client gets instead of a refusal or an upstream failure:
// Cached first, then Static.
type Fallback struct {
	Cached *CachedFallback `json:"cached,omitempty"`
	Static *StaticFallback `json:"static,omitempty"`
}

// CachedFallback is the last good response, marked as degraded.
type CachedFallback struct {
	MaxAge  Duration `json:"maxAge" policy:"min=1s,max=30d"`   // default 5m
	MaxBody ByteSize `json:"maxBody" policy:"min=1B,max=1MiB"` // in bytes; default 64KiB
	Key     CacheKey `json:"key"`
}

// CacheKey is what besides method, host, path and query tells responses apart.
type CacheKey struct {
	// Headers are request headers by which responses differ.
	Headers []string `json:"headers,omitempty" policy:"format=header"`
}

// StaticFallback is a fixed response.
type StaticFallback struct {
	Status int `json:"status" policy:"min=200,max=599"` // default 200
	// Headers are response headers; name the content-type of Body here.
	Headers map[string]string `json:"headers,omitempty" policy:"keys=header,format=headervalue"`
	// Body is at most 64 KiB of text; of JSON and XML types it must be well-formed.
	Body string `json:"body,omitempty" policy:"maxlen=65536"`
}
