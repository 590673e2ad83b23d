package slo

import (
	"slices"
	"strconv"
	"time"
)

// Cell is a number of requests that are alike.
type Cell struct {
	Service, Route, Priority string
	Outcome                  string // word of DESIGN section 1
	Status                   uint16 // with 4xx and 5xx: what was answered, 0 where unknown
	Degraded                 bool   // a fallback answered in place of Outcome
	Coarse                   bool   // some of N belong to a neighbouring minute
	N                        uint64
}

// Class tells whose latency a bucket holds.
type Class uint8

// The classes, by their numbers in stored rows. Append only.
const (
	LatencyGood    Class = iota // outcomes ok and 4xx
	LatencyBad                  // the other outcomes, but aborted
	LatencyAborted              // the client left first
)

// Latency is a number of requests of one latency bucket, not cumulative.
type Latency struct {
	Service, Route, Priority string
	Class                    Class
	LeUS                     int64 // upper bound in µs, -1 for +Inf
	N                        uint64
}

// Sums is what was counted in one stretch of time: at most one Cell, and one
// Latency, of each kind.
type Sums struct {
	Cells   []Cell
	Latency []Latency
}

// Counts is one objective's view of a stretch of time. Degraded requests are
// in Total; aborted and injected ones are outside of it.
type Counts struct {
	Total, Bad                  uint64
	Degraded, Aborted, Injected uint64
}

// Add is the sum of two stretches of time.
func (c Counts) Add(d Counts) Counts {
	return Counts{
		Total: c.Total + d.Total, Bad: c.Bad + d.Bad,
		Degraded: c.Degraded + d.Degraded, Aborted: c.Aborted + d.Aborted, Injected: c.Injected + d.Injected,
	}
}

// Count picks what concerns the objective and tells good from bad, by the
// rules of DESIGN section 5, "What an SLO counts".
func (o Objective) Count(s Sums) Counts {
	var c Counts
	bad := o.Bad
	if len(bad) == 0 {
		bad = DefaultBad()
	}
	latency := o.LatencyThreshold > 0
	for i := range s.Cells {
		cell := &s.Cells[i]
		if !o.Covers(cell.Service, cell.Route, cell.Priority) {
			continue
		}
		switch cell.Outcome {
		case "aborted":
			c.Aborted += cell.N
			continue
		case "injected":
			c.Injected += cell.N
			continue
		}
		if cell.Degraded {
			c.Degraded += cell.N
		}
		if latency {
			continue
		}
		c.Total += cell.N
		if IsBad(bad, cell.Outcome, cell.Status, cell.Degraded) {
			c.Bad += cell.N
		}
	}
	if latency {
		o.countLatency(&c, s.Latency)
	}
	return c
}

func (o Objective) countLatency(c *Counts, buckets []Latency) {
	threshold := int64(o.LatencyThreshold / time.Microsecond)
	for i := range buckets {
		b := &buckets[i]
		if !o.Covers(b.Service, b.Route, b.Priority) {
			continue
		}
		slow := b.LeUS < 0 || b.LeUS > threshold
		switch b.Class {
		case LatencyGood:
			c.Total += b.N
			if slow {
				c.Bad += b.N
			}
		case LatencyAborted:
			// Who waited past the threshold and left has had a slow answer; who
			// left earlier says nothing about it.
			if slow {
				c.Total += b.N
				c.Bad += b.N
			}
		case LatencyBad:
		}
	}
}

// Covers reports whether the objective looks at such requests. Route "" (a
// known host without a matching route) is in no objective.
func (o Objective) Covers(service, route, priority string) bool {
	return service == o.Service && route != "" &&
		(len(o.Routes) == 0 || slices.Contains(o.Routes, route)) &&
		(len(o.Priorities) == 0 || slices.Contains(o.Priorities, priority))
}

// IsBad reports whether a request that ended so is bad by a list of outcome
// words, statuses and "degraded". A degraded answer is good unless the list
// says "degraded"; a status in the list is an upstream's answer. Aborted and
// injected requests must be left out before.
func IsBad(bad []string, outcome string, status uint16, degraded bool) bool {
	if degraded {
		return slices.Contains(bad, "degraded")
	}
	if slices.Contains(bad, outcome) {
		return true
	}
	if status == 0 || (outcome != "ok" && outcome != "4xx" && outcome != "5xx") {
		return false
	}
	return slices.Contains(bad, strconv.Itoa(int(status)))
}
