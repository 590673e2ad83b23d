package plugin

import (
	"slices"
	"strconv"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine"
	"github.com/seawall-mesh/seawall/filter/engine/breaker"
	"github.com/seawall-mesh/seawall/filter/engine/chaos"
)

// The attempt role: the same module in the upstream chain of a cluster, in the
// same VM as the edge role. It sees each try of a request as a stream of its
// own, and finds the edge's by a mark that the edge leaves on what both see of
// the request (Envoy's filter state), which clients cannot write.
//
// The first try rides on the edge's admission. A later one does its own; so a
// breaker that the tries before have opened ends the request, and the answer of
// an upstream filter is not retried. What a try says to the breaker is settled
// when its answer fails, or when the next try shows that it has failed; what is
// open in the end the edge settles, by how the request ended.

const (
	propMark    = "seawall_stream"
	propAttempt = "upstream\x00request_attempt_count"
	// propUpstream is there once an endpoint is chosen, which is before a try and
	// after the edge. (The count of tries is there always, as 0.)
	propUpstream = "upstream\x00address"
	propFailure  = "upstream\x00transport_failure_reason"

	headerStatus     = ":status"
	headerRetryAfter = "retry-after"
	// headerLastWord on an answer keeps the router from trying again.
	headerLastWord = "x-envoy-ratelimited"

	markLen      = 12
	maxFreeTries = 1024 // kept to be used again
)

// tries is what is remembered of a request's tries.
type tries struct {
	n       uint32 // that were sent on
	current uint32 // the context of the one that is out, 0: it is over
	began   int64  // when that was
	ended   int64  // when it was seen to be over, 0: it was not
	status  uint16 // its answer's, 0: none was seen
	refused bool   // no connection came about
	settled bool   // the breaker has heard of it

	fault    chaos.Decision
	injected bool // a fault was done to one of them
}

// heldTry is a try that a fault delays.
type heldTry struct {
	id  uint32
	due int64
}

// attempting reports whether this VM is in an upstream chain too.
func (vm *VM) attempting() bool { return len(vm.attemptRoots) > 0 }

// mark leaves the edge stream's number for its tries. The VM's name is in it:
// while a VM takes another's place, the two are not to be confused.
func (vm *VM) mark(id uint32) {
	var m [markLen]byte
	put64(m[:], vm.holder(id).Owner)
	for i := range 4 {
		m[8+i] = byte(id >> (8 * i))
	}
	vm.host.SetProperty(propMark, m[:])
}

// marked finds the edge stream whose try the callback is about. A try whose
// edge stream is another VM's, or came before there was an attempt role, has 0.
func (vm *VM) marked() (edge uint32, isTry bool) {
	m, ok := vm.host.Property(propMark)
	if !ok {
		_, isTry = vm.host.Property(propUpstream)
		return 0, isTry
	}
	if len(m) == markLen && get64(m) == vm.holder(0).Owner {
		edge = uint32(m[8]) | uint32(m[9])<<8 | uint32(m[10])<<16 | uint32(m[11])<<24
	}
	return edge, true
}

// beginTry takes a new try of an edge stream. true pauses it: it was answered,
// or a fault delays it.
func (vm *VM) beginTry(id, edge uint32) (pause bool) {
	vm.edges[id] = edge
	s := vm.streams.get(edge)
	if s == nil {
		return false
	}
	if s.tries == nil {
		s.tries = vm.newTries()
	}
	t := s.tries
	if t.n > 0 || vm.plan.faulty {
		// A healthy first try does without.
		now := vm.host.Now()
		vm.routeOf(s)
		if t.n > 0 && vm.again(s, now) {
			return true
		}
		t.began = now
	} else {
		t.began = max(s.start, s.sent)
	}
	t.n++
	t.current, t.ended, t.status, t.refused, t.settled, t.fault = id, 0, 0, false, false, chaos.Decision{}
	return vm.plan.faulty && s.route != nil && vm.delay(s, id)
}

func (vm *VM) newTries() *tries {
	n := len(vm.freeTries)
	if n == 0 {
		return &tries{}
	}
	t := vm.freeTries[n-1]
	vm.freeTries = vm.freeTries[:n-1]
	*t = tries{}
	return t
}

// routeOf reads the stream's route where that was not needed before.
func (vm *VM) routeOf(s *stream) {
	if !s.routed {
		name, _ := vm.host.Property(propRouteName)
		s.route, s.routed = vm.find(name), true
	}
}

// again settles the try before and admits the next one. true: it was refused.
func (vm *VM) again(s *stream, now int64) (refused bool) {
	r := s.route
	if r == nil || !r.attempts {
		return false
	}
	vm.settleFailed(s, now)
	vm.admitted++
	s.seq, s.sent, s.ticket, s.ticketed = vm.admitted, now, engine.Ticket{}, false
	if epoch := vm.epoch.read(admitEpoch); epoch != vm.admission || vm.stale {
		vm.refresh(epoch)
	}
	return vm.passBreaker(s, now)
}

// settleFailed settles a try that the router has given up: there is another one.
func (vm *VM) settleFailed(s *stream, now int64) {
	t := s.tries
	if t.settled || s.route.cell == nil {
		return
	}
	t.settled = true
	if t.injected && t.fault.Hit {
		vm.settleTry(s, breaker.Result{}, now)
		return
	}
	outcome := t.unseen(s.route.perTry, now)
	switch {
	case t.status >= 400:
		outcome = byStatus(t.status)
	case t.status > 0:
		outcome = contract.ServerError // over gRPC, a status of its own
	}
	vm.settleTry(s, verdict(s.route.cell, outcome, t.status, t.status > 0), now)
}

// unseen is how a try ended that no answer was seen of.
func (t *tries) unseen(perTry, now int64) contract.Outcome {
	if t.ended > 0 {
		now = t.ended
	}
	switch {
	case t.refused:
		return contract.ConnectFailure
	case perTry > 0 && now-t.began >= perTry-cutNS:
		return contract.Timeout
	}
	return contract.Reset
}

func byStatus(status uint16) contract.Outcome {
	if status >= 500 {
		return contract.ServerError
	}
	return contract.ClientError
}

// settleTry hands a try's result to the breaker.
func (vm *VM) settleTry(s *stream, result breaker.Result, now int64) {
	if t := s.tries; t.ended > 0 {
		s.sent = t.began + now - t.ended // the back-off since is not the upstream's
	}
	vm.settle(s.route.cell, s, engine.Result{Breaker: result}, now)
}

// ResponseHeaders looks at the answer to a try.
func (vm *VM) ResponseHeaders(id uint32) {
	edge, isTry := vm.edges[id]
	if !isTry {
		return // nearly always: the edge's
	}
	defer func() {
		if cause := recover(); cause != nil {
			vm.panicked("response headers", cause)
		}
	}()
	s := vm.streams.get(edge)
	if s == nil || s.tries == nil || s.tries.current != id {
		return
	}
	t := s.tries
	if t.fault.Status > 0 {
		vm.scratch = strconv.AppendUint(vm.scratch[:0], uint64(t.fault.Status), 10)
		vm.host.SetResponseHeader(headerStatus, vm.scratch)
		t.status = t.fault.Status
		return
	}
	value, _ := vm.host.ResponseHeader(headerStatus)
	if t.status = statusOf(value); t.status >= 400 {
		vm.failedAnswer(s)
	}
}

// failedAnswer settles a try whose answer says that it failed, and keeps the
// router from trying again where that is of no use.
func (vm *VM) failedAnswer(s *stream) {
	vm.routeOf(s)
	r, t := s.route, s.tries
	if r == nil || !r.attempts {
		return
	}
	now := vm.host.Now()
	t.ended = now
	last := vm.tooLate(s, now)
	if c := r.cell; c != nil && !t.fault.Hit {
		if result := verdict(c, byStatus(t.status), t.status, true); result.Verdict == breaker.Failure {
			t.settled = true
			vm.settleTry(s, result, now)
			last = last || vm.closedTo(c, now)
		}
	}
	if last {
		vm.host.SetResponseHeader(headerLastWord, []byte("true"))
	}
}

// closedTo reports whether a breaker would refuse a try now.
func (vm *VM) closedTo(c *cell, now int64) bool {
	if c.calm() {
		return false
	}
	_, decision, _ := engine.Admit(c.state, &c.params, now, 0)
	return decision.By != engine.None
}

// tooLate reports whether the answer asks for more patience than the request
// has time.
func (vm *VM) tooLate(s *stream, now int64) bool {
	if t := s.tries; t.status != 429 && t.status != 503 {
		return false
	}
	left := int64(unlimited)
	if s.visit != nil && s.visit.budget != unlimited {
		left = s.visit.budget - (now - s.start)
	} else if s.route.timeout > 0 {
		left = s.route.timeout - (now - s.start)
	}
	if left == unlimited {
		return false
	}
	value, ok := vm.host.ResponseHeader(headerRetryAfter)
	if !ok {
		return false
	}
	seconds, err := strconv.ParseUint(string(value), 10, 32)
	return err == nil && int64(seconds)*1e9 > left // a date is read by nobody, Envoy neither
}

func statusOf(b []byte) (status uint16) {
	if len(b) != 3 {
		return 0
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0
		}
		status = status*10 + uint16(c-'0')
	}
	return status
}

// endTry notes that a try is over; true: the context was the attempt role's.
func (vm *VM) endTry(id uint32) bool {
	edge, isTry := vm.edges[id]
	if !isTry {
		i := slices.Index(vm.attemptRoots, id)
		if i >= 0 {
			vm.attemptRoots = slices.Delete(vm.attemptRoots, i, i+1)
		}
		return i >= 0
	}
	delete(vm.edges, id)
	vm.unhold(id)
	if edge == 0 {
		return true
	}
	s := vm.streams.get(edge)
	if s == nil || s.tries == nil || s.tries.current != id {
		return true
	}
	t := s.tries
	t.current = 0
	if t.status == 0 {
		t.ended = vm.host.Now()
		reason, _ := vm.host.Property(propFailure)
		t.refused = len(reason) > 0
	}
	return true
}

// endTries settles what is open of a request's tries, at its end, and gives the
// verdict that remains for the edge: of the last try, by how the request ended.
func endTries(s *stream, result breaker.Result, outcome contract.Outcome, now int64) breaker.Result {
	t := s.tries
	switch {
	case t.settled || t.injected && t.fault.Hit:
		return breaker.Result{}
	case outcome == contract.Aborted && t.current == 0 && t.ended > 0 && t.status == 0:
		// The client left between two tries.
		o := t.unseen(s.route.perTry, now)
		return verdict(s.route.cell, o, 0, false)
	}
	return result
}

// injected is what a request is counted as: one that chaos has touched is kept
// out of everything else.
func (vm *VM) injected(s *stream, o contract.Outcome) contract.Outcome {
	if s.tries == nil {
		return o
	}
	if len(vm.freeTries) < maxFreeTries {
		vm.freeTries = append(vm.freeTries, s.tries) // whoever takes it clears it
	}
	if s.tries.injected && !o.Refusal() {
		return contract.Injected
	}
	return o
}

// attempts is how many tries of a request the upstream was sent.
func (vm *VM) attempts(s *stream) uint64 {
	switch {
	case s.tries != nil:
		return uint64(s.tries.n)
	case s.refused.Refusal() || s.route.name == "" || (s.visit != nil && s.visit.waiting):
		return 0
	case s.route.retries:
		if n, ok := integer(vm.host.Property(propAttempt)); ok {
			return uint64(max(n, 0))
		}
	}
	return 1
}

// Faults.

// delay decides what chaos does to a try. true: it is held for a while.
func (vm *VM) delay(s *stream, id uint32) (hold bool) {
	t := s.tries
	var request []byte
	for i := range s.route.faults {
		f := &s.route.faults[i]
		if t.began >= f.NotAfterNS {
			continue
		}
		if request == nil {
			request, _ = vm.host.RequestHeader(headerRequestID)
		}
		if t.fault = chaos.Decide(f, t.began, request, t.n); t.fault.Hit {
			t.injected = true
			break
		}
	}
	if t.fault.DelayNS <= 0 {
		return false
	}
	if len(vm.heldTries) == 0 {
		vm.host.SetTick(hurryMS) // of the attempt role's own plan context
	}
	vm.heldTries = append(vm.heldTries, heldTry{id: id, due: t.began + t.fault.DelayNS})
	return true
}

func (vm *VM) unhold(id uint32) {
	if len(vm.heldTries) > 0 {
		vm.heldTries = slices.DeleteFunc(vm.heldTries, func(h heldTry) bool { return h.id == id })
	}
}

// tickAttempts sends on the tries whose delay is over, on a tick of the attempt
// role's context.
func (vm *VM) tickAttempts(root uint32) {
	now := vm.host.Now()
	vm.heldTries = slices.DeleteFunc(vm.heldTries, func(h heldTry) bool {
		if now < h.due {
			return false
		}
		if vm.host.Enter(h.id) {
			vm.host.Resume()
		}
		return true
	})
	if len(vm.heldTries) == 0 && vm.host.Enter(root) {
		vm.host.SetTick(0)
	}
}

// faultsOf makes a route's faults ready.
func faultsOf(from []contract.Fault) []chaos.Fault {
	var out []chaos.Fault
	for i := range from {
		f := &from[i]
		out = append(out, chaos.Fault{
			Seed: chaos.Hash(0, []byte(f.Experiment)), PPM: f.PPM, NotAfterNS: f.NotAfterNS, Tries: f.Tries,
			LatencyMinNS: f.LatencyMinNS, LatencyMaxNS: f.LatencyMaxNS, Status: f.Status,
		})
	}
	return out
}
