package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/filter/contract"
)

const (
	// queueLimit bounds the batches that wait for the writer, commitLimit those
	// of one transaction.
	queueLimit  = 4096
	commitLimit = 256

	// bodyBudget bounds the bytes of all batches between arrival and commit.
	bodyBudget = 64 << 20

	// StaleAfter is for how long SLOs may be trusted without a batch: filters
	// send one every second.
	StaleAfter = time.Minute
)

// Config is what an Ingest needs. Log, Store and Now are required.
type Config struct {
	Log   *slog.Logger
	Store Store
	Now   func() time.Time

	// OnBatch, if set, is told of every batch after it is durable and before it
	// is acknowledged, from one goroutine, in the order of commits. fresh is
	// false for one seen before.
	OnBatch func(b contract.Batch, fresh bool)

	// Retention of nothing is DefaultRetention. It must cover the longest
	// objective's window.
	Retention Retention
}

// Ingest takes in batches and answers what they say. Make it with New.
type Ingest struct {
	log       *slog.Logger
	store     Store
	now       func() time.Time
	onBatch   func(contract.Batch, bool)
	retention Retention

	gate   sync.RWMutex // write-locked to shut
	shut   bool         // no batch is queued any more
	queue  chan pending
	kick   chan struct{} // the policy's histogram bounds have changed
	cancel context.CancelFunc
	wg     sync.WaitGroup // the writer and the pruner

	inBytes atomic.Int64 // of batches between arrival and commit
	last    atomic.Int64 // arrival of the newest batch, Unix ns, 0 for never
	stats   counters

	breakers breakers
	pools    pools
	events   events
	ledger   ledger
	guard    guard
	gaps     gaps

	mu     sync.RWMutex // guards what follows
	policy policy
}

// policy is what SetPolicy was told.
type policy struct {
	objectives []slo.Objective
	book       *slo.Book // of the objectives; another one for others
	boundsUS   []int64
	since      map[int64]int64 // first minute of each bound's data; nil until the store has said
}

// pending is a batch that waits for the writer.
type pending struct {
	batch contract.Batch
	done  chan<- error // buffered
}

// New starts an Ingest. Close ends it.
func New(c Config) *Ingest {
	i := &Ingest{
		log: c.Log, store: c.Store, now: c.Now, onBatch: c.OnBatch, retention: c.Retention,
		queue: make(chan pending, queueLimit),
		kick:  make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancel(context.Background())
	i.cancel = cancel
	if i.retention == (Retention{}) {
		i.retention = DefaultRetention()
	}
	i.breakers.init()
	i.pools.init()
	i.events.init(c.Now())
	i.ledger.init()
	i.guard.init()
	i.gaps.init()
	i.wg.Go(i.write)
	i.wg.Go(func() { i.prune(ctx) })
	return i
}

// Close refuses further batches, stores those that wait, and returns when
// nothing of the Ingest runs any more. It does not close the store.
func (i *Ingest) Close() {
	i.gate.Lock()
	if !i.shut {
		i.shut = true
		i.cancel()
		close(i.queue)
	}
	i.gate.Unlock()
	i.wg.Wait()
}

// Stats is what the Ingest has done since it started.
type Stats struct {
	Fresh, Duplicate uint64 // batches counted, and seen before
	Late             uint64 // of Fresh: came after a later one of their VM
	Missing          uint64 // batches that were skipped; Late ones came after all
	Rejected         uint64 // batches refused for good
	Unavailable      uint64 // batches told to come again
	Rows             uint64 // rows of Fresh
	DroppedRequests  uint64 // not counted: too many series, or older than what is kept
	UnknownRequests  uint64 // not counted: of routes that no policy has or had
	DroppedEvents    uint64 // older than the newest 10,000
	DroppedBreakers  uint64 // breaker states beyond the limit
	DroppedPools     uint64 // pool states beyond the limit
	Commits          uint64 // transactions
	LastBatch        time.Time
}

type counters struct {
	fresh, duplicate, late, missing, rejected, unavailable, rows, droppedRequests, unknownRequests, commits atomic.Uint64
}

// Stats is a snapshot for metrics.
func (i *Ingest) Stats() Stats {
	s := Stats{
		Fresh: i.stats.fresh.Load(), Duplicate: i.stats.duplicate.Load(), Late: i.stats.late.Load(),
		Missing: i.stats.missing.Load(), Rejected: i.stats.rejected.Load(), Unavailable: i.stats.unavailable.Load(),
		Rows: i.stats.rows.Load(), DroppedRequests: i.stats.droppedRequests.Load(), UnknownRequests: i.stats.unknownRequests.Load(), Commits: i.stats.commits.Load(),
		DroppedEvents: i.events.droppedCount(), DroppedBreakers: i.breakers.droppedCount(),
		DroppedPools: i.pools.droppedCount(),
	}
	if ns := i.last.Load(); ns != 0 {
		s.LastBatch = time.Unix(0, ns)
	}
	return s
}
