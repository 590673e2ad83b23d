package plugin

import "strconv"

// Parking keeps a VM's unacknowledged batches in shared data, where they
// outlive it: Envoy throws a VM away when it traps, or when a new build of the
// filter replaces it. Each VM holds one of a fixed number of slots by a
// heartbeat; a slot without one is adopted by another VM, which delivers what
// is in it under the dead VM's identity. Batches are idempotent, so a batch
// that was delivered already does no harm.
//
// A slot's value, little-endian:
//
//	0  schema (1), 0 or no value: the slot is free
//	1  owner, 16 bytes of hex digits' worth of identity
//	17 heartbeat, Unix ns
//	25 number of batches, then each: length uint32, bytes
const (
	slots       = 64
	slotPrefix  = "sw1/p/"
	slotSchema  = 1
	slotHeader  = 26
	heartbeatNS = 1e9  // written at least so often
	deadNS      = 10e9 // without a heartbeat for so long, the owner is gone
	scanEveryNS = 5e9
	bigNS       = 1e9 // a large staging is parked no more often
	bigRows     = 400
	maxParked   = 8 // batches
)

// slot is this VM's place.
type slot struct {
	held    bool
	key     string
	version uint32
	token   [16]byte // random, of the claim: tells it from another VM's
}

// holdSlot checks that the slot is still ours, or claims one. A VM that was
// stopped for so long that another has adopted its slot starts anew under
// another identity: what was parked is the adopter's to deliver.
func (vm *VM) holdSlot(now int64) {
	s := &vm.slot
	if s.held {
		value, version, ok := vm.shared.get(s.key)
		if ok && slotOwner(value) == s.token {
			s.version = version
			return
		}
		vm.loseSlot()
	}
	if now < vm.nextClaim && vm.nextClaim-now <= scanEveryNS {
		return
	}
	vm.claimSlot(now)
	vm.nextClaim = now + scanEveryNS
}

func (vm *VM) loseSlot() {
	vm.log(Warn, "another VM has taken over this VM's parked telemetry; going on under a new identity")
	vm.slot = slot{}
	vm.out = outbox{staged: newLedger(), vm: vm.identity(), changed: true}
	vm.counters = counters{}
	vm.nextClaim = 0
}

func (vm *VM) claimSlot(now int64) {
	var token [16]byte
	put64(token[:8], vm.host.Random())
	put64(token[8:], vm.host.Random())
	for i := range slots {
		key := slotPrefix + strconv.Itoa(i)
		value, version, ok := vm.shared.get(key)
		if ok && len(value) > 0 && value[0] != 0 {
			continue
		}
		if !ok {
			version = Absent
		}
		if _, ok := vm.shared.set(key, encodeSlot(token, now, nil), version); ok {
			_, version, _ = vm.shared.get(key)
			vm.slot = slot{held: true, key: key, version: version, token: token}
			vm.out.changed = true
			return
		}
	}
	if !vm.warnedSlots {
		vm.warnedSlots = true
		vm.log(Warn, "no place left to park telemetry: a trap of this VM loses its last second")
	}
}

// park writes the batch that is out, and what would come next, to the slot,
// with a heartbeat.
func (vm *VM) park(now, beat int64) {
	o := &vm.out
	if !vm.slot.held {
		return
	}
	every := int64(heartbeatNS)
	if o.changed {
		every = 0
		if len(o.staged.rows) > bigRows && o.frozeAt != now {
			every = bigNS
		}
	}
	if since := now - o.parkedAt; since >= 0 && since < every {
		return
	}
	var batches [][]byte
	seq := o.seq
	if o.frozen != nil {
		batches = append(batches, o.frozen)
	}
	for from := 0; from < len(o.staged.rows) || (from == 0 && len(o.events.items) > 0); from += maxBatchRows {
		if len(batches) == maxParked {
			break
		}
		events := o.events.items
		if from > 0 {
			events = nil
		}
		seq++
		batches = append(batches, vm.batch(now, seq, o.staged.rows[from:min(from+maxBatchRows, len(o.staged.rows))], events))
	}
	if _, ok := vm.shared.set(vm.slot.key, encodeSlot(vm.slot.token, beat, batches), vm.slot.version); !ok {
		vm.loseSlot()
		return
	}
	o.changed, o.parkedAt = false, now
}

// adoption is a dead VM's slot that this VM empties.
type adoption struct {
	key     string // "": none
	token   [16]byte
	batches [][]byte
	call    call
	nextTry int64
	backoff int64
	beatAt  int64
}

// adopt looks for a slot without a heartbeat, and delivers what is in it.
func (vm *VM) adopt(now int64) {
	a := &vm.adopted
	if a.key == "" {
		if now < vm.nextScan && vm.nextScan-now <= scanEveryNS {
			return
		}
		vm.nextScan = now + scanEveryNS
		if !vm.findDead(now) {
			return
		}
	}
	if now-a.beatAt >= heartbeatNS || now < a.beatAt {
		if !vm.rewriteAdopted(now) {
			return
		}
	}
	if a.call.lost(now) {
		a.retry(now)
	}
	if a.call.open || (now < a.nextTry && a.nextTry-now <= maxBackoffNS) {
		return
	}
	token, ok := vm.post(a.batches[0])
	if !ok {
		a.retry(now)
		return
	}
	a.call = call{open: true, token: token, at: now}
}

func (vm *VM) findDead(now int64) bool {
	for i := range slots {
		key := slotPrefix + strconv.Itoa(i)
		if vm.slot.held && key == vm.slot.key {
			continue
		}
		value, version, ok := vm.shared.get(key)
		if !ok || len(value) < slotHeader || value[0] != slotSchema {
			continue
		}
		if age := now - int64(get64(value[17:])); age >= 0 && age < deadNS {
			continue
		} else if age < 0 && age > -deadNS {
			continue // another worker's clock reading is a little later
		}
		batches, ok := slotBatches(value)
		if !ok || len(batches) == 0 {
			vm.shared.set(key, []byte{0}, version)
			continue
		}
		a := adoption{key: key, batches: batches, beatAt: now}
		put64(a.token[:8], vm.host.Random())
		put64(a.token[8:], vm.host.Random())
		if _, ok := vm.shared.set(key, encodeSlot(a.token, now, batches), version); !ok {
			continue // another worker was first, or the owner lives
		}
		vm.adopted = a
		vm.log(Info, "taking over the parked telemetry of a VM that is gone")
		return true
	}
	return false
}

// rewriteAdopted keeps the adopted slot, with what is left in it. It reports
// whether there is something left.
func (vm *VM) rewriteAdopted(now int64) bool {
	a := &vm.adopted
	value, version, ok := vm.shared.get(a.key)
	if !ok || slotOwner(value) != a.token {
		*a = adoption{} // taken over in turn
		return false
	}
	next := []byte{0}
	if len(a.batches) > 0 {
		next = encodeSlot(a.token, now, a.batches)
	}
	vm.shared.set(a.key, next, version)
	if len(a.batches) == 0 {
		*a = adoption{}
		return false
	}
	a.beatAt = now
	return true
}

// adoptedAnswered takes the answer to an adopted batch.
func (vm *VM) adoptedAnswered(status int, now int64) {
	a := &vm.adopted
	a.call.open = false
	switch verdictOf(status) {
	case again:
		a.retry(now)
		return
	case refused:
		vm.counters.Rejected++
	case accepted:
	}
	a.batches, a.backoff, a.nextTry = a.batches[1:], 0, now
	if len(a.batches) == 0 {
		vm.rewriteAdopted(now)
		vm.nextScan = now // perhaps there is another
	}
}

func (a *adoption) retry(now int64) {
	a.backoff = min(max(2*a.backoff, minBackoffNS), maxBackoffNS)
	a.nextTry = now + a.backoff
}

func encodeSlot(token [16]byte, now int64, batches [][]byte) []byte {
	size := slotHeader
	for _, b := range batches {
		size += 4 + len(b)
	}
	dst := append(make([]byte, 0, size), slotSchema)
	dst = append(dst, token[:]...)
	var at [8]byte
	put64(at[:], uint64(now))
	dst = append(dst, at[:]...)
	dst = append(dst, byte(len(batches)))
	for _, b := range batches {
		n := len(b)
		dst = append(dst, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		dst = append(dst, b...)
	}
	return dst
}

// slotOwner is the token in a slot, zero where it is free or none.
func slotOwner(value []byte) (token [16]byte) {
	if len(value) >= slotHeader && value[0] == slotSchema {
		copy(token[:], value[1:])
	}
	return token
}

// slotBatches copies the batches out of a slot.
func slotBatches(value []byte) (batches [][]byte, ok bool) {
	if len(value) < slotHeader || value[0] != slotSchema {
		return nil, false
	}
	n, rest := int(value[25]), value[slotHeader:]
	for range n {
		if len(rest) < 4 {
			return nil, false
		}
		size := int(rest[0]) | int(rest[1])<<8 | int(rest[2])<<16 | int(rest[3])<<24
		rest = rest[4:]
		if size < 0 || size > len(rest) {
			return nil, false
		}
		batches = append(batches, append([]byte(nil), rest[:size]...))
		rest = rest[size:]
	}
	return batches, len(rest) == 0
}
