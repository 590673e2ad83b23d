package plugin

import "github.com/seawall-mesh/seawall/filter/contract"

// roots are the plugin contexts of this VM. A push makes a new one; the old
// one lives, and ticks, until its last stream is over.
//
// The newest rules, with one exception. Pushing a plan that Envoy still has a
// context for (a policy is edited and reverted while an old stream is open)
// gives no new context: Envoy goes back to the old one, silently. It shows when
// the newer context ticks no longer, and, where each plan has a root_id of its
// own, when a stream starts on the old one.
type roots struct {
	list    []root
	several bool // a stream's root_id can differ from the leader's
}

type root struct {
	id     uint32
	name   string // root_id
	plan   *contract.Plan
	since  int64  // when it last came to lead
	ahead  int    // its ticks since the leader's last
	silent int    // the leader's ticks since its last
	period uint32 // ms between its ticks, 0: not known
	ticked int64  // its last ordinary tick
}

const (
	// settledNS after a push, a stream on another context means a return to it:
	// workers take up a push within milliseconds.
	settledNS = 1e9
	// silentTicks of another context without one of the leader's, the leader is
	// gone. Counting ticks and not time, a worker that stalls does no harm.
	silentTicks = 10
	// forgottenTicks of the leader without one of another context, that one is
	// gone.
	forgottenTicks = 25
	maxRoots       = 64
)

// add notes a new context, which leads.
func (r *roots) add(id uint32, name string, p *contract.Plan, now int64, period uint32) {
	if len(r.list) == maxRoots {
		r.list = append(r.list[:0], r.list[1:]...)
	}
	r.list = append(r.list, root{id: id, name: name, plan: p, since: now, period: period})
	r.look()
}

func (r *roots) look() {
	r.several = false
	for i := range r.list {
		r.several = r.several || r.list[i].name != r.leader().name
	}
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
	r.look()
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
	c.silent = 0
	if vm.roots.leader().id == id {
		vm.roots.led()
		return true
	}
	if c.ahead++; c.ahead < silentTicks {
		return false
	}
	vm.follow(i, now)
	return true
}

// followStream looks on which context a new stream is, while there are
// several.
func (vm *VM) followStream(now int64) {
	leader := vm.roots.leader()
	name, _ := vm.host.Property(propRootID)
	if string(name) == leader.name || now-leader.since <= settledNS {
		return
	}
	for i := range vm.roots.list {
		if vm.roots.list[i].name == string(name) {
			vm.follow(i, now)
			return
		}
	}
}

// follow goes back to the plan of another context.
func (vm *VM) follow(i int, now int64) {
	chosen := vm.roots.lead(i, now)
	vm.install(chosen.plan)
	vm.log(Info, "back to plan "+chosen.plan.Hash)
}

// led notes a tick of the leader, and forgets contexts that are gone.
func (r *roots) led() {
	kept := r.list[:0]
	for i, c := range r.list {
		c.ahead = 0
		if c.silent++; i == len(r.list)-1 || c.silent <= forgottenTicks {
			kept = append(kept, c)
		}
	}
	clear(r.list[len(kept):])
	r.list = kept
	r.look()
}
