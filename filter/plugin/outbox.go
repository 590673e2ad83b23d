package plugin

import "github.com/seawall-mesh/seawall/filter/contract"

// When batches leave.
const (
	tickMS        = 200
	batchEveryNS  = 1e9
	maxBatchRows  = contract.MaxBatchRows
	callTimeoutMS = 2000
	callLostNS    = 2500e6 // a call of a plan context that is gone is never answered
	minBackoffNS  = 200e6
	maxBackoffNS  = 2e9
)

// outbox takes batches to the control plane, one at a time. What it has sent
// once it sends again with the same bytes, until it is acknowledged.
type outbox struct {
	vm  string // identity of the batches: 32 hex digits
	seq uint64 // of the last batch that was frozen

	frozen  []byte // the batch that is out, nil: none
	staged  *ledger
	events  ring
	frozeAt int64

	call      call
	nextTry   int64
	backoff   int64
	announced string // the plan that the last frozen batch named
	changed   bool   // staged has changed since it was parked
	parkedAt  int64
}

// call is a Post that may be under way.
type call struct {
	open  bool
	token uint32
	at    int64
}

func (c *call) is(token uint32) bool { return c.open && c.token == token }

// lost reports whether the call will not be answered any more, and forgets it.
func (c *call) lost(now int64) bool {
	if !c.open || (now-c.at <= callLostNS && now >= c.at) {
		return false
	}
	c.open = false
	return true
}

// deliver moves what was counted towards the control plane.
func (vm *VM) deliver(now int64) {
	o := &vm.out
	vm.stage(now)
	if vm.plan.telemetry.Cluster == "" {
		return
	}
	if o.frozen == nil && (now-o.frozeAt >= batchEveryNS || now < o.frozeAt || o.announced != vm.plan.hash) {
		vm.freeze(now)
	}
	vm.park(now, now)
	if o.call.lost(now) {
		o.retry(now)
	}
	if o.frozen != nil && !o.call.open && (now >= o.nextTry || o.nextTry-now > maxBackoffNS) {
		vm.send(now)
	}
	vm.adopt(now)
}

// stage makes what was counted ready to be sent, and claims a place to park it.
func (vm *VM) stage(now int64) {
	o := &vm.out
	if o.vm == "" {
		o.vm = vm.identity()
		o.changed = true
	}
	vm.holdSlot(now)
	vm.rows.fold(now/minuteNS - keptMinutes)
	o.changed = o.changed || len(vm.rows.rows) > 0 || len(vm.events.items) > 0
	vm.counters.DroppedRows += vm.rows.lost
	vm.counters.DroppedEvents += vm.events.lost
	vm.rows.lost, vm.events.lost = 0, 0
	o.staged.absorb(vm.rows)
	o.events.absorb(&vm.events)
	o.staged.fold(now/minuteNS - keptMinutes)
	vm.counters.DroppedRows += o.staged.lost
	vm.counters.DroppedEvents += o.events.lost
	o.staged.lost, o.events.lost = 0, 0
}

// rootDone is the end of a plan's context. The last one's is the VM's: it never
// ticks again, and another has to deliver what it has counted.
func (vm *VM) rootDone() {
	vm.opened--
	now := vm.host.Now()
	o := &vm.out
	if vm.opened > 0 || vm.plan.telemetry.Cluster == "" || (len(vm.rows.rows)+len(o.staged.rows)+len(vm.events.items)+len(o.events.items) == 0 && o.frozen == nil) {
		return
	}
	vm.introduce(now)
	vm.nextClaim = 0
	vm.stage(now)
	o.changed, o.parkedAt = true, 0
	vm.park(now, now-deadNS) // whoever looks next is to take it
}

// freeze makes a batch of what is staged.
func (vm *VM) freeze(now int64) {
	o := &vm.out
	o.seq++
	o.frozen = vm.batch(now, o.seq, o.staged.take(maxBatchRows), o.events.take())
	vm.forgetWaits()
	o.frozeAt, o.announced = now, vm.plan.hash
	o.nextTry, o.backoff, o.changed = now, 0, true
}

// batch is the bytes of a batch.
func (vm *VM) batch(now int64, seq uint64, rows []*row, events []contract.Event) []byte {
	b := contract.Batch{
		Schema: contract.BatchSchema, Node: vm.node, Boot: vm.boot, VM: vm.out.vm, Seq: seq, AtNS: now, BootNS: vm.bootNS,
		Plan: vm.plan.hash, Filter: vm.filter, Served: vm.served,
		Rows: make([]contract.Row, 0, len(rows)), Events: events, Breakers: vm.states(now), Pools: vm.poolStates(), Counters: vm.counters,
	}
	b.Counters.EpochFallback = vm.epoch.hidden
	for _, r := range rows {
		b.Rows = append(b.Rows, r.wire())
	}
	return contract.AppendBatch(nil, &b)
}

func (vm *VM) send(now int64) {
	o := &vm.out
	token, ok := vm.post(o.frozen)
	if !ok {
		o.retry(now)
		return
	}
	o.call = call{open: true, token: token, at: now}
}

func (vm *VM) post(body []byte) (uint32, bool) {
	t := &vm.plan.telemetry
	return vm.host.Post(Post{Cluster: t.Cluster, Authority: t.Authority, Path: t.Path, Body: body, TimeoutMS: callTimeoutMS})
}

func (o *outbox) retry(now int64) {
	o.backoff = min(max(2*o.backoff, minBackoffNS), maxBackoffNS)
	o.nextTry = now + o.backoff
}

// answered takes the answer to the batch that is out.
func (vm *VM) answered(status int, now int64) {
	o := &vm.out
	o.call.open = false
	if o.frozen == nil {
		return
	}
	switch verdictOf(status) {
	case accepted:
	case refused:
		vm.counters.Rejected++
		vm.log(Error, "the control plane refused a telemetry batch for good")
	default:
		o.retry(now)
		return
	}
	o.frozen, o.changed = nil, true
}

type receipt uint8

const (
	again receipt = iota
	accepted
	refused
)

// verdictOf reads the status of an answer, 0 for none.
func verdictOf(status int) receipt {
	switch {
	case status >= 200 && status <= 299:
		return accepted
	case status == 400 || status == 413 || status == 422:
		return refused
	}
	return again
}

// identity is 128 random bits, in hex.
func (vm *VM) identity() string {
	var b [16]byte
	put64(b[:8], vm.host.Random())
	put64(b[8:], vm.host.Random())
	return hexOf(b[:])
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}
