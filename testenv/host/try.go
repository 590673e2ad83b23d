package host

import (
	"strconv"
	"time"
)

// AttemptName is the plugin and the root_id of the upstream filter.
const AttemptName = "seawall-attempt"

// Try is one try of a request, as the module in the cluster's upstream chain
// sees it: a stream of its own, with a request and filter state that it shares
// with the other tries and with the edge's stream, and a response of its own.
// Its local replies go to the client, and to the edge's stream alone.
type Try struct {
	edge *Stream
	own  *Stream // nil: there is no upstream filter, or no VM
	over bool
}

// Try begins the next try of a request that went on to the router. A dead VM is
// reloaded first, where the back-off allows.
func (s *Stream) Try() *Try {
	t := &Try{edge: s}
	s.tries++
	hd, ok := s.w.t.forTry()
	switch {
	case hd == nil:
		return t
	case !ok:
		s.fail()
		return t
	}
	own := &Stream{
		w: s.w, req: s.req, edge: s, startedAt: s.startedAt, duration: -1, backend: -1,
		state: s.state, reqHeaders: s.reqHeaders, reqVisible: true, upstream: true,
	}
	hd.refs++
	own.handle = hd
	own.c = hd.vm.newContext(hd.root, hd.plugin)
	own.c.stream = own
	own.c.onCreate()
	t.own = own
	res, stopped, ok := hd.vm.callback(own.c, "proxy_on_request_headers", uint64(own.c.id), uint64(len(own.reqHeaders)), 1)
	switch {
	case !ok:
		s.fail()
	case own.action != "": // answered or resumed by what the callback put off
	case stopped || res != 0:
		own.action = Paused
	default:
		own.action = Continued
	}
	s.reqHeaders = own.reqHeaders
	return t
}

// Held reports whether the upstream filter holds the try.
func (t *Try) Held() bool { return t.own != nil && t.own.action == Paused }

// Headers are what the upstream sees.
func (t *Try) Headers() Headers {
	if t.own == nil {
		return t.edge.RequestHeaders()
	}
	return t.own.reqHeaders.clone()
}

// Respond shows the filter the answer to this try, and returns it as it left
// it: what the router sees. The client has none of it yet.
func (t *Try) Respond(r Response) Response {
	own := t.own
	if own == nil || t.over {
		return r
	}
	if own.c.vm.failed != nil {
		t.edge.fail()
		return r
	}
	if r.Code == 0 {
		r.Code = 200
	}
	eos := uint64(0)
	if len(r.Body) == 0 && r.Trailers == nil {
		eos = 1
	}
	own.reqVisible, own.respVisible = false, true
	own.respHeaders = append(H(":status", strconv.Itoa(r.Code)), r.Headers...)
	_, _, ok := own.c.vm.callback(own.c, "proxy_on_response_headers", uint64(own.c.id), uint64(len(own.respHeaders)), eos)
	own.respVisible = false
	if !ok {
		t.edge.fail()
		return r
	}
	r.Code, _ = strconv.Atoi(own.respHeaders.Get(":status"))
	r.Headers = own.respHeaders.without(":status")
	return r
}

// Done ends the try: on_done and on_delete, and, unlike for the edge's stream,
// no on_log. failure is upstream.transport_failure_reason, "" where a
// connection was there.
func (t *Try) Done(failure string) {
	if t.over {
		return
	}
	t.over = true
	own := t.own
	if own == nil {
		return
	}
	own.ended = true
	t.edge.transportFailure = failure
	v := own.c.vm
	v.callback(own.c, "proxy_on_done", uint64(own.c.id))
	v.callback(own.c, "proxy_on_delete", uint64(own.c.id))
	own.c.destroy()
	own.handle.release()
}

// forTry is forStream for the upstream filter, which has a back-off of its own.
// nil: there is none.
func (t *thread) forTry() (*handle, bool) {
	hd := t.attempt
	if hd == nil || hd.vm.failed == nil {
		return hd, hd != nil
	}
	h := t.h
	if h.now().Sub(t.attemptLoad) < h.cfg.ReloadBackoff+h.jitter(h.cfg.ReloadBackoff/2) {
		return hd, false
	}
	t.attemptLoad = h.now()
	next := t.load(h.bases[hd.vm.key], hd.vm.key, hd.plugin)
	if next == nil || next.vm.failed != nil {
		return hd, false
	}
	h.life.Lock()
	t.attempt = next
	h.life.Unlock()
	hd.release()
	return next, true
}

// pushAttempt puts the upstream filter into the VMs of a key.
func (h *Host) pushAttempt(b *base, key vmKey) error {
	p := &plugin{
		name: AttemptName, rootID: AttemptName, config: append([]byte(nil), h.cfg.AttemptConfig...),
		key: AttemptName + "||" + string(h.cfg.AttemptConfig),
	}
	if err := h.canary(b, key, p); err != nil {
		return err
	}
	for _, t := range h.threads() {
		if t.attempt != nil && t.attempt.vm.key == key {
			continue
		}
		old := t.attempt
		t.attempt, t.attemptLoad = t.load(b, key, p), h.now()
		if old != nil {
			old.release()
		}
	}
	return nil
}

// After runs something once so much time has passed.
func (h *Host) After(d time.Duration, run func()) { h.at(h.now().Add(d), run) }
