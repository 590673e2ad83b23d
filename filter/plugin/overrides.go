package plugin

import (
	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine"
	"github.com/seawall-mesh/seawall/filter/engine/breaker"
)

// overridePrefix starts the keys of what has been told of overrides, so that
// one VM of an Envoy tells it. A value, little-endian:
//
//	0  schema (1)
//	1  what is forced: engine.Forced
//	2  not after, Unix ns
//	10 since, Unix ns
const (
	overridePrefix = "sw1/o/"
	overrideSchema = 1
	overrideLen    = 18
)

// forced is what a VM knows of a breaker's override, beside the one in force.
type forced struct {
	told  engine.Override // the last that this VM knows to be told of
	since int64           // when that was
	over  engine.Override // has ended: a clock that steps back does not revive it
	ever  bool            // there was one
}

// overrideOf reads a plan's.
func overrideOf(o *contract.Override) engine.Override {
	if o == nil {
		return engine.Override{}
	}
	f := engine.ForcedClosed
	if o.State == breaker.Open.String() {
		f = engine.ForcedOpen
	}
	return engine.Override{Forced: f, NotAfterNS: o.NotAfterNS}
}

// force puts a plan's override in force.
func (c *cell) force(o engine.Override) {
	if o == c.override.over {
		o = engine.Override{}
	}
	c.params.Override = o
}

// position is what the breaker does, by its own or as an override has it.
func (c *cell) position(now int64) breaker.Kind {
	switch c.params.Override.In(now) {
	case engine.ForcedOpen:
		return breaker.Open
	case engine.ForcedClosed:
		return breaker.Closed
	case engine.NotForced:
	}
	return c.state.Breaker.Kind
}

// describe puts an override into what a batch says of the breaker.
func (f *forced) describe(b *contract.BreakerState, o engine.Override, now int64) {
	in := o.In(now)
	if in == engine.NotForced {
		return
	}
	b.State, b.Forced, b.Cause, b.RetryAtNS, b.SinceNS = forcedWord(in), true, "forced", 0, now
	if f.told == o {
		b.SinceNS = f.since
	}
	if in == engine.ForcedOpen {
		b.RetryAtNS = o.NotAfterNS
	}
}

func forcedWord(f engine.Forced) string {
	if f == engine.ForcedOpen {
		return breaker.Open.String()
	}
	return breaker.Closed.String()
}

// overrides ends overrides whose time is over, and tells of those that began
// and ended. On tick.
func (vm *VM) overrides(now int64) {
	for _, c := range vm.cellList {
		o := c.params.Override
		if o.Forced != engine.NotForced && o.In(now) == engine.NotForced {
			c.override.over, o = o, engine.Override{}
			if vm.unwell--; !c.state.Breaker.Healthy() {
				vm.unwell++
			}
			c.params.Override = o
		}
		if o != c.override.told {
			vm.tellOverride(c, o, now)
		}
	}
}

// tellOverride writes that an override began or ended, unless another VM has.
func (vm *VM) tellOverride(c *cell, o engine.Override, now int64) {
	key := overridePrefix + c.service + "/" + c.route
	value, version, exists := vm.shared.get(key)
	before, since := parseOverride(value)
	if !exists {
		version = Absent
	}
	if before != o {
		since = now
		if _, ok := vm.shared.set(key, encodeOverride(o, now), version); !ok {
			return // another VM writes: look at the next tick
		}
		e := contract.Event{AtNS: now, Kind: "breaker-forced", Service: c.service, Route: c.route, Cause: "forced", Gen: c.state.Breaker.Gen}
		own := c.state.Breaker.Kind.String()
		switch {
		case o.Forced != engine.NotForced:
			e.From, e.To = own, forcedWord(o.Forced)
		case before.NotAfterNS <= now:
			e.Kind, e.From, e.To, e.Cause, e.AtNS = "breaker-released", forcedWord(before.Forced), own, "expired", before.NotAfterNS
		default:
			e.Kind, e.From, e.To, e.Cause = "breaker-released", forcedWord(before.Forced), own, "lifted"
		}
		vm.events.add(e)
		vm.log(Info, "breaker of "+c.service+"/"+c.route+": "+e.Kind+", "+e.From+" to "+e.To)
	}
	c.override.told, c.override.since, c.override.ever = o, since, true
	vm.show(c, now)
}

func encodeOverride(o engine.Override, since int64) []byte {
	b := make([]byte, overrideLen)
	b[0], b[1] = overrideSchema, byte(o.Forced)
	put64(b[2:], uint64(o.NotAfterNS))
	put64(b[10:], uint64(since))
	return b
}

// parseOverride reads a record; one that is none says that nothing is forced.
func parseOverride(b []byte) (o engine.Override, since int64) {
	if len(b) != overrideLen || b[0] != overrideSchema || b[1] > byte(engine.ForcedClosed) {
		return o, 0
	}
	return engine.Override{Forced: engine.Forced(b[1]), NotAfterNS: int64(get64(b[2:]))}, int64(get64(b[10:]))
}
