package bulkhead

// MaxPermits and MaxWaiters bound a State, and so the record that it is kept in.
const (
	MaxPermits = 1024
	MaxWaiters = 1024
)

// ClaimNS is how long a granted permit waits for its owner, in ns. A live VM
// looks every 10 ms while it has waiters.
const ClaimNS = 2e9

// Params is a pool's configuration.
type Params struct {
	Limit uint32 // permits out at once, at most MaxPermits
	Queue uint32 // waiters at once, at most MaxWaiters
}

// Holder names a call: a stream of a VM.
type Holder struct {
	Owner  uint64 // the VM
	Stream uint32
}

// Permit is one call that may be under way.
type Permit struct {
	Holder
	Claimed bool
	Expiry  int64 // when it comes back by itself, Unix ns
	HoldNS  int64 // how long it lasts once claimed
}

// span is how long the permit lasts in its present form.
func (p *Permit) span() int64 {
	if p.Claimed {
		return p.HoldNS
	}
	return ClaimNS
}

// Waiter is one call that waits.
type Waiter struct {
	Holder
	Priority uint8 // 0 is served first
	Arrival  uint64
	Deadline int64 // when it gives up, Unix ns; 0: never
	WaitNS   int64 // from arrival to Deadline
	HoldNS   int64 // of its permit
}

// State is a pool at rest. The zero value is a pool that nobody uses.
type State struct {
	Arrivals uint64   // that ever waited: the next one's number
	Permits  []Permit // in no order
	Waiters  []Waiter // the best first
	Pace     Pace

	// Granted are the waiters that got a permit in the last step, to be told.
	// It is no part of the record.
	Granted []Holder
}

// Request is a call that asks for a permit.
type Request struct {
	Holder
	Priority uint8
	WaitNS   int64 // how long it may wait, 0: without limit
	BudgetNS int64 // how long it may take in all, 0 and MaxInt64: without limit
	HoldNS   int64 // how long its permit lasts if it never comes back, > 0
}

// Verdict is the answer to a Request.
type Verdict uint8

// The verdicts.
const (
	Full   Verdict = iota // no permit is free, and no place in the queue
	Held                  // it has a permit, claimed
	Queued                // it waits
	Late                  // it would have to wait longer than its budget
)

// Unknown is the time that nobody knows for how long a call had its permit.
const Unknown = -1

// Acquire asks for a permit at now (Unix ns). After Full and Late, the State
// needs to be stored only if somebody was Granted.
func (s *State) Acquire(p Params, now int64, r Request) Verdict {
	s.Sweep(p, now)
	if s.room(p) { // then nobody waits any more
		s.Permits = append(s.Permits, Permit{Holder: r.Holder, Claimed: true, Expiry: add(now, r.HoldNS), HoldNS: r.HoldNS})
		return Held
	}
	if len(s.Waiters) >= int(min(p.Queue, MaxWaiters)) {
		return Full
	}
	if s.late(p, now, r) {
		return Late
	}
	w := Waiter{Holder: r.Holder, Priority: r.Priority, Arrival: s.Arrivals, WaitNS: r.WaitNS, HoldNS: r.HoldNS}
	if r.WaitNS > 0 {
		w.Deadline = add(now, r.WaitNS)
	}
	s.Arrivals++
	s.insert(w)
	return Queued
}

// insert keeps the order: priority, then arrival.
func (s *State) insert(w Waiter) {
	s.Waiters = append(s.Waiters, w)
	i := len(s.Waiters) - 1
	for i > 0 && s.Waiters[i-1].Priority > w.Priority {
		s.Waiters[i] = s.Waiters[i-1]
		i--
	}
	s.Waiters[i] = w
}

// Leave takes back the permit or the place in the queue of h, whichever it
// has, and serves who waits. held is for how long it had its permit, in ns from
// its claim, less than 0 if that is not known. It reports whether there was one.
func (s *State) Leave(p Params, now int64, h Holder, held int64) bool {
	found := s.drop(now, h, held)
	s.Sweep(p, now)
	return found
}

func (s *State) drop(now int64, h Holder, held int64) bool {
	if i := s.permit(h); i >= 0 {
		if s.Permits[i].Claimed && held >= 0 {
			s.Pace.learn(now, held)
		}
		s.removePermit(i)
		return true
	}
	if i := s.waiter(h); i >= 0 {
		s.removeWaiter(i)
		return true
	}
	return false
}

// Claim takes what was granted to h. Held: the call may go. Queued: it is not
// its turn yet. Full: it has neither a permit nor a place any more, since its
// time to wait or to claim is over.
func (s *State) Claim(p Params, now int64, h Holder) Verdict {
	verdict := Full
	if i := s.permit(h); i >= 0 {
		permit := &s.Permits[i]
		permit.Claimed, permit.Expiry = true, add(now, permit.HoldNS)
		verdict = Held
	}
	s.Sweep(p, now)
	if verdict == Full && s.waiter(h) >= 0 {
		return Queued
	}
	if verdict == Full && s.permit(h) >= 0 { // by this very sweep
		return s.Claim(p, now, h)
	}
	return verdict
}

// Tend looks after what owner has in the pool: what alive does not know is
// given back (its stream ended while the State could not be written), and a
// permit that is still in use lasts for its HoldNS again once half of it is
// over. Then it is a Sweep.
func (s *State) Tend(p Params, now int64, owner uint64, alive func(stream uint32) bool) (changed bool) {
	for i := 0; i < len(s.Permits); {
		permit := &s.Permits[i]
		if permit.Owner == owner && !alive(permit.Stream) {
			s.removePermit(i)
			changed = true
			continue
		}
		if permit.Owner == owner && permit.Claimed && permit.Expiry < add(now, permit.HoldNS/2) {
			permit.Expiry = add(now, permit.HoldNS)
			changed = true
		}
		i++
	}
	kept := s.Waiters[:0]
	for _, w := range s.Waiters {
		if w.Owner != owner || alive(w.Stream) {
			kept = append(kept, w)
		}
	}
	changed = changed || len(kept) < len(s.Waiters)
	s.Waiters = kept
	return s.Sweep(p, now) || changed
}

// Sweep frees what has expired, and gives what is free to who waits. It
// reports whether the State has changed.
func (s *State) Sweep(p Params, now int64) (changed bool) {
	s.Granted = s.Granted[:0]
	for i := 0; i < len(s.Permits); {
		permit := &s.Permits[i]
		if permit.Expiry <= now {
			s.removePermit(i)
			changed = true
			continue
		}
		if limit := add(now, permit.span()); permit.Expiry > limit { // the clock was set back
			permit.Expiry = limit
			changed = true
		}
		i++
	}
	if len(s.Waiters) > 0 {
		changed = s.sweepQueue(now) || changed
	}
	for s.room(p) && len(s.Waiters) > 0 {
		w := s.Waiters[0]
		s.removeWaiter(0)
		s.Permits = append(s.Permits, Permit{Holder: w.Holder, Expiry: add(now, ClaimNS), HoldNS: w.HoldNS})
		s.Granted = append(s.Granted, w.Holder)
		changed = true
	}
	return changed
}

func (s *State) sweepQueue(now int64) (changed bool) {
	kept := s.Waiters[:0]
	for _, w := range s.Waiters {
		if w.Deadline != 0 {
			if w.Deadline <= now {
				changed = true
				continue
			}
			if limit := add(now, w.WaitNS); w.Deadline > limit {
				w.Deadline = limit
				changed = true
			}
		}
		kept = append(kept, w)
	}
	s.Waiters = kept
	return changed
}

func (s *State) room(p Params) bool { return len(s.Permits) < int(min(p.Limit, MaxPermits)) }

func (s *State) permit(h Holder) int {
	for i := range s.Permits {
		if s.Permits[i].Holder == h {
			return i
		}
	}
	return -1
}

func (s *State) waiter(h Holder) int {
	for i := range s.Waiters {
		if s.Waiters[i].Holder == h {
			return i
		}
	}
	return -1
}

func (s *State) removePermit(i int) {
	last := len(s.Permits) - 1
	s.Permits[i] = s.Permits[last]
	s.Permits = s.Permits[:last]
}

func (s *State) removeWaiter(i int) {
	copy(s.Waiters[i:], s.Waiters[i+1:])
	s.Waiters = s.Waiters[:len(s.Waiters)-1]
}

// Reset makes s the zero value, but for the room of its slices.
func (s *State) Reset() {
	*s = State{Permits: s.Permits[:0], Waiters: s.Waiters[:0], Granted: s.Granted[:0]}
}

// add saturates, so that a clock or a record of nonsense cannot wrap.
func add(a, b int64) int64 {
	c := a + b
	if a > 0 && b > 0 && c < 0 {
		return 1<<63 - 1
	}
	if a < 0 && b < 0 && c >= 0 {
		return -1 << 63
	}
	return c
}
