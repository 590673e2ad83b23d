package main

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/seawall-mesh/seawall/filter/engine/shed"
)

// nobody refuses nothing.
type nobody struct{}

func (nobody) admit(float64, int, int, int) bool { return true }
func (nobody) end(float64, ending)               {}

// seawallLimiter is the engine as the filter is to use it: one State for all
// workers, Samples of their own, handed over each half window.
type seawallLimiter struct {
	p       shed.Params
	s       shed.State
	samples [simWorkers]shed.Samples
	handed  [simWorkers]int64
	rng     *rand.Rand
}

func newSeawall(signal shed.Signal, limit uint32) *seawallLimiter {
	return &seawallLimiter{
		p:   shed.Params{Signal: signal, Min: 10, Max: limit, ThresholdPPM: [shed.Classes]uint32{shed.Medium: 900_000, shed.Low: 700_000}},
		rng: rand.New(rand.NewPCG(7, 7)),
	}
}

const simEpoch = int64(1e18)

func unix(now float64) int64 { return simEpoch + int64(now*1e9) }

func (l *seawallLimiter) admit(now float64, worker, class, inflight int) bool {
	d := l.s.Admit(&l.p, unix(now), shed.Request{Class: shed.Class(class), Inflight: uint32(inflight), Random: l.rng.Uint64()})
	if d.Shed {
		l.samples[worker].Dropped()
	}
	l.hand(now, worker, inflight)
	return !d.Shed
}

func (l *seawallLimiter) end(now float64, e ending) {
	m := &l.samples[e.worker]
	switch e.how {
	case answered:
		m.Answered(uint8(e.route), int64(e.took*1e9))
	case timedOut:
		m.TimedOut(int64(e.took * 1e9))
	case failed:
	}
	if l.p.Signal == shed.Reported {
		m.Load(uint32(min(e.load, 2) * 1e6))
	}
	l.hand(now, e.worker, e.inflight)
}

func (l *seawallLimiter) hand(now float64, worker, inflight int) {
	if unix(now)-l.handed[worker] < shed.WindowNS/2 {
		return
	}
	l.handed[worker] = unix(now)
	l.s.Merge(&l.p, unix(now), &l.samples[worker], uint32(inflight))
	l.samples[worker] = shed.Samples{}
}

// law is another way to learn a limit, with Seawall's classes around it: what
// the choice was made among.
type law interface {
	// window is told of the calls that ended in one.
	window(limit float64, w windowFigures) float64
}

type windowFigures struct {
	rtts     []float64
	mean     float64
	late     int
	inflight float64 // at its end
}

type lawLimiter struct {
	law   law
	limit float64
	since float64
	w     windowFigures
}

func (l *lawLimiter) admit(now float64, _, class, inflight int) bool {
	threshold := [classes]float64{math.Inf(1), math.Inf(1), 0.9, 0.7}[class]
	return float64(inflight) < threshold*l.limit
}

func (l *lawLimiter) end(now float64, e ending) {
	switch e.how {
	case answered:
		l.w.rtts = append(l.w.rtts, e.took)
	case timedOut:
		l.w.rtts = append(l.w.rtts, e.took)
		l.w.late++
	case failed:
	}
	if now-l.since < 0.25 || len(l.w.rtts) < 32 {
		return
	}
	w := &l.w
	w.inflight = float64(e.inflight)
	sum := 0.0
	for _, r := range w.rtts {
		sum += r
	}
	w.mean = sum / float64(len(w.rtts))
	l.limit = min(max(l.law.window(l.limit, *w), 10), 1000)
	l.since, l.w = now, windowFigures{}
}

// aimd lowers the limit by a tenth where the mean is twice the least mean of
// the last minute's windows, and raises it by one otherwise.
type aimd struct{ least []float64 }

func (a *aimd) window(limit float64, w windowFigures) float64 {
	a.least = append(a.least, w.mean)
	if len(a.least) > 240 {
		a.least = a.least[1:]
	}
	if w.mean > 2*slices.Min(a.least) || w.late > 0 {
		return limit * 0.9
	}
	if w.inflight > limit/2 {
		limit++
	}
	return limit
}

// gradient2 is Netflix's: the long against the short mean.
type gradient2 struct{ long float64 }

func (g *gradient2) window(limit float64, w windowFigures) float64 {
	if g.long == 0 {
		g.long = w.mean
	}
	g.long += (w.mean - g.long) * 2 / 601
	if g.long > 2*w.mean {
		g.long *= 0.95
	}
	if w.inflight < limit/2 {
		return limit
	}
	slope := max(0.5, min(1, 1.5*g.long/w.mean))
	return 0.8*limit + 0.2*(slope*limit+4)
}

// vegas estimates the queue from the least round trip.
type vegas struct{ least float64 }

func (v *vegas) window(limit float64, w windowFigures) float64 {
	if v.least == 0 || w.mean < v.least {
		v.least = w.mean
	}
	q, log := math.Ceil(limit*(1-v.least/w.mean)), math.Log10(limit)
	switch {
	case w.late > 0 || q > 6*log:
		return limit - log
	case w.inflight < limit/2:
		return limit
	case q <= log:
		return limit + 6*log
	case q < 3*log:
		return limit + log
	}
	return limit
}

// envoyAdaptive is a model of Envoy's adaptive_concurrency, by its source
// (gradient_controller.cc) and with the figures of its documentation: 90th
// percentile, an update each 0.1 s, 50 requests for the least round trip each
// 60 s (jitter 10 %), limit 3 meanwhile, buffer 25 %, 1000 at most.
type envoyAdaptive struct {
	limit, deferred   float64
	least             float64
	samples           []float64
	measuring         bool
	epoch, nextUpdate float64
	nextMeasure       float64
	atLeast           int
	rng               *rand.Rand
	started           bool
}

func newEnvoyAdaptive() *envoyAdaptive {
	return &envoyAdaptive{limit: 3, rng: rand.New(rand.NewPCG(3, 3))}
}

func (a *envoyAdaptive) admit(now float64, _, _, inflight int) bool {
	a.timers(now)
	return float64(inflight) < a.limit
}

func (a *envoyAdaptive) timers(now float64) {
	if !a.started {
		a.started, a.nextMeasure = true, now
	}
	if !a.measuring && now >= a.nextMeasure {
		a.measuring, a.deferred = true, a.limit
		a.set(3)
		a.samples, a.epoch = nil, now
	}
	if now >= a.nextUpdate {
		a.nextUpdate = now + 0.1
		if !a.measuring && len(a.samples) > 0 {
			rtt := a.percentile()
			gradient := max(0.5, min(2, a.least*1.25/rtt))
			limit := a.limit * gradient
			a.set(math.Floor(max(3, min(1000, limit+math.Sqrt(limit)))))
			if a.atLeast >= 5 {
				a.nextMeasure = now
			}
		}
	}
}

func (a *envoyAdaptive) set(limit float64) {
	if !a.measuring && a.limit == 3 && limit == 3 {
		a.atLeast++
	} else {
		a.atLeast = 0
	}
	a.limit = limit
}

func (a *envoyAdaptive) percentile() float64 {
	q := quantile(a.samples, 0.9)
	a.samples = nil
	return q
}

func (a *envoyAdaptive) end(now float64, e ending) {
	a.timers(now)
	if e.began < a.epoch {
		return
	}
	a.samples = append(a.samples, e.took)
	if a.measuring && len(a.samples) >= 50 {
		a.least = a.percentile()
		a.limit, a.deferred, a.measuring = a.deferred, 0, false
		a.nextMeasure = now + 60*(1+0.1*a.rng.Float64())
		a.nextUpdate = now + 0.1
	}
}

// envoyAdmission is a model of Envoy's admission_control, by its source and
// with its defaults: a window of 30 s per worker in steps of 1 s, success rate
// 95 %, aggression 1, at most 80 % rejected.
type envoyAdmission struct {
	rng     *rand.Rand
	workers [simWorkers][]admissionSecond
}

type admissionSecond struct {
	at          float64
	total, good float64
}

func newEnvoyAdmission() *envoyAdmission {
	return &envoyAdmission{rng: rand.New(rand.NewPCG(5, 5))}
}

func (a *envoyAdmission) history(now float64, worker int) *[]admissionSecond {
	h := &a.workers[worker]
	for len(*h) > 0 && now-(*h)[0].at >= 30 {
		*h = (*h)[1:]
	}
	if len(*h) == 0 || now-(*h)[len(*h)-1].at >= 1 {
		*h = append(*h, admissionSecond{at: now})
	}
	return h
}

func (a *envoyAdmission) admit(now float64, worker, _, _ int) bool {
	total, good := 0.0, 0.0
	for _, s := range *a.history(now, worker) {
		total += s.total
		good += s.good
	}
	p := min((total-good/0.95)/(total+1), 0.8)
	return a.rng.Float64() >= p
}

func (a *envoyAdmission) end(now float64, e ending) {
	h := *a.history(now, e.worker)
	s := &h[len(h)-1]
	s.total++
	if e.how == answered {
		s.good++
	}
}
