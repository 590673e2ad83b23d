package bulkhead_test

import (
	"math/big"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/engine/bulkhead"
)

// phase is where a call of the model is.
type phase int

const (
	waiting phase = iota
	granted
	holding
	gone
)

// call is a call as the model keeps it: for ever, in one list.
type call struct {
	h        bulkhead.Holder
	priority uint8
	arrival  int
	wait     int64
	hold     int64
	budget   int64
	since    int64 // of its phase
	claimed  int64
	phase    phase
}

// sample is a call that came back.
type sample struct{ at, held int64 }

// model is the pool as one would write it without thinking of records: it
// looks through all calls at every step.
type model struct {
	p     bulkhead.Params
	calls []*call
	back  []sample
	now   int64
}

func (m *model) in(phases ...phase) (out []*call) {
	for _, c := range m.calls {
		if slices.Contains(phases, c.phase) {
			out = append(out, c)
		}
	}
	return out
}

func (m *model) to(c *call, p phase) { c.phase, c.since = p, m.now }

// settle lets time act, then gives what is free to the best waiters.
func (m *model) settle() (told []bulkhead.Holder) {
	for _, c := range m.calls {
		switch {
		case c.phase == waiting && c.wait > 0 && c.since+c.wait <= m.now,
			c.phase == granted && c.since+bulkhead.ClaimNS <= m.now,
			c.phase == holding && c.since+c.hold <= m.now:
			m.to(c, gone)
		}
	}
	for len(m.in(granted, holding)) < int(m.p.Limit) {
		queue := m.in(waiting)
		if len(queue) == 0 {
			break
		}
		best := slices.MinFunc(queue, func(a, b *call) int {
			if a.priority != b.priority {
				return int(a.priority) - int(b.priority)
			}
			return a.arrival - b.arrival
		})
		m.to(best, granted)
		told = append(told, best.h)
	}
	return told
}

// hold is the start of a call.
func (m *model) hold(c *call) {
	m.to(c, holding)
	c.claimed = m.now
}

// mean is what the calls that came back teach, in whole ns: each is remembered,
// and the mean counted anew from the first that is still believed.
func (m *model) mean() (mean *big.Int, n int64) {
	mean = new(big.Int)
	for i, b := range m.back {
		if i > 0 && !m.believed(mean, m.back[i-1].at, b.at) {
			mean, n = new(big.Int), 0
		}
		n = min(n+1, 8)
		mean.Add(mean.Mul(mean, big.NewInt(n-1)), big.NewInt(b.held))
		mean.Div(mean, big.NewInt(n)) // Euclid's, so down
	}
	if len(m.back) > 0 && !m.believed(mean, m.back[len(m.back)-1].at, m.now) {
		n = 0
	}
	return mean, n
}

func (m *model) believed(mean *big.Int, at, now int64) bool {
	return now-at <= max(10e9, 2*mean.Int64())
}

// wait is when k calls of the mean are over, from now on.
func (m *model) wait(k int) *big.Rat {
	mean, _ := m.mean()
	calls := new(big.Rat).SetInt(mean.Mul(mean, big.NewInt(int64(k))))
	return calls.Quo(calls, new(big.Rat).SetInt64(int64(m.p.Limit)))
}

// late looks who would be in front of c.
func (m *model) late(c *call) bool {
	mean, n := m.mean()
	if n < 8 || c.budget == 0 || mean.Sign() == 0 {
		return false
	}
	if m.p.Limit == 0 {
		return true
	}
	queue := m.in(waiting)
	slices.SortStableFunc(queue, func(a, b *call) int { return int(a.priority) - int(b.priority) })
	k := 0
	for _, w := range queue {
		left := big.NewRat(w.since+w.wait-m.now, 1)
		if w.priority <= c.priority && (w.wait == 0 || m.wait(k+1).Cmp(left) <= 0) {
			k++
		}
	}
	return m.wait(k+1).Cmp(big.NewRat(c.budget, 1)) > 0
}

func (m *model) acquire(c *call) bulkhead.Verdict {
	switch {
	case len(m.in(granted, holding)) < int(m.p.Limit):
		m.hold(c)
	case len(m.in(waiting)) >= int(m.p.Queue):
		m.to(c, gone)
		return bulkhead.Full
	case m.late(c):
		m.to(c, gone)
		return bulkhead.Late
	default:
		m.to(c, waiting)
	}
	m.calls = append(m.calls, c)
	if c.phase == holding {
		return bulkhead.Held
	}
	return bulkhead.Queued
}

func TestAgainstAModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{now: 1e18}
		params := func(t *rapid.T) {
			m.p = bulkhead.Params{Limit: rapid.Uint32Range(0, 5).Draw(t, "limit"), Queue: rapid.Uint32Range(0, 6).Draw(t, "queue")}
		}
		params(t)
		var s bulkhead.State
		some := func(t *rapid.T) *call {
			if len(m.calls) == 0 {
				return nil
			}
			return rapid.SampledFrom(m.calls).Draw(t, "call")
		}
		leave := func(t *rapid.T, c *call) {
			there := c.phase != gone // what has expired, but nobody has looked since, is still there to leave
			held := m.now - c.claimed
			if rapid.IntRange(0, 9).Draw(t, "unknown") == 0 {
				held = bulkhead.Unknown
			}
			if c.phase == holding && held >= 0 {
				m.back = append(m.back, sample{m.now, held})
			}
			m.to(c, gone)
			told := m.settle()
			require.Equal(t, there, s.Leave(m.p, m.now, c.h, held))
			require.Equal(t, told, append([]bulkhead.Holder(nil), s.Granted...))
		}
		acquire := func(t *rapid.T) {
			c := &call{
				h:        bulkhead.Holder{Owner: rapid.Uint64Range(1, 2).Draw(t, "vm"), Stream: uint32(len(m.calls))},
				priority: rapid.Uint8Range(0, 3).Draw(t, "priority"), arrival: len(m.calls),
				wait: rapid.Int64Range(0, 6).Draw(t, "patience") * 1e9, hold: rapid.Int64Range(1, 9).Draw(t, "hold") * 1e9,
				budget: rapid.Int64Range(0, 9).Draw(t, "budget") * 5e8,
			}
			told := m.settle()
			before := len(s.Permits)
			verdict := s.Acquire(m.p, m.now, bulkhead.Request{Holder: c.h, Priority: c.priority, WaitNS: c.wait, BudgetNS: c.budget, HoldNS: c.hold})
			require.Equal(t, m.acquire(c), verdict)
			require.Equal(t, told, append([]bulkhead.Holder(nil), s.Granted...))
			require.LessOrEqual(t, len(s.Permits), max(before, int(m.p.Limit)))
		}
		for range rapid.IntRange(0, 9).Draw(t, "before") {
			held := rapid.Int64Range(0, 3e9).Draw(t, "held")
			m.back = append(m.back, sample{m.now, held})
			teach(&s, m.now, held)
		}
		t.Repeat(map[string]func(*rapid.T){
			"moment":  func(t *rapid.T) { m.now += rapid.Int64Range(0, 7e8).Draw(t, "ns") },
			"wait":    func(t *rapid.T) { m.now += rapid.Int64Range(0, 4).Draw(t, "seconds") * 1e9 },
			"resize":  params,
			"acquire": acquire,
			"crowd": func(t *rapid.T) {
				for range rapid.IntRange(2, 8).Draw(t, "calls") {
					acquire(t)
				}
			},
			"leave": func(t *rapid.T) {
				if c := some(t); c != nil {
					leave(t, c)
				}
			},
			"finish": func(t *rapid.T) {
				if out := m.in(holding); len(out) > 0 {
					leave(t, rapid.SampledFrom(out).Draw(t, "call"))
				}
			},
			"claim": func(t *rapid.T) {
				c := some(t)
				if c == nil {
					return
				}
				switch c.phase {
				case granted:
					m.hold(c) // it has come, if late, and its place was not given to others yet
				case holding:
					m.to(c, holding)
				default:
				}
				m.settle()
				if c.phase == granted { // just now
					m.hold(c)
				}
				want := map[phase]bulkhead.Verdict{waiting: bulkhead.Queued, holding: bulkhead.Held, gone: bulkhead.Full}[c.phase]
				require.Equal(t, want, s.Claim(m.p, m.now, c.h))
			},
			"tend": func(t *rapid.T) {
				owner := rapid.Uint64Range(1, 2).Draw(t, "vm")
				lost := some(t)
				for _, c := range m.calls {
					switch {
					case c.h.Owner != owner:
					case c == lost:
						m.to(c, gone)
					case c.phase == holding && m.now-c.since > c.hold/2: // also where its time was over: nobody has looked
						m.to(c, holding)
					}
				}
				told := m.settle()
				s.Tend(m.p, m.now, owner, func(stream uint32) bool { return lost == nil || stream != lost.h.Stream })
				require.Equal(t, told, append([]bulkhead.Holder(nil), s.Granted...))
			},
			"sweep": func(t *rapid.T) {
				phases := func() (out []phase) {
					for _, c := range m.calls {
						out = append(out, c.phase)
					}
					return out
				}
				before := phases()
				told := m.settle()
				require.Equal(t, !slices.Equal(before, phases()), s.Sweep(m.p, m.now))
				require.Equal(t, told, append([]bulkhead.Holder(nil), s.Granted...))
			},
			"": func(t *rapid.T) {
				require.Len(t, s.Permits, len(m.in(granted, holding)))
				require.Len(t, s.Waiters, len(m.in(waiting)))
				if mean, n := m.mean(); n > 0 {
					require.Equal(t, bulkhead.Pace{MeanNS: mean.Int64(), Seen: uint8(n), At: m.back[len(m.back)-1].at}, s.Pace)
				}
				for i := 1; i < len(s.Waiters); i++ {
					a, b := s.Waiters[i-1], s.Waiters[i]
					require.True(t, a.Priority < b.Priority || (a.Priority == b.Priority && a.Arrival < b.Arrival))
				}
			},
		})
	})
}

// A clock that is set back, however often and far, starves nobody: what is
// held comes back, and who waits gives up, in its own time after the last
// look.
func TestAClockThatStepsBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := bulkhead.Params{Limit: 2, Queue: 4}
		var s bulkhead.State
		now := int64(1e18)
		for i := range uint32(6) {
			s.Acquire(p, now, bulkhead.Request{Holder: bulkhead.Holder{Owner: 1, Stream: i}, WaitNS: 3e9, HoldNS: 5e9})
		}
		for range rapid.IntRange(1, 5).Draw(t, "steps") {
			now -= rapid.Int64Range(0, 1e18).Draw(t, "back")
			s.Sweep(p, now)
			require.Len(t, s.Permits, 2, "nothing is freed by it")
			require.Len(t, s.Waiters, 4)
		}
		s.Sweep(p, now+3e9)
		require.Empty(t, s.Waiters)
		require.Len(t, s.Permits, 2)
		s.Sweep(p, now+5e9)
		require.Empty(t, s.Permits)
	})
}
