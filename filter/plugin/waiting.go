package plugin

import (
	"slices"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine/bulkhead"
	"github.com/seawall-mesh/seawall/filter/problem"
)

// A request that waits for a permit is paused. Whoever frees a permit gives it
// to the best waiter in the record, and wakes that waiter's VM through a queue
// of the VM's own (a queue has one reader). The message is the stream's number.
// A wake can get lost, with the plan context that had opened the queue or for
// any other reason: while a VM has waiters it also looks every 10 ms.
const (
	hurryMS     = 10
	queuePrefix = "sw1/w/"
	maxWakes    = 4096 // taken in one callback
	maxQueues   = 256  // of other VMs, remembered
)

// wait puts the request into the queue. It is the last that is done for a
// paused request, so that a fault before it leaves nothing half done.
func (vm *VM) wait(v *visit) {
	if !vm.listening {
		vm.listen()
	}
	if vm.waiters == 0 {
		vm.hurry()
	}
	vm.waiters++
	v.pool.users++
	v.pool.waiting = append(v.pool.waiting, v.id)
	v.waiting, v.waited = true, true
}

// unqueue forgets that the visit waits.
func (vm *VM) unqueue(v *visit) {
	if !v.waiting {
		return
	}
	v.waiting = false
	vm.waiters--
	if i := slices.Index(v.pool.waiting, v.id); i >= 0 {
		v.pool.waiting = slices.Delete(v.pool.waiting, i, i+1)
	}
}

// listen opens this VM's queue, or moves it to the plan context of this
// callback.
func (vm *VM) listen() {
	vm.listening = true
	if queue, ok := vm.host.OpenQueue(queueName(vm.holder(0).Owner)); ok {
		vm.queue = queue
	}
}

func queueName(owner uint64) string {
	var b [8]byte
	put64(b[:], owner)
	return queuePrefix + hexOf(b[:])
}

// tell wakes the VM of a waiter that has a permit now.
func (vm *VM) tell(h bulkhead.Holder) {
	queue, known := vm.queues[h.Owner]
	if !known {
		if vm.vmID == "" {
			id, _ := vm.host.Property(propVMID)
			vm.vmID = string(id)
		}
		var ok bool
		if queue, ok = vm.host.FindQueue(vm.vmID, queueName(h.Owner)); !ok {
			return // it finds out at its next tick
		}
		if len(vm.queues) >= maxQueues {
			clear(vm.queues)
		}
		vm.queues[h.Owner] = queue
	}
	var message [4]byte
	for i := range message {
		message[i] = byte(h.Stream >> (8 * i))
	}
	vm.host.Enqueue(queue, message[:])
}

// QueueReady takes the wakes of this VM's waiters.
func (vm *VM) QueueReady(queue Queue) {
	defer func() {
		if cause := recover(); cause != nil {
			vm.panicked("queue ready", cause)
		}
	}()
	if !vm.listening || queue != vm.queue {
		return
	}
	now := vm.host.Now()
	for range maxWakes {
		message, ok := vm.host.Dequeue(queue)
		if !ok {
			return
		}
		if len(message) == 4 {
			vm.called(uint32(message[0])|uint32(message[1])<<8|uint32(message[2])<<16|uint32(message[3])<<24, now)
		}
	}
}

// serveWaiters looks after all that wait in this VM. It may leave another
// context entered than the callback's.
func (vm *VM) serveWaiters(now int64) {
	for _, p := range vm.poolList {
		if len(p.waiting) == 0 {
			continue
		}
		vm.calling = append(vm.calling[:0], p.waiting...) // it changes as they go
		if !p.planned {
			for _, id := range vm.calling {
				vm.dismiss(id, now)
			}
			continue
		}
		if !vm.tend(p, now) {
			continue
		}
		for _, id := range vm.calling {
			if v := vm.visitOf(id); v != nil {
				v.queued = false
			}
		}
		for _, w := range p.state.Waiters {
			if v := vm.visitOf(w.Stream); v != nil && w.Owner == vm.tag {
				v.queued = true
			}
		}
		for _, id := range vm.calling {
			if v := vm.visitOf(id); v != nil && !v.queued {
				vm.called(id, now)
			}
		}
	}
}

// dismiss sends on a waiter whose pool is gone: nothing limits it any more.
func (vm *VM) dismiss(id uint32, now int64) {
	s := vm.streams.get(id)
	if s == nil || s.visit == nil || !s.visit.waiting {
		return
	}
	v := s.visit
	v.pool.note(now - s.start)
	vm.leave(v, now)
	v.pool = nil
	if vm.host.Enter(id) {
		vm.goOn(s, now)
	}
}

// goOn sends on a request that has waited, or answers it. Whatever happens, it
// is not left paused.
func (vm *VM) goOn(s *stream, now int64) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		vm.panicked("waiting request", cause)
		if !s.refused.Refusal() && !vm.failed() {
			vm.host.Resume()
		}
	}()
	if vm.sendOn(s, now) {
		vm.leave(s.visit, now)
		return
	}
	if vm.attempting() {
		vm.mark(s.id)
	}
	vm.host.Resume()
}

// called looks what became of a waiter: it has a permit, or its time is over,
// or it waits on.
func (vm *VM) called(id uint32, now int64) {
	s := vm.streams.get(id)
	if s == nil || s.visit == nil || !s.visit.waiting {
		return // it has left, and its permit was given back with it
	}
	v := s.visit
	p, who, verdict := v.pool, vm.holder(id), bulkhead.Queued
	ok := vm.onPool(p, now, func() bool {
		verdict = p.state.Claim(p.params, now, who)
		return verdict != bulkhead.Queued || len(p.state.Granted) > 0
	})
	if !ok || verdict == bulkhead.Queued {
		return
	}
	p.note(now - s.start)
	vm.unqueue(v)
	if verdict == bulkhead.Full {
		p.users--
		p.timedOut++
		if vm.host.Enter(id) {
			vm.refuseWait(s)
		}
		return
	}
	p.granted++
	v.holds, v.since = true, now
	if !vm.host.Enter(id) {
		vm.leave(v, now)
		return
	}
	vm.goOn(s, now)
}

func (p *pool) note(waited int64) { p.longest = max(p.longest, waited) }

// refuseWait answers a request that waited for nothing: it is its caller's
// deadline that is over, or the pool's patience.
func (vm *VM) refuseWait(s *stream) {
	v, r := s.visit, s.route
	if v.byCaller && (v.pool.maxWait <= 0 || v.budget <= v.pool.maxWait) {
		vm.refuseDeadline(s)
		return
	}
	s.refused = contract.BulkheadTimeout
	vm.refuse(problem.BulkheadTimeout, "no permit of pool "+r.service+"/"+v.pool.name+" came free in time", 1)
}

// refuseLate answers a request whose deadline would pass while it waits.
func (vm *VM) refuseLate(s *stream) {
	v, r := s.visit, s.route
	wait := "the wait for a permit of pool " + r.service + "/" + v.pool.name + " would take longer than "
	if v.byCaller {
		s.refused = contract.Deadline
		vm.refuse(problem.Deadline, wait+"the caller's deadline for "+r.service+"/"+r.name+" leaves", 0)
		return
	}
	s.refused = contract.BulkheadTimeout
	vm.refuse(problem.BulkheadTimeout, wait+r.service+"/"+r.name+" may take", 1)
}

// hurry makes this callback's plan context tick fast, and the others find out
// at their next tick.
func (vm *VM) hurry() {
	vm.host.SetTick(hurryMS)
	for i := range vm.roots.list {
		vm.roots.list[i].period = 0
	}
}

func (vm *VM) period() uint32 {
	if vm.waiters > 0 {
		return hurryMS
	}
	return tickMS
}

// pace sets how often the plan context of this tick ticks, and reports whether
// this is one of its ordinary ticks, not one in between.
func (vm *VM) pace(id uint32, now int64) bool {
	const early = 5e6
	want := vm.period()
	i := vm.roots.find(id)
	if i < 0 {
		vm.host.SetTick(tickMS)
		return true
	}
	r := &vm.roots.list[i]
	since := now - r.ticked
	ordinary := r.period == tickMS || since < 0 || since >= tickMS*1e6-early
	if ordinary {
		r.ticked = now
	}
	if r.period != want {
		vm.host.SetTick(want)
		r.period = want
	}
	return ordinary
}
