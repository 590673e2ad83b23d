package host

import (
	"strconv"
	"time"
)

// Call is a request that a plugin sends by proxy_http_call.
type Call struct {
	At       time.Time
	Kind     Kind // the kind of VM that calls, and which worker
	Worker   int
	Cluster  string
	Headers  Headers // with :method, :path, :authority
	Body     []byte
	Trailers Headers
	Timeout  time.Duration // 0 means none
}

// Answer is what comes back for a Call. The zero value is refused: a
// synthetic 503, as Envoy's async client makes it.
type Answer struct {
	Status   int // 0: connection refused
	Headers  Headers
	Body     []byte
	Trailers Headers
	Delay    time.Duration // virtual time until the answer; beyond Call.Timeout it is a synthetic 504
	Hang     bool          // never, until the timeout
	Reset    bool          // the stream breaks in mid-answer: a callback without headers
}

// CallHandler answers calls to one cluster. It runs during the guest's
// callback, so it must not touch the Host.
type CallHandler func(Call) Answer

type pendingCall struct {
	cancelled bool
}

func (v *vm) proxyHTTPCall(a []uint64) status {
	cluster, ok := v.bytes(a[0], a[1])
	pairs, ok2 := v.bytes(a[2], a[3])
	body, ok3 := v.bytes(a[4], a[5])
	trailers, ok4 := v.bytes(a[6], a[7])
	if !ok || !ok2 || !ok3 || !ok4 || !v.put32(a[9], 0) {
		return statusInvalidMemory
	}
	if int32(uint32(a[8])) < 0 {
		return statusBadArgument
	}
	handler := v.h.cfg.Clusters[string(cluster)]
	if handler == nil {
		return statusBadArgument // no such cluster: no callback either
	}
	call := Call{
		At: v.h.now(), Kind: v.kind, Cluster: string(cluster), Headers: parsePairs(pairs), Body: body,
		Trailers: parsePairs(trailers), Timeout: time.Duration(uint32(a[8])) * time.Millisecond,
	}
	if v.thread != nil {
		call.Worker = v.thread.index
	}
	for _, must := range []string{":path", ":method", ":authority"} {
		if !call.Headers.Has(must) {
			return statusBadArgument
		}
	}
	if len(body) > 0 {
		call.Headers = call.Headers.replaced("content-length", strconv.Itoa(len(body)))
	}
	v.nextCall += 4
	token := v.nextCall
	root := v.effectiveContext().root() // a stream's call is its root's: the answer goes there
	pending := &pendingCall{}
	root.calls[token] = pending
	v.h.stats.callsSent.Add(1)
	answer, after := synthesize(handler(call), call.Timeout)
	if after >= 0 {
		v.h.at(v.h.now().Add(after), func() { root.deliver(token, pending, answer) })
	}
	return ok32(v, a[9], token)
}

// synthesize makes of an Answer what the guest gets, and when; -1 is never.
func synthesize(ans Answer, timeout time.Duration) (Answer, time.Duration) {
	switch {
	case timeout > 0 && (ans.Hang || ans.Delay >= timeout):
		return localAnswer(504, "upstream request timeout"), timeout
	case ans.Hang:
		return Answer{}, -1
	case ans.Reset:
		return Answer{Reset: true}, ans.Delay
	case ans.Status == 0:
		return localAnswer(503, "upstream connect error or disconnect/reset before headers. "+
			"reset reason: remote connection failure"), ans.Delay
	}
	ans.Headers = append(H(":status", strconv.Itoa(ans.Status)), ans.Headers...)
	return ans, ans.Delay
}

func localAnswer(code int, body string) Answer {
	return Answer{Status: code, Body: []byte(body), Headers: H(":status", strconv.Itoa(code),
		"content-length", strconv.Itoa(len(body)), "content-type", "text/plain")}
}

func (c *wasmContext) deliver(token uint32, p *pendingCall, ans Answer) {
	delete(c.calls, token)
	if p.cancelled || c.destroyed || c.vm.failed != nil {
		return
	}
	if ans.Reset {
		c.vm.callback(c, "proxy_on_http_call_response", uint64(c.id), uint64(token), 0, 0, 0)
		return
	}
	c.answer = &ans
	c.vm.callback(c, "proxy_on_http_call_response", uint64(c.id), uint64(token),
		uint64(len(ans.Headers)), uint64(len(ans.Body)), uint64(len(ans.Trailers)))
	c.answer = nil
}
