package codec_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/engine/bulkhead"
	"github.com/seawall-mesh/seawall/filter/engine/codec"
)

// pool is a State that steps have made.
func pool(t *rapid.T) *bulkhead.State {
	var s bulkhead.State
	p := bulkhead.Params{Limit: rapid.Uint32Range(0, 9).Draw(t, "limit"), Queue: rapid.Uint32Range(0, 9).Draw(t, "queue")}
	now := int64(1e18)
	for i := range rapid.Uint32Range(0, 30).Draw(t, "calls") {
		now += rapid.Int64Range(0, 3e9).Draw(t, "wait")
		h := bulkhead.Holder{Owner: rapid.Uint64().Draw(t, "owner"), Stream: i}
		s.Acquire(p, now, bulkhead.Request{
			Holder: h, Priority: rapid.Uint8Range(0, 3).Draw(t, "priority"),
			WaitNS: rapid.Int64Range(0, 9e9).Draw(t, "patience"), HoldNS: rapid.Int64Range(1, 9e9).Draw(t, "hold"),
		})
		if rapid.IntRange(0, 3).Draw(t, "over") == 0 {
			s.Leave(p, now, h, rapid.Int64Min(-1).Draw(t, "held"))
		}
	}
	return &s
}

func TestPoolRoundTrip(t *testing.T) {
	t.Parallel()
	var got bulkhead.State // used again and again
	rapid.Check(t, func(t *rapid.T) {
		s := pool(t)
		record := codec.AppendPool([]byte("x"), s)[1:]
		require.True(t, codec.ParsePool(record, &got))
		require.Equal(t, s.Arrivals, got.Arrivals)
		require.Equal(t, s.Pace, got.Pace)
		require.Equal(t, append([]bulkhead.Permit{}, s.Permits...), append([]bulkhead.Permit{}, got.Permits...))
		require.Equal(t, append([]bulkhead.Waiter{}, s.Waiters...), append([]bulkhead.Waiter{}, got.Waiters...))
		require.False(t, codec.ParsePool(record[:len(record)-1], &got), "cut short")
		require.False(t, codec.ParsePool(append(record, 0), &got), "too long")
		require.Empty(t, got.Permits)
		require.Empty(t, got.Waiters)
		require.Zero(t, got.Pace)
	})
}

func TestThePoolRecordGrowsWithUse(t *testing.T) {
	t.Parallel()
	var s bulkhead.State
	require.Len(t, codec.AppendPool(nil, &s), 32)
	for i := range uint32(bulkhead.MaxPermits + bulkhead.MaxWaiters + 3) {
		s.Acquire(bulkhead.Params{Limit: 1 << 31, Queue: 1 << 31}, 1, bulkhead.Request{Holder: bulkhead.Holder{Stream: i}, HoldNS: 5})
	}
	record := codec.AppendPool(nil, &s)
	require.Len(t, record, codec.MaxPoolLen)
	require.True(t, codec.ParsePool(record, &s))
	require.Len(t, s.Permits, bulkhead.MaxPermits)
	require.Len(t, s.Waiters, bulkhead.MaxWaiters)
}

func TestParsePoolRefuses(t *testing.T) {
	t.Parallel()
	var s bulkhead.State
	for i := range uint32(3) {
		s.Acquire(bulkhead.Params{Limit: 1, Queue: 5}, 1, bulkhead.Request{Holder: bulkhead.Holder{Stream: i}, WaitNS: 7, HoldNS: 5})
	}
	s.Pace = bulkhead.Pace{MeanNS: 0x1ff, Seen: 2, At: 9}
	good := codec.AppendPool(nil, &s)
	const permit, first, second = 32, 32 + 29, 32 + 29 + 45
	for name, edit := range map[string]func([]byte) []byte{
		"empty":            func([]byte) []byte { return nil },
		"another schema":   func(b []byte) []byte { b[0] = 1; return b },
		"without a pace":   func(b []byte) []byte { return append([]byte{1, 0}, append(b[2:16], b[32:]...)...) },
		"seen too many":    func(b []byte) []byte { b[1] = 9; return b },
		"a mean of none":   func(b []byte) []byte { b[1], b[24] = 0, 0; return b },
		"a time of none":   func(b []byte) []byte { b[1], b[16], b[17] = 0, 0, 0; return b },
		"negative mean":    func(b []byte) []byte { b[23] = 0x80; return b },
		"reserved":         func(b []byte) []byte { b[6] = 1; return b },
		"too many permits": func(b []byte) []byte { b[3] = 0x40; return b },
		"fewer waiters":    func(b []byte) []byte { b[4] = 1; return b },
		"half claimed":     func(b []byte) []byte { b[permit+12] = 2; return b },
		"no hold":          func(b []byte) []byte { b[permit+21] = 0; return b },
		"negative wait":    func(b []byte) []byte { b[first+36] = 0x80; return b },
		"never arrived":    func(b []byte) []byte { b[second+13] = 9; return b },
		"out of order":     func(b []byte) []byte { b[first+12] = 3; return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got bulkhead.State
			require.True(t, codec.ParsePool(good, &got))
			require.False(t, codec.ParsePool(edit(append([]byte(nil), good...)), &got))
			require.Empty(t, got.Permits)
			require.Empty(t, got.Waiters)
			require.Zero(t, got.Arrivals)
			require.Zero(t, got.Pace)
		})
	}
}

func FuzzParsePool(f *testing.F) {
	var s bulkhead.State
	for i := range uint32(4) {
		s.Acquire(bulkhead.Params{Limit: 2, Queue: 5}, 1, bulkhead.Request{Holder: bulkhead.Holder{Stream: i}, Priority: uint8(3 - i), WaitNS: 7, HoldNS: 5})
	}
	f.Add(codec.AppendPool(nil, &s), int64(3), uint32(1), uint32(1), int64(0), int64(-1))
	for range 9 {
		s.Leave(bulkhead.Params{Limit: 2}, 2, bulkhead.Holder{Stream: 1}, 6)
		s.Acquire(bulkhead.Params{Limit: 2}, 2, bulkhead.Request{Holder: bulkhead.Holder{Stream: 1}, HoldNS: 5})
	}
	f.Add(codec.AppendPool(nil, &s), int64(3), uint32(1), uint32(5), int64(1), int64(7))
	f.Fuzz(func(t *testing.T, data []byte, now int64, limit, queue uint32, budget, took int64) {
		var s bulkhead.State
		if !codec.ParsePool(data, &s) {
			return
		}
		require.Equal(t, data, codec.AppendPool(nil, &s), "one state, one record")
		// Whatever stands in a record, a step on it is harmless, and gives a record.
		held := len(s.Permits)
		p := bulkhead.Params{Limit: limit, Queue: queue}
		verdict := s.Acquire(p, now, bulkhead.Request{Holder: bulkhead.Holder{Owner: 1}, BudgetNS: budget, HoldNS: 1})
		require.LessOrEqual(t, len(s.Permits), max(held, int(limit)))
		if verdict == bulkhead.Late {
			require.Positive(t, budget)
			require.EqualValues(t, bulkhead.Enough, s.Pace.Seen)
		}
		s.Leave(p, now, bulkhead.Holder{Owner: 1}, took)
		var again bulkhead.State
		if s.Arrivals > 0 { // else it has wrapped
			require.True(t, codec.ParsePool(codec.AppendPool(nil, &s), &again))
		}
	})
}
