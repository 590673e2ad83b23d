package native

import (
	"strconv"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/plugin"
	"github.com/seawall-mesh/seawall/testenv/host"
	"github.com/seawall-mesh/seawall/testenv/scenario"
)

// timeoutHeader is the router's: how long the upstream may take, in ms.
const timeoutHeader = "x-envoy-upstream-rq-timeout-ms"

// stream is a request on its way.
type stream struct {
	w        *World
	root     *root // nil: the VM was dead
	id       uint32
	req      scenario.Request
	headers  map[string]string
	trailers map[string]string
	started  int64
	timeout  int64 // ms that the plugin gave the upstream, 0: none

	upstream, answered, failed, ended bool

	state   map[string][]byte // what plugins have left on the request
	tries   int
	failure string           // why the last try got no connection
	router  *scenario.Router // nil: nobody plays it, or the request has not got there

	code    int
	flags   uint64
	details string
	grpc    int64 // -1: inferred
	backend int64 // -1: nothing came
	reply   scenario.Reply
}

// Send starts a request on a worker. A dead VM is replaced first, where the
// back-off allows it.
func (w *World) Send(worker int, r scenario.Request) (scenario.Exchange, error) {
	t := w.threads[worker+1]
	s := &stream{
		w: w, req: r, headers: map[string]string{"x-request-id": "native", ":method": r.Method}, started: w.now, grpc: -1, backend: -1,
		state: map[string][]byte{},
	}
	if r.GRPC {
		s.headers["content-type"] = "application/grpc"
	}
	if r.ID != "" {
		s.headers["x-request-id"] = r.ID
	}
	for _, h := range r.Headers {
		s.headers[h.Key] = h.Value
	}
	if t.vm.dead {
		if w.now-t.lastLoad < int64(time.Second)+w.rng.Int64N(int64(time.Second/2)) {
			s.fail()
			return s, nil
		}
		if err := t.load(t.plan); err != nil {
			return nil, err
		}
	}
	v := t.vm
	v.nextID++
	s.root, s.id = t.current, v.nextID
	s.root.refs++
	v.streams[s.id] = s
	paused := false
	v.call(s.root, s, func() { paused = v.plugin.RequestHeaders(s.id) })
	if !paused {
		s.forward()
	}
	return s, nil
}

// forward hands the request to the router, and starts the time that the plugin
// gives it.
func (s *stream) forward() {
	if s.upstream || s.answered {
		return
	}
	s.upstream = true
	if ms, ok := parseInt(s.headers[timeoutHeader]); ok {
		delete(s.headers, timeoutHeader)
		if s.timeout = ms; ms > 0 {
			s.w.after(ms*1e6, func() { s.respond(host.RouteTimeout) })
		}
	}
	if s.req.Tried {
		s.router = scenario.Route(s, s.req.Retry)
	}
}

// fail is what becomes of streams of a dead VM.
func (s *stream) fail() {
	if s.answered || s.ended {
		return
	}
	s.answered, s.failed, s.code = true, true, 503
	s.reply = scenario.Reply{Status: 503, Note: "(vm dead)", Upstream: s.upstream}
}

// respond is the router's answer.
func (s *stream) respond(r host.Response) {
	if s.answered || s.ended {
		return
	}
	if s.root.vm.dead {
		s.fail()
		return
	}
	s.answered, s.code, s.flags, s.details = true, r.Code, r.Flags, r.Details
	if r.Details == "" {
		s.details = "via_upstream"
	}
	s.backend = s.w.now - s.started
	if status := r.Trailers.Get("grpc-status"); status != "" {
		s.trailers = map[string]string{"grpc-status": status}
		s.root.vm.call(s.root, s, func() { s.root.vm.plugin.ResponseTrailers(s.id) })
	}
	s.reply = scenario.Reply{Status: r.Code, Upstream: true, RetryAfter: r.Headers.Get("retry-after")}
}

// local is the plugin's own answer.
func (s *stream) local(r plugin.Response) {
	if s.answered || s.ended {
		return
	}
	s.answered, s.code, s.flags, s.details = true, r.Status, 0, r.Details
	s.reply = scenario.Reply{Status: r.Status, Upstream: s.upstream}
	for _, h := range r.Headers {
		switch h[0] {
		case "x-seawall-decision":
			s.reply.Decision = h[1]
		case "retry-after":
			s.reply.RetryAfter = h[1]
		}
	}
	if strings.HasPrefix(s.headers["content-type"], "application/grpc") {
		s.grpc = int64(r.GRPC)
		if r.GRPC < 0 {
			s.grpc = grpcOfHTTP(r.Status)
		}
		s.code, s.reply.Status, s.reply.GRPCStatus = 200, 200, strconv.FormatInt(s.grpc, 10)
	}
}

// End lets the upstream answer, if it was called, and the stream end.
func (s *stream) End(answer string, latency time.Duration) (scenario.Reply, error) {
	if s.ended {
		return s.reply, nil
	}
	if answer == "abort" && s.State() == "waiting" {
		s.w.advance(s.w.now + int64(latency))
	}
	for waited := time.Duration(0); answer != "abort" && s.held() && waited < waitLimit; waited += waitStep {
		s.pass(waitStep)
	}
	if answer == "abort" && s.held() {
		s.leave()
	}
	if s.router != nil {
		if err := s.router.Play(answer, latency, s.pass, s.leave); err != nil {
			return scenario.Reply{}, err
		}
		if s.answered {
			s.router.End()
		}
	} else if s.upstream && !s.answered {
		if latency > 0 {
			s.w.advance(s.w.now + int64(latency))
		}
		resp, abort, err := scenario.Response(answer)
		if err != nil {
			return scenario.Reply{}, err
		}
		if !abort {
			s.respond(resp)
		} else if !s.answered {
			s.leave()
			s.reply = scenario.Reply{Upstream: true}
		}
	}
	s.ended = true
	s.w.countEnd(s.code, s.flags)
	if s.root != nil {
		v := s.root.vm
		v.call(s.root, s, func() { v.plugin.StreamDone(s.id) })
		delete(v.streams, s.id)
		s.root.release()
	}
	if s.router != nil {
		s.router.End() // of a client that left, the edge hears first
	}
	s.router.Report(&s.reply, s.req)
	return s.reply, nil
}

func (s *stream) pass(d time.Duration) { s.w.advance(s.w.now + int64(d)) }

// leave is the client's connection closing.
func (s *stream) leave() {
	s.flags, s.details = host.FlagDownstreamDisconnect, "downstream_remote_disconnect"
}

// held reports whether the edge holds the request.
func (s *stream) held() bool { return !s.answered && !s.upstream }

// How long End waits for a request that the plugin holds, and in which steps.
const (
	waitStep  = 10 * time.Millisecond
	waitLimit = 10 * time.Minute
)

// State says where the request is.
func (s *stream) State() string {
	switch {
	case s.answered:
		return "answered"
	case s.upstream && (s.router == nil || s.router.Upstream()):
		return "upstream"
	}
	return "waiting"
}

// Sent is a header of the request.
func (s *stream) Sent(name string) string {
	if name == timeoutHeader && s.timeout > 0 { // the router takes it away
		return strconv.FormatInt(s.timeout, 10)
	}
	return s.headers[name]
}

// property is what Envoy says of a stream at its start and end.
func (s *stream) property(path string) ([]byte, bool) {
	if value, ok := s.state[path]; ok {
		return value, true
	}
	switch path {
	case "upstream\x00request_attempt_count":
		return number(int64(s.tries)), true
	case "upstream\x00address":
		return []byte("127.0.0.1:9001"), s.tries > 0
	case "upstream\x00transport_failure_reason":
		return []byte(s.failure), s.failure != ""
	case "xds\x00route_name":
		return []byte(s.req.Route), !s.req.NoRoute
	case "response\x00code":
		return number(int64(s.code)), s.code != 0
	case "response\x00flags":
		return number(int64(s.flags)), true
	case "response\x00code_details":
		return []byte(s.details), s.details != ""
	case "metadata\x00filter_metadata\x00" + contract.GRPCStatusNamespace + "\x00" + contract.GRPCStatusKey:
		return strconv.AppendInt(nil, s.grpc, 10), s.grpc >= 0
	case "response\x00backend_latency":
		return number(s.backend), s.backend >= 0
	case "request\x00duration":
		return number(s.w.now - s.started), true
	}
	return nil, false
}
