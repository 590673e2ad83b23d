package plugin

import "github.com/seawall-mesh/seawall/filter/contract"

// roots are the plugin contexts of this VM. A push makes a new one; the old
// one lives, and ticks, until its last stream is over.
//
// The newest rules, with one exception. Pushing a plan that Envoy still has a
// context for (a policy is edited and reverted while an old stream is open)
// gives no new context: Envoy goes back to the old one, silently. It shows when
// a stream starts there, or when the newer context ticks no longer.
type roots struct {
	list []root
}

type root struct {
	id    uint32
	plan  *contract.Plan
	since int64 // when it last came to lead
	alive int64 // when it last ticked
	ahead int   // ticks since the leader's last
}

const (
	// settledNS after a push, a stream on another context means a return to it:
	// workers take up a push within milliseconds.
	settledNS = 1e9
	// silentTicks of another context without one of the leader's, the leader is
	// gone. Counting ticks and not time, a worker that stalls does no harm.
	silentTicks = 10
	// forgottenNS without a tick, a context is gone.
	forgottenNS = 60e9
	maxRoots    = 64
)

// add notes a new context, which leads.
func (r *roots) add(id uint32, p *contract.Plan, now int64) {
	if len(r.list) == maxRoots {
		r.list = append(r.list[:0], r.list[1:]...)
	}
	r.list = append(r.list, root{id: id, plan: p, since: now, alive: now})
}

// leader is the context that rules, nil before the first.
func (r *roots) leader() *root {
	if len(r.list) == 0 {
		return nil
	}
	return &r.list[len(r.list)-1]
}

// lead moves context i to the front.
func (r *roots) lead(i int, now int64) *root {
	chosen := r.list[i]
	chosen.since, chosen.ahead = now, 0
	r.list = append(append(r.list[:i], r.list[i+1:]...), chosen)
	return r.leader()
}

func (r *roots) find(id uint32) int {
	for i := range r.list {
		if r.list[i].id == id {
			return i
		}
	}
	return -1
}

// leads reports whether a tick of context id is the VM's tick.
func (vm *VM) leads(id uint32, now int64) bool {
	i := vm.roots.find(id)
	if i < 0 {
		return false
	}
	c := &vm.roots.list[i]
	c.alive = now
	if vm.roots.leader().id == id {
		vm.roots.ledBy(now)
		return true
	}
	if c.ahead++; c.ahead < silentTicks {
		return false
	}
	vm.follow(i, now)
	return true
}

// StreamOn tells that a stream has started on a context of this VM.
func (vm *VM) StreamOn(rootID uint32) {
	leader := vm.roots.leader()
	if leader == nil || leader.id == rootID {
		return // nearly always
	}
	defer func() {
		if cause := recover(); cause != nil {
			vm.panicked("context create", cause)
		}
	}()
	now := vm.host.Now()
	if i := vm.roots.find(rootID); i >= 0 && now-leader.since > settledNS {
		vm.follow(i, now)
	}
}

// follow goes back to the plan of another context.
func (vm *VM) follow(i int, now int64) {
	chosen := vm.roots.lead(i, now)
	chosen.alive = now
	vm.install(chosen.plan)
	vm.log(Info, "back to plan "+chosen.plan.Hash)
}

// ledBy notes a tick of the leader, and forgets contexts that are gone.
func (r *roots) ledBy(now int64) {
	kept := r.list[:0]
	for i, c := range r.list {
		if i == len(r.list)-1 || now-c.alive <= forgottenNS {
			c.ahead = 0
			kept = append(kept, c)
		}
	}
	clear(r.list[len(kept):])
	r.list = kept
}
