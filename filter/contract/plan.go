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
	Routes          []Route   `json:"routes"` // sorted by Name
}

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
	Retired  bool     `json:"retired,omitempty"` // gone from RDS, kept for one generation for requests in flight
}

// Breaker is a breaker's parameters. Identity is a hash of all of them: a
// shared record of another identity starts fresh.
type Breaker struct {
	Identity            string   `json:"identity"`            // 16 hex digits
	ConsecutiveFailures uint32   `json:"consecutiveFailures"` // 1 to 1,000,000
	RecoveryNS          int64    `json:"recoveryNs"`          // first time open
	RecoveryMaxNS       int64    `json:"recoveryMaxNs"`       // cap of the grown recovery time, ≥ RecoveryNS
	MultiplierPPM       int64    `json:"multiplierPpm"`       // growth on each re-open, ≥ 1,000,000
	Probes              uint32   `json:"probes"`              // half-open: at most so many at once, 1 to 32
	Successes           uint32   `json:"successes"`           // half-open: so many successes close it, ≥ 1
	ProbeExpiryNS       int64    `json:"probeExpiryNs"`       // a probe not settled by then is given back
	Failures            []string `json:"failures"`            // outcomes and statuses that count
}
