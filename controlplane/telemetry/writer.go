package telemetry

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// commitTimeout bounds one transaction. The filters keep what was not
// acknowledged.
const commitTimeout = 10 * time.Second

// write is the one writer: whatever waits goes into one transaction, so the
// cost of a durable commit is shared when there is much to do and nobody waits
// when there is little.
func (i *Ingest) write() {
	i.loadLast()
	failing, owed := false, false // owed: the store has yet to hear of the policy's bounds
	for {
		select {
		case <-i.kick:
			owed = !i.declareBounds(false)
		case first, ok := <-i.queue:
			if !ok {
				return
			}
			// Bounds first: the batch may have been counted by them, and the store
			// takes what it has seen before for older data.
			select {
			case <-i.kick:
				owed = !i.declareBounds(false)
			default:
				if owed {
					owed = !i.declareBounds(true)
				}
			}
			failing = i.commit(i.gather(first), failing)
		}
	}
}

func (i *Ingest) gather(first pending) []pending {
	group := []pending{first}
	for len(group) < commitLimit {
		select {
		case p, ok := <-i.queue:
			if !ok {
				return group
			}
			group = append(group, p)
		default:
			return group
		}
	}
	return group
}

func (i *Ingest) commit(group []pending, failing bool) (failed bool) {
	batches, left := make([]contract.Batch, len(group)), make([]leftOut, len(group))
	at := i.now()
	for n := range group {
		batches[n] = group[n].batch
		left[n] = i.guard.sift(&batches[n], at.Add(-i.retention.Days).Unix()/60)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	applied, err := i.store.Apply(ctx, at, batches)
	if err != nil {
		// Every filter comes again each second: say it once.
		if !failing {
			i.log.Error("telemetry is not being stored; filters keep it until it is", "err", err)
		}
		for _, p := range group {
			p.done <- err
		}
		return true
	}
	if failing {
		i.log.Info("telemetry is being stored again")
	}
	i.stats.commits.Add(1)
	i.last.Store(max(i.last.Load(), at.UnixNano()))
	for n := range group {
		i.settle(&batches[n], applied[n], left[n], at)
	}
	for _, p := range group {
		p.done <- nil
	}
	return false
}

// settle takes notice of a batch that is durable.
func (i *Ingest) settle(b *contract.Batch, a Applied, left leftOut, at time.Time) {
	if a.Duplicate {
		i.stats.duplicate.Add(1)
	} else {
		i.stats.fresh.Add(1)
		i.stats.rows.Add(uint64(len(b.Rows)))
		i.stats.missing.Add(a.Missing)
		if a.Late {
			i.stats.late.Add(1)
		}
		if left.unknown > 0 && i.stats.unknownRequests.Add(left.unknown) == left.unknown {
			i.log.Warn("requests are not counted: no policy has their service and route", "node", b.Node, "vm", b.VM)
		}
		if dropped := a.Dropped + left.old; dropped > 0 && i.stats.droppedRequests.Add(dropped) == dropped {
			i.log.Error("requests are not counted: too many services and routes, or older than what is kept", "node", b.Node)
		}
		i.events.add(b)
		i.ledger.touched(b.Rows, at.Unix()/60)
	}
	if gap := i.gaps.heard(b, at); gap != nil {
		i.log.Warn("the node's envoy is another one: what the one before had not sent is not counted, unless it was drained",
			"node", b.Node, "from", gap.From, "until", gap.Until)
		i.events.tell(b.Node, contract.Event{
			AtNS: b.BootNS, Kind: gapEvent, From: gap.From.Format(time.RFC3339Nano), To: gap.Until.Format(time.RFC3339Nano),
		})
	}
	i.breakers.heard(b, at)
	i.pools.heard(b, at)
	if i.onBatch != nil {
		i.onBatch(*b, !a.Duplicate)
	}
}

// loadLast finds out when the newest batch came before this process started,
// so that a quick restart does not make every SLO stale, and which routes it
// counted.
func (i *Ingest) loadLast() {
	heard, err := i.store.LastBatches(context.Background())
	routes, routesErr := i.store.Routes(context.Background())
	if err := errors.Join(err, routesErr); err != nil {
		i.log.Warn("telemetry store does not answer", "err", err)
		return
	}
	i.guard.learn(routes)
	i.gaps.learn(heard)
	for _, last := range heard {
		i.last.Store(max(i.last.Load(), last.UnixNano()))
	}
}

// declareBounds tells the store the policy's histogram bounds. While it
// cannot, latency objectives have no data.
func (i *Ingest) declareBounds(again bool) (done bool) {
	i.mu.RLock()
	bounds := i.policy.boundsUS
	i.mu.RUnlock()
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	since, err := i.store.Boundaries(ctx, bounds)
	if err != nil {
		if !again {
			i.log.Error("latency bounds are not stored: latency objectives have no data", "err", err)
		}
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if slices.Equal(bounds, i.policy.boundsUS) { // else a newer policy waits its turn
		i.policy.since = since
	}
	return true
}

const (
	pruneEvery = time.Hour
	// vmKept is for how long a silent VM's batches are remembered.
	vmKept = 7 * 24 * time.Hour
)

// prune forgets what is too old, every hour. The first time is an hour after
// the start: by then every filter that outlived a long outage of ours has sent
// what it kept, and is not taken for a silent one.
func (i *Ingest) prune(ctx context.Context) {
	t := time.NewTicker(pruneEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			i.pruneOnce(ctx)
		}
	}
}

func (i *Ingest) pruneOnce(ctx context.Context) {
	now := i.now()
	n, err := i.store.Prune(ctx, now, i.retention, now.Add(-vmKept))
	if err != nil {
		if ctx.Err() == nil {
			i.log.Warn("old telemetry is not pruned", "err", err)
		}
		return
	}
	i.log.Debug("pruned old telemetry", "rows", n)
}
