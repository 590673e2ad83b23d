package contract

// PlanSchema is the version of the Plan's shape. A filter refuses a Plan of
// another schema; the control plane pushes a plan only with the module that
// reads it.
const PlanSchema = 1

// Plan is the compiled policy of one edge: what the filter needs, resolved,
// with defaults filled in, durations in nanoseconds and ratios in ppm.
type Plan struct {
	Schema int    `json:"schema"`
	Hash   string `json:"hash"` // 16 hex digits: the content hash of all but itself and Retired routes
	Edge   string `json:"edge"` // the Edge's name

	FailureMode     string    `json:"failureMode"`     // open | closed: what a recovered panic does to its request
	ProblemTypeBase string    `json:"problemTypeBase"` // prefix of problem types, with its final slash
	LatencyBoundsUS []int64   `json:"latencyBoundsUs"` // upper bounds of the latency histogram, µs, ascending; +Inf is implied
	Telemetry       Telemetry `json:"telemetry"`
	Routes          []Route   `json:"routes"`          // sorted by Name
	Pools           []Pool    `json:"pools,omitempty"` // sorted by Service, then Name
	// EndSignal: the listener counts in metric EndSignalMetric each request
	// that ends otherwise than by an answer of 200 to 399.
	EndSignal bool `json:"endSignal,omitempty"`
}

// EndSignalMetric is Plan.EndSignal's counter, as the filter calls it. Envoy's
// own name of it starts with "wasmcustom.".
const EndSignalMetric = "seawall.other_ends"

// Where the listener puts the grpc-status of a response's headers, in dynamic
// metadata: at a stream's end they are gone. That of trailers the filter sees
// itself.
const (
	GRPCStatusNamespace = "seawall"
	GRPCStatusKey       = "grpc-status"
)

// Telemetry says where batches go.
type Telemetry struct {
	Cluster   string `json:"cluster"`   // Envoy cluster; must not carry the filter itself
	Authority string `json:"authority"` // :authority of the call
	Path      string `json:"path"`      // "/v1/batches"
}

// Route is one route of one service. Name is what RDS calls it, so the filter
// learns it from xds.route_name and never matches a path itself.
type Route struct {
	Name     string   `json:"name"` // "service/route"
	Service  string   `json:"service"`
	Route    string   `json:"route"`
	Priority string   `json:"priority"`          // default class
	Breaker  *Breaker `json:"breaker,omitempty"` // nil: none
	GRPC     bool     `json:"grpc,omitempty"`    // the service speaks gRPC: outcomes follow grpc-status
	Stream   bool     `json:"stream,omitempty"`  // a request may last as long as it likes: it has no latency, and is no slow call
	Retired  bool     `json:"retired,omitempty"` // gone from RDS, kept for one generation for requests in flight

	Pool           string `json:"pool,omitempty"`           // name of a Pool of its service, "": none
	TimeoutNS      int64  `json:"timeoutNs,omitempty"`      // what the policy gives a request, waiting included, 0: no limit
	DeadlineHeader string `json:"deadlineHeader,omitempty"` // lower case; a caller's deadline in whole ms, "": none is read

	// BodyNS is how long the client may take to send the request's body, where
	// that is less than Envoy gives all routes; 0: the filter does not look.
	BodyNS int64 `json:"bodyNs,omitempty"`

	KeyHeader string    `json:"keyHeader,omitempty"` // lower case; an unsafe request without this header is given a key in it, "": none is
	Retries   uint32    `json:"retries,omitempty"`   // tries that Envoy may make after the first, 0: none
	Attempts  *Attempts `json:"attempts,omitempty"`  // nil: the edge role alone counts, by how requests end
	Faults    []Fault   `json:"faults,omitempty"`    // of chaos, the first whose cohort a request is in
}

// Attempts says that the attempt role sees each try of a route's requests, so
// that each counts for the breaker.
type Attempts struct {
	PerTryNS int64 `json:"perTryNs,omitempty"` // a try that takes so long was cut off, 0: no limit of its own
}

// Fault is what chaos does to a share of the requests, in the attempt role. It
// ends by itself.
type Fault struct {
	Experiment   string `json:"experiment"`             // its name; the cohort follows from it
	PPM          int64  `json:"ppm"`                    // of the requests, by a hash of their id; the cohort of less is within that of more
	NotAfterNS   int64  `json:"notAfterNs"`             // Unix ns of the filter's clock
	Tries        uint32 `json:"tries,omitempty"`        // so many of a request's tries, from the first, 0: all
	LatencyMinNS int64  `json:"latencyMinNs,omitempty"` // the try is held for a time between
	LatencyMaxNS int64  `json:"latencyMaxNs,omitempty"` // the two, 0: it is not
	Status       uint16 `json:"status,omitempty"`       // in place of the status that the upstream answered, 400 to 599, 0: none
}

// Pool is a bulkhead of a service, shared by the routes that name it. Service
// and Name are its identity: who holds a permit keeps it when a number changes.
type Pool struct {
	Service        string `json:"service"`
	Name           string `json:"name"`
	MaxConcurrency uint32 `json:"maxConcurrency"`      // calls at once in one Envoy, 1 to MaxPool
	MaxQueue       uint32 `json:"maxQueue,omitempty"`  // calls that wait at once, 0 to MaxPool
	MaxWaitNS      int64  `json:"maxWaitNs,omitempty"` // how long one may wait, 0: no limit of its own
	TimeoutNS      int64  `json:"timeoutNs,omitempty"` // waiting and call together, 0: no limit of its own
}

// Breaker is a breaker's parameters: any of its conditions opens it, and at
// least one is on. Identity is a hash of all but ProbeExpiryNS and Override: a
// shared record of another identity starts fresh.
type Breaker struct {
	Identity            string   `json:"identity"`            // 16 hex digits
	ConsecutiveFailures uint32   `json:"consecutiveFailures"` // 0 to 1,000,000, 0: off
	RecoveryNS          int64    `json:"recoveryNs"`          // first time open
	RecoveryMaxNS       int64    `json:"recoveryMaxNs"`       // cap of the grown recovery time, ≥ RecoveryNS
	MultiplierPPM       int64    `json:"multiplierPpm"`       // growth on each re-open, ≥ 1,000,000
	Probes              uint32   `json:"probes"`              // half-open: at most so many at once, 1 to 32
	Successes           uint32   `json:"successes"`           // half-open: so many successes close it, ≥ 1
	ProbeExpiryNS       int64    `json:"probeExpiryNs"`       // a probe not settled by then is given back
	Failures            []string `json:"failures"`            // outcomes and statuses that count

	FailureRate *Rate      `json:"failureRate,omitempty"` // nil: off
	SlowCalls   *SlowCalls `json:"slowCalls,omitempty"`   // nil: off
	Override    *Override  `json:"override,omitempty"`    // by an operator; nil: none
}

// Rate is a share of the requests of a sliding window.
type Rate struct {
	PPM         int64  `json:"ppm"`         // opens at this share or above, 1 to 1,000,000
	WindowNS    int64  `json:"windowNs"`    // 1 s to 1 h
	MinRequests uint32 `json:"minRequests"` // below so many in the window it never opens, ≥ 1
}

// SlowCalls is a share of the requests that took ThresholdNS or longer.
type SlowCalls struct {
	ThresholdNS int64 `json:"thresholdNs"`
	Rate
}

// Override holds a breaker in a state, and ends by itself.
type Override struct {
	State      string `json:"state"`      // open (refuse all) | closed (admit all, count nothing)
	NotAfterNS int64  `json:"notAfterNs"` // Unix ns of the filter's clock
}

// AttemptConfig is the whole plugin configuration of the attempt role. It never
// changes: what the role does is in the plan of the edge role, in whose VM it
// runs.
const AttemptConfig = `{"role":"attempt"}`
