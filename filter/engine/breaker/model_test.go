package breaker_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/engine/breaker"
)

// model is the breaker as one would write it without thinking of records,
// workers or clocks: it keeps every call in a list.
type model struct {
	p         breaker.Params
	kind      breaker.Kind
	gen       int
	run       uint32
	successes uint32
	opened    int64 // when
	growth    int64
	rests     int64 // half-open: closes without traffic
	calls     []call
	failed    list
	slow      list
}

// list is a window as a list of all that came.
type list struct {
	from  int64 // start of bucket 0
	calls []counted
}

type counted struct {
	bucket int64
	hit    bool
}

// add counts a call and reports whether the rate is reached.
func (l *list) add(r breaker.Rate, now int64, hit bool) bool {
	if r.PPM == 0 {
		return false
	}
	width := r.WindowNS / 10
	if n := len(l.calls); n == 0 || (now-l.from)/width-l.calls[n-1].bucket >= 10 {
		*l = list{from: now}
	}
	bucket := (now - l.from) / width
	l.calls = append(l.calls, counted{bucket, hit})
	calls, hits := int64(0), int64(0)
	for _, c := range l.calls {
		if c.bucket > bucket-10 {
			calls++
			if c.hit {
				hits++
			}
		}
	}
	return calls >= int64(r.Minimum) && hits*1_000_000 >= calls*r.PPM
}

type call struct {
	ticket breaker.Ticket
	gen    int
	probe  bool
	until  int64
	done   bool
}

func (m *model) out(now int64) (n uint32) {
	for _, c := range m.calls {
		if c.probe && !c.done && c.gen == m.gen && c.until > now {
			n++
		}
	}
	return n
}

// The time of the machine advances in steps much larger than a tick of
// State.Probes, so that rounding does not show.
const step = 1e9

func TestAgainstAModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := breaker.Params{
			Threshold: rapid.Uint32Range(0, 4).Draw(t, "threshold"), FailureRate: drawRate(t, "failure"), SlowCalls: drawRate(t, "slow"), Probes: rapid.Uint32Range(1, 4).Draw(t, "probes"),
			Successes: rapid.Uint32Range(1, 4).Draw(t, "successes"), RecoveryNS: rapid.Int64Range(1, 9).Draw(t, "recovery") * step,
			MultiplierPPM: rapid.SampledFrom([]int64{1_000_000, 1_500_000, 3_000_000}).Draw(t, "multiplier"),
			ProbeExpiryNS: rapid.Int64Range(1, 9).Draw(t, "expiry")*step + step/2,
		}
		p.RecoveryMaxNS = p.RecoveryNS * rapid.Int64Range(1, 4).Draw(t, "cap")
		m := &model{p: p}
		var s breaker.State
		var w breaker.Windows
		now := int64(1e18)
		last, was := s.Gen, s.Kind
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) { now += rapid.Int64Range(0, 12).Draw(t, "seconds") * step },
			"admit": func(t *rapid.T) {
				next, d, ticket := breaker.Admit(s, p, now, 0)
				require.Equal(t, d.Changed, next != s)
				m.admit(t, s, next, d, ticket, now)
				s = next
			},
			"settle": func(t *rapid.T) {
				if len(m.calls) == 0 {
					return
				}
				i := rapid.IntRange(0, len(m.calls)-1).Draw(t, "call")
				verdict := breaker.Verdict(rapid.IntRange(0, 2).Draw(t, "verdict"))
				random := rapid.Uint64().Draw(t, "random")
				r := breaker.Result{Verdict: verdict, Slow: rapid.Bool().Draw(t, "took long"), Cause: 7}
				before := w
				next, moved, changed := breaker.SettleWindowed(s, &w, &p, now, random, m.calls[i].ticket, r)
				require.Equal(t, changed, next != s || before != w)
				require.Equal(t, moved.Happened(), next.Gen != s.Gen)
				if !p.Windowed() {
					plain, plainMoved, plainChanged := breaker.Settle(s, p, now, random, m.calls[i].ticket, r)
					require.Equal(t, []any{next, moved, changed}, []any{plain, plainMoved, plainChanged}, "the short form is the same")
				}
				m.settle(t, i, r, next, now)
				s = next
			},
			"rest": func(t *rapid.T) {
				next, moved := breaker.Rest(s, now)
				require.Equal(t, moved.Happened(), next != s)
				require.Equal(t, moved.Happened(), m.rest(now))
				s = next
			},
			"": func(t *rapid.T) {
				require.Equal(t, m.kind, s.Kind)
				require.EqualValues(t, m.gen, s.Gen)
				switch m.kind {
				case breaker.Closed:
					require.Equal(t, m.run, s.Failures)
				default:
					require.Zero(t, w, "only a closed breaker remembers rates")
				}
				switch m.kind {
				case breaker.Closed:
				case breaker.HalfOpen:
					require.Equal(t, m.successes, s.Successes)
					require.LessOrEqual(t, m.out(now), p.Probes, "probes out at once")
				case breaker.Open:
					require.Zero(t, s.Failures)
				}
				require.Less(t, s.Gen-last, uint64(2), "a step is one transition")
				require.False(t, was == breaker.Closed && s.Kind == breaker.HalfOpen, "closed never jumps to half-open")
				last, was = s.Gen, s.Kind
			},
		})
	})
}

func drawRate(t *rapid.T, what string) breaker.Rate {
	if rapid.Bool().Draw(t, what+" off") {
		return breaker.Rate{}
	}
	return breaker.Rate{
		PPM: rapid.SampledFrom([]int64{1, 333_333, 500_000, 1_000_000}).Draw(t, what+" rate"), Minimum: rapid.Uint32Range(1, 6).Draw(t, what+" minimum"),
		WindowNS: rapid.Int64Range(1, 40).Draw(t, what+" window") * step,
	}
}

// rest closes a half-open breaker that has had its success, and no call since.
func (m *model) rest(now int64) bool {
	if m.kind != breaker.HalfOpen || m.successes == 0 || now < m.rests || m.out(now) > 0 {
		return false
	}
	m.close()
	return true
}

func (m *model) close() {
	m.kind, m.gen, m.run = breaker.Closed, m.gen+1, 0
	m.failed, m.slow = list{}, list{}
}

func (m *model) admit(t *rapid.T, before, after breaker.State, d breaker.Decision, ticket breaker.Ticket, now int64) {
	probe := false
	switch m.kind {
	case breaker.Closed:
		require.True(t, d.Admit)
	case breaker.Open:
		if now < before.RetryAt {
			require.False(t, d.Admit)
			require.Equal(t, before.RetryAt-now, d.RetryAfterNS)
			return
		}
		m.kind, m.gen, m.successes = breaker.HalfOpen, m.gen+1, 0
		require.True(t, d.Moved.Happened())
		require.True(t, d.Admit)
		probe = true
	case breaker.HalfOpen:
		if m.rest(now) {
			require.Equal(t, breaker.Transition{From: breaker.HalfOpen, To: breaker.Closed}, d.Moved)
			require.True(t, d.Admit)
			break
		}
		require.Equal(t, m.out(now) < m.p.Probes, d.Admit)
		if !d.Admit {
			return
		}
		probe = true
	}
	require.EqualValues(t, m.gen, after.Gen)
	m.calls = append(m.calls, call{ticket: ticket, gen: m.gen, probe: probe, until: now + m.p.ProbeExpiryNS})
}

func (m *model) settle(t *rapid.T, i int, r breaker.Result, after breaker.State, now int64) {
	c := &m.calls[i]
	if c.gen != m.gen || (c.probe && c.done) {
		return
	}
	if c.probe && c.until <= now {
		// Given back, but it still counts while nobody has its place.
		for j := range m.calls {
			if other := m.calls[j]; j > i && other.probe && other.gen == m.gen && other.ticket.Slot == c.ticket.Slot {
				return
			}
		}
	}
	c.done = true
	failed := r.Verdict == breaker.Failure
	switch {
	case r.Verdict == breaker.Neutral:
	case m.kind == breaker.Closed:
		if m.run++; !failed {
			m.run = 0
		}
		tooMany, tooSlow := m.failed.add(m.p.FailureRate, now, failed), m.slow.add(m.p.SlowCalls, now, r.Slow)
		inARow := m.p.Threshold > 0 && m.run == m.p.Threshold
		if m.p.Threshold == 0 {
			m.run = 0
		}
		if !inARow && !tooMany && !tooSlow {
			return
		}
		m.reopen(t, after, now, m.p.RecoveryNS)
		require.Equal(t, now+m.p.RecoveryNS, after.RetryAt)
		switch {
		case inARow:
			require.EqualValues(t, 7, after.Cause)
		case tooMany:
			require.Equal(t, breaker.CauseFailureRate, after.Cause)
		default:
			require.Equal(t, breaker.CauseSlowCalls, after.Cause)
		}
	case failed || (r.Slow && m.p.SlowCalls.PPM > 0):
		m.reopen(t, after, now, min(m.growth*m.p.MultiplierPPM/1_000_000, m.p.RecoveryMaxNS))
		if !failed {
			require.Equal(t, breaker.CauseSlowCalls, after.Cause)
		}
	default:
		m.rests = now + m.growth
		if m.successes++; m.successes == m.p.Successes {
			m.close()
		}
	}
}

func (m *model) reopen(t *rapid.T, after breaker.State, now, recovery int64) {
	m.kind, m.gen, m.opened, m.growth = breaker.Open, m.gen+1, now, recovery
	require.GreaterOrEqual(t, after.RetryAt, now+recovery)
	require.LessOrEqual(t, after.RetryAt, now+recovery+recovery/10+1)
}
