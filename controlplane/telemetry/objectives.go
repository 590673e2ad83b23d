package telemetry

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/filter/contract"
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
	i.policy = policy{objectives: sorted, boundsUS: bounds, since: since}
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
	bounds := []int64{minute + 1}
	latency := false
	for _, o := range p.objectives {
		for _, w := range o.Windows() {
			bounds = append(bounds, minute-w)
		}
		if since, ok := p.latencySince(o); ok {
			latency = true
			// Outside of the window it splits nothing.
			if since <= minute && since > minute-o.Windows()[0] {
				bounds = append(bounds, since)
			}
		}
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	sums, bounds, err := i.sums.read(ctx, i.store, bounds, latency)
	if err != nil {
		return nil, err
	}
	fresh := slo.Freshness{MaxAge: StaleAfter}
	if ns := i.last.Load(); ns != 0 {
		fresh.LastBatch = time.Unix(0, ns)
	}
	for _, o := range p.objectives {
		statuses = append(statuses, slo.Evaluate(o, p.counter(o, bounds, sums), now, fresh))
	}
	return statuses, nil
}

// latencySince is the first minute whose data a latency objective may use.
func (p policy) latencySince(o slo.Objective) (int64, bool) {
	if o.LatencyThreshold <= 0 {
		return 0, false
	}
	since, ok := p.since[int64(o.LatencyThreshold/time.Microsecond)]
	return since, ok
}

// counter sums an objective's counts from a bound to the last one.
func (p policy) counter(o slo.Objective, bounds []int64, sums []slo.Sums) func(from, to int64) slo.Counts {
	since := int64(0)
	if o.LatencyThreshold > 0 {
		var ok bool
		if since, ok = p.latencySince(o); !ok {
			return func(int64, int64) slo.Counts { return slo.Counts{} }
		}
	}
	tail := make([]slo.Counts, len(sums)+1) // tail[n]: of element n and all later ones
	for n := len(sums) - 1; n >= 0; n-- {
		tail[n] = tail[n+1].Add(o.Count(sums[n]))
	}
	return func(from, _ int64) slo.Counts {
		n, _ := slices.BinarySearch(bounds, max(from, since))
		return tail[min(n, len(sums))]
	}
}

// sumsCache keeps what was read of minutes that have ended. Within one minute
// questions are alike, and only the last minutes change.
type sumsCache struct {
	mu      sync.Mutex // held while reading, so that one question reads for all
	bounds  []int64
	latency bool
	version uint64
	sums    []slo.Sums

	state struct {
		sync.Mutex
		split   int64  // minutes before it are kept
		version uint64 // of the minutes before it
	}
}

// touched takes notice of counts that were stored: late ones change minutes
// that have been read.
func (c *sumsCache) touched(rows []contract.Row) {
	c.state.Lock()
	defer c.state.Unlock()
	if slices.ContainsFunc(rows, func(r contract.Row) bool { return r.Minute < c.state.split }) {
		c.state.version++
	}
}

// read is Store.Sums through the cache. It may split the element that ends
// now, so it returns the bounds that hold.
func (c *sumsCache) read(ctx context.Context, store Store, bounds []int64, latency bool) ([]slo.Sums, []int64, error) {
	// The last whole minute is still being written by batches on their way.
	split := bounds[len(bounds)-1] - 2
	n, found := slices.BinarySearch(bounds, split)
	if !found {
		bounds = slices.Insert(bounds, n, split)
	}
	old, recent := bounds[:n+1], bounds[n:]

	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Lock()
	if c.state.split != split {
		c.state.split = split
		c.state.version++
	}
	version := c.state.version
	c.state.Unlock()
	if version != c.version || latency != c.latency || !slices.Equal(old, c.bounds) {
		sums, err := store.Sums(ctx, old, latency)
		if err != nil {
			return nil, nil, err
		}
		c.sums, c.bounds, c.latency, c.version = sums, slices.Clone(old), latency, version
	}
	sums, err := store.Sums(ctx, recent, latency)
	if err != nil {
		return nil, nil, err
	}
	return append(slices.Clip(c.sums), sums...), bounds, nil
}
