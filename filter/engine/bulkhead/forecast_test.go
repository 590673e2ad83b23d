package bulkhead_test

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/engine/bulkhead"
)

const sec = int64(1e9)

// learnt is a pool that nobody uses, after calls that held their permits for
// so long and came back at now.
func learnt(now int64, held ...int64) *bulkhead.State {
	s := &bulkhead.State{}
	for _, ns := range held {
		teach(s, now, ns)
	}
	return s
}

func teach(s *bulkhead.State, now, held int64) {
	s.Acquire(bulkhead.Params{Limit: bulkhead.MaxPermits}, now, bulkhead.Request{Holder: h(math.MaxUint32), HoldNS: 1 << 60})
	s.Leave(bulkhead.Params{}, now, h(math.MaxUint32), held)
}

func TestWhoWouldBeServedTooLateIsRefused(t *testing.T) {
	t.Parallel()
	const now = 1000 * sec
	eight := slices.Repeat([]int64{sec}, bulkhead.Enough)
	waits := func(priority uint8) bulkhead.Request { return bulkhead.Request{Priority: priority} }
	leaves := func(wait int64) bulkhead.Request { return bulkhead.Request{WaitNS: wait} }
	for name, c := range map[string]struct {
		held     []int64 // of the calls before, 1 s each if nil
		limit    uint32  // 2 if 0
		waiters  []bulkhead.Request
		later    int64
		priority uint8
		budget   int64
		want     bulkhead.Verdict
	}{
		"as long as half a call":             {budget: sec / 2, want: bulkhead.Queued},
		"a moment less":                      {budget: sec/2 - 1, want: bulkhead.Late},
		"without a budget":                   {budget: 0, want: bulkhead.Queued},
		"behind three":                       {waiters: []bulkhead.Request{waits(0), waits(1), waits(1)}, priority: 1, budget: 2 * sec, want: bulkhead.Queued},
		"behind three, a moment less":        {waiters: []bulkhead.Request{waits(0), waits(1), waits(1)}, priority: 1, budget: 2*sec - 1, want: bulkhead.Late},
		"before the less important":          {waiters: []bulkhead.Request{waits(1), waits(1), waits(3)}, priority: 0, budget: sec / 2, want: bulkhead.Queued},
		"before some, behind others":         {waiters: []bulkhead.Request{waits(0), waits(1), waits(3)}, priority: 2, budget: 3*sec/2 - 1, want: bulkhead.Late},
		"who gives up first is not in front": {waiters: []bulkhead.Request{leaves(sec/2 - 1), leaves(sec / 2), leaves(sec - 1)}, budget: sec, want: bulkhead.Queued},
		"who waits long enough is":           {waiters: []bulkhead.Request{leaves(sec / 2), leaves(sec)}, budget: sec, want: bulkhead.Late},
		"one permit":                         {limit: 1, budget: sec - 1, want: bulkhead.Late},
		"ten permits":                        {limit: 10, budget: sec / 10, want: bulkhead.Queued},
		"seven calls are not enough":         {held: eight[1:], budget: 1, want: bulkhead.Queued},
		"nothing known":                      {held: []int64{}, budget: 1, want: bulkhead.Queued},
		"calls that take no time":            {held: make([]int64, 9), budget: 1, want: bulkhead.Queued},
		"a full queue is full":               {waiters: slices.Repeat([]bulkhead.Request{waits(0)}, 5), budget: 1, want: bulkhead.Full},
		"10 s later":                         {later: 10 * sec, budget: 1, want: bulkhead.Late},
		"later than that":                    {later: 10*sec + 1, budget: 1, want: bulkhead.Queued},
		"20 s later, and calls take 10 s":    {held: slices.Repeat([]int64{10 * sec}, 8), later: 20 * sec, budget: 1, want: bulkhead.Late},
		"later than that, too":               {held: slices.Repeat([]int64{10 * sec}, 8), later: 20*sec + 1, budget: 1, want: bulkhead.Queued},
		"calls that never end":               {held: slices.Repeat([]int64{math.MaxInt64}, 8), later: 3600 * sec, budget: 1, want: bulkhead.Late},
		"another worker's clock":             {later: -1e6, budget: 1, want: bulkhead.Late},
		"a clock that was set back":          {later: -3600 * sec, budget: 1, want: bulkhead.Queued},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.held == nil {
				c.held = eight
			}
			if c.limit == 0 {
				c.limit = 2
			}
			s, p, at := learnt(now, c.held...), bulkhead.Params{Limit: c.limit, Queue: 5}, now+c.later
			for i := range c.limit {
				free := bulkhead.Request{Holder: h(i), BudgetNS: 1, HoldNS: 1 << 60}
				require.Equal(t, bulkhead.Held, s.Acquire(p, at, free), "a free permit is given whatever the forecast")
			}
			for i, w := range c.waiters {
				w.Holder, w.HoldNS = h(uint32(100+i)), 1<<60
				require.Equal(t, bulkhead.Queued, s.Acquire(p, at, w))
			}
			require.Equal(t, c.want, s.Acquire(p, at, bulkhead.Request{Holder: h(200), Priority: c.priority, BudgetNS: c.budget, WaitNS: c.budget, HoldNS: 1 << 60}))
			queued := len(c.waiters)
			if c.want == bulkhead.Queued {
				queued++
			}
			require.Len(t, s.Waiters, queued)
			require.Empty(t, s.Granted)
		})
	}
}

func TestAForecastKnowsTheBoundOfAPool(t *testing.T) {
	t.Parallel()
	const many = bulkhead.MaxPermits
	s, p := learnt(sec, slices.Repeat([]int64{many}, 8)...), bulkhead.Params{Limit: many * 2, Queue: 1}
	for i := range uint32(many) {
		require.Equal(t, bulkhead.Held, s.Acquire(p, sec, ask(i, 0)))
	}
	// A call of 1,024 ns on each of 1,024 permits, and one that waits for the next.
	require.Equal(t, bulkhead.Queued, s.Acquire(p, sec, ask(many, 0)))
	p.Queue = 2
	require.Equal(t, bulkhead.Late, s.Acquire(p, sec, bulkhead.Request{Holder: h(many + 1), BudgetNS: 1, HoldNS: sec}))
}

// maxWait is no deadline: it says how long to wait, and so it is waited.
func TestThePoolsPatienceIsNoDeadline(t *testing.T) {
	t.Parallel()
	s := learnt(sec, slices.Repeat([]int64{60 * sec}, 8)...)
	p := bulkhead.Params{Limit: 1, Queue: 1}
	s.Acquire(p, sec, ask(0, 0))
	require.Equal(t, bulkhead.Queued, s.Acquire(p, sec, bulkhead.Request{Holder: h(1), WaitNS: 1, BudgetNS: 60 * sec, HoldNS: sec}))
}

func TestAPushedLimitIsInTheForecastAtOnce(t *testing.T) {
	t.Parallel()
	s := learnt(sec, slices.Repeat([]int64{sec}, 8)...)
	two, four, one := bulkhead.Params{Limit: 2, Queue: 5}, bulkhead.Params{Limit: 4, Queue: 5}, bulkhead.Params{Limit: 1, Queue: 5}
	r := bulkhead.Request{Holder: h(9), BudgetNS: sec / 2, HoldNS: sec}
	for i := range uint32(2) {
		s.Acquire(two, sec, ask(i, 0))
	}
	require.Equal(t, bulkhead.Late, s.Acquire(one, sec, r))
	require.Equal(t, bulkhead.Queued, s.Acquire(two, sec, r))
	require.True(t, s.Leave(two, sec, h(9), bulkhead.Unknown))
	for i := range uint32(2) {
		s.Acquire(four, sec, ask(5+i, 0))
	}
	r.BudgetNS = sec / 4
	require.Equal(t, bulkhead.Late, s.Acquire(two, sec, r))
	require.Equal(t, bulkhead.Queued, s.Acquire(four, sec, r))
}

func TestThePaceOfAPool(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		held []int64
		want bulkhead.Pace
	}{
		"one":                              {[]int64{700}, bulkhead.Pace{MeanNS: 700, Seen: 1, At: 5}},
		"a plain mean at first":            {[]int64{1000, 0, 200}, bulkhead.Pace{MeanNS: 400, Seen: 3, At: 5}},
		"of eight":                         {[]int64{800, 0, 0, 0, 0, 0, 0, 0}, bulkhead.Pace{MeanNS: 98, Seen: 8, At: 5}}, // not 100: each step is rounded down
		"then an eighth for each":          {append(slices.Repeat([]int64{800}, 8), 1600), bulkhead.Pace{MeanNS: 900, Seen: 8, At: 5}},
		"down as well":                     {append(slices.Repeat([]int64{800}, 8), 0), bulkhead.Pace{MeanNS: 700, Seen: 8, At: 5}},
		"up is rounded down":               {append(slices.Repeat([]int64{800}, 8), 807), bulkhead.Pace{MeanNS: 800, Seen: 8, At: 5}},
		"down is rounded down":             {append(slices.Repeat([]int64{800}, 8), 799), bulkhead.Pace{MeanNS: 799, Seen: 8, At: 5}},
		"never below nothing":              {make([]int64, 20), bulkhead.Pace{Seen: 8, At: 5}},
		"a time that is not known":         {[]int64{700, bulkhead.Unknown}, bulkhead.Pace{MeanNS: 700, Seen: 1, At: 5}},
		"times of nonsense":                {[]int64{math.MaxInt64, math.MaxInt64, 0}, bulkhead.Pace{MeanNS: math.MaxInt64 / 3 * 2, Seen: 3, At: 5}},
		"however many, as it were a dozen": {slices.Repeat([]int64{800}, 3000), bulkhead.Pace{MeanNS: 800, Seen: 8, At: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, learnt(5, c.held...).Pace)
		})
	}
}

func TestWhatIsOldIsForgottenByTheNextCall(t *testing.T) {
	t.Parallel()
	for name, gap := range map[string]int64{"long after": 10*sec + 1, "a clock set back": -10*sec - 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := learnt(100*sec, slices.Repeat([]int64{sec}, 8)...)
			teach(s, 100*sec+gap, 3)
			require.Equal(t, bulkhead.Pace{MeanNS: 3, Seen: 1, At: 100*sec + gap}, s.Pace)
		})
	}
}

// What comes back without its call having been seen to its end is no measure of
// one.
func TestOnlyCallsThatCameBackTeach(t *testing.T) {
	t.Parallel()
	p := bulkhead.Params{Limit: 1, Queue: 5}
	for name, step := range map[string]func(*bulkhead.State){
		"expired": func(s *bulkhead.State) { s.Sweep(p, 10*sec) },
		"lost by its owner": func(s *bulkhead.State) {
			s.Tend(p, sec, 7, func(uint32) bool { return false })
		},
		"expired, then left":   func(s *bulkhead.State) { s.Sweep(p, 10*sec); s.Leave(p, 10*sec, h(0), 10*sec) },
		"a place in the queue": func(s *bulkhead.State) { s.Acquire(p, 0, ask(1, 0)); s.Leave(p, sec, h(1), sec) },
		"granted, not claimed": func(s *bulkhead.State) {
			s.Acquire(p, 0, ask(1, 0))
			s.Leave(p, sec, h(0), bulkhead.Unknown)
			s.Leave(p, sec, h(1), sec)
		},
		"another's": func(s *bulkhead.State) { s.Leave(p, sec, bulkhead.Holder{Owner: 8}, sec) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s bulkhead.State
			s.Acquire(p, 0, ask(0, 0))
			step(&s)
			require.Zero(t, s.Pace)
		})
	}
	var s bulkhead.State
	s.Acquire(p, 0, ask(0, 0))
	s.Acquire(p, 0, ask(1, 0))
	s.Leave(p, sec, h(0), sec)
	s.Claim(p, sec, h(1))
	s.Leave(p, 2*sec, h(1), 3*sec)
	require.Equal(t, bulkhead.Pace{MeanNS: 2 * sec, Seen: 2, At: 2 * sec}, s.Pace, "claimed: it does")
}

// The calls that are out when a pool has slowed down or become fast correct the
// forecast as they come back, so that nobody is refused for ever.
func TestAForecastFollowsItsCalls(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after int64
		budget        int64 // in a pool of one
		first, then   bulkhead.Verdict
		calls         int // that it takes
	}{
		"slow to fast":        {10 * sec, 10e6, sec, bulkhead.Late, bulkhead.Queued, 18},
		"ten times as fast":   {sec, sec / 10, sec / 2, bulkhead.Late, bulkhead.Queued, 7},
		"fast to slow":        {10e6, 10 * sec, sec, bulkhead.Queued, bulkhead.Late, 1},
		"a little slower":     {900e6, 1100e6, sec, bulkhead.Queued, bulkhead.Late, 6},
		"one outlier of many": {10e6, 4 * sec, 511e6, bulkhead.Queued, bulkhead.Queued, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := bulkhead.Params{Limit: 1, Queue: 5}
			s := learnt(sec, slices.Repeat([]int64{c.before}, 20)...)
			verdict := func() bulkhead.Verdict {
				s.Acquire(p, sec, ask(0, 0))
				v := s.Acquire(p, sec, bulkhead.Request{Holder: h(1), BudgetNS: c.budget, HoldNS: sec})
				s.Leave(p, sec, h(1), bulkhead.Unknown)
				s.Leave(p, sec, h(0), bulkhead.Unknown)
				return v
			}
			for range c.calls {
				require.Equal(t, c.first, verdict())
				teach(s, sec, c.after)
			}
			require.Equal(t, c.then, verdict())
		})
	}
}

func TestAForecastOfNonsense(t *testing.T) {
	t.Parallel()
	for _, now := range []int64{math.MinInt64, -1, 0, sec, math.MaxInt64 / 2} {
		s := learnt(now, slices.Repeat([]int64{math.MaxInt64}, 8)...)
		p := bulkhead.Params{Limit: 3, Queue: bulkhead.MaxWaiters}
		for i := range uint32(900) {
			require.NotEqual(t, bulkhead.Full, s.Acquire(p, now, bulkhead.Request{Holder: h(i), WaitNS: math.MaxInt64, HoldNS: math.MaxInt64}))
		}
		require.Equal(t, bulkhead.Late, s.Acquire(p, now, bulkhead.Request{Holder: h(1000), Priority: 1, BudgetNS: math.MaxInt64 / 2, HoldNS: 1}))
		require.Equal(t, bulkhead.Queued, s.Acquire(p, now, bulkhead.Request{Holder: h(1001), HoldNS: 1}))
	}
	// Before 1970, who waits without a limit does so as well.
	s, p := learnt(-1, slices.Repeat([]int64{sec}, 8)...), bulkhead.Params{Limit: 1, Queue: 5}
	for i := range uint32(2) {
		s.Acquire(p, -1, bulkhead.Request{Holder: h(i), HoldNS: sec})
	}
	require.Equal(t, bulkhead.Late, s.Acquire(p, -1, bulkhead.Request{Holder: h(3), BudgetNS: 2*sec - 1, HoldNS: 1}))
}

// The bound of the error: where each call takes the mean time or longer, nobody
// is refused who could have been answered in time, whatever is out or waits.
func TestWhoIsRefusedCouldNotHaveBeenAnswered(t *testing.T) {
	t.Parallel()
	refusals := 0
	rapid.Check(t, func(t *rapid.T) {
		mean := rapid.Int64Range(1, 40).Draw(t, "mean")
		longer := rapid.SampledFrom([]int64{0, 0, 30}).Draw(t, "longer")
		took := func() int64 { return mean + rapid.Int64Range(0, longer).Draw(t, "took") }
		s := learnt(0, slices.Repeat([]int64{mean}, 8)...)
		p := bulkhead.Params{Limit: rapid.Uint32Range(1, 5).Draw(t, "limit"), Queue: 12}
		ends := map[bulkhead.Holder]int64{} // of the calls that are out
		now := int64(0)
		for i := range p.Limit {
			now += rapid.Int64Range(0, mean/int64(p.Limit)).Draw(t, "apart")
			require.Equal(t, bulkhead.Held, s.Acquire(p, now, bulkhead.Request{Holder: h(i), HoldNS: 1 << 60}))
			ends[h(i)] = now + took()
		}
		for i := range rapid.Uint32Range(0, 11).Draw(t, "waiters") {
			s.Acquire(p, now, bulkhead.Request{
				Holder: h(100 + i), Priority: rapid.Uint8Range(0, 2).Draw(t, "priority"),
				WaitNS: rapid.SampledFrom([]int64{0, mean, mean * int64(i+1) / int64(p.Limit), 2 * mean, 3*mean - 1}).Draw(t, "patience"), HoldNS: 1 << 60,
			})
		}
		me := bulkhead.Request{Holder: h(999), Priority: rapid.Uint8Range(0, 2).Draw(t, "mine"), BudgetNS: rapid.Int64Range(1, 8*mean).Draw(t, "budget"), HoldNS: 1 << 60}
		verdict, arrived := s.Acquire(p, now, me), now
		if verdict != bulkhead.Late {
			return
		}
		refusals++
		budget := me.BudgetNS
		me.BudgetNS = 0 // what if it had waited
		require.Equal(t, bulkhead.Queued, s.Acquire(p, now, me))
		for {
			now = math.MaxInt64 // until the next call is over, or somebody gives up
			var over bulkhead.Holder
			for who, end := range ends {
				if end < now || (end == now && who.Stream < over.Stream) {
					now, over = end, who
				}
			}
			for _, w := range s.Waiters {
				if w.Deadline != 0 && w.Deadline <= now {
					now, over = w.Deadline, bulkhead.Holder{}
				}
			}
			if over == (bulkhead.Holder{}) {
				s.Sweep(p, now)
			} else {
				s.Leave(p, now, over, bulkhead.Unknown)
				delete(ends, over)
			}
			for _, g := range slices.Clone(s.Granted) {
				require.Equal(t, bulkhead.Held, s.Claim(p, now, g))
				ends[g] = now + took()
				if g == me.Holder {
					require.Greater(t, ends[g]-arrived, budget, "it was refused, and would have been answered")
					return
				}
			}
		}
	})
	require.Positive(t, refusals)
}
