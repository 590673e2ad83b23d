package breaker

import (
	"math/bits"

	"github.com/seawall-mesh/seawall/filter/engine/window"
)

// MaxProbes is how many probes a half-open breaker can have out at once.
const MaxProbes = 32

// Kind is the breaker's position. The numbers are kept in shared records.
type Kind uint8

// The positions.
const (
	Closed Kind = iota
	Open
	HalfOpen
)

// String is the position's word in telemetry and metrics.
func (k Kind) String() string {
	switch k {
	case Closed:
		return "closed"
	case Open:
		return "open"
	case HalfOpen:
		return "half-open"
	}
	return "unknown"
}

// Params is a breaker's configuration. Durations are in nanoseconds. Any of
// the conditions opens it.
type Params struct {
	Threshold     uint32 // so many failures in a row open it, 0: off
	FailureRate   Rate
	SlowCalls     Rate
	Probes        uint32 // half-open: at most so many calls out at once, 1 to MaxProbes
	Successes     uint32 // half-open: so many successes close it, ≥ 1
	RecoveryNS    int64  // first time open
	RecoveryMaxNS int64  // cap of the grown recovery time
	MultiplierPPM int64  // growth of the recovery time on each re-open, in ppm, ≥ 1,000,000
	ProbeExpiryNS int64  // a probe not settled by then is given back
}

// Rate is the share of a sliding window's calls that opens a breaker.
type Rate struct {
	PPM      int64  // of a million, 0: off
	WindowNS int64  // length of the window
	Minimum  uint32 // fewer calls in the window say nothing, ≥ 1
}

// Windowed reports whether the breaker looks at a rate: then each success and
// each failure of a closed breaker changes its Windows.
func (p *Params) Windowed() bool { return p.FailureRate.PPM > 0 || p.SlowCalls.PPM > 0 }

// Windows are what the conditions on a rate remember while the breaker is
// closed. They are apart from State, which is copied at each step, because
// most breakers have none.
type Windows struct {
	Failures window.Window
	Slow     window.Window
}

// The causes of a trip by a rate, in State.Cause. A trip by failures in a row,
// or by a probe, has that of its Result, which must be less.
const (
	CauseFailureRate uint8 = 255
	CauseSlowCalls   uint8 = 254
)

// State is a breaker at rest. The zero value is closed. It is a value: copying
// it is taking a snapshot.
type State struct {
	Gen       uint64 // raised on each transition
	Since     int64  // when the last transition was, Unix ns
	RetryAt   int64  // Unix ns; open: when probes start; half-open after a success: when it closes if nothing comes
	Recovery  int64  // open, half-open: the recovery time without jitter, ns
	Failures  uint32 // closed: length of the run of failures
	Successes uint32 // half-open: probes that succeeded
	Kind      Kind
	Cause     uint8 // what made it leave closed, as Result.Cause said

	Serial uint8 // half-open: number of the last probe, 1 to 255 in turn
	Probes [MaxProbes]Probe
}

// Probe is a place for a probe: 0 is free, else the low 8 bits are the probe's
// number, and the others say when it is given back unsettled, in ticks since
// State.Since, rounded up. The short form keeps a State, which Admit and Settle
// copy, below 200 bytes.
type Probe uint32

// tickNS is the unit of a Probe's time: 67 ms.
const tickNS = 1 << 26

// until is when the probe is given back, in ns since State.Since.
func (p Probe) until() int64 { return int64(p>>8) * tickNS }

func newProbe(serial uint8, until int64) Probe {
	const limit = 1<<24 - 1
	return Probe(min(max(until/tickNS+1, 1), limit))<<8 | Probe(serial)
}

// Decision is what Admit decided.
type Decision struct {
	Admit        bool
	Changed      bool  // the State differs from the one given: store it
	RetryAfterNS int64 // refused: when to try again, from now; > 0
	Moved        Transition
}

// Transition is a change of position. It is none where From equals To.
type Transition struct{ From, To Kind }

// Happened reports whether the position changed.
func (t Transition) Happened() bool { return t.From != t.To }

// Ticket names the admission that a result belongs to.
type Ticket struct {
	Gen    uint64
	Serial uint8 // of the probe, 0: none
	Slot   uint8 // of the probe
}

// Verdict is what a result says about the service.
type Verdict uint8

// The verdicts.
const (
	Neutral Verdict = iota // nothing: a probe is given back
	Success
	Failure
)

// Result is the end of an admitted call.
type Result struct {
	Verdict Verdict
	Slow    bool  // it took longer than a call should; nothing where Neutral
	Cause   uint8 // with Failure: its kind, kept in State.Cause
}

// refusedHalfOpenNS is when to try again while all probes are out: nobody
// knows how long they take.
const refusedHalfOpenNS = 1e9

// Admit decides on one call at now (Unix ns). An open breaker whose recovery
// time is over becomes half-open here, and the call its first probe; a
// half-open one that has rested closes (see Rest). random is not used today; it
// is there so that Admit and Settle are called alike.
func Admit(s State, p Params, now int64, _ uint64) (_ State, d Decision, t Ticket) {
	if s.Kind != Closed {
		return admitUnwell(s, p, now)
	}
	d.Admit, t.Gen = true, s.Gen // nearly always; so short that it is inlined, which saves copies
	return s, d, t
}

func admitUnwell(s State, p Params, now int64) (State, Decision, Ticket) {
	switch s.Kind {
	case Open:
		return admitOpen(s, p, now)
	case HalfOpen:
		rested, moved := Rest(s, now)
		if moved.Happened() {
			return rested, Decision{Admit: true, Changed: true, Moved: moved}, Ticket{Gen: rested.Gen}
		}
		return admitHalfOpen(s, p, now, Decision{})
	case Closed:
	}
	// No such position: a record that was not ours. Protect nothing, harm nothing.
	return s, Decision{Admit: true}, Ticket{Gen: s.Gen}
}

func admitOpen(s State, p Params, now int64) (State, Decision, Ticket) {
	left := sub(s.RetryAt, now)
	if left > s.Recovery+s.Recovery/jitterShare {
		// The clock was set back: it waits its recovery time once more, no longer.
		s.Since, s.RetryAt = now, add(now, s.Recovery)
		return s, Decision{Changed: true, RetryAfterNS: max(s.Recovery, 1)}, Ticket{}
	}
	if left > 0 {
		return s, Decision{RetryAfterNS: left}, Ticket{}
	}
	s = State{Gen: s.Gen + 1, Kind: HalfOpen, Since: now, Recovery: s.Recovery, Cause: s.Cause}
	return admitHalfOpen(s, p, now, Decision{Changed: true, Moved: Transition{Open, HalfOpen}})
}

func admitHalfOpen(s State, p Params, now int64, d Decision) (State, Decision, Ticket) {
	at := sub(now, s.Since)
	if at < 0 || at > maxHalfOpenNS {
		// The clock was set back, or nobody has settled for weeks: count from now.
		// The probes that are out keep their places for their time once more.
		for i, probe := range s.Probes {
			if probe != 0 {
				s.Probes[i] = newProbe(uint8(probe), p.ProbeExpiryNS)
			}
		}
		s.Since, at, d.Changed = now, 0, true
		if s.Successes > 0 {
			s.RetryAt = add(now, s.Recovery)
		}
	}
	for i := range min(p.Probes, MaxProbes) {
		if left := s.Probes[i].until() - at; left > 0 {
			if left > add(p.ProbeExpiryNS, tickNS) { // the clock was set back
				s.Probes[i], d.Changed = newProbe(uint8(s.Probes[i]), add(at, p.ProbeExpiryNS)), true
			}
			continue
		}
		if s.Serial++; s.Serial == 0 {
			s.Serial = 1
		}
		s.Probes[i] = newProbe(s.Serial, add(at, p.ProbeExpiryNS))
		d.Admit, d.Changed = true, true
		return s, d, Ticket{Gen: s.Gen, Serial: s.Serial, Slot: uint8(i)}
	}
	d.RetryAfterNS = refusedHalfOpenNS
	return s, d, Ticket{}
}

// maxHalfOpenNS leaves room for an expiry of a week in a Probe; a longer one
// ends there.
const maxHalfOpenNS = 1 << 49 // 6.5 days

// Rest closes a half-open breaker that low traffic would leave so for ever: a
// probe has succeeded and none has failed, nothing has come since for its own
// recovery time, and no probe is out.
func Rest(s State, now int64) (State, Transition) {
	if s.Kind != HalfOpen || s.Successes == 0 || now < s.RetryAt {
		return s, Transition{}
	}
	at := sub(now, s.Since)
	for _, probe := range s.Probes {
		if probe.until() > at {
			return s, Transition{}
		}
	}
	return closed(s, now), Transition{HalfOpen, Closed}
}

func closed(s State, now int64) State { return State{Gen: s.Gen + 1, Kind: Closed, Since: now} }

// Settle takes the result of an admitted call at now (Unix ns) of a breaker
// that is not Windowed. changed is false where the State is as it was: there is
// nothing to store. random (64 bits) lengthens a re-opening.
func Settle(s State, p Params, now int64, random uint64, t Ticket, r Result) (_ State, moved Transition, changed bool) {
	if s.Healthy() && r.Verdict != Failure { // nearly always, as in Admit
		return s, moved, false
	}
	return settleUnwell(s, &p, now, random, t, r)
}

// SettleWindowed is Settle for any breaker. It changes w, which is the
// caller's copy.
func SettleWindowed(s State, w *Windows, p *Params, now int64, random uint64, t Ticket, r Result) (_ State, moved Transition, changed bool) {
	if s.Kind != Closed || !p.Windowed() || r.Verdict == Neutral || t.Gen != s.Gen {
		return settleUnwell(s, p, now, random, t, r)
	}
	failed := r.Verdict == Failure
	tooMany := counts(&w.Failures, &p.FailureRate, now, failed)
	tooSlow := counts(&w.Slow, &p.SlowCalls, now, r.Slow)
	if p.Threshold > 0 && (failed || s.Failures > 0) {
		s, moved, _ = settleClosed(s, p, now, r)
	}
	switch {
	case moved.Happened(): // of several reasons the plainest is told
	case tooMany:
		s, moved = tripped(s, p, now, CauseFailureRate)
	case tooSlow:
		s, moved = tripped(s, p, now, CauseSlowCalls)
	}
	if moved.Happened() {
		*w = Windows{}
	}
	return s, moved, true
}

// counts counts a call, and reports whether the rate is reached.
func counts(w *window.Window, r *Rate, now int64, hit bool) bool {
	return r.PPM > 0 && w.Add(r.WindowNS, now, hit).Reaches(r.Minimum, r.PPM)
}

// Healthy reports whether the breaker is closed with no failure in its run:
// then only a Failure changes it, unless it is Windowed.
func (s *State) Healthy() bool { return s.Kind == Closed && s.Failures == 0 }

func settleUnwell(s State, p *Params, now int64, random uint64, t Ticket, r Result) (State, Transition, bool) {
	if t.Gen != s.Gen {
		return s, Transition{}, false
	}
	switch s.Kind {
	case Closed:
		return settleClosed(s, p, now, r)
	case HalfOpen:
		return settleHalfOpen(s, p, now, random, t, r)
	case Open:
	}
	return s, Transition{}, false // nothing was admitted while open
}

func settleClosed(s State, p *Params, now int64, r Result) (State, Transition, bool) {
	switch {
	case r.Verdict == Success && s.Failures > 0:
		s.Failures = 0
		return s, Transition{}, true
	case r.Verdict != Failure || p.Threshold == 0:
		return s, Transition{}, false
	}
	if s.Failures < ^uint32(0) {
		s.Failures++
	}
	if s.Failures < p.Threshold {
		return s, Transition{}, true
	}
	s, moved := tripped(s, p, now, r.Cause)
	return s, moved, true
}

// tripped opens a closed breaker. The first opening has no jitter: workers
// share the record, so there is no herd to spread, and operators expect the
// time that they wrote.
func tripped(s State, p *Params, now int64, cause uint8) (State, Transition) {
	recovery := max(p.RecoveryNS, 0)
	return State{
		Gen: s.Gen + 1, Kind: Open, Since: now, RetryAt: add(now, recovery), Recovery: recovery, Cause: cause,
	}, Transition{Closed, Open}
}

func settleHalfOpen(s State, p *Params, now int64, random uint64, t Ticket, r Result) (State, Transition, bool) {
	if t.Serial == 0 || t.Slot >= MaxProbes || uint8(s.Probes[t.Slot]) != t.Serial {
		return s, Transition{}, false // expired, and its place given to another call since
	}
	s.Probes[t.Slot] = 0
	if r.Slow && r.Verdict == Success && p.SlowCalls.PPM > 0 {
		// What answers too slowly for a closed breaker has not recovered: closing
		// would only open it again.
		r = Result{Verdict: Failure, Cause: CauseSlowCalls}
	}
	switch r.Verdict {
	case Success:
		if s.Successes++; s.Successes < p.Successes {
			s.RetryAt = add(now, s.Recovery)
			return s, Transition{}, true
		}
		return closed(s, now), Transition{HalfOpen, Closed}, true
	case Failure:
		recovery := grow(s.Recovery, p)
		return State{
			Gen: s.Gen + 1, Kind: Open, Since: now, RetryAt: add(now, add(recovery, jitter(recovery, random))), Recovery: recovery, Cause: r.Cause,
		}, Transition{HalfOpen, Open}, true
	case Neutral:
	}
	return s, Transition{}, true
}

// grow is the next recovery time: × MultiplierPPM, at most RecoveryMaxNS.
func grow(recovery int64, p *Params) int64 {
	limit := max(p.RecoveryMaxNS, p.RecoveryNS, 0)
	recovery = max(recovery, p.RecoveryNS, 0)
	hi, lo := bits.Mul64(uint64(recovery), uint64(max(p.MultiplierPPM, million)))
	if hi >= million { // the quotient would not fit
		return limit
	}
	grown, _ := bits.Div64(hi, lo, million)
	return int64(min(grown, uint64(limit)))
}

const (
	million     = 1_000_000
	jitterShare = 10 // at most a tenth
)

// jitter is 0 to a tenth of the recovery time.
func jitter(recovery int64, random uint64) int64 {
	share, _ := bits.Mul64(uint64(recovery/jitterShare+1), random)
	return int64(share)
}

// add and sub saturate, so that a clock or a record of nonsense cannot wrap.
func add(a, b int64) int64 {
	c := a + b
	if (a > 0 && b > 0 && c < 0) || (a < 0 && b < 0 && c >= 0) {
		return saturated(a)
	}
	return c
}

func sub(a, b int64) int64 {
	c := a - b
	if (a >= 0 && b < 0 && c < 0) || (a < 0 && b > 0 && c >= 0) {
		return saturated(a)
	}
	return c
}

func saturated(sign int64) int64 {
	if sign < 0 {
		return -1 << 63
	}
	return 1<<63 - 1
}
