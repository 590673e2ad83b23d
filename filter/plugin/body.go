package plugin

import (
	"slices"

	"github.com/seawall-mesh/seawall/filter/problem"
)

// upload is a request whose body is still on its way. What a refusal of it
// needs is kept, for its headers are gone by then.
type upload struct {
	request string // id
	grpc    bool
}

// AwaitBody notes that a request goes on after its headers. The host calls it
// after RequestHeaders, in the same callback, and tells of the rest by
// RequestBody.
func (vm *VM) AwaitBody(id uint32) {
	if !vm.plan.bodies {
		return
	}
	defer func() {
		if cause := recover(); cause != nil {
			vm.panicked("await body", cause)
		}
	}()
	s := vm.streams.get(id)
	if s == nil || s.refused.Refusal() {
		return
	}
	vm.routeOf(s)
	if s.route == nil || s.route.body <= 0 {
		return
	}
	request, _ := vm.host.RequestHeader(headerRequestID)
	vm.uploads[id] = upload{request: string(request), grpc: vm.isGRPC()}
}

// RequestBody notes that a request has come in as a whole.
func (vm *VM) RequestBody(id uint32) { delete(vm.uploads, id) }

// tendBodies answers those who take too long to send theirs, on tick. The time
// of one that waits in a pool's queue begins when it is sent on: until then
// Envoy does not tell of its body. It may leave another context entered than
// the callback's.
func (vm *VM) tendBodies(now int64) {
	vm.calling = vm.calling[:0]
	for id := range vm.uploads {
		vm.calling = append(vm.calling, id)
	}
	slices.Sort(vm.calling)
	for _, id := range vm.calling {
		u, s := vm.uploads[id], vm.streams.get(id)
		if s == nil || s.route == nil || s.route.body <= 0 {
			delete(vm.uploads, id)
			continue
		}
		if (s.visit != nil && s.visit.waiting) || now-max(s.start, s.sent) < s.route.body {
			continue
		}
		delete(vm.uploads, id)
		if vm.host.Enter(id) {
			vm.answer(problem.RequestTimeout, "the request's body did not come in within the time of "+s.route.service+"/"+s.route.name, 0, u.request, u.grpc)
		}
	}
}
