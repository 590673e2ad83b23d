package bulkhead_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/engine/bulkhead"
)

func h(stream uint32) bulkhead.Holder { return bulkhead.Holder{Owner: 7, Stream: stream} }

func ask(stream uint32, priority uint8) bulkhead.Request {
	return bulkhead.Request{Holder: h(stream), Priority: priority, WaitNS: 5e9, HoldNS: 10e9}
}

func TestTheBestWaiterIsServedFirst(t *testing.T) {
	t.Parallel()
	p := bulkhead.Params{Limit: 1, Queue: 5}
	var s bulkhead.State
	require.Equal(t, bulkhead.Held, s.Acquire(p, 1, ask(0, 3)))
	for stream, priority := range []uint8{3, 2, 0, 2, 0} { // streams 1 to 5
		require.Equal(t, bulkhead.Queued, s.Acquire(p, 1, ask(uint32(stream+1), priority)))
	}
	require.Equal(t, bulkhead.Full, s.Acquire(p, 1, ask(9, 0)), "the queue is bounded, for the most important too")
	last := uint32(0)
	for _, want := range []uint32{3, 5, 2, 4, 1} {
		require.True(t, s.Leave(p, 2, h(last), bulkhead.Unknown))
		require.Equal(t, []bulkhead.Holder{h(want)}, s.Granted)
		require.Equal(t, bulkhead.Held, s.Claim(p, 2, h(want)))
		require.Len(t, s.Permits, 1)
		last = want
	}
	require.True(t, s.Leave(p, 2, h(last), bulkhead.Unknown))
	require.False(t, s.Leave(p, 2, h(last), bulkhead.Unknown), "given back once")
	require.Empty(t, s.Permits)
}

func TestNobodyOvertakes(t *testing.T) {
	t.Parallel()
	p := bulkhead.Params{Limit: 1, Queue: 5}
	var s bulkhead.State
	s.Acquire(p, 1, ask(0, 0))
	s.Acquire(p, 1, ask(1, 3))
	// Stream 0's VM died; its permit is free when stream 2 comes, but stream 1 was there before.
	require.Equal(t, bulkhead.Queued, s.Acquire(bulkhead.Params{Limit: 1, Queue: 5}, 2e9, ask(2, 0)))
	s.Waiters[0].Deadline, s.Waiters[1].Deadline = 0, 0
	require.Equal(t, bulkhead.Queued, s.Acquire(p, 1+10e9, ask(3, 0)))
	require.Equal(t, []bulkhead.Holder{h(2)}, s.Granted)
}

func TestALimitThatIsLoweredTakesNobodysPermit(t *testing.T) {
	t.Parallel()
	var s bulkhead.State
	wide, narrow := bulkhead.Params{Limit: 3, Queue: 5}, bulkhead.Params{Limit: 1, Queue: 5}
	for i := range uint32(4) {
		s.Acquire(wide, 1, ask(i, 1))
	}
	for i := range uint32(2) {
		require.True(t, s.Leave(narrow, 2, h(i), bulkhead.Unknown))
		require.Empty(t, s.Granted)
	}
	s.Leave(narrow, 2, h(2), bulkhead.Unknown)
	require.Equal(t, []bulkhead.Holder{h(3)}, s.Granted)
}

func TestALimitThatIsRaisedServesAtOnce(t *testing.T) {
	t.Parallel()
	var s bulkhead.State
	for i := range uint32(4) {
		s.Acquire(bulkhead.Params{Limit: 1, Queue: 5}, 1, ask(i, 1))
	}
	require.True(t, s.Sweep(bulkhead.Params{Limit: 3, Queue: 5}, 2))
	require.Equal(t, []bulkhead.Holder{h(1), h(2)}, s.Granted)
	require.False(t, s.Sweep(bulkhead.Params{Limit: 3, Queue: 5}, 2))
	require.Empty(t, s.Granted)
}

func TestAGrantToADeadVMIsLostForMoments(t *testing.T) {
	t.Parallel()
	p := bulkhead.Params{Limit: 1, Queue: 5}
	var s bulkhead.State
	s.Acquire(p, 1, ask(0, 1))
	s.Acquire(p, 1, bulkhead.Request{Holder: bulkhead.Holder{Owner: 666, Stream: 1}, HoldNS: 3600e9})
	s.Acquire(p, 1, ask(2, 1))
	s.Leave(p, 2, h(0), bulkhead.Unknown)
	require.Equal(t, []bulkhead.Holder{{Owner: 666, Stream: 1}}, s.Granted)
	require.False(t, s.Sweep(p, 1+bulkhead.ClaimNS))
	require.True(t, s.Sweep(p, 2+bulkhead.ClaimNS))
	require.Equal(t, []bulkhead.Holder{h(2)}, s.Granted)
	require.Equal(t, bulkhead.Full, s.Claim(p, 2+bulkhead.ClaimNS, bulkhead.Holder{Owner: 666, Stream: 1}), "were it to come after all")
}

func TestTend(t *testing.T) {
	t.Parallel()
	p := bulkhead.Params{Limit: 2, Queue: 9}
	var s bulkhead.State
	for i := range uint32(4) {
		s.Acquire(p, 0, bulkhead.Request{Holder: h(i), HoldNS: 10e9})
	}
	s.Acquire(p, 0, bulkhead.Request{Holder: bulkhead.Holder{Owner: 8}, HoldNS: 10e9})
	all := func(uint32) bool { return true }
	require.False(t, s.Tend(p, 5e9, 7, all), "nothing to do")
	require.True(t, s.Tend(p, 6e9, 7, all), "renewed: the calls are under way")
	require.False(t, s.Sweep(p, 15e9))
	require.True(t, s.Tend(p, 15e9, 7, func(stream uint32) bool { return stream == 1 || stream == 3 }))
	require.Equal(t, []bulkhead.Holder{h(3)}, s.Granted, "what its owner forgot is free")
	require.Len(t, s.Waiters, 1, "another VM's waiter is left alone")
	require.Equal(t, bulkhead.Held, s.Claim(p, 16e9, h(3)))
	require.True(t, s.Sweep(p, 25e9), "what nobody renews comes back")
}

func TestAPoolOfNothingRefuses(t *testing.T) {
	t.Parallel()
	var s bulkhead.State
	require.Equal(t, bulkhead.Full, s.Acquire(bulkhead.Params{}, 1, ask(0, 0)))
}

func TestTimesOfNonsense(t *testing.T) {
	t.Parallel()
	const most = 1<<63 - 1
	var s bulkhead.State
	p := bulkhead.Params{Limit: 1, Queue: 1}
	s.Acquire(p, most-1, bulkhead.Request{Holder: h(0), HoldNS: most})
	s.Acquire(p, most-1, bulkhead.Request{Holder: h(1), WaitNS: most, HoldNS: most})
	require.Equal(t, int64(most), s.Permits[0].Expiry)
	require.Equal(t, int64(most), s.Waiters[0].Deadline)
	s.Sweep(p, -1<<63)
	require.Len(t, s.Permits, 1)
	require.Len(t, s.Waiters, 1)
}

func BenchmarkAcquireLeave(b *testing.B) {
	for name, busy := range map[string]uint32{"idle": 0, "15 of 20 held": 15, "20 held, 50 wait": 70} {
		b.Run(name, func(b *testing.B) {
			p := bulkhead.Params{Limit: 20, Queue: 60}
			var s bulkhead.State
			for i := range busy {
				s.Acquire(p, 1, bulkhead.Request{Holder: bulkhead.Holder{Owner: 1, Stream: i}, HoldNS: 1 << 60})
			}
			b.ReportAllocs()
			for i := range b.N {
				who := h(uint32(i))
				s.Acquire(p, int64(i), bulkhead.Request{Holder: who, Priority: 1, HoldNS: 1 << 60})
				s.Leave(p, int64(i), who, 1)
			}
		})
	}
}

func TestStepsAllocateNothing(t *testing.T) {
	p := bulkhead.Params{Limit: 2, Queue: 8}
	var s bulkhead.State
	now := int64(0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		now++
		for i := range uint32(9) {
			r := ask(i, uint8(i))
			r.BudgetNS = 5
			s.Acquire(p, now, r)
		}
		for i := range uint32(9) {
			s.Leave(p, now, h(i), 2)
		}
	}))
}
