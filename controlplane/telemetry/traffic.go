package telemetry

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/slo"
)

// TrafficRow is what one (service, route, priority) saw in a window: a member
// of GET traffic. Total = Good + Bad by the default `bad`; Injected, Aborted
// and Synthetic are outside. A degraded answer is good, whatever its cause.
type TrafficRow struct {
	Service   string            `json:"service"`
	Route     string            `json:"route"` // "" for a known host without a matching route
	Priority  string            `json:"priority"`
	Total     uint64            `json:"total"`
	Good      uint64            `json:"good"`
	Bad       uint64            `json:"bad"`
	Slow      uint64            `json:"slow"`     // ok and 4xx slower than the strictest latency objective on them; 0 where there is none
	Shed      uint64            `json:"shed"`     // of Total
	Degraded  uint64            `json:"degraded"` // of Good
	Injected  uint64            `json:"injected"`
	Aborted   uint64            `json:"aborted"`
	Synthetic uint64            `json:"synthetic"`        // tests by the client's own word; in nothing else here but Attempts
	Outcomes  map[string]uint64 `json:"outcomes"`         // by outcome word, only those that occurred; a degraded answer under its cause
	Would     map[string]uint64 `json:"would"`            // decisions that shadow mode would have made
	P50       *float64          `json:"p50"`              // milliseconds, of ok and 4xx; nil without any
	P95       *float64          `json:"p95"`              // milliseconds
	P99       *float64          `json:"p99"`              // milliseconds
	Attempts  uint64            `json:"attempts"`         // calls that upstreams were sent for all of these, retries included
	Coarse    bool              `json:"coarse,omitempty"` // some of it belongs to minutes nearby
}

// Traffic is what was counted in the last window, rounded up to whole minutes,
// and in the current minute, sorted by service, route and priority.
func (i *Ingest) Traffic(ctx context.Context, window time.Duration) ([]TrafficRow, error) {
	i.mu.RLock()
	p := i.policy
	i.mu.RUnlock()
	minute := i.now().Unix() / 60
	back := int64((max(window, 0) + time.Minute - 1) / time.Minute)
	sums, err := i.store.Sums(ctx, []int64{i.retention.snap(minute-back, minute), minute + 1}, true)
	if err != nil {
		return nil, err
	}
	return p.traffic(sums[0]), nil
}

type rowKey struct{ service, route, priority string }

func (p policy) traffic(sums slo.Sums) []TrafficRow {
	index := map[rowKey]int{}
	rows := []TrafficRow{}
	at := func(k rowKey) *TrafficRow {
		n, ok := index[k]
		if !ok {
			n = len(rows)
			index[k] = n
			rows = append(rows, TrafficRow{
				Service: k.service, Route: k.route, Priority: k.priority,
				Outcomes: map[string]uint64{}, Would: map[string]uint64{},
			})
		}
		return &rows[n]
	}
	bad := slo.NewBadSet(slo.DefaultBad())
	for _, c := range sums.Cells {
		at(rowKey{c.Service, c.Route, c.Priority}).count(c, bad)
	}
	for _, a := range sums.Attempts {
		at(rowKey{a.Service, a.Route, a.Priority}).Attempts += a.N
	}
	buckets := map[rowKey][]slo.Latency{}
	for _, l := range sums.Latency {
		if l.Class == slo.LatencyGood {
			k := rowKey{l.Service, l.Route, l.Priority}
			buckets[k] = append(buckets[k], l)
		}
	}
	for k, b := range buckets {
		row := at(k)
		slices.SortFunc(b, func(x, y slo.Latency) int { return compareBound(x.LeUS, y.LeUS) })
		row.P50, row.P95, row.P99 = p.quantile(b, 50), p.quantile(b, 95), p.quantile(b, 99)
		row.Slow = p.slow(k, b)
	}
	slices.SortFunc(rows, func(a, b TrafficRow) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Route, b.Route), strings.Compare(a.Priority, b.Priority))
	})
	return rows
}

func (r *TrafficRow) count(c slo.Cell, bad slo.BadSet) {
	r.Coarse = r.Coarse || c.Coarse
	if c.Synthetic {
		r.Synthetic += c.N
		return
	}
	r.Outcomes[c.Outcome] += c.N
	switch c.Outcome {
	case "aborted":
		r.Aborted += c.N
		return
	case "injected":
		r.Injected += c.N
		return
	case "shed":
		r.Shed += c.N
	}
	r.Total += c.N
	if c.Degraded {
		r.Degraded += c.N
	}
	if bad.Has(c.Outcome, c.Status, c.Degraded) {
		r.Bad += c.N
	} else {
		r.Good += c.N
	}
}

// quantile is the latency in ms that percent of the requests did not exceed,
// interpolated inside its bucket as Prometheus does. Beyond the last bound it
// is the last bound; where the histogram's bounds are not known it is the
// bucket's upper bound.
func (p policy) quantile(buckets []slo.Latency, percent uint64) *float64 {
	var total uint64
	for _, b := range buckets {
		total += b.N
	}
	if total == 0 {
		return nil
	}
	rank := (total*percent + 99) / 100 // the smallest number of requests that is percent of them
	var below uint64
	for _, b := range buckets {
		if below+b.N < rank {
			below += b.N
			continue
		}
		var us float64
		n, found := slices.BinarySearch(p.boundsUS, b.LeUS)
		switch {
		case b.LeUS < 0 && len(p.boundsUS) > 0:
			us = float64(p.boundsUS[len(p.boundsUS)-1])
		case b.LeUS < 0:
			return nil
		case !found:
			us = float64(b.LeUS)
		default:
			var lower int64
			if n > 0 {
				lower = p.boundsUS[n-1]
			}
			us = float64(lower) + float64(b.LeUS-lower)*float64(rank-below)/float64(b.N)
		}
		ms := us / 1000
		return &ms
	}
	return nil
}

// slow counts the requests beyond the strictest latency threshold that covers
// them.
func (p policy) slow(k rowKey, buckets []slo.Latency) uint64 {
	var strictest slo.Objective
	for _, o := range p.objectives {
		if o.LatencyThreshold > 0 && o.Covers(k.service, k.route, k.priority) &&
			(strictest.LatencyThreshold == 0 || o.LatencyThreshold < strictest.LatencyThreshold) {
			strictest = o
		}
	}
	if strictest.LatencyThreshold == 0 {
		return 0
	}
	return strictest.Count(slo.Sums{Latency: buckets}).Bad
}

// compareBound orders upper bounds, +Inf (-1) last.
func compareBound(a, b int64) int {
	switch {
	case a == b:
		return 0
	case a < 0:
		return 1
	case b < 0:
		return -1
	}
	return cmp.Compare(a, b)
}
