package main

import (
	"container/heap"
	"math"
	"math/rand/v2"
)

// This file is a discrete-event model of overload: clients of four classes, an
// edge of some workers with one limiter, and a service that works on so many
// requests at once and queues the others, first come, first served. It does not
// notice that a client has given up, and does its work all the same, as most
// servers do. Times are seconds.

const (
	simWorkers = 4
	simTimeout = 1.0 // a client's, and the edge's
	simBucket  = 0.25
	classes    = 4
)

// limiter is what decides at the edge.
type limiter interface {
	// admit decides on a request; inflight is how many are out.
	admit(now float64, worker, class, inflight int) bool
	// end takes the end of one that was admitted.
	end(now float64, e ending)
}

type ending struct {
	worker, class, route, inflight int // inflight: without this one
	began, took                    float64
	how                            how
	load                           float64 // that the service reported
}

type how int

const (
	answered how = iota
	failed       // 5xx
	timedOut
)

// world is a scenario.
type world struct {
	length  float64
	from    float64                          // figures are of what arrives from here on …
	until   float64                          // … to here
	rate    func(t float64) [classes]float64 // requests a second
	burst   int                              // requests that come at once, 0 = 1
	servers func(t float64) int
	routes  []route
	fails   float64 // share of answers that are a 5xx
	retries int     // of a client that was not served
}

// route is one kind of call.
type route struct {
	share   float64 // of requests
	later   float64 // share in the second half, 0: the same
	mean    func(t float64) float64
	endless bool // waits for something else: takes no server
}

type simRequest struct {
	at, sent             float64
	class, route, worker int
	tries                int
	over                 bool
}

type simEvent struct {
	at   float64
	kind simKind
	req  *simRequest
	free bool // a server is free again
}

type eventHeap []simEvent

func (h eventHeap) Len() int           { return len(h) }
func (h eventHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h eventHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)        { *h = append(*h, x.(simEvent)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// simKind is what happens.
type simKind int

const (
	simArrive simKind = iota
	simSend
	simServe
	simGiveUp
)

type sim struct {
	w        world
	l        limiter
	rng      *rand.Rand
	events   eventHeap
	queue    []*simRequest
	busy     int
	inflight int
	f        simFigures
}

// simFigures are what a run has shown.
type simFigures struct {
	offered, served, shed, late [classes]int
	took                        [classes][]float64 // of what was served, or the time-out
	buckets                     []bucketFigures    // of all that was sent, by when
	peak                        int
}

type bucketFigures struct {
	sent, refused, lost [classes]int
	served              int // by when it ended
	inflight            int
}

func simulate(w world, l limiter, seed uint64) *simFigures {
	s := &sim{w: w, l: l, rng: rand.New(rand.NewPCG(seed, 1))}
	s.f.buckets = make([]bucketFigures, int(w.length/simBucket)+1)
	for c := range classes {
		s.next(0, c)
	}
	for len(s.events) > 0 {
		e := heap.Pop(&s.events).(simEvent)
		if e.at > w.length {
			break
		}
		s.step(e)
	}
	return &s.f
}

func (s *sim) next(now float64, class int) {
	// Thinning, by a rate that no scenario exceeds.
	for {
		top := 0.0
		for t := now; t <= now+1; t += 0.25 {
			top = max(top, s.w.rate(t)[class])
		}
		n := float64(max(s.w.burst, 1))
		if top == 0 {
			if now += 1; now > s.w.length {
				return
			}
			continue
		}
		step := s.rng.ExpFloat64() / top * n
		if step > 1 {
			now++
			if now > s.w.length {
				return
			}
			continue // nothing within this second: memoryless
		}
		now += step
		if s.rng.Float64()*top < s.w.rate(now)[class] {
			heap.Push(&s.events, simEvent{at: now, kind: simArrive, req: &simRequest{class: class}})
			return
		}
	}
}

func (s *sim) step(e simEvent) {
	switch e.kind {
	case simArrive:
		for range max(s.w.burst, 1) {
			r := &simRequest{at: e.at, class: e.req.class}
			if s.measured(r) {
				s.f.offered[r.class]++
			}
			s.send(e.at, r)
		}
		s.next(e.at, e.req.class)
	case simSend:
		s.send(e.at, e.req)
	case simServe:
		s.finish(e)
	case simGiveUp:
		if !e.req.over {
			s.end(e.at, e.req, timedOut)
		}
	}
}

func (s *sim) measured(r *simRequest) bool { return r.at >= s.w.from && r.at < s.w.until }

func (s *sim) send(now float64, r *simRequest) {
	r.sent, r.over, r.worker, r.tries = now, false, s.rng.IntN(simWorkers), r.tries+1
	pick := s.rng.Float64()
	for i, k := range s.w.routes {
		share := k.share
		if k.later > 0 && now > s.w.length/2 {
			share = k.later
		}
		if pick -= share; pick < 0 || i == len(s.w.routes)-1 {
			r.route = i
			break
		}
	}
	b := &s.f.buckets[int(now/simBucket)]
	b.sent[r.class]++
	b.inflight = max(b.inflight, s.inflight)
	if !s.l.admit(now, r.worker, r.class, s.inflight) {
		b.refused[r.class]++
		s.lost(now, r, true)
		return
	}
	s.inflight++
	s.f.peak = max(s.f.peak, s.inflight)
	// A retry is another request to the service, which may still be at work on
	// the first.
	call := *r
	call.over = false
	heap.Push(&s.events, simEvent{at: now + simTimeout, kind: simGiveUp, req: &call})
	k := s.w.routes[r.route]
	if k.endless {
		took := s.rng.ExpFloat64() * k.mean(now)
		heap.Push(&s.events, simEvent{at: now + took, kind: simServe, req: &call})
		return
	}
	s.queue = append(s.queue, &call)
	s.start(now)
}

func (s *sim) start(now float64) {
	for len(s.queue) > 0 && s.busy < s.w.servers(now) {
		r := s.queue[0]
		s.queue = s.queue[1:]
		s.busy++
		// Half of the time is fixed, half of it random.
		took := s.w.routes[r.route].mean(now) * (0.5 + 0.5*s.rng.ExpFloat64())
		heap.Push(&s.events, simEvent{at: now + took, kind: simServe, req: r, free: true})
	}
}

func (s *sim) finish(e simEvent) {
	if e.free {
		s.busy--
		s.start(e.at)
	}
	if e.req.over {
		return
	}
	if s.rng.Float64() < s.w.fails {
		s.end(e.at, e.req, failed)
		return
	}
	s.end(e.at, e.req, answered)
}

func (s *sim) end(now float64, r *simRequest, how how) {
	r.over = true
	s.inflight--
	s.l.end(now, ending{worker: r.worker, class: r.class, route: r.route, inflight: s.inflight, began: r.sent, took: now - r.sent, how: how, load: s.load(now)})
	if how == timedOut {
		s.f.buckets[int(r.sent/simBucket)].lost[r.class]++
		s.lost(now, r, false)
		return
	}
	if b := int(now / simBucket); b < len(s.f.buckets) {
		s.f.buckets[b].served++
	}
	if s.measured(r) {
		s.f.served[r.class]++
		s.f.took[r.class] = append(s.f.took[r.class], now-r.at)
	}
}

// load is what the service reports: how many of its places are taken, and
// more where others wait.
func (s *sim) load(now float64) float64 {
	return float64(s.busy+len(s.queue)) / float64(s.w.servers(now))
}

func (s *sim) lost(now float64, r *simRequest, refused bool) {
	if r.tries <= s.w.retries {
		again := *r
		heap.Push(&s.events, simEvent{at: now + 0.05 + 0.1*s.rng.Float64(), kind: simSend, req: &again})
		return
	}
	if !s.measured(r) {
		return
	}
	if refused {
		s.f.shed[r.class]++
		return
	}
	s.f.late[r.class]++
	s.f.took[r.class] = append(s.f.took[r.class], now-r.at)
}

func (f *simFigures) goodput(seconds float64) float64 {
	n := 0
	for _, k := range f.served {
		n += k
	}
	return float64(n) / seconds
}

// availability of a class, in percent.
func (f *simFigures) availability(class int) float64 {
	if f.offered[class] == 0 {
		return math.NaN()
	}
	return 100 * float64(f.served[class]) / float64(f.offered[class])
}

func (f *simFigures) p99(class int) float64 {
	if len(f.took[class]) == 0 {
		return math.NaN()
	}
	return quantile(f.took[class], 0.99)
}

// settled is how long after t the last bucket began in which more than 1 % of
// the requests of a class, or of all for −1, were not served.
func (f *simFigures) settled(t, until float64, class int) float64 {
	last := t
	for i, b := range f.buckets {
		at := float64(i) * simBucket
		if at < t || at >= until {
			continue
		}
		sent, bad := 0, 0
		for c := range classes {
			if class < 0 || c == class {
				sent += b.sent[c]
				bad += b.refused[c] + b.lost[c]
			}
		}
		if bad*100 > sent {
			last = at + simBucket
		}
	}
	return last - t
}

// swing is the deviation of the requests in flight from their mean between two
// times, as a share of it.
func (f *simFigures) swing(from, until float64) float64 {
	var xs []float64
	for i, b := range f.buckets {
		if at := float64(i) * simBucket; at >= from && at < until {
			xs = append(xs, float64(b.inflight))
		}
	}
	if len(xs) == 0 {
		return math.NaN()
	}
	sum, sq := 0.0, 0.0
	for _, x := range xs {
		sum += x
	}
	mean := sum / float64(len(xs))
	for _, x := range xs {
		sq += (x - mean) * (x - mean)
	}
	return math.Sqrt(sq/float64(len(xs))) / max(mean, 1)
}

func sumOf(xs [classes]int) (n int) {
	for _, x := range xs {
		n += x
	}
	return n
}
