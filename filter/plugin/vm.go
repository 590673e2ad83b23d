package plugin

import (
	"slices"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine"
	"github.com/seawall-mesh/seawall/filter/engine/breaker"
	"github.com/seawall-mesh/seawall/filter/problem"
)

const minuteNS = 60e9

type counters = contract.Counters

// VM is the plugin in one Wasm VM. It is used by one thread at a time.
type VM struct {
	host   Host
	shared records
	filter string // sha256 of the module
	awake  bool

	plan   *plan
	roots  roots
	opened int // plan contexts that have not ended

	// Breakers.
	epoch     epoch
	cells     map[string]*cell
	cellList  []*cell
	unwell    int    // cells that are not healthy: open, half-open, or in a run of failures
	admission uint64 // the admission epoch that the cells were last checked at
	stale     bool   // they must be checked in any case
	reviewAt  int
	scratch   []byte

	// Pools, and who waits for them.
	pools     map[string]*pool
	poolList  []*pool
	tag       uint64 // this VM's name in pool records, 0: not drawn yet
	vmID      string // plugin_vm_id
	waiters   int
	calling   []uint32
	listening bool
	queue     Queue
	queueRoot uint32           // the plan context that the queue was last opened in
	queues    map[uint64]Queue // of other VMs
	visits    []*visit         // free

	uploads map[uint32]upload // requests whose time for the body runs

	// The attempt role.
	attemptRoots []uint32          // its plugin contexts
	edges        map[uint32]uint32 // of its streams, the edge's, 0: not known
	heldTries    []heldTry
	freeTries    []*tries

	// Streams and what they count.
	streams  streams
	admitted uint64 // streams so far
	served   bool
	rows     *ledger
	events   ring
	counters counters
	tallies  map[string]*tally

	// Telemetry.
	node        string
	boot        string
	bootNS      int64
	out         outbox
	slot        slot
	nextClaim   int64
	nextScan    int64
	warnedSlots bool
	adopted     adoption
	panics      Metric
	ends        endSignal
	panicsShown uint64
}

// New is a VM that admits everything until its first plan.
func New(host Host) *VM {
	vm := &VM{
		host: host, shared: records{host: host}, plan: safePlan(), cells: map[string]*cell{}, tallies: map[string]*tally{}, rows: newLedger(),
		pools: map[string]*pool{}, queues: map[uint64]Queue{}, edges: map[uint32]uint32{}, uploads: map[uint32]upload{},
	}
	vm.out.staged = newLedger()
	return vm
}

// Start takes the VM's configuration: the sha256 of the module. A host calls
// it once per plugin context.
func (vm *VM) Start(config []byte) bool {
	vm.filter = string(config)
	return true
}

// Configure takes the plan of a new plugin context; false refuses it, and the
// host goes on with the one before. Whether it does is a pure function of
// config: it must be the same in the throw-away VM in which the host tries a
// configuration and in those that serve, else traffic bypasses the filter.
func (vm *VM) Configure(root uint32, config []byte) (ok bool) {
	defer func() {
		if cause := recover(); cause != nil {
			// A fault of ours, not the plan's: admit everything, and say so.
			vm.panicked("configure", cause)
			safe := safePlan()
			safe.telemetry, safe.bounds = vm.plan.telemetry, vm.plan.bounds
			vm.plan = safe
			vm.cells, vm.cellList, vm.unwell = map[string]*cell{}, nil, 0
			vm.installPools(nil)
			ok = true
		}
	}()
	if string(config) == contract.AttemptConfig {
		vm.attemptRoots = append(vm.attemptRoots, root)
		return true
	}
	parsed, err := contract.ParsePlan(config)
	if err != nil {
		vm.log(Error, "plan refused: "+err.Error())
		return false
	}
	vm.host.SetTick(vm.period())
	name, _ := vm.host.Property(propRootID)
	vm.opened++
	vm.roots.add(root, string(name), &parsed, vm.host.Now(), vm.period())
	vm.install(&parsed)
	// The context before may be gone at once, and the answers to its calls with
	// it: rather the same batch twice than silence until the calls count as lost.
	vm.out.call.open, vm.adopted.call.open = false, false
	return true
}

// wake does what only a VM that serves may do: the host throws the one away in
// which it tries a configuration.
func (vm *VM) wake() {
	vm.awake = true
	vm.epoch.open(vm.host, &vm.shared)
	if m, ok := vm.host.DefineMetric(Counter, "seawall.panics"); ok {
		vm.panics = m
	}
	vm.ends.open(vm.host, vm.epoch.hidden)
	if vm.epoch.hidden {
		vm.events.add(contract.Event{AtNS: vm.host.Now(), Kind: "epoch-fallback"})
		vm.log(Warn, "gauges of this filter are hidden (stats_matcher?): shared data serves as the epoch, at a higher cost")
	}
	vm.stale = true
}

// RequestHeaders admits or answers the request of a new stream. true pauses
// it: it was answered.
func (vm *VM) RequestHeaders(id uint32) (pause bool) {
	defer func() {
		if cause := recover(); cause != nil {
			vm.panicked("request headers", cause)
			pause = vm.failed()
		}
	}()
	if !vm.awake {
		vm.wake()
	}
	if !vm.attempting() {
		return vm.beginRequest(id)
	}
	if edge, isTry := vm.marked(); isTry {
		return vm.beginTry(id, edge)
	}
	if pause = vm.beginRequest(id); !pause {
		vm.mark(id)
	}
	return pause
}

func (vm *VM) beginRequest(id uint32) (pause bool) {
	now := vm.host.Now()
	if vm.roots.several {
		vm.followStream(now)
	}
	// The epoch first: what the cells are checked against must not be newer.
	if epoch := vm.epoch.read(admitEpoch); epoch != vm.admission || vm.stale {
		vm.refresh(epoch)
	}
	vm.admitted++
	vm.served = true
	s := vm.streams.put(id)
	if s == nil {
		return false
	}
	s.start, s.seq = now, vm.admitted
	if vm.unwell == 0 && !vm.plan.heeds {
		return false // nearly always
	}
	name, _ := vm.host.Property(propRouteName)
	s.route, s.routed = vm.find(name), true
	if s.route == nil {
		return false
	}
	if s.route.heeds {
		return vm.heed(s, now)
	}
	return vm.passBreaker(s, now)
}

// passBreaker passes a request through its route's breaker. true: it was
// answered.
func (vm *VM) passBreaker(s *stream, now int64) (refused bool) {
	c := s.route.cell
	if c == nil || c.calm() {
		return false
	}
	decision, ticket := vm.admit(c, now)
	if decision.By == engine.None {
		s.ticket, s.ticketed = ticket, true
		return false
	}
	s.refused = contract.BreakerOpen
	vm.refuseOpen(s.route, decision.RetryAfterNS)
	return true
}

// wouldRefuse passes a request that is about to queue through its breaker, but
// takes no probe yet. true: it was answered.
func (vm *VM) wouldRefuse(s *stream, now int64) bool {
	c := s.route.cell
	if c == nil || c.calm() {
		return false
	}
	if !c.loaded || vm.epoch.read(c.shard) != c.epoch {
		vm.load(c)
	}
	_, decision, _ := engine.Admit(c.state, &c.params, now, 0)
	return decision.By != engine.None && vm.passBreaker(s, now)
}

// failed applies the failure mode to a request that we could not judge.
func (vm *VM) failed() (pause bool) {
	if !vm.plan.failClosed {
		return false
	}
	defer func() {
		if cause := recover(); cause != nil {
			vm.panicked("failure mode", cause)
		}
	}()
	vm.refuse(problem.FilterFault, "the edge filter hit a fault of its own", 0)
	return true
}

// ResponseTrailers notes a gRPC call's status. The host calls it only for
// responses that have trailers.
func (vm *VM) ResponseTrailers(id uint32) {
	defer func() {
		if cause := recover(); cause != nil {
			vm.panicked("response trailers", cause)
		}
	}()
	s := vm.streams.get(id)
	if s == nil || s.route == nil || !s.route.grpc {
		return
	}
	if status, ok := vm.host.ResponseTrailer(trailerGRPCStatus); ok {
		s.trailed, s.grpc = true, parseGRPCStatus(status)
	}
}

// StreamDone settles all accounts of a stream. The host calls it once, when the
// stream is over and its access log is written.
func (vm *VM) StreamDone(id uint32) {
	defer func() {
		if cause := recover(); cause != nil {
			vm.panicked("stream done", cause)
		}
	}()
	if !vm.awake {
		vm.wake()
	}
	if vm.attempting() && vm.endTry(id) {
		return
	}
	if len(vm.uploads) > 0 {
		delete(vm.uploads, id)
	}
	s, known := vm.streams.take(id)
	if !known && vm.roots.find(id) >= 0 {
		vm.rootDone() // a plan's own context: the host tells of the end of those too
		return
	}
	vm.counters.Requests++
	if !s.routed {
		name, _ := vm.host.Property(propRouteName)
		s.route = vm.find(name)
	}
	r := s.route
	if r == nil {
		return // an unknown host belongs to no service
	}
	if r.unknown {
		vm.counters.UnknownRoutes++
	}
	now := vm.host.Now()
	duration := int64(-1)
	if known {
		duration = max(now-s.start, 0)
	} else if ns, ok := integer(vm.host.Property(propDuration)); ok {
		duration = ns
	}
	outcome, status, upstream := s.refused, uint16(503), false
	if !s.refused.Refusal() {
		if vm.endedWell(&s, r) {
			outcome, status, upstream = contract.OK, 200, true
		} else {
			e := vm.ending(&s, r)
			outcome, upstream = classify(e)
			status = uint16(e.code)
			s.endless = e.code == 101
		}
	}
	if s.endless = s.endless || r.stream; s.endless {
		duration = -1 // it has no latency
	}
	if r.name == "" && outcome == contract.OK {
		outcome, status = contract.ClientError, 404 // no route: over gRPC, Envoy's answer looks like a good one
	}
	sent := vm.attempts(&s)
	vm.count(r, vm.injected(&s, outcome), status, duration, sent, now)
	if r.cell != nil && known && !s.refused.Refusal() {
		result := verdict(r.cell, outcome, status, upstream)
		if s.visit != nil && s.visit.cut(outcome, now-s.start) {
			result = breaker.Result{}
		}
		if s.tries != nil && r.attempts {
			result = endTries(&s, result, outcome, now)
		}
		vm.settle(r.cell, &s, engine.Result{Breaker: result}, now)
	}
	if s.visit != nil {
		vm.endVisit(s.visit, now) // after the breaker has the result: whoever gets the permit asks it next
	}
}

// endedWell reports whether the stream is known to have ended with the
// upstream's answer of 200 to 399, without asking which. Over gRPC its trailers
// must say OK as well.
func (vm *VM) endedWell(s *stream, r *route) bool {
	return vm.plan.endSignal && vm.ends.defined && !r.exact && (!r.grpc || (s.trailed && s.grpc == 0)) && vm.ends.quiet(vm.host)
}

// ending asks the proxy how the stream ended. Details are read only where they
// can matter, to save a host call.
func (vm *VM) ending(s *stream, r *route) ending {
	e := ending{grpc: -1}
	code, _ := integer(vm.host.Property(propCode))
	e.code = int(code)
	e.flags, _ = integer(vm.host.Property(propFlags))
	if e.code >= 400 || e.code == 0 || e.flags != 0 || r.grpc {
		details, _ := vm.host.Property(propDetails)
		e.details = string(details)
	}
	switch {
	case !r.grpc:
	case s.trailed:
		e.grpc = s.grpc
	default:
		e.grpc = gRPCOfHTTP(e.code)
		if status, ok := vm.host.Property(propGRPCStatus); ok {
			e.grpc = parseGRPCStatus(status)
		}
	}
	return e
}

// verdict is what an outcome says to a breaker.
func verdict(c *cell, o contract.Outcome, status uint16, upstream bool) breaker.Result {
	answered := status
	if !upstream {
		answered = 0
	}
	switch {
	case o == contract.Aborted || o == contract.Injected:
		return breaker.Result{}
	case c.failures.Has(o, answered):
		return breaker.Result{Verdict: breaker.Failure, Cause: uint8(o)}
	case upstream:
		return breaker.Result{Verdict: breaker.Success}
	}
	return breaker.Result{} // Envoy's own reply says nothing of the service
}

func (vm *VM) count(r *route, o contract.Outcome, status uint16, duration int64, sent uint64, now int64) {
	r.tally.count(o)
	minute := now / minuteNS
	if r.row == nil || r.rowGen != vm.rows.gen || r.row.key.minute != minute {
		r.row = vm.rows.row(rowKey{service: r.service, route: r.name, priority: r.priority, bounds: vm.plan.bounds, minute: minute}, minute)
		r.rowGen = vm.rows.gen
		if r.row == nil {
			return // no room: counted as dropped
		}
	}
	r.row.add(o, status, duration)
	r.row.attempts += sent
}

// Tick does what has no stream: it re-reads records, flushes metrics and moves
// batches. Only the newest plan's context ticks for the VM.
func (vm *VM) Tick(root uint32) {
	defer func() {
		if cause := recover(); cause != nil {
			vm.panicked("tick", cause)
		}
	}()
	if slices.Contains(vm.attemptRoots, root) {
		vm.tickAttempts(root)
		return
	}
	now := vm.host.Now()
	if vm.waiters > 0 {
		vm.serveWaiters(now)
		vm.host.Enter(root) // back from theirs
	}
	if !vm.pace(root, now) || !vm.leads(root, now) {
		return
	}
	if !vm.awake {
		vm.wake()
	}
	if vm.listening && vm.queueRoot != root {
		vm.queueRoot = root
		vm.listen()
	}
	vm.introduce(now)
	vm.overrides(now)
	vm.review(now)
	vm.tendPools(now)
	if len(vm.uploads) > 0 {
		vm.tendBodies(now)
		vm.host.Enter(root) // back from theirs
	}
	vm.flushTallies()
	if delta := vm.counters.Panics - vm.panicsShown; delta > 0 && delta < 1<<32 {
		vm.host.MetricAdd(vm.panics, int64(delta))
	}
	vm.panicsShown = vm.counters.Panics
	vm.deliver(now)
}

// introduce reads what batches say of where they come from.
func (vm *VM) introduce(now int64) {
	if vm.node == "" {
		node, _ := vm.host.Property(propNodeID)
		vm.node = string(node)
	}
	if vm.boot == "" {
		vm.readBoot(now)
	}
}

// readBoot reads the identity of this Envoy's life, or draws it.
func (vm *VM) readBoot(now int64) {
	const key = "sw1/boot"
	var fresh [24]byte
	put64(fresh[:8], vm.host.Random())
	put64(fresh[8:16], vm.host.Random())
	put64(fresh[16:], uint64(now))
	vm.shared.set(key, fresh[:], Absent) // fails where there is one
	value, _, ok := vm.shared.get(key)
	if !ok || len(value) != len(fresh) {
		value = fresh[:]
	}
	vm.boot, vm.bootNS = hexOf(value[:16]), int64(get64(value[16:]))
}

// CallDone takes the answer to a Post.
func (vm *VM) CallDone(token uint32) {
	defer func() {
		if cause := recover(); cause != nil {
			vm.panicked("call done", cause)
		}
	}()
	now := vm.host.Now()
	switch {
	case vm.out.call.is(token):
		vm.answered(vm.host.PostStatus(), now)
	case vm.adopted.call.is(token):
		vm.adoptedAnswered(vm.host.PostStatus(), now)
	}
}

// panicked counts a fault of ours that was recovered.
func (vm *VM) panicked(where string, cause any) {
	vm.counters.Panics++
	text := "?"
	switch c := cause.(type) {
	case error:
		text = c.Error()
	case string:
		text = c
	}
	text = text[:min(len(text), 200)]
	defer func() { _ = recover() }() // the host itself may be what fails
	vm.events.add(contract.Event{AtNS: vm.host.Now(), Kind: "panic", From: where, Cause: text})
	if n := vm.counters.Panics; n <= 10 || n%1000 == 0 {
		vm.log(Error, "recovered a panic in "+where+": "+text)
	}
}

func (vm *VM) log(level Level, message string) { vm.host.Log(level, message) }
