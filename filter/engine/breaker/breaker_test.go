package breaker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/engine/breaker"
)

const second = int64(1e9)

// base is 2026, so that clocks can step back from it.
const base = int64(1_780_000_000) * second

func params() breaker.Params {
	return breaker.Params{
		Threshold: 5, Probes: 3, Successes: 3, RecoveryNS: 60 * second, RecoveryMaxNS: 300 * second,
		MultiplierPPM: 1_500_000, ProbeExpiryNS: 30 * second,
	}
}

// rig steps one breaker and keeps what it said.
type rig struct {
	t *testing.T
	p breaker.Params
	s breaker.State
}

func (r *rig) admit(now int64) (breaker.Ticket, bool) {
	r.t.Helper()
	next, d, ticket := breaker.Admit(r.s, r.p, now, 0)
	require.Equal(r.t, d.Changed, next != r.s, "Changed must tell the truth")
	require.Equal(r.t, !d.Admit, d.RetryAfterNS > 0)
	r.s = next
	return ticket, d.Admit
}

func (r *rig) settle(now int64, ticket breaker.Ticket, v breaker.Verdict) {
	r.t.Helper()
	next, moved, changed := breaker.Settle(r.s, r.p, now, ^uint64(0), ticket, breaker.Result{Verdict: v, Cause: 7})
	require.Equal(r.t, changed, next != r.s, "changed must tell the truth")
	require.Equal(r.t, moved.Happened(), next.Kind != r.s.Kind)
	require.Equal(r.t, moved.Happened(), next.Gen != r.s.Gen)
	r.s = next
}

func (r *rig) call(now int64, v breaker.Verdict) {
	r.t.Helper()
	ticket, ok := r.admit(now)
	require.True(r.t, ok)
	r.settle(now, ticket, v)
}

func (r *rig) open(now int64) {
	r.t.Helper()
	for range r.p.Threshold {
		r.call(now, breaker.Failure)
	}
	require.Equal(r.t, breaker.Open, r.s.Kind)
}

func TestOpensAtExactlyTheThreshold(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, p: params()}
	for range 4 {
		r.call(base, breaker.Failure)
	}
	require.Equal(t, breaker.Closed, r.s.Kind)
	r.call(base, breaker.Success)
	require.Zero(t, r.s.Failures, "a success ends the run")
	for range 4 {
		r.call(base, breaker.Failure)
		r.call(base, breaker.Neutral)
	}
	require.Equal(t, breaker.Closed, r.s.Kind, "a neutral result is no success and no failure")
	r.call(base, breaker.Failure)
	require.Equal(t, breaker.Open, r.s.Kind)
	require.EqualValues(t, 1, r.s.Gen)
	require.EqualValues(t, 7, r.s.Cause)
	require.Equal(t, base+60*second, r.s.RetryAt, "the first opening has no jitter")
}

func TestOpenRefusesUntilRetryAt(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, p: params()}
	r.open(base)
	_, d, _ := breaker.Admit(r.s, r.p, base+second, 0)
	require.False(t, d.Admit)
	require.Equal(t, 59*second, d.RetryAfterNS)
	_, d, _ = breaker.Admit(r.s, r.p, base+60*second-1, 0)
	require.False(t, d.Admit)
	require.EqualValues(t, 1, d.RetryAfterNS)
	next, d, ticket := breaker.Admit(r.s, r.p, base+60*second, 0)
	require.True(t, d.Admit)
	require.Equal(t, breaker.Transition{From: breaker.Open, To: breaker.HalfOpen}, d.Moved)
	require.EqualValues(t, 2, next.Gen)
	require.NotZero(t, ticket.Serial, "it is a probe")
}

func TestHalfOpenLimitsProbes(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, p: params()}
	r.open(base)
	at := base + 61*second
	var tickets []breaker.Ticket
	for range 3 {
		ticket, ok := r.admit(at)
		require.True(t, ok)
		tickets = append(tickets, ticket)
	}
	_, ok := r.admit(at)
	require.False(t, ok, "three are out")
	r.settle(at, tickets[1], breaker.Neutral)
	again, ok := r.admit(at)
	require.True(t, ok, "a neutral result gives the place back")
	_, ok = r.admit(at)
	require.False(t, ok)
	r.settle(at, tickets[0], breaker.Success)
	r.settle(at, tickets[0], breaker.Success)
	require.EqualValues(t, 1, r.s.Successes, "a ticket counts once")
	r.settle(at, again, breaker.Success)
	require.Equal(t, breaker.HalfOpen, r.s.Kind)
	r.settle(at, tickets[2], breaker.Success)
	require.Equal(t, breaker.Closed, r.s.Kind)
	require.Equal(t, breaker.State{Gen: 3, Since: at}, r.s, "closed forgets growth, cause and probes")
}

func TestExpiredProbeIsGivenBack(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, p: params()}
	r.p.Probes, r.p.Successes = 1, 2
	r.open(base)
	at := base + 61*second
	lost, ok := r.admit(at)
	require.True(t, ok)
	_, ok = r.admit(at + 30*second - 1)
	require.False(t, ok, "not yet")
	at += 30*second + 68e6
	fresh, ok := r.admit(at)
	require.True(t, ok, "its time is over")
	r.settle(at, lost, breaker.Failure)
	require.Equal(t, breaker.HalfOpen, r.s.Kind, "its place belongs to another call")
	r.settle(at, fresh, breaker.Success)
	require.EqualValues(t, 1, r.s.Successes)
}

func TestReopenGrowsToTheCapAndJitterOnlyLengthens(t *testing.T) {
	t.Parallel()
	for _, random := range []uint64{0, 1 << 63, ^uint64(0)} {
		s, p, now := breaker.State{}, params(), base
		for range p.Threshold {
			s, _, _ = breaker.Settle(s, p, now, random, breaker.Ticket{Gen: s.Gen}, breaker.Result{Verdict: breaker.Failure})
		}
		for _, want := range []int64{90, 135, 202.5e9 / second, 300, 300} {
			now = s.RetryAt
			var ticket breaker.Ticket
			s, _, ticket = breaker.Admit(s, p, now, random)
			s, _, _ = breaker.Settle(s, p, now, random, ticket, breaker.Result{Verdict: breaker.Failure})
			require.Equal(t, breaker.Open, s.Kind)
			wait := s.RetryAt - now
			require.GreaterOrEqual(t, wait, want*second)
			require.LessOrEqual(t, wait, (want*second+second)*11/10)
		}
	}
}

func TestLateResultsOfAnEarlierGenerationChangeNothing(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, p: params()}
	late, ok := r.admit(base)
	require.True(t, ok)
	r.open(base)
	before := r.s
	r.settle(base, late, breaker.Success)
	r.settle(base, late, breaker.Failure)
	require.Equal(t, before, r.s)
	_, ok = r.admit(base + 60*second)
	require.True(t, ok)
	before = r.s
	for range 10 {
		r.settle(base+60*second, late, breaker.Success)
	}
	require.Equal(t, before, r.s, "failsafe-go closes here without one probe result")
}

func TestClockSteppingBack(t *testing.T) {
	t.Parallel()
	day := 24 * 3600 * second
	t.Run("open waits once more, no longer", func(t *testing.T) {
		t.Parallel()
		r := &rig{t: t, p: params()}
		r.open(base)
		_, ok := r.admit(base - day)
		require.False(t, ok, "it does not close")
		_, ok = r.admit(base - day + 59*second)
		require.False(t, ok)
		_, ok = r.admit(base - day + 60*second)
		require.True(t, ok, "it does not starve")
	})
	t.Run("half-open gives probes back", func(t *testing.T) {
		t.Parallel()
		r := &rig{t: t, p: params()}
		r.p.Probes = 1
		r.open(base)
		_, ok := r.admit(base + 60*second)
		require.True(t, ok)
		_, ok = r.admit(base - day)
		require.False(t, ok)
		_, ok = r.admit(base - day + 31*second)
		require.True(t, ok)
	})
	t.Run("half-open for long, then a step back", func(t *testing.T) {
		t.Parallel()
		r := &rig{t: t, p: params()}
		r.p.Probes = 1
		r.open(base)
		_, ok := r.admit(base + 60*second)
		require.True(t, ok)
		_, ok = r.admit(base + 3660*second)
		require.True(t, ok, "the first has expired")
		_, ok = r.admit(base + 100*second)
		require.False(t, ok)
		_, ok = r.admit(base + 131*second)
		require.True(t, ok, "no probe holds its place longer than its expiry")
	})
	t.Run("half-open for months", func(t *testing.T) {
		t.Parallel()
		r := &rig{t: t, p: params()}
		r.p.Probes, r.p.Successes = 2, 1
		r.open(base)
		_, ok := r.admit(base + 60*second)
		require.True(t, ok)
		ticket, ok := r.admit(base + 90*day)
		require.True(t, ok)
		r.settle(base+90*day, ticket, breaker.Success)
		require.Equal(t, breaker.Closed, r.s.Kind)
	})
	t.Run("closed takes no notice", func(t *testing.T) {
		t.Parallel()
		r := &rig{t: t, p: params()}
		for i := range int64(4) {
			r.call(base-i*day, breaker.Failure)
		}
		require.Equal(t, breaker.Closed, r.s.Kind)
	})
}

func TestHealthyPathAllocatesNothing(t *testing.T) {
	p := params()
	s := breaker.State{}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for i := range int64(8) {
			var ticket breaker.Ticket
			s, _, ticket = breaker.Admit(s, p, base+i*61*second, 0)
			s, _, _ = breaker.Settle(s, p, base+i*61*second, 0, ticket, breaker.Result{Verdict: breaker.Failure})
		}
	}))
}

func TestKindWords(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"closed", "open", "half-open", "unknown"},
		[]string{breaker.Closed.String(), breaker.Open.String(), breaker.HalfOpen.String(), breaker.Kind(9).String()})
}

// Whatever stands in a record and in a plan, a step returns, gives a position
// that exists, and holds the limit of probes.
func FuzzStepsOnAnything(f *testing.F) {
	f.Add(uint8(1), uint64(1), int64(0), int64(-1), int64(1)<<62, uint32(1), uint32(0), uint32(3), int64(1), int64(1)<<62, int64(-5), int64(7), uint64(9), uint8(2))
	f.Fuzz(func(t *testing.T, kind uint8, gen uint64, since, retryAt, recovery int64, failures, threshold, probes uint32,
		recoveryNS, maxNS, multiplier, now int64, random uint64, verdict uint8) {
		s := breaker.State{Gen: gen, Since: since, RetryAt: retryAt, Recovery: recovery, Failures: failures, Kind: breaker.Kind(kind % 4)}
		p := breaker.Params{Threshold: threshold, Probes: probes, Successes: failures, RecoveryNS: recoveryNS, RecoveryMaxNS: maxNS, MultiplierPPM: multiplier, ProbeExpiryNS: maxNS}
		for i := range 40 {
			next, d, ticket := breaker.Admit(s, p, now, random)
			if d.Admit && next.Kind == breaker.HalfOpen {
				require.Less(t, uint32(ticket.Slot), min(max(probes, 1), breaker.MaxProbes))
			}
			require.Equal(t, !d.Admit, d.RetryAfterNS > 0)
			s, _, _ = breaker.Settle(next, p, now, random, ticket, breaker.Result{Verdict: breaker.Verdict((int(verdict) + i) % 3)})
			require.True(t, s.Kind <= breaker.HalfOpen || s.Kind == breaker.Kind(kind%4))
			now += retryAt
		}
	})
}

// windowed settles with windows, as a caller does that keeps them.
func (r *rig) windowed(w *breaker.Windows, now int64, res breaker.Result) breaker.Transition {
	r.t.Helper()
	ticket, ok := r.admit(now)
	require.True(r.t, ok)
	next, moved, _ := breaker.SettleWindowed(r.s, w, &r.p, now, 0, ticket, res)
	r.s = next
	return moved
}

func rates() breaker.Params {
	p := params()
	p.Threshold = 0
	p.FailureRate = breaker.Rate{PPM: 500_000, WindowNS: 10 * second, Minimum: 10}
	p.SlowCalls = breaker.Rate{PPM: 800_000, WindowNS: 60 * second, Minimum: 5}
	return p
}

func TestARateOpensAtItsVolume(t *testing.T) {
	t.Parallel()
	r, w := &rig{t: t, p: rates()}, breaker.Windows{}
	for range 5 {
		require.False(t, r.windowed(&w, base, breaker.Result{Verdict: breaker.Failure}).Happened())
	}
	for range 4 {
		r.windowed(&w, base, breaker.Result{Verdict: breaker.Success})
	}
	require.True(t, r.s.Healthy(), "a rate keeps no run of failures")
	require.True(t, r.windowed(&w, base, breaker.Result{Verdict: breaker.Success}).Happened(), "the tenth call, a success, gives it its volume")
	require.Equal(t, breaker.CauseFailureRate, r.s.Cause)
	require.Zero(t, w)
}

func TestSlowSuccessesOpenIt(t *testing.T) {
	t.Parallel()
	r, w := &rig{t: t, p: rates()}, breaker.Windows{}
	r.windowed(&w, base, breaker.Result{Verdict: breaker.Success})
	for range 3 {
		require.False(t, r.windowed(&w, base+30*second, breaker.Result{Verdict: breaker.Success, Slow: true}).Happened())
	}
	r.windowed(&w, base+30*second, breaker.Result{Verdict: breaker.Neutral, Slow: true})
	require.True(t, r.windowed(&w, base+31*second, breaker.Result{Verdict: breaker.Success, Slow: true}).Happened())
	require.Equal(t, breaker.CauseSlowCalls, r.s.Cause)
}

func TestOfSeveralCausesTheRunIsTold(t *testing.T) {
	t.Parallel()
	r, w := &rig{t: t, p: rates()}, breaker.Windows{}
	r.p.Threshold, r.p.FailureRate.Minimum = 2, 2
	r.windowed(&w, base, breaker.Result{Verdict: breaker.Failure, Cause: 7})
	require.True(t, r.windowed(&w, base, breaker.Result{Verdict: breaker.Failure, Cause: 9}).Happened())
	require.EqualValues(t, 9, r.s.Cause)
}

func TestRestClosesWithoutTraffic(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, p: params()}
	r.open(base)
	at := base + 60*second
	_, moved := breaker.Rest(r.s, base+1000*second)
	require.False(t, moved.Happened(), "open waits for a call")
	lost, ok := r.admit(at)
	require.True(t, ok)
	ticket, ok := r.admit(at)
	require.True(t, ok)
	r.settle(at, ticket, breaker.Success)
	_, moved = breaker.Rest(r.s, at+20*second)
	require.False(t, moved.Happened(), "not yet")
	r.settle(at+20*second, lost, breaker.Neutral)
	_, moved = breaker.Rest(r.s, at+60*second-1)
	require.False(t, moved.Happened())
	next, moved := breaker.Rest(r.s, at+60*second)
	require.Equal(t, breaker.Transition{From: breaker.HalfOpen, To: breaker.Closed}, moved)
	require.Equal(t, breaker.State{Gen: 3, Since: at + 60*second}, next)
	next, d, ticket := breaker.Admit(r.s, r.p, at+60*second, 0)
	require.True(t, d.Admit && d.Changed && d.Moved.To == breaker.Closed, "a call finds the same")
	require.Equal(t, breaker.Ticket{Gen: 3}, ticket)
	require.Equal(t, breaker.Closed, next.Kind)
}

func FuzzWindowedStepsOnAnything(f *testing.F) {
	f.Add(uint8(0), uint64(1), int64(0), int64(5), int64(1)<<62, uint32(1), uint32(3), int64(1), int64(1)<<62, int64(-5), int64(7), uint8(2))
	f.Fuzz(func(t *testing.T, kind uint8, gen uint64, since, retryAt, recovery int64, failures, minimum uint32, ppm, length, now, step int64, verdict uint8) {
		s := breaker.State{Gen: gen, Since: since, RetryAt: retryAt, Recovery: recovery, Failures: failures, Successes: minimum, Kind: breaker.Kind(kind % 4)}
		p := breaker.Params{
			FailureRate: breaker.Rate{PPM: ppm, WindowNS: length, Minimum: minimum}, SlowCalls: breaker.Rate{PPM: ppm, WindowNS: step, Minimum: minimum},
			Threshold: failures, Probes: minimum, Successes: failures, RecoveryNS: recovery, RecoveryMaxNS: length, MultiplierPPM: ppm, ProbeExpiryNS: length,
		}
		var w breaker.Windows
		w.Failures.Since = since
		for i := range 40 {
			next, d, ticket := breaker.Admit(s, p, now, gen)
			require.Equal(t, !d.Admit, d.RetryAfterNS > 0)
			require.False(t, s.Kind == breaker.Closed && next.Kind != breaker.Closed, "closed is left by a result only")
			s, _, _ = breaker.SettleWindowed(next, &w, &p, now, gen, ticket, breaker.Result{Verdict: breaker.Verdict((int(verdict) + i) % 3), Slow: i%2 == 0})
			require.False(t, next.Kind == breaker.Closed && s.Kind == breaker.HalfOpen)
			s, _ = breaker.Rest(s, now)
			now += step
		}
	})
}
