package shed_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/engine/shed"
)

// lesson is a limit that is taught window by window.
type lesson struct {
	p   shed.Params
	s   shed.State
	now int64
}

// taught knows that a call takes 20 ms.
func taught() *lesson {
	l := &lesson{p: shed.Params{Signal: shed.Adaptive, Min: 10, Max: 1000, ThresholdPPM: thresholds}, now: epoch}
	for range 5 {
		l.window(100, 20e6, 0, 0, 8)
	}
	return l
}

// window is one of 250 ms (1 s while a cut is judged) with so many calls
// answered after so long, so many timed out and dropped, and so many in flight.
func (l *lesson) window(answered int, ns int64, late, dropped int, out uint32) {
	length, times := int64(shed.WindowNS), 1
	if l.s.Work != 0 {
		length, times = 1e9, 4
	}
	l.now += length
	var in shed.Samples
	for range answered * times {
		in.Answered(0, ns)
	}
	for range late * times {
		in.TimedOut(1e9)
	}
	for range dropped {
		in.Dropped()
	}
	l.s.Merge(&l.p, l.now, &in, out)
}

func TestOneStretchedWindowIsChance(t *testing.T) {
	t.Parallel()
	l := taught()
	before := l.s.Limit
	l.window(100, 35e6, 0, 1, 14)
	require.Equal(t, before, l.s.Limit)
	l.window(100, 20e6, 0, 0, 8)
	before = l.s.Limit
	l.window(100, 35e6, 0, 1, 14)
	require.Equal(t, before, l.s.Limit, "not in a row")
	l.window(100, 35e6, 0, 1, 14)
	require.Less(t, l.s.Limit, before)
}

// 400 calls a second of 20 ms are 8 at once: half as much again, and √8.
func TestTheLimitIsWhatTheServiceDoesAndSomeRoom(t *testing.T) {
	t.Parallel()
	l := taught()
	l.window(100, 100e6, 0, 1, 40)
	require.EqualValues(t, 12_000+2828, l.s.Limit)
}

func TestTimeOutsHalveAtMost(t *testing.T) {
	t.Parallel()
	l := taught()
	base := l.s.BaseNS
	l.window(0, 0, 100, 1, 500)
	require.EqualValues(t, 250_000, l.s.Limit)
	l.window(0, 0, 100, 1, 100)
	require.Equal(t, base, l.s.BaseNS, "what timed out does not say how long calls take")
	require.Less(t, l.s.Limit, uint32(500_000))
}

func TestALimitThatBindsNobodyRises(t *testing.T) {
	t.Parallel()
	l := taught()
	l.s.Limit = 20_000
	for range 60 {
		l.window(100, 20e6, 0, 0, 8)
	}
	require.Greater(t, l.s.Limit, uint32(40_000))
	require.InDelta(t, 20e6, l.s.BaseNS[0], 1e6)
}

// The load that ends while a cut is judged is no sign that the cut was wrong.
func TestTheLoadEndsDuringATrial(t *testing.T) {
	t.Parallel()
	l := taught()
	l.window(100, 100e6, 0, 1, 40)
	require.NotZero(t, l.s.Work)
	base := l.s.BaseNS
	l.window(40, 22e6, 0, 0, 4)
	require.Zero(t, l.s.Work)
	require.InDelta(t, float64(base[0]), float64(l.s.BaseNS[0]), 1e6)
	require.Less(t, l.s.Limit, uint32(20_000))
}

// Less work with as much in flight is a service that can do less, not one
// whose calls take longer by themselves.
func TestLostCapacityDuringATrial(t *testing.T) {
	t.Parallel()
	l := taught()
	l.window(100, 100e6, 0, 1, 40)
	base := l.s.BaseNS
	l.window(40, 250e6, 0, 1, 40)
	require.EqualValues(t, 3200, l.s.Work, "the reference is new")
	l.window(40, 60e6, 0, 1, 10)
	require.Equal(t, base, l.s.BaseNS)
}

func TestAClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	l := taught()
	was := l.s
	l.now -= 3600e9
	l.window(100, 20e6, 0, 0, 8)
	require.Equal(t, l.now, l.s.Since, "windows go on at once")
	require.Equal(t, was.BaseNS, l.s.BaseNS)
	l.window(100, 100e6, 0, 1, 40)
	require.EqualValues(t, 14_828, l.s.Limit)
}

// A base and a limit that are three times too great look right to each other:
// only a cut now and then finds out.
func TestInflatedTogether(t *testing.T) {
	t.Parallel()
	l := newPlant(40, 20)
	l.load([shed.Classes]float64{0.2, 0.1, 0.5, 1})
	l.run(20_000)
	l.s.BaseNS[0], l.s.Limit, l.s.Work, l.s.Busy = 60e6, 200_000, 0, 0
	l.run(5_000)
	require.Greater(t, l.s.Limit, uint32(130_000), "it does look right")
	l.run(60_000)
	l.forget()
	l.run(20_000)
	require.LessOrEqual(t, l.highest, uint32(100_000))
	require.LessOrEqual(t, l.longest, int64(60))
}

// The service loses half of its places in the middle of an overload.
func TestLostPlaces(t *testing.T) {
	t.Parallel()
	l := newPlant(40, 20)
	l.load([shed.Classes]float64{0.2, 0.1, 0.5, 1})
	l.run(20_000)
	l.places = 20
	l.run(10_000)
	l.forget()
	l.run(10_000)
	require.LessOrEqual(t, l.longest, int64(80))
	require.GreaterOrEqual(t, l.served, 9*20*10_000/20/10)
	require.Zero(t, l.dropped[shed.Critical])
}

// A window with few answers says something where many others wait for theirs.
func TestFewAnswersAndManyOut(t *testing.T) {
	t.Parallel()
	l := taught()
	l.window(10, 20e6, 0, 0, 8)
	require.NotEqual(t, l.now, l.s.Since, "too few to tell")
	l = taught()
	l.window(10, 100e6, 0, 1, 40)
	require.Equal(t, l.now, l.s.Since)
	require.Less(t, l.s.Limit, uint32(100_000))
	l = taught()
	l.window(0, 0, 7, 1, 40)
	require.NotEqual(t, l.now, l.s.Since, "hardly any")
}
