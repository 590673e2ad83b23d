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
	calls     []call
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
			Threshold: rapid.Uint32Range(1, 4).Draw(t, "threshold"), Probes: rapid.Uint32Range(1, 4).Draw(t, "probes"),
			Successes: rapid.Uint32Range(1, 4).Draw(t, "successes"), RecoveryNS: rapid.Int64Range(1, 9).Draw(t, "recovery") * step,
			MultiplierPPM: rapid.SampledFrom([]int64{1_000_000, 1_500_000, 3_000_000}).Draw(t, "multiplier"),
			ProbeExpiryNS: rapid.Int64Range(1, 9).Draw(t, "expiry")*step + step/2,
		}
		p.RecoveryMaxNS = p.RecoveryNS * rapid.Int64Range(1, 4).Draw(t, "cap")
		m := &model{p: p}
		var s breaker.State
		now := int64(1e18)
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
				next, moved, changed := breaker.Settle(s, p, now, random, m.calls[i].ticket, breaker.Result{Verdict: verdict})
				require.Equal(t, changed, next != s)
				require.Equal(t, moved.Happened(), next.Gen != s.Gen)
				m.settle(t, i, verdict, next, now)
				s = next
			},
			"": func(t *rapid.T) {
				require.Equal(t, m.kind, s.Kind)
				require.EqualValues(t, m.gen, s.Gen)
				switch m.kind {
				case breaker.Closed:
					require.Equal(t, m.run, s.Failures)
				case breaker.HalfOpen:
					require.Equal(t, m.successes, s.Successes)
					require.LessOrEqual(t, m.out(now), p.Probes, "probes out at once")
				case breaker.Open:
					require.Zero(t, s.Failures)
				}
			},
		})
	})
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
		require.Equal(t, m.out(now) < m.p.Probes, d.Admit)
		if !d.Admit {
			return
		}
		probe = true
	}
	require.EqualValues(t, m.gen, after.Gen)
	m.calls = append(m.calls, call{ticket: ticket, gen: m.gen, probe: probe, until: now + m.p.ProbeExpiryNS})
}

func (m *model) settle(t *rapid.T, i int, verdict breaker.Verdict, after breaker.State, now int64) {
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
	switch {
	case m.kind == breaker.Closed && verdict == breaker.Success:
		m.run = 0
	case m.kind == breaker.Closed && verdict == breaker.Failure:
		if m.run++; m.run == m.p.Threshold {
			m.reopen(t, after, now, m.p.RecoveryNS)
			require.Equal(t, now+m.p.RecoveryNS, after.RetryAt)
		}
	case m.kind == breaker.HalfOpen && verdict == breaker.Success:
		if m.successes++; m.successes == m.p.Successes {
			m.kind, m.gen, m.run = breaker.Closed, m.gen+1, 0
		}
	case m.kind == breaker.HalfOpen && verdict == breaker.Failure:
		m.reopen(t, after, now, min(m.growth*m.p.MultiplierPPM/1_000_000, m.p.RecoveryMaxNS))
	}
}

func (m *model) reopen(t *rapid.T, after breaker.State, now, recovery int64) {
	m.kind, m.gen, m.opened, m.growth = breaker.Open, m.gen+1, now, recovery
	require.GreaterOrEqual(t, after.RetryAt, now+recovery)
	require.LessOrEqual(t, after.RetryAt, now+recovery+recovery/10+1)
}
