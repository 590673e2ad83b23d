package plugin

import (
	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine/bulkhead"
	"github.com/seawall-mesh/seawall/filter/engine/codec"
)

const (
	// poolPrefix starts the keys of pool records. "sw1" names their layout, "q"
	// what they are.
	poolPrefix = "sw1/q/"
	// holdSlackNS is added to what a call may take at most: its permit must not
	// be free while it can still run.
	holdSlackNS = 5e9
	// endlessNS is how long the permit of a call without any limit lasts if its
	// VM dies. A VM that lives renews it.
	endlessNS = 3600e9
	// leapNS is how long a pool goes unattended at most, in ns. A VM attends to
	// it every 200 ms, so after more than this the clock was set, or the VM
	// stood still: nobody knows how long its calls have held their permits.
	leapNS = 1e9
)

// pool is this VM's side of one pool.
type pool struct {
	key           string
	service, name string
	params        bulkhead.Params
	maxWait       int64
	timeout       int64
	planned       bool // by the plan in force

	state   bulkhead.State // as last read or written
	version uint32         // of that, for a set
	current bool           // state is what version has
	users   int            // streams of this VM that hold a permit or wait
	waiting []uint32       // those that wait

	attended, steady int64 // last, and since when without a leap, Unix ns

	granted, full, timedOut uint64
	longest                 int64 // wait since the last batch

	gauges  [2]Metric // held, waiting
	defined bool
	shown   [2]uint64
}

// visit is what is remembered of a request on a route with a pool or a
// deadline.
type visit struct {
	id       uint32
	pool     *pool // nil: none
	holds    bool  // a permit
	waiting  bool  // paused, in the queue
	waited   bool  // it has, once
	queued   bool  // still, as the record says that was read last
	byCaller bool  // the budget is the caller's own deadline
	budget   int64 // ns from the stream's start, deadline.None: no limit
	hold     int64
	since    int64 // when it got its permit, Unix ns
}

// installPools takes the pools of a plan. One that is gone stays while streams
// of this VM are in it; who waits there goes on at the next tick.
func (vm *VM) installPools(from []contract.Pool) {
	for _, p := range vm.pools {
		p.planned, p.params = false, bulkhead.Params{}
	}
	for i := range from {
		f := &from[i]
		key := poolPrefix + f.Service + "/" + f.Name
		p := vm.pools[key]
		if p == nil {
			p = &pool{key: key, service: f.Service, name: f.Name}
			vm.pools[key] = p
			vm.poolList = append(vm.poolList, p)
		}
		p.planned = true
		p.params = bulkhead.Params{Limit: f.MaxConcurrency, Queue: f.MaxQueue}
		p.maxWait, p.timeout = f.MaxWaitNS, f.TimeoutNS
	}
	vm.forgetPools()
}

// forgetPools drops pools that are gone from the plan, and empty here.
func (vm *VM) forgetPools() {
	kept := vm.poolList[:0]
	for _, p := range vm.poolList {
		if p.planned || p.users > 0 {
			kept = append(kept, p)
			continue
		}
		p.show(vm.host, 0, 0)
		delete(vm.pools, p.key)
	}
	clear(vm.poolList[len(kept):])
	vm.poolList = kept
}

func (vm *VM) poolOf(service, name string) *pool {
	if name == "" {
		return nil
	}
	return vm.pools[poolPrefix+service+"/"+name]
}

// holder is this VM's name in pool records, for a stream. Names of VMs are
// drawn when they are needed.
func (vm *VM) holder(stream uint32) bulkhead.Holder {
	for vm.tag == 0 {
		vm.tag = vm.host.Random()
	}
	return bulkhead.Holder{Owner: vm.tag, Stream: stream}
}

// onPool runs a step on a pool's record until nobody else writes in between.
// step reports whether there is something to write. false: it could not be
// written; what was to be given back is then given back at a tick. The first
// try trusts the copy of this VM's last write, which the write itself verifies;
// what would write nothing is decided on the record as it is.
func (vm *VM) onPool(p *pool, now int64, step func() bool) bool {
	p.attend(now)
	for range maxTries {
		cached, anew := p.current, false
		if !cached {
			anew = vm.loadPool(p)
		}
		p.current = false // step changes it
		if !step() {
			if cached {
				continue // others may have written
			}
			return true
		}
		vm.scratch = codec.AppendPool(vm.scratch[:0], &p.state)
		if p.version, p.current = vm.shared.set(p.key, vm.scratch, p.version); !p.current {
			continue
		}
		for _, h := range p.state.Granted {
			vm.tell(h)
		}
		if anew {
			vm.events.add(contract.Event{AtNS: now, Kind: "pool-reset", Service: p.service, Route: p.name})
			vm.log(Warn, "pool "+p.service+"/"+p.name+": starts anew, its record was of another layout")
		}
		return true
	}
	vm.counters.CASExhausted++
	return false
}

// attend notes the time. Where it is before the last, or long after it, no call
// that is out can be measured.
func (p *pool) attend(now int64) {
	if gap := now - p.attended; gap < 0 || gap > leapNS {
		p.steady = now
	}
	p.attended = now
}

// held is for how long the visit has had its permit, less than 0 if nobody
// knows.
func (v *visit) held(now int64) int64 {
	if v.since < v.pool.steady {
		return bulkhead.Unknown
	}
	return now - v.since
}

// loadPool reads the record. anew: there was one that is not of this layout.
func (vm *VM) loadPool(p *pool) (anew bool) {
	value, version, exists := vm.shared.get(p.key)
	if !exists {
		version = Absent
	}
	p.version = version
	return !codec.ParsePool(value, &p.state) && len(value) > 0
}

// acquire asks for a permit for the stream.
func (vm *VM) acquire(s *stream, v *visit, now int64) bulkhead.Verdict {
	p := v.pool
	request := bulkhead.Request{Holder: vm.holder(v.id), Priority: uint8(s.route.priority), WaitNS: v.patience(), BudgetNS: v.budget, HoldNS: v.hold}
	verdict := bulkhead.Full
	ok := vm.onPool(p, now, func() bool {
		verdict = p.state.Acquire(p.params, now, request)
		return (verdict != bulkhead.Full && verdict != bulkhead.Late) || len(p.state.Granted) > 0
	})
	if !ok {
		verdict = bulkhead.Full // never above the limit, whatever happens
	}
	switch verdict {
	case bulkhead.Held:
		v.holds, v.since = true, now
		p.users++
		p.granted++
	case bulkhead.Full:
		p.full++
	case bulkhead.Late:
		p.timedOut++
	case bulkhead.Queued:
	}
	return verdict
}

// patience is how long the visit may wait, 0 for without limit.
func (v *visit) patience() int64 {
	if v.pool.maxWait > 0 {
		return min(v.pool.maxWait, v.budget)
	}
	if v.budget == unlimited {
		return 0
	}
	return v.budget
}

// leave gives back what the visit has of its pool, once.
func (vm *VM) leave(v *visit, now int64) {
	if !v.holds && !v.waiting {
		return
	}
	p, who := v.pool, vm.holder(v.id)
	vm.unqueue(v)
	v.holds = false
	p.users--
	vm.onPool(p, now, func() bool { return p.state.Leave(p.params, now, who, v.held(now)) || len(p.state.Granted) > 0 })
}

// tend looks after a pool: what this VM has in it, what has expired, and who
// can be served since a limit was raised.
func (vm *VM) tend(p *pool, now int64) bool {
	alive := func(id uint32) bool {
		v := vm.visitOf(id)
		return v != nil && v.pool == p && (v.holds || v.waiting)
	}
	return vm.onPool(p, now, func() bool { return p.state.Tend(p.params, now, vm.tag, alive) })
}

// tendPools tends them all, on tick, and shows what is in them.
func (vm *VM) tendPools(now int64) {
	for _, p := range vm.poolList {
		vm.tend(p, now)
		p.show(vm.host, uint64(len(p.state.Permits)), uint64(len(p.state.Waiters)))
	}
	vm.forgetPools()
}

// show sets the gauges where this VM sees a change.
func (p *pool) show(host Host, held, waiting uint64) {
	if !p.defined {
		suffix := ".service=" + label(p.service) + ".pool=" + label(p.name)
		for i, name := range [...]string{"seawall.pool_held", "seawall.pool_waiting"} {
			m, ok := host.DefineMetric(Gauge, name+suffix)
			if !ok {
				return
			}
			p.gauges[i] = m
		}
		p.defined = true
	}
	for i, n := range [...]uint64{held, waiting} {
		if p.shown[i] != n {
			p.shown[i] = n
			host.MetricSet(p.gauges[i], n)
		}
	}
}

// poolStates is what the batch says of the pools.
func (vm *VM) poolStates() []contract.PoolState {
	if len(vm.poolList) == 0 {
		return nil
	}
	out := make([]contract.PoolState, 0, len(vm.poolList))
	for _, p := range vm.poolList {
		out = append(out, contract.PoolState{
			Service: p.service, Pool: p.name, Held: uint32(len(p.state.Permits)), Waiting: uint32(len(p.state.Waiters)), Limit: p.params.Limit,
			Granted: p.granted, Full: p.full, TimedOut: p.timedOut, MaxWaitNS: p.longest,
		})
	}
	return out
}

func (vm *VM) forgetWaits() {
	for _, p := range vm.poolList {
		p.longest = 0
	}
}
