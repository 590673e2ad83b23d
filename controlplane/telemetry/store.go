package telemetry

import (
	"context"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// Store keeps counts by minute, and which batches it has seen. All methods may
// be called at the same time; storetest.Exercise is what an implementation
// must pass. Minutes are Unix minutes.
type Store interface {
	// Apply counts batches in one transaction and is durable when it returns:
	// all of them or, with an error, none. at is when they arrived; a row of a
	// later minute is counted in at's. A batch that was counted before has no
	// effect. Batches must have passed Decode.
	Apply(ctx context.Context, at time.Time, batches []contract.Batch) ([]Applied, error)

	// Sums is what was counted between neighbouring bounds: element i covers
	// the minutes bounds[i] to bounds[i+1]-1. Bounds ascend. All elements are
	// of one moment. Latency is left out unless asked for.
	Sums(ctx context.Context, bounds []int64, latency bool) ([]slo.Sums, error)

	// Boundaries declares the latency histogram's upper bounds, in µs, that
	// the filters are told to use from now on, and returns for each the first
	// minute whose buckets respect it. Data from before cannot be split there.
	Boundaries(ctx context.Context, boundsUS []int64) (map[int64]int64, error)

	// Prune keeps counts as finely as keep says at the time at, forgets those
	// that are older, and the batches seen of VMs that were last heard of before
	// vmSeenFrom. From then on a bound of Sums that lies inside a stretch of
	// which only the sum is kept moves up to its end. It works in steps that do
	// not hold up Apply for long, and reports how many rows went.
	Prune(ctx context.Context, at time.Time, keep Retention, vmSeenFrom time.Time) (int64, error)

	// KnowRoutes notes the routes of a policy that is about to be in force, and is
	// durable when it returns.
	KnowRoutes(ctx context.Context, at time.Time, routes []Route) error

	// Routes are all that counts are kept of, and those that KnowRoutes was told
	// of, in no order. Prune forgets the latter as it forgets VMs.
	Routes(ctx context.Context) ([]Route, error)

	// LastBatches is when the newest batch of each node arrived, of those that
	// were heard of within what Prune remembers.
	LastBatches(ctx context.Context) (map[string]time.Time, error)
}

// Applied is what became of one batch.
type Applied struct {
	Duplicate bool   // seen before: no effect
	Late      bool   // filled a gap that a later Seq had left
	Missing   uint64 // batches between the last one seen of this VM and this one
	Dropped   uint64 // requests not counted: the store has its limit of series, or their minute is forgotten
}
