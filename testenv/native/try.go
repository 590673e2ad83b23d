package native

import (
	"strconv"
	"time"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/plugin"
	"github.com/seawall-mesh/seawall/testenv/host"
	"github.com/seawall-mesh/seawall/testenv/scenario"
)

// try is one try of a request, as the plugin in the upstream chain sees it.
type try struct {
	edge   *stream
	root   *root // nil: there is none, or its VM was dead
	id     uint32
	held   bool
	answer map[string]string // headers of the answer that the callback is about
}

// Answered, Respond, After and Try make a stream a scenario.Routed.
func (s *stream) Answered() bool                    { return s.answered || s.ended }
func (s *stream) Respond(r host.Response)           { s.respond(r) }
func (s *stream) After(d time.Duration, run func()) { s.w.after(int64(d), run) }

// Try begins the next try.
func (s *stream) Try() scenario.Try {
	s.tries++
	t := &try{edge: s}
	th := s.root.vm.thread
	if !s.w.cfg.Attempts {
		return t
	}
	root := th.attempt
	if root.vm.dead {
		s.fail() // the request's own is, too
		return t
	}
	v := root.vm
	v.nextID++
	t.root, t.id = root, v.nextID
	v.tries[t.id] = t
	v.callTry(t, func() { t.held = v.plugin.RequestHeaders(t.id) })
	t.held = t.held && !s.answered
	return t
}

// Held reports whether the plugin holds it.
func (t *try) Held() bool { return t.held }

// Header is one of the request's.
func (t *try) Header(name string) string { return t.edge.headers[name] }

// Respond shows the plugin the answer.
func (t *try) Respond(r host.Response) host.Response {
	if t.root == nil {
		return r
	}
	v := t.root.vm
	if v.dead {
		t.edge.fail()
		return r
	}
	t.answer = map[string]string{":status": strconv.Itoa(r.Code)}
	for _, h := range r.Headers {
		t.answer[h.Name] = h.Value
	}
	v.callTry(t, func() { v.plugin.ResponseHeaders(t.id) })
	r.Code, _ = strconv.Atoi(t.answer[":status"])
	r.Headers = nil
	for name, value := range t.answer {
		if name != ":status" {
			r.Headers = append(r.Headers, host.Header{Name: name, Value: value})
		}
	}
	t.answer = nil
	return r
}

// Done ends it.
func (t *try) Done(failure string) {
	if t.root == nil {
		return
	}
	t.edge.failure = failure
	v := t.root.vm
	v.callTry(t, func() { v.plugin.StreamDone(t.id) })
	delete(v.tries, t.id)
}

func (v *vm) callTry(t *try, run func()) {
	v.try = t
	v.call(t.root, nil, run)
	v.try = nil
}

// openAttempt makes the context of the upstream chain's plugin.
func (v *vm) openAttempt() *root { return v.open([]byte(contract.AttemptConfig)) }

// SetProperty leaves something on the request.
func (v *vm) SetProperty(name string, value []byte) {
	if v.stream != nil {
		v.stream.state[name] = append([]byte(nil), value...)
	}
}

// ResponseHeader is a header of the answer that the callback is about.
func (v *vm) ResponseHeader(name string) ([]byte, bool) {
	if v.try == nil || v.try.answer == nil {
		return nil, false
	}
	value, ok := v.try.answer[name]
	return []byte(value), ok
}

// SetResponseHeader replaces one.
func (v *vm) SetResponseHeader(name string, value []byte) {
	if v.try != nil && v.try.answer != nil {
		v.try.answer[name] = string(value)
	}
}

var _ plugin.Host = (*vm)(nil)
