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
	Synthetic                bool   // a test by the client's own word
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

// Attempts is how often upstreams were tried for all requests that are alike.
type Attempts struct {
	Service, Route, Priority string
	N                        uint64
}

// Sums is what was counted in one stretch of time: at most one Cell, one
// Latency and one Attempts of each kind.
type Sums struct {
	Cells    []Cell
	Latency  []Latency
	Attempts []Attempts
}

// Counts is one objective's view of a stretch of time. Degraded requests are
// in Total; aborted, injected and synthetic ones are outside of it.
type Counts struct {
	Total, Bad                             uint64
	Degraded, Aborted, Injected, Synthetic uint64
}

// Add is the sum of two stretches of time.
func (c Counts) Add(d Counts) Counts {
	return Counts{
		Total: c.Total + d.Total, Bad: c.Bad + d.Bad,
		Degraded: c.Degraded + d.Degraded, Aborted: c.Aborted + d.Aborted, Injected: c.Injected + d.Injected,
		Synthetic: c.Synthetic + d.Synthetic,
	}
}

// Count picks what concerns the objective and tells good from bad, by the
// rules of DESIGN section 5, "What an SLO counts".
func (o Objective) Count(s Sums) Counts {
	return NewBook([]Objective{o}).Count(s)[0]
}

// Book counts many objectives at once: each request is shown only to those of
// its service. Make it with NewBook; it does not change.
type Book struct {
	objectives []Objective
	bad        []BadSet
	byService  map[string][]int
	latency    bool
}

// NewBook makes a Book of objectives in their order.
func NewBook(objectives []Objective) *Book {
	b := &Book{objectives: objectives, byService: map[string][]int{}}
	for n, o := range objectives {
		bad := o.Bad
		if len(bad) == 0 {
			bad = DefaultBad()
		}
		b.bad = append(b.bad, NewBadSet(bad))
		b.byService[o.Service] = append(b.byService[o.Service], n)
		b.latency = b.latency || o.LatencyThreshold > 0
	}
	return b
}

// Len is the number of objectives.
func (b *Book) Len() int { return len(b.objectives) }

// Latency reports whether any of them looks at Sums.Latency.
func (b *Book) Latency() bool { return b.latency }

// Count is what each objective has counted of s.
func (b *Book) Count(s Sums) []Counts {
	all := make([]Counts, len(b.objectives))
	for i := range s.Cells {
		cell := &s.Cells[i]
		for _, n := range b.byService[cell.Service] {
			if o := &b.objectives[n]; o.Covers(cell.Service, cell.Route, cell.Priority) {
				all[n].count(cell, o.LatencyThreshold > 0, b.bad[n])
			}
		}
	}
	if !b.latency {
		return all
	}
	for i := range s.Latency {
		bucket := &s.Latency[i]
		for _, n := range b.byService[bucket.Service] {
			o := &b.objectives[n]
			if o.LatencyThreshold > 0 && o.Covers(bucket.Service, bucket.Route, bucket.Priority) {
				all[n].countLatency(bucket, int64(o.LatencyThreshold/time.Microsecond))
			}
		}
	}
	return all
}

func (c *Counts) count(cell *Cell, latency bool, bad BadSet) {
	if cell.Synthetic {
		c.Synthetic += cell.N
		return
	}
	switch cell.Outcome {
	case "aborted":
		c.Aborted += cell.N
		return
	case "injected":
		c.Injected += cell.N
		return
	}
	if cell.Degraded {
		c.Degraded += cell.N
	}
	if latency {
		return
	}
	c.Total += cell.N
	if bad.Has(cell.Outcome, cell.Status, cell.Degraded) {
		c.Bad += cell.N
	}
}

func (c *Counts) countLatency(b *Latency, threshold int64) {
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

// Covers reports whether the objective looks at such requests. Route "" (a
// known host without a matching route) is in no objective.
func (o Objective) Covers(service, route, priority string) bool {
	return service == o.Service && route != "" &&
		(len(o.Routes) == 0 || slices.Contains(o.Routes, route)) &&
		(len(o.Priorities) == 0 || slices.Contains(o.Priorities, priority))
}

// BadSet is a list of outcome words, statuses and "degraded", to be asked often.
// Make it with NewBadSet.
type BadSet struct {
	words    map[string]bool
	statuses map[uint16]bool
}

// NewBadSet makes a BadSet of a list as policies have it.
func NewBadSet(list []string) BadSet {
	set := BadSet{words: map[string]bool{}, statuses: map[uint16]bool{}}
	for _, w := range list {
		set.words[w] = true
		if status, err := strconv.ParseUint(w, 10, 16); err == nil {
			set.statuses[uint16(status)] = true
		}
	}
	return set
}

// Has reports whether a request that ended so is bad. A degraded answer is good
// unless the list says "degraded"; a status in the list is an upstream's answer.
// Aborted, injected and synthetic requests must be left out before.
func (s BadSet) Has(outcome string, status uint16, degraded bool) bool {
	if degraded {
		return s.words["degraded"]
	}
	if s.words[outcome] {
		return true
	}
	return status != 0 && (outcome == "ok" || outcome == "4xx" || outcome == "5xx") && s.statuses[status]
}
