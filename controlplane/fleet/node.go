package fleet

import "time"

// Kind is an xDS resource type, by its usual short name.
type Kind string

// The types that Seawall serves.
const (
	CDS  Kind = "CDS"
	EDS  Kind = "EDS"
	SDS  Kind = "SDS"
	LDS  Kind = "LDS"
	RDS  Kind = "RDS"
	ECDS Kind = "ECDS"
)

// ResourceStatus is how one type stands at one node.
type ResourceStatus string

// The words of GET nodes (DESIGN section 5).
const (
	Synced   ResourceStatus = "synced"   // acknowledged at the target version
	Stale    ResourceStatus = "stale"    // on its way, held back, or not asked for yet
	Rejected ResourceStatus = "rejected" // refused by Envoy; the previous version serves
)

// Resource is one type's state at one node. Version is what the node last
// acknowledged, never what was merely sent; Message is Envoy's own text after
// a rejection, else why the type is stale.
type Resource struct {
	State   ResourceStatus `json:"state"`
	Version string         `json:"version"`
	Message string         `json:"message"`
}

// State is a node as a whole.
type State string

// The states of a node, the first that holds.
const (
	StateDisconnected State = "disconnected" // no stream; it goes on with what it has
	StateRejected     State = "rejected"     // a type was refused
	StateStale        State = "stale"        // not at the target, see Reason
	StateUnknown      State = "unknown"      // acknowledged, but the number of workers is not known
	StateSynced       State = "synced"       // acknowledged, and all workers say the target plan's hash
)

// Worker is one VM that runs the filter. A node's main-thread VM reports just
// like a worker's; see Node.Workers for how it is left out.
type Worker struct {
	VM         string    `json:"vm"`         // 32 hex digits
	PlanHash   string    `json:"planHash"`   // plan it runs, "" before the first
	FilterHash string    `json:"filterHash"` // sha256 of its module
	Served     bool      `json:"served"`     // has had a stream, so it is certainly a worker
	Alive      bool      `json:"alive"`      // reported within the last 5 s
	LastSeen   time.Time `json:"lastSeen"`
}

// Node is one Envoy, as GET nodes shows it. Members of DESIGN section 5 come
// first; the rest is ours.
type Node struct {
	ID        string    `json:"id"`
	Cluster   string    `json:"cluster"`
	Connected bool      `json:"connected"`
	LastSeen  time.Time `json:"lastSeen"` // of its stream or of a batch, whichever is later

	// PlanHash is the plan that all its workers say they run, "" while they
	// differ, are silent or too few have spoken. It is never what was pushed:
	// that is TargetPlanHash.
	PlanHash string `json:"planHash"`
	// FilterHash is the module's sha256 that all its workers say they run,
	// by the same rule.
	FilterHash string `json:"filterHash"`
	// Workers lists at most as many VMs as the node has workers (all of them
	// where that number is unknown), sorted by VM. Of N+1 living VMs one that
	// never served is left out: it is the main thread's.
	Workers   []Worker          `json:"workers"`
	Resources map[Kind]Resource `json:"resources"`

	State            State  `json:"state"`
	Synced           bool   `json:"synced"`
	Reason           string `json:"reason"` // why it is not synced, "" if it is
	Edge             string `json:"edge"`   // the Edge it selected, "" for none
	TargetPlanHash   string `json:"targetPlanHash"`
	TargetFilterHash string `json:"targetFilterHash"`
	WorkerCount      int    `json:"workerCount"` // from its metadata, 0 where unknown
	VMID             string `json:"vmId"`        // vm_id pushed last; seawall-rN after N-1 healings
	Version          string `json:"version"`     // the launcher's version, from metadata
}

// XDSState is what a node's stream shows, as a whole: each SetXDS replaces the
// previous one.
type XDSState struct {
	Cluster          string
	Connected        bool
	WorkerCount      int // 0: unknown
	Version          string
	Edge             string
	TargetPlanHash   string
	TargetFilterHash string
	VMID             string
	Reason           string    // why it does not get the target, "" for none
	Seen             time.Time // its stream said something last; zero means now
	Resources        map[Kind]Resource
}

// WorkerReport is what one batch says of the VM that sent it.
type WorkerReport struct {
	Node, Boot, VM, Plan, Filter string
	BootNS                       int64 // when Boot was drawn, Unix ns of the node's clock; orders the boots of a node
	Served                       bool
	At                           time.Time // arrival, by the control plane's clock; zero means now
}

// Counts is the fleet in numbers.
type Counts struct {
	Nodes     int // known, connected or not
	Connected int
	Synced    int
	Rejected  int // connected, with a rejected type
}

// WorkerVerdict is what the workers of a node say of one plan.
type WorkerVerdict struct {
	Alive   int  // VMs that reported within the last 5 s
	On      int  // of those, VMs that run the plan
	Behind  int  // of those, VMs of the same module that run another plan
	Enough  bool // all workers run the plan, by the rule of Workers
	Unknown bool // the number of workers is unknown, so Enough means: all living VMs
}
