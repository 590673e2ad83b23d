package host

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// Response flags of Envoy (CoreResponseFlag) that tests need.
const (
	FlagNoHealthyUpstream         uint64 = 1 << 1
	FlagUpstreamRequestTimeout    uint64 = 1 << 2
	FlagLocalReset                uint64 = 1 << 3
	FlagUpstreamRemoteReset       uint64 = 1 << 4
	FlagUpstreamConnectionFailure uint64 = 1 << 5
	FlagUpstreamConnectionClosed  uint64 = 1 << 6
	FlagUpstreamOverflow          uint64 = 1 << 7
	FlagNoRouteFound              uint64 = 1 << 8
	FlagDownstreamDisconnect      uint64 = 1 << 14
	FlagUpstreamRetryLimit        uint64 = 1 << 15
	FlagStreamIdleTimeout         uint64 = 1 << 16
	FlagUpstreamProtocolError     uint64 = 1 << 23
	FlagDownstreamRemoteReset     uint64 = 1 << 28
)

// Request is what a client sends, as the filter chain sees it.
type Request struct {
	Method  string // GET
	Host    string // edge.test
	Path    string // "/"
	Headers Headers
	Body    []byte
	// BodyOpen: more of the body is to come than Body, and never does.
	BodyOpen bool

	Route   string // xds.route_name: what RDS calls the matched route; "" is a route without a name
	NoRoute bool   // no route at all: the property is absent
	Cluster string // xds.cluster_name; "" is absent

	Timeout time.Duration // of the route, from when the request goes on to the router; 0 is none

	// Forwarded, if any, is the router: it gets the request that goes on to it.
	Forwarded func(*Stream)
}

// Action is what became of a request in the filter.
type Action string

// The actions.
const (
	Continued Action = "continue" // goes on to the router
	Replied   Action = "reply"    // the filter answered it
	Paused    Action = "paused"   // held until the filter resumes or answers it
	Failed    Action = "failed"   // the VM is dead: Envoy answers 503 with an empty body
	Bypassed  Action = "bypassed" // the filter is not there: the request passes unseen
	WasReset  Action = "reset"    // the filter closed the stream
)

// LocalReply is what a guest passed to proxy_send_local_response.
type LocalReply struct {
	Status     int
	Headers    Headers
	Body       []byte
	GRPCStatus int32 // -1: from the HTTP status
	Details    string
}

// Response is how the request ends behind the filter: an upstream's answer, or
// Envoy's own with its flags and details.
type Response struct {
	Code     int // 0 is 200
	Headers  Headers
	Body     []byte
	Trailers Headers
	Flags    uint64
	Details  string // response.code_details; "" is via_upstream for flags 0

	After            time.Duration // Exchange lets so much virtual time pass before
	Duration         time.Duration // request.duration; 0 is the time that has passed
	TransportFailure string        // upstream.transport_failure_reason
}

// The failures as Envoy 1.40 reports them (FACTS, filter 7).
var (
	ConnectRefused = Response{
		Code: 503, Flags: FlagUpstreamConnectionFailure, TransportFailure: "delayed connect error: Connection refused",
		Details: "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}",
	}
	UpstreamReset = Response{
		Code: 503, Flags: FlagUpstreamConnectionClosed,
		Details: "upstream_reset_before_response_started{connection_termination}",
	}
	MidBodyReset = Response{
		Code: 200, Flags: FlagUpstreamProtocolError,
		Details: "upstream_reset_after_response_started{protocol_error}",
	}
	RouteTimeout      = Response{Code: 504, Flags: FlagUpstreamRequestTimeout, Details: "response_timeout"}
	NoHealthyUpstream = Response{Code: 503, Flags: FlagNoHealthyUpstream, Details: "no_healthy_upstream"}
	Overflow          = Response{
		Code: 503, Flags: FlagUpstreamOverflow, Details: "upstream_reset_before_response_started{overflow}",
	}
	DirectNotFound = Response{Code: 404, Details: "direct_response"}
	NoRoute        = Response{Code: 404, Flags: FlagNoRouteFound, Details: "route_not_found"}
)

// Result is what the client got.
type Result struct {
	Action   Action
	Status   int // 0: nothing
	Headers  Headers
	Body     []byte
	Upstream bool // the request went on to the router
}

// Stream is one request in one worker's VM.
type Stream struct {
	w      *Worker
	c      *wasmContext // nil when bypassed or failed at once
	handle *handle
	req    Request
	action Action
	reply  *LocalReply

	startedAt                    time.Time
	reqHeaders, respHeaders      Headers
	respTrailers                 Headers
	reqBody, respBody            []byte
	state                        map[string][]byte // filter state set by the guest
	reqVisible, respVisible      bool
	bodyVisible, respBodyVisible bool
	trailersVisible              bool
	logging, hideFlags           bool
	upstream, respPaused         bool
	ended, failSent, responded   bool
	bodyGiven                    bool
	timeout                      time.Duration
	edge                         *Stream // of a try's own stream: its request's
	tries                        int

	code             int
	flags            uint64
	details          *string
	duration         time.Duration // -1 until it is over
	backend          time.Duration
	transportFailure string
}

// Request starts a stream in the worker's VM, and gives the filter its headers
// and body. A dead VM is reloaded first, where the back-off allows.
func (w *Worker) Request(r Request) *Stream {
	s := &Stream{w: w, req: r, startedAt: w.t.h.now(), duration: -1, backend: -1, state: map[string][]byte{}, reqBody: r.Body}
	s.reqHeaders = s.requestHeaders()
	hd, ok := w.t.forStream()
	switch {
	case hd == nil:
		s.action = Bypassed
		return s
	case !ok:
		s.fail()
		return s
	}
	hd.refs++
	s.handle = hd
	s.c = hd.vm.newContext(hd.root, hd.plugin)
	s.c.stream = s
	s.c.onCreate()
	s.requestHeadersPhase()
	return s
}

func (s *Stream) requestHeaders() Headers {
	def := func(v, d string) string {
		if v == "" {
			return d
		}
		return v
	}
	hs := H(":authority", def(s.req.Host, "edge.test"), ":path", def(s.req.Path, "/"),
		":method", def(s.req.Method, "GET"), ":scheme", "http")
	for _, h := range s.req.Headers {
		hs = hs.with(h.Name, h.Value)
	}
	if !hs.Has("x-request-id") {
		hs = hs.with("x-request-id", s.w.t.h.requestID())
	}
	return hs
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func (s *Stream) requestHeadersPhase() {
	eos := uint64(1)
	if len(s.reqBody) > 0 || s.req.BodyOpen {
		eos = 0
	}
	s.reqVisible = true
	res, stopped, ok := s.c.vm.callback(s.c, "proxy_on_request_headers", uint64(s.c.id), uint64(len(s.reqHeaders)), eos)
	switch {
	case !ok:
		s.fail()
		return
	case s.action != "": // answered, resumed or reset by what the callback put off
	case stopped || res != 0:
		s.action = Paused
	default:
		s.action = Continued
	}
	if s.action == Continued {
		s.reqVisible = false
		s.requestBodyPhase()
	} else if s.action == Paused && !stopped && s.w.t.h.cfg.HeadersStopIteration {
		s.requestBodyPhase()
	}
}

// requestBodyPhase gives the filter the body, once, and lets the request go on
// unless the filter stops it there: whoever does not stop the body lets held
// headers go as well, and a module without the callback does not.
func (s *Stream) requestBodyPhase() {
	v := s.c.vm
	stop := false
	if len(s.reqBody) > 0 && !s.bodyGiven && v.has("proxy_on_request_body") {
		s.bodyGiven = true
		s.bodyVisible = true
		res, stopped, ok := v.callback(s.c, "proxy_on_request_body", uint64(s.c.id), uint64(len(s.reqBody)), flag(!s.req.BodyOpen))
		s.bodyVisible = false
		if !ok {
			s.fail()
			return
		}
		stop = stopped || res != 0
	}
	switch {
	case s.action == Continued:
		s.forward()
	case s.action == Paused && !stop && len(s.reqBody) > 0:
		s.resumeRequest()
	}
}

// forward hands the request to the router, which starts the route's time: that
// of the route, or what the filter has put into x-envoy-upstream-rq-timeout-ms.
func (s *Stream) forward() {
	if s.upstream {
		return
	}
	s.upstream, s.timeout = true, s.req.Timeout
	if v, ok := s.reqHeaders.lookup(timeoutHeader); ok {
		if ms, err := strconv.ParseUint(v, 10, 63); err == nil {
			s.timeout = time.Duration(ms) * time.Millisecond
		}
		s.reqHeaders = s.reqHeaders.without(timeoutHeader)
	}
	if s.timeout > 0 {
		s.w.t.h.at(s.w.t.h.now().Add(s.timeout), func() { s.Respond(RouteTimeout) })
	}
	if s.req.Forwarded != nil {
		s.req.Forwarded(s)
	}
}

// timeoutHeader is the router's: milliseconds, and 0 for none. Clients cannot
// send it, the edge drops theirs.
const timeoutHeader = "x-envoy-upstream-rq-timeout-ms"

// Timeout is the time that the router gives the upstream, 0 for any.
func (s *Stream) Timeout() time.Duration { return s.timeout }

// Action is what became of the request so far.
func (s *Stream) Action() Action { return s.action }

// Answered reports whether the client has its answer: the upstream's, the
// filter's or Envoy's own.
func (s *Stream) Answered() bool {
	return s.responded && !s.respPaused || s.reply != nil || s.failSent || s.action == WasReset
}

// LocalReply is what the filter answered itself, nil where it did not.
func (s *Stream) LocalReply() *LocalReply { return s.reply }

// RequestHeaders are the headers as the filter left them for the upstream.
func (s *Stream) RequestHeaders() Headers { return s.reqHeaders.clone() }

func (s *Stream) resumeRequest() {
	if s.edge != nil {
		s.action = Continued
		return
	}
	if s.action == Paused || s.action == "" {
		s.action, s.reqVisible = Continued, false
		s.requestBodyPhase()
	}
}

func (s *Stream) resumeResponse() { s.respPaused = false }

func (s *Stream) reset() {
	if s.reply == nil {
		s.action, s.code = WasReset, 0
	}
}

// localReply makes the response as Envoy's prepareLocalReply does; a second
// one for the same stream is not sent.
func (s *Stream) localReply(r *LocalReply) {
	if s.edge != nil {
		s.action, s.reqVisible = Replied, false
		s.edge.localReply(r)
		return
	}
	if s.ended || s.failSent || s.reply != nil {
		return
	}
	s.reply, s.action = r, Replied
	s.reqVisible, s.respPaused = false, false
	hs := append(H(":status", strconv.Itoa(r.Status)), r.Headers...)
	s.code, s.flags = r.Status, 0
	s.details = &r.Details // "" and not absent
	s.respBody, s.respTrailers = r.Body, nil
	if strings.HasPrefix(s.reqHeaders.Get("content-type"), "application/grpc") {
		grpc := r.GRPCStatus
		if grpc < 0 {
			grpc = grpcOfHTTP(r.Status)
		}
		hs = hs.replaced(":status", "200").replaced("content-type", "application/grpc").without("content-length")
		if !hs.Has("grpc-status") {
			hs = hs.with("grpc-status", strconv.Itoa(int(grpc)))
		}
		if len(r.Body) > 0 {
			hs = hs.with("grpc-message", percentEncode(string(r.Body)))
		}
		s.respBody, s.code = nil, 200
	} else if len(r.Body) > 0 {
		hs = hs.replaced("content-length", strconv.Itoa(len(r.Body)))
		if !hs.Has("content-type") {
			hs = hs.with("content-type", "text/plain")
		}
		if s.reqHeaders.Get(":method") == "HEAD" {
			s.respBody = nil
		}
	} else {
		hs = hs.without("content-length").without("content-type")
	}
	s.respHeaders = hs
}

func percentEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= '~' || c == '%' {
			b.WriteByte('%')
			b.WriteString(strings.ToUpper(hex.EncodeToString([]byte{c})))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// fail is failStream: 503, an empty body, whatever the upstream said.
func (s *Stream) fail() {
	if s.failSent || s.reply != nil || s.ended {
		return
	}
	details := "wasm_fail_stream"
	s.failSent, s.action, s.code, s.flags, s.details = true, Failed, 503, 0, &details
	s.respHeaders, s.respTrailers, s.respBody = H(":status", "503"), nil, nil
}

// Respond gives the stream its answer. It does nothing for a stream that was
// answered already, and panics for one that is paused: no upstream could have
// answered that.
func (s *Stream) Respond(r Response) {
	if s.ended || s.responded || s.reply != nil || s.failSent || s.action == WasReset {
		return
	}
	if s.action == Paused {
		panic("host: an upstream answered a request that the filter still holds")
	}
	s.responded = true
	if r.Code == 0 {
		r.Code = 200
	}
	if r.Details == "" && r.Flags == 0 {
		r.Details = "via_upstream"
	}
	s.code, s.flags, s.transportFailure = r.Code, r.Flags, r.TransportFailure
	s.details = &r.Details
	s.backend = s.w.t.h.now().Sub(s.startedAt)
	if r.Duration > 0 {
		s.backend = r.Duration
	}
	s.respHeaders = append(H(":status", strconv.Itoa(r.Code)), r.Headers...)
	s.respBody, s.respTrailers = r.Body, r.Trailers
	if s.c == nil {
		return
	}
	if s.c.vm.failed != nil {
		s.fail()
		return
	}
	s.responsePhase()
	if s.reply == nil && !s.failSent {
		if code, err := strconv.Atoi(s.respHeaders.Get(":status")); err == nil {
			s.code = code
		}
	}
}

func (s *Stream) responsePhase() {
	v := s.c.vm
	eos := uint64(0)
	if len(s.respBody) == 0 && s.respTrailers == nil {
		eos = 1
	}
	s.respVisible = true
	res, stopped, ok := v.callback(s.c, "proxy_on_response_headers", uint64(s.c.id), uint64(len(s.respHeaders)), eos)
	s.respVisible = false
	switch {
	case !ok:
		s.fail()
	case s.reply != nil || stopped:
	case res != 0:
		s.respPaused = true
	}
	if ok && s.reply == nil && len(s.respBody) > 0 && v.has("proxy_on_response_body") {
		s.respBodyVisible = true
		_, _, ok = v.callback(s.c, "proxy_on_response_body", uint64(s.c.id), uint64(len(s.respBody)), 1)
		s.respBodyVisible = false
		if !ok {
			s.fail()
		}
	}
	if ok && s.reply == nil {
		s.trailerPhase()
	}
}

// trailerPhase shows the filter the response's trailers.
func (s *Stream) trailerPhase() {
	v := s.c.vm
	if s.respTrailers == nil || !v.has("proxy_on_response_trailers") {
		return
	}
	s.trailersVisible = true
	_, _, ok := v.callback(s.c, "proxy_on_response_trailers", uint64(s.c.id), uint64(len(s.respTrailers)))
	s.trailersVisible = false
	if !ok {
		s.fail()
	}
}

// ResponsePaused reports whether the filter holds the response.
func (s *Stream) ResponsePaused() bool { return s.respPaused }

// AbortReset is an HTTP/2 client that resets its stream before an answer: no
// code, and flags and details of its own. End with Done.
func (s *Stream) AbortReset() {
	s.Abort(true)
	if s.details != nil && s.flags == FlagDownstreamDisconnect {
		details := "http2.remote_reset"
		s.flags, s.details = FlagDownstreamRemoteReset, &details
	}
}

// Abort is the client's connection closing before an answer: no code. Envoy
// then says DownstreamConnectionTermination, or (FACTS 15) nothing:
// flagsVisible picks. End with Done.
func (s *Stream) Abort(flagsVisible bool) {
	if s.ended || s.reply != nil || s.failSent {
		return
	}
	s.code, s.respHeaders = 0, nil
	if flagsVisible {
		details := "downstream_remote_disconnect"
		s.flags, s.details = FlagDownstreamDisconnect, &details
	} else {
		s.hideFlags, s.details = true, nil
	}
}

// Done ends the stream: on_log, on_done, on_delete, once. A dead VM hears
// nothing of it. It returns what the client got.
func (s *Stream) Done() Result {
	if s.ended {
		return s.result()
	}
	if s.duration < 0 {
		s.duration = s.w.t.h.now().Sub(s.startedAt)
	}
	s.ended = true
	if s.c != nil {
		v := s.c.vm
		s.logging = true
		v.callback(s.c, "proxy_on_log", uint64(s.c.id))
		s.logging = false
		s.countEnd()
		v.callback(s.c, "proxy_on_done", uint64(s.c.id))
		v.callback(s.c, "proxy_on_delete", uint64(s.c.id))
		s.c.destroy()
		s.handle.release()
	}
	return s.result()
}

// countEnd is the listener's access log.
func (s *Stream) countEnd() {
	h := s.w.t.h
	if h.cfg.EndCounter != "" && (s.code < 200 || s.code > 399 || s.flags != 0) {
		h.metrics.count(h.cfg.EndCounter)
	}
}

func (s *Stream) result() Result {
	r := Result{Action: s.action, Status: s.code, Headers: s.respHeaders.clone(), Body: s.respBody, Upstream: s.upstream || s.action == Bypassed}
	if st, err := strconv.Atoi(s.respHeaders.Get(":status")); err == nil {
		r.Status = st
	}
	return r
}

// Exchange is a whole request: it starts, an upstream that it reaches answers
// after resp.After, and it ends. A request that is still paused is given up by
// its client.
func (w *Worker) Exchange(r Request, resp Response) Result {
	s := w.Request(r)
	if s.action == Continued || s.action == Bypassed {
		if resp.After > 0 {
			w.t.h.Advance(resp.After)
		}
		if resp.Duration > 0 {
			s.duration = resp.Duration
		}
		s.Respond(resp)
	}
	if s.action == Paused {
		s.Abort(true)
	}
	return s.Done()
}
