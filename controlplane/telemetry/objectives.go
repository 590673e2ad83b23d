package telemetry

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/slo"
)

// SetPolicy tells what the policy in force promises and protects: objectives,
// the latency histogram's upper bounds in µs (Plan.LatencyBoundsUS), and the
// routes that have a breaker, which are those that Breakers lists from then on.
// It never waits for the store; latency objectives have no data until the store
// has noted new bounds.
func (i *Ingest) SetPolicy(objectives []slo.Objective, boundsUS []int64, withBreaker []Route) {
	sorted := slices.Clone(objectives)
	slices.SortFunc(sorted, func(a, b slo.Objective) int { return strings.Compare(a.Name, b.Name) })
	bounds := slices.Clone(boundsUS)
	slices.Sort(bounds)
	i.mu.Lock()
	since := i.policy.since
	if !slices.Equal(bounds, i.policy.boundsUS) {
		since = nil
	}
	book := i.policy.book
	if book == nil || !reflect.DeepEqual(sorted, i.policy.objectives) {
		book = slo.NewBook(sorted)
	}
	i.policy = policy{objectives: sorted, book: book, boundsUS: bounds, since: since}
	i.mu.Unlock()
	i.breakers.setKnown(withBreaker)
	select {
	case i.kick <- struct{}{}:
	default: // the writer has yet to come for the last one, and reads the newest
	}
}

// SLOs is the status of every objective now, sorted by name.
func (i *Ingest) SLOs(ctx context.Context) ([]slo.Status, error) {
	i.mu.RLock()
	p := i.policy
	i.mu.RUnlock()
	statuses := make([]slo.Status, 0, len(p.objectives))
	if len(p.objectives) == 0 {
		return statuses, nil
	}
	now := i.now()
	minute := now.Unix() / 60
	starts := p.starts(minute, i.retention)
	counts, err := i.ledger.since(ctx, i.store, p.book, i.retention, starts, minute)
	if err != nil {
		return nil, err
	}
	fresh := slo.Freshness{MaxAge: StaleAfter}
	if ns := i.last.Load(); ns != 0 {
		fresh.LastBatch = time.Unix(0, ns)
	}
	for n, o := range p.objectives {
		since, known := p.usableSince(o)
		at := func(from, _ int64) slo.Counts {
			if !known {
				return slo.Counts{}
			}
			k, _ := slices.BinarySearch(starts, i.retention.snap(max(from, since), minute))
			if k == len(starts) {
				return slo.Counts{}
			}
			return counts[k][n]
		}
		statuses = append(statuses, slo.Evaluate(o, at, now, fresh))
	}
	return statuses, nil
}

// starts are the first minutes of all stretches that the objectives look at,
// each of which ends with the minute now.
func (p policy) starts(now int64, keep Retention) []int64 {
	var all []int64
	windows := map[time.Duration]bool{}
	for _, o := range p.objectives {
		if !windows[o.Window] {
			windows[o.Window] = true
			for _, w := range o.Windows() {
				all = append(all, keep.snap(now-w, now))
			}
		}
		if since, known := p.usableSince(o); known && since <= now {
			// Where it is older than the window it splits nothing.
			if since = keep.snap(since, now); since > keep.snap(now-o.Windows()[0], now) {
				all = append(all, since)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// usableSince is the first minute whose data an objective may use. A latency
// objective may not use what was counted with other bounds; known is false
// while the store has not said since when its own hold.
func (p policy) usableSince(o slo.Objective) (since int64, known bool) {
	if o.LatencyThreshold <= 0 {
		return 0, true
	}
	since, known = p.since[int64(o.LatencyThreshold/time.Microsecond)]
	return since, known
}
