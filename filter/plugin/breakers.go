package plugin

import (
	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine"
	"github.com/seawall-mesh/seawall/filter/engine/breaker"
	"github.com/seawall-mesh/seawall/filter/engine/codec"
)

// recordPrefix starts the keys of breaker records. "sw2" names their layout,
// "b" what they are.
const recordPrefix = "sw2/b/"

// cell is this VM's copy of one breaker's shared record.
type cell struct {
	key            string
	service, route string
	identity       codec.Identity
	params         engine.Params
	failures       contract.OutcomeSet
	slowNS         int64 // a call of so long is slow, 0: none is
	shard          int
	mustReset      bool // the plan is new to this VM: a record of another identity is to be replaced

	state   engine.State
	windows breaker.Windows
	loaded  bool
	version uint32 // for SharedSet
	foreign bool   // the record is of another identity, or none; state is what it starts anew with
	epoch   uint64 // of its shard, before the record was read
	since   uint64 // admissions of this VM when it came to know the generation

	metrics [3]Metric // closed, open, half-open
	defined bool
	shown   breaker.Kind

	override forced
}

// load reads the record.
func (vm *VM) load(c *cell) {
	epoch := vm.epoch.read(c.shard) // before the record: better to read it once too often
	value, version, exists := vm.shared.get(c.key)
	var next engine.State
	c.foreign, c.windows = false, breaker.Windows{}
	if exists {
		identity, state, windows, ok := codec.Parse(value)
		switch {
		case ok && identity == c.identity:
			next.Breaker, c.windows = state, windows
		case ok:
			// Other parameters: it starts anew, and later than anything before.
			next.Breaker.Gen = state.Gen + 1
			c.foreign = !state.Healthy() || windows != (breaker.Windows{})
		default:
			c.foreign, c.mustReset = true, true
		}
	} else {
		version = Absent
	}
	if !c.loaded || next.Breaker.Gen != c.state.Breaker.Gen {
		c.since = vm.admitted
	}
	vm.setState(c, next)
	c.loaded, c.version, c.epoch = true, version, epoch
}

// calm reports whether a request needs not ask: only failures are news.
func (c *cell) calm() bool {
	return c.state.Breaker.Healthy() && c.params.Override.Forced == engine.NotForced
}

// setState keeps the number of breakers that are not calm.
func (vm *VM) setState(c *cell, next engine.State) {
	if !c.calm() {
		vm.unwell--
	}
	c.state = next
	if !c.calm() {
		vm.unwell++
	}
}

func (vm *VM) countUnwell() {
	vm.unwell = 0
	for _, c := range vm.cellList {
		if !c.calm() {
			vm.unwell++
		}
	}
}

// store writes the record if nobody else has since it was read. It reports
// whether it did.
func (vm *VM) store(c *cell, next engine.State, windows *breaker.Windows) bool {
	vm.scratch = codec.Append(vm.scratch[:0], c.identity, &next.Breaker, windows)
	version, ok := vm.shared.set(c.key, vm.scratch, c.version)
	if !ok {
		return false
	}
	moved := next.Breaker.Gen != c.state.Breaker.Gen
	if moved {
		c.since = vm.admitted
	}
	news := moved || (c.state.Breaker.Healthy() && !next.Breaker.Healthy())
	vm.setState(c, next)
	c.windows = *windows
	c.version, c.foreign = version, false
	vm.epoch.raise(c.shard)
	c.epoch++ // if the epoch is that much, nobody has written but us
	if news {
		vm.epoch.raise(admitEpoch)
	}
	return true
}

// refresh re-reads what has changed. A VM does so before it admits a request
// while the admission epoch is not the one that it saw last.
func (vm *VM) refresh(admission uint64) {
	var now [shards]uint64
	for i := range now {
		now[i] = vm.epoch.read(i)
	}
	for _, c := range vm.cellList {
		if !c.loaded || c.epoch != now[c.shard] {
			vm.load(c)
		}
	}
	vm.admission, vm.stale = admission, false
}

// admit passes a request through its route's guards.
func (vm *VM) admit(c *cell, now int64) (engine.Decision, engine.Ticket) {
	if !c.loaded || vm.epoch.read(c.shard) != c.epoch {
		vm.load(c)
	}
	for try := 0; ; {
		next, decision, ticket := engine.Admit(c.state, &c.params, now, 0)
		switch {
		case !decision.Changed:
			return decision, ticket
		case vm.store(c, next, &c.windows): // a closed breaker's admission changes nothing
			vm.moved(c, decision.Moved, now)
			return decision, ticket
		}
		if try++; try == maxTries {
			vm.counters.CASExhausted++
			return decision, ticket
		}
		vm.load(c)
	}
}

// settle hands a result to the breaker that admitted the request. A request
// without a ticket was admitted while the breaker was known to be healthy: only
// its failure is news, unless a rate counts all. (Its success does not end a
// run of failures that began after it was sent.)
func (vm *VM) settle(c *cell, s *stream, r engine.Result, now int64) {
	ticket := s.ticket
	windowed := c.params.Breaker.Windowed()
	if !s.ticketed {
		if s.seq <= c.since || (r.Breaker.Verdict != breaker.Failure && (!windowed || r.Breaker.Verdict == breaker.Neutral)) {
			return // nearly always; or sent before this VM knew the generation
		}
		ticket.Breaker.Gen = c.state.Breaker.Gen
	}
	if c.slowNS > 0 && !s.endless && r.Breaker.Verdict != breaker.Neutral {
		r.Breaker.Slow = vm.tookLong(c.slowNS, s, now)
	}
	if vm.epoch.read(c.shard) != c.epoch {
		vm.load(c)
	}
	random := uint64(0)
	if c.state.Breaker.Kind != breaker.Closed {
		random = vm.host.Random()
	}
	for try := 0; ; {
		windows := c.windows
		next, moved, changed := engine.Settle(c.state, &windows, &c.params, now, random, ticket, r)
		switch {
		case !changed:
			return
		case vm.store(c, next, &windows):
			vm.moved(c, moved, now)
			return
		}
		if try++; try == maxTries {
			vm.counters.CASExhausted++
			return
		}
		vm.load(c)
	}
}

// tookLong reports whether the upstream took limit ns or longer. What the
// request waited for before it was sent on is not the upstream's, nor is what
// the client then takes to read the answer.
func (vm *VM) tookLong(limit int64, s *stream, now int64) bool {
	took := now - max(s.start, s.sent)
	if took < limit {
		return false
	}
	if upstream, ok := integer(vm.host.Property(propBackendLatency)); ok {
		took = min(took, upstream)
	}
	return took >= limit
}

// moved tells everybody of a change of position that this VM has made.
func (vm *VM) moved(c *cell, t breaker.Transition, now int64) {
	if !t.Happened() {
		return
	}
	cause := ""
	if t.To == breaker.Open {
		cause = causeWord(c.state.Breaker.Cause)
	}
	vm.events.add(contract.Event{
		AtNS: now, Kind: "breaker", Service: c.service, Route: c.route,
		From: t.From.String(), To: t.To.String(), Cause: cause, Gen: c.state.Breaker.Gen,
	})
	vm.show(c, now)
	vm.log(Info, "breaker of "+c.service+"/"+c.route+": "+t.From.String()+" to "+t.To.String())
}

func causeWord(cause uint8) string {
	switch cause {
	case breaker.CauseFailureRate:
		return "failure-rate"
	case breaker.CauseSlowCalls:
		return "slow-calls"
	}
	return contract.Outcome(cause).String()
}

// review re-reads records whatever the epochs say, on tick, a bounded number
// at a time, replaces those of a breaker whose parameters have changed, and
// closes those that low traffic would leave half-open.
func (vm *VM) review(now int64) {
	n := len(vm.cellList)
	for range min(n, reviewed) {
		vm.reviewAt = (vm.reviewAt + 1) % n
		c := vm.cellList[vm.reviewAt]
		vm.load(c)
		if c.mustReset {
			vm.reset(c, now)
		}
		if next, moved := engine.Rest(c.state, &c.params, now); moved.Happened() && vm.store(c, next, &c.windows) {
			vm.moved(c, moved, now)
		}
		vm.show(c, now)
	}
}

// reviewed is how many records a tick re-reads.
const reviewed = 512

func (vm *VM) reset(c *cell, now int64) {
	c.mustReset = false
	if !c.foreign {
		return
	}
	if !vm.store(c, c.state, &c.windows) {
		return // another worker was first
	}
	vm.epoch.raise(admitEpoch)
	vm.events.add(contract.Event{AtNS: now, Kind: "breaker-reset", Service: c.service, Route: c.route, Gen: c.state.Breaker.Gen})
	vm.log(Info, "breaker of "+c.service+"/"+c.route+": starts anew with changed parameters")
}

// states is what the batch says of the breakers: all that have ever left
// closed, or been forced.
func (vm *VM) states(now int64) []contract.BreakerState {
	var out []contract.BreakerState
	for _, c := range vm.cellList {
		s := &c.state.Breaker
		if s.Gen == 0 && !c.override.ever {
			continue
		}
		b := contract.BreakerState{Service: c.service, Route: c.route, State: s.Kind.String(), Gen: s.Gen, SinceNS: s.Since}
		if s.Kind == breaker.Open {
			b.RetryAtNS = s.RetryAt
		}
		if s.Kind != breaker.Closed {
			b.Cause = causeWord(s.Cause)
		}
		c.override.describe(&b, c.params.Override, now)
		out = append(out, b)
	}
	return out
}
