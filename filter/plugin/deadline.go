package plugin

import (
	"strings"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine/bulkhead"
	"github.com/seawall-mesh/seawall/filter/engine/deadline"
	"github.com/seawall-mesh/seawall/filter/problem"
)

const (
	unlimited = deadline.None

	headerGRPCTimeout = "grpc-timeout"
	// headerTimeout shortens the router's timeout for one request. Clients
	// cannot send it, the edge drops theirs. What is left of it on each try the
	// router itself tells the service, in x-seawall-deadline-ms.
	headerTimeout = "x-envoy-upstream-rq-timeout-ms"

	maxVisits = 1024 // kept to be used again
	// cutNS is how much earlier than the caller's deadline a timeout still
	// counts as caused by it: the proxy's timers are coarse.
	cutNS = 10e6
	// leadNS is how much earlier than the others the proxy ends a gRPC call, and
	// at most one leadShare of its time: caller and service know its end as well,
	// and one that is first hangs up, which would be taken for the other's fault.
	leadNS    = 5e6
	leadShare = 20
)

// heed passes a request through the guards of a route with a pool or a
// deadline. true pauses it: it was answered, or it waits.
func (vm *VM) heed(s *stream, now int64) (pause bool) {
	r := s.route
	v := vm.visit(s)
	v.pool, v.hold = r.pool, endlessNS
	policy := r.allowed()
	if policy > 0 {
		v.hold = policy + holdSlackNS
	}
	v.budget, v.byCaller = deadline.Left(policy, vm.callerGives(r))
	if v.budget <= 0 {
		vm.refuseDeadline(s)
		return true
	}
	if v.pool == nil {
		return vm.sendOn(s, now)
	}
	if vm.wouldRefuse(s, now) {
		return true // nothing queues for a breaker that is open
	}
	switch vm.acquire(s, v, now) {
	case bulkhead.Full:
		s.refused = contract.BulkheadFull
		vm.refuse(problem.BulkheadFull, "all permits of pool "+r.service+"/"+v.pool.name+" are taken, and its queue is full", 1)
		return true
	case bulkhead.Late:
		vm.refuseLate(s)
		return true
	case bulkhead.Queued:
		vm.wait(v)
		return true
	case bulkhead.Held:
	}
	if vm.sendOn(s, now) {
		vm.leave(v, now)
		return true
	}
	return false
}

// allowed is how long the policy gives a request in all, 0: no limit. It is the
// router's own timeout too.
func (r *route) allowed() int64 {
	if r.pool != nil {
		return least(r.timeout, r.pool.timeout)
	}
	return r.timeout
}

// least is the lesser of two limits, 0 being none.
func least(a, b int64) int64 {
	if a <= 0 || (b > 0 && b < a) {
		return b
	}
	return a
}

// callerGives is how long the caller waits, as far as the route's plan lets it
// say so.
func (vm *VM) callerGives(r *route) int64 {
	gives := int64(unlimited)
	if r.deadlineHeader != "" {
		if value, ok := vm.host.RequestHeader(r.deadlineHeader); ok {
			ns, _ := deadline.ParseMillis(value)
			gives = ns
		}
	}
	if r.grpc {
		if value, ok := vm.host.RequestHeader(headerGRPCTimeout); ok {
			ns, _ := deadline.ParseGRPC(value)
			gives = min(gives, ns)
		}
	}
	return gives
}

// sendOn passes the breaker, where a probe is taken now, and tells the router
// how much time is left where that is less than it knows of. true: the request was answered
// instead.
func (vm *VM) sendOn(s *stream, now int64) (refused bool) {
	v, r := s.visit, s.route
	left := v.budget
	if v.waited {
		// It is sent on now, for whatever comes of it.
		vm.admitted++
		s.seq, s.sent = vm.admitted, now
		if epoch := vm.epoch.read(admitEpoch); epoch != vm.admission || vm.stale {
			vm.refresh(epoch)
		}
		if left != unlimited {
			left -= max(now-s.start, 0)
		}
	}
	if left <= 0 {
		if v.pool == nil || v.byCaller {
			vm.refuseDeadline(s)
			return true
		}
		v.pool.timedOut++
		vm.refuseWait(s)
		return true
	}
	if !s.ticketed && vm.passBreaker(s, now) {
		return true
	}
	if r.keyHeader != "" {
		vm.stampKey(r)
	}
	if left == unlimited {
		return false
	}
	ours, call := left, r.grpc && vm.isGRPC()
	if call {
		ours -= min(leadNS, left/leadShare)
	}
	if allowed := r.allowed(); allowed <= 0 || deadline.Millis(ours) < deadline.Millis(allowed) {
		vm.scratch = deadline.AppendMillis(vm.scratch[:0], ours)
		vm.host.SetRequestHeader(headerTimeout, vm.scratch)
	}
	if call {
		vm.scratch = deadline.AppendGRPC(vm.scratch[:0], left)
		vm.host.SetRequestHeader(headerGRPCTimeout, vm.scratch)
	}
	return false
}

// isGRPC goes by Envoy's idea of gRPC, which gRPC-Web is not: its callers get
// answers in HTTP.
func (vm *VM) isGRPC() bool {
	const media = "application/grpc"
	kind, _ := vm.host.RequestHeader(headerType)
	return string(kind) == media || strings.HasPrefix(string(kind), media+"+")
}

func (vm *VM) refuseDeadline(s *stream) {
	s.refused = contract.Deadline
	vm.refuse(problem.Deadline, "the caller's deadline for "+s.route.service+"/"+s.route.name+" has passed", 0)
}

// cut reports whether a timeout was of the caller's making: its deadline left
// less time than the policy gives.
func (v *visit) cut(o contract.Outcome, took int64) bool {
	return o == contract.Timeout && v.byCaller && took >= v.budget-cutNS
}

// visit makes the stream one that is looked after.
func (vm *VM) visit(s *stream) *visit {
	if n := len(vm.visits); n > 0 {
		s.visit, vm.visits = vm.visits[n-1], vm.visits[:n-1]
	} else {
		s.visit = &visit{}
	}
	*s.visit = visit{id: s.id}
	return s.visit
}

// visitOf finds a stream's visit, nil where it has none.
func (vm *VM) visitOf(id uint32) *visit {
	if s := vm.streams.get(id); s != nil {
		return s.visit
	}
	return nil
}

// endVisit gives back all that the stream has, at its end.
func (vm *VM) endVisit(v *visit, now int64) {
	vm.leave(v, now)
	if len(vm.visits) < maxVisits {
		vm.visits = append(vm.visits, v)
	}
}
