package contract

// BatchSchema is the version of the Batch's shape.
const BatchSchema = 1

// MaxBatchRows is the most rows that a VM sends at once, the oldest first. One
// that sends fewer has no more.
const MaxBatchRows = 1000

// Batch is what one VM of one Envoy has counted since its last batch. It is
// identified by (Node, VM, Seq) and frozen once sent: the same Seq always has
// the same bytes. Seq starts at 1 and has no gaps.
type Batch struct {
	Schema int    `json:"schema"`
	Node   string `json:"node"` // xds.node.id
	Boot   string `json:"boot"` // 32 hex digits, random, one per Envoy process (all its VMs share it)
	VM     string `json:"vm"`   // 32 hex digits, random, from the VM's birth
	Seq    uint64 `json:"seq"`
	AtNS   int64  `json:"atNs"`   // when it was frozen, Unix ns of the filter's clock
	BootNS int64  `json:"bootNs"` // when Boot was drawn, Unix ns
	Plan   string `json:"plan"`   // Plan.Hash that this VM runs, "" before the first
	Filter string `json:"filter"` // sha256 of the module (vm_config.configuration), 64 hex digits
	Served bool   `json:"served"` // this VM has had a stream: it is a worker, not the main thread

	Rows     []Row          `json:"rows,omitempty"`
	Events   []Event        `json:"events,omitempty"`
	Breakers []BreakerState `json:"breakers,omitempty"` // every breaker that has ever left closed in this process
	Pools    []PoolState    `json:"pools,omitempty"`    // every pool of the plan, and those that still have calls
	Counters Counters       `json:"counters"`           // cumulative over the VM's life
}

// Row counts the requests of one (service, route, priority, minute). Route is
// "" for a known host without a matching route.
type Row struct {
	Minute   int64    `json:"minute"`           // Unix minute of the filter's clock at the request's end
	Coarse   bool     `json:"coarse,omitempty"` // older minutes were merged into this one
	Service  string   `json:"service"`
	Route    string   `json:"route"`
	Priority string   `json:"priority"`
	Attempts uint64   `json:"attempts,omitempty"` // tries that the upstream was sent, of all these requests together
	Counts   []Count  `json:"counts"`
	Good     []Bucket `json:"good,omitempty"`    // latency of outcomes ok and 4xx
	Bad      []Bucket `json:"bad,omitempty"`     // latency of the others
	Aborted  []Bucket `json:"aborted,omitempty"` // how long those had waited whose client left
}

// Count is the number of requests that ended with one outcome.
type Count struct {
	Outcome  string `json:"outcome"`
	Status   uint16 `json:"status,omitempty"` // with 4xx and 5xx: the status that was answered, 0 where the VM had too many to tell apart
	Degraded bool   `json:"degraded,omitempty"`

	// Synthetic requests are marked as tests by a client that may do so; no
	// bucket holds them.
	Synthetic bool   `json:"synthetic,omitempty"`
	N         uint64 `json:"n"`
}

// Bucket is one filled latency bucket, not cumulative. LeUS is its upper
// bound in µs, -1 for +Inf.
type Bucket struct {
	LeUS int64  `json:"leUs"`
	N    uint64 `json:"n"`
}

// Event is something that happened once, told by the VM whose step caused it.
type Event struct {
	AtNS    int64  `json:"atNs"`
	Kind    string `json:"kind"` // breaker | breaker-reset | panic | epoch-fallback
	Service string `json:"service,omitempty"`
	Route   string `json:"route,omitempty"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Cause   string `json:"cause,omitempty"`
	Gen     uint64 `json:"gen,omitempty"`
}

// BreakerState is a breaker's shared record as this VM last read it. Of
// several VMs' words on one (Boot, service, route) the highest Gen holds.
type BreakerState struct {
	Service   string `json:"service"`
	Route     string `json:"route"`
	State     string `json:"state"` // closed | open | half-open
	Gen       uint64 `json:"gen"`
	SinceNS   int64  `json:"sinceNs"`
	RetryAtNS int64  `json:"retryAtNs,omitempty"` // open: when probes start
	Cause     string `json:"cause,omitempty"`     // why it left closed: the outcome that tripped it
	Forced    bool   `json:"forced,omitempty"`    // an override of the plan holds it in State
}

// PoolState is a pool as this VM last read its shared record, and what this VM
// has done there. Held and Waiting are of the whole Envoy, so of several VMs'
// words the latest holds; the others are to be summed.
type PoolState struct {
	Service   string `json:"service"`
	Pool      string `json:"pool"`
	Held      uint32 `json:"held"`
	Waiting   uint32 `json:"waiting"`
	Limit     uint32 `json:"limit"`     // 0: gone from the plan
	Granted   uint64 `json:"granted"`   // cumulative, at once or after waiting
	Full      uint64 `json:"full"`      // cumulative, refused: no place in the queue
	TimedOut  uint64 `json:"timedOut"`  // cumulative, refused: waited too long, or would have had to
	MaxWaitNS int64  `json:"maxWaitNs"` // the longest wait that ended since the last batch
}

// Counters are totals over the VM's life, so a lost batch loses none.
type Counters struct {
	Requests      uint64 `json:"requests"`
	UnknownRoutes uint64 `json:"unknownRoutes"`   // route names that the plan does not have
	Panics        uint64 `json:"panics"`          // recovered
	CASExhausted  uint64 `json:"casExhausted"`    // shared record not written after all tries
	DroppedRows   uint64 `json:"droppedRows"`     // rows merged away or lost for want of room, in requests
	DroppedEvents uint64 `json:"droppedEvents"`   // events lost for want of room
	Rejected      uint64 `json:"rejectedBatches"` // batches that the control plane refused for good
	EpochFallback bool   `json:"epochFallback"`   // gauges are hidden (stats_matcher), shared data serves as the epoch
}
