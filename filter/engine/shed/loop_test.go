package shed_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/engine/shed"
)

// plant is a service in steps of a millisecond: so many places, calls of one
// length each, and a queue. Arrivals come evenly, so that what the limit does
// is all that varies.
type plant struct {
	places int
	took   int64 // ms, without waiting
	rate   [shed.Classes]float64

	p       shed.Params
	s       shed.State
	workers [4]shed.Samples
	now     int64 // ms
	queue   []job
	busy    []job // until is set
	due     [shed.Classes]float64
	turn    int

	offered, dropped [shed.Classes]int
	served           int
	lowest, highest  uint32 // limit, in thousandths
	longest          int64  // ms that a call took
}

type job struct{ since, until int64 }

func newPlant(places int, took int64) *plant {
	return &plant{places: places, took: took, p: shed.Params{Signal: shed.Adaptive, Min: 10, Max: 1000, ThresholdPPM: thresholds}}
}

// load sets the rate, in parts of what the service can do.
func (l *plant) load(parts [shed.Classes]float64) {
	for c := range parts {
		l.rate[c] = parts[c] * float64(l.places) / float64(l.took)
	}
}

func (l *plant) forget() {
	l.offered, l.dropped, l.served = [shed.Classes]int{}, [shed.Classes]int{}, 0
	l.lowest, l.highest, l.longest = ^uint32(0), 0, 0
}

func (l *plant) run(ms int64) {
	for range ms {
		l.now++
		l.finish()
		for c := range l.rate {
			for l.due[c] += l.rate[c]; l.due[c] >= 1; l.due[c]-- {
				l.arrive(shed.Class(c))
			}
		}
		if l.now%125 == 0 {
			for i := range l.workers {
				l.s.Merge(&l.p, epoch+l.now*1e6, &l.workers[i], l.out())
				l.workers[i] = shed.Samples{}
			}
			l.lowest, l.highest = min(l.lowest, l.s.Limit), max(l.highest, l.s.Limit)
		}
	}
}

func (l *plant) out() uint32 { return uint32(len(l.queue) + len(l.busy)) }

func (l *plant) worker() *shed.Samples {
	l.turn++
	return &l.workers[l.turn%len(l.workers)]
}

func (l *plant) arrive(c shed.Class) {
	l.offered[c]++
	if l.s.Admit(&l.p, epoch+l.now*1e6, shed.Request{Class: c, Inflight: l.out()}).Shed {
		l.dropped[c]++
		l.worker().Dropped()
		return
	}
	l.queue = append(l.queue, job{since: l.now})
	l.start()
}

func (l *plant) start() {
	for len(l.queue) > 0 && len(l.busy) < l.places {
		l.queue[0].until = l.now + l.took
		l.busy, l.queue = append(l.busy, l.queue[0]), l.queue[1:]
	}
}

func (l *plant) finish() {
	kept := l.busy[:0]
	for _, j := range l.busy {
		if j.until > l.now {
			kept = append(kept, j)
			continue
		}
		l.served++
		l.longest = max(l.longest, l.now-j.since)
		l.worker().Answered(0, (l.now-j.since)*1e6)
	}
	l.busy = kept
	l.start()
}

// drawPlant is a service with 500 to 2,000 calls a second.
func drawPlant(t *rapid.T) *plant {
	took := rapid.Int64Range(10, 100).Draw(t, "ms")
	places := rapid.IntRange(max(int(took)/2, 12), int(took)*2).Draw(t, "places")
	return newPlant(places, took)
}

// Whatever the overload, as long as what is never dropped fits: within 5 s the
// service is full and none of that waits long, and the limit stays near what the
// service can do at once.
func TestOverloadSettles(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := drawPlant(t)
		l.load([shed.Classes]float64{0.2, 0.1, 0.1, 0.2})
		l.run(3000)
		require.Zero(t, l.dropped)
		critical := rapid.Float64Range(0.1, 0.5).Draw(t, "critical")
		l.load([shed.Classes]float64{critical, 0.1, rapid.Float64Range(0.1, 1).Draw(t, "medium"), rapid.Float64Range(1, 2.5).Draw(t, "low")})
		l.run(5000)
		l.forget()
		l.run(10000)
		capacity := float64(l.places) * 10000 / float64(l.took)
		require.Zero(t, l.dropped[shed.Critical])
		require.Zero(t, l.dropped[shed.High])
		require.GreaterOrEqual(t, float64(l.served), 0.9*capacity, "the service idles")
		require.LessOrEqual(t, float64(l.highest), 3.0*float64(l.places)*1000, "the limit swings up")
		require.GreaterOrEqual(t, float64(l.lowest), 0.4*float64(l.places)*1000, "the limit swings down")
		require.LessOrEqual(t, l.longest, 4*l.took)
		share := func(c shed.Class) float64 { return float64(l.dropped[c]) / float64(l.offered[c]) }
		require.GreaterOrEqual(t, share(shed.Low), share(shed.Medium))

		l.load([shed.Classes]float64{0.2, 0.1, 0.1, 0.2})
		l.run(1000)
		l.forget()
		l.run(5000)
		require.Zero(t, l.dropped, "it is over")
	})
}

// At a load that the service can take nothing is ever dropped, for an hour.
func TestNothingIsDroppedWithoutOverload(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		places int
		took   int64
		parts  float64
	}{
		"one a second":             {100, 300, 0.003},
		"one a second, 5 s each":   {100, 5000, 0.05},
		"half of what it can take": {40, 20, 0.5},
		"nearly all":               {40, 20, 0.95},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newPlant(c.places, c.took)
			l.load([shed.Classes]float64{c.parts / 4, c.parts / 4, c.parts / 4, c.parts / 4})
			l.run(200_000)
			require.Zero(t, l.dropped)
		})
	}
}

// A service that becomes slower, and still can take all, is found out by the
// first cut, and not shed any more.
func TestASlowerServiceIsNoOverload(t *testing.T) {
	t.Parallel()
	l := newPlant(400, 20)
	l.load([shed.Classes]float64{0.01, 0.01, 0.01, 0.02})
	l.run(10_000)
	l.took = 100
	l.run(5000)
	l.forget()
	l.run(30_000)
	require.Zero(t, l.dropped)
}

// With a base that is far too long, as after a start in the middle of an
// overload, the limit is far too high: it is tried anew, and comes down.
func TestAWrongBaseIsFoundOut(t *testing.T) {
	t.Parallel()
	l := newPlant(40, 20)
	for range 400 { // a queue of 0.2 s that other edges have made
		l.queue = append(l.queue, job{since: 0})
	}
	l.load([shed.Classes]float64{0.2, 0.1, 0.5, 1})
	l.run(60_000)
	l.forget()
	l.run(20_000)
	require.LessOrEqual(t, l.highest, uint32(3*40*1000))
	require.LessOrEqual(t, l.longest, int64(80))
	require.GreaterOrEqual(t, l.served, 9*40*20_000/20/10)
}

// A limit from a worse time does not outlive the traffic that taught it.
func TestALimitIsForgottenAtLowTraffic(t *testing.T) {
	t.Parallel()
	p := shed.Params{Signal: shed.Adaptive, Min: 10, Max: 1000, ThresholdPPM: thresholds}
	s := shed.State{Since: epoch, Limit: 10_000}
	now := epoch
	for range 120 {
		now += 1e9
		var in shed.Samples
		in.Answered(0, 20e6)
		s.Merge(&p, now, &in, 0)
	}
	require.EqualValues(t, 1_000_000, s.Limit)
}

// Time-outs say that calls wait, even where nothing is answered at all.
func TestAllTimeOut(t *testing.T) {
	t.Parallel()
	p := shed.Params{Signal: shed.Adaptive, Min: 10, Max: 1000, ThresholdPPM: thresholds}
	var s shed.State
	now := epoch
	hand := func(answered, late int, out uint32) {
		now += shed.WindowNS
		var in shed.Samples
		for range answered {
			in.Answered(0, 20e6)
		}
		for range late {
			in.TimedOut(1e9)
		}
		in.Dropped()
		s.Merge(&p, now, &in, out)
	}
	for range 5 {
		hand(100, 0, 10)
	}
	before := s.BaseNS
	for range 20 {
		hand(0, 100, 500)
	}
	require.Equal(t, before, s.BaseNS, "nothing is learnt of how long calls take")
	require.LessOrEqual(t, s.Limit, uint32(250_000))
}
