package scenario

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/testenv/host"
)

// HostConfig is a HostWorld's.
type HostConfig struct {
	Module  *host.Module // required
	Workers int
	Plan    []byte
	Node    string
	Seed    uint64
	Log     *slog.Logger
	// HideMetrics is a stats_matcher, see host.Config.
	HideMetrics func(string) bool
	Attempts    bool // the filter is in the upstream chain too
}

// ListenerMetadata is what the listener keeps for the filter of a response's
// headers.
func ListenerMetadata() []host.HeaderMetadata {
	return []host.HeaderMetadata{{Header: "grpc-status", Namespace: contract.GRPCStatusNamespace, Key: contract.GRPCStatusKey}}
}

// HostWorld is the filter in the wazero host, in virtual time.
type HostWorld struct {
	Host  *host.Host
	start time.Time

	stepped time.Duration // by Step, in all
	plane   ControlPlane
}

var _ World = (*HostWorld)(nil)

// NewHostWorld starts one. A plan that the filter refuses is an error that is
// host.ErrRejected.
func NewHostWorld(ctx context.Context, cfg HostConfig) (*HostWorld, error) {
	w := &HostWorld{}
	var attempt []byte
	if cfg.Attempts {
		attempt = []byte(contract.AttemptConfig)
	}
	h, err := host.New(ctx, host.Config{
		Module: cfg.Module, Workers: cfg.Workers, PluginConfig: cfg.Plan, VMConfig: []byte(cfg.Module.SHA256()),
		Node: host.Node{ID: cfg.Node}, Seed: cfg.Seed, Log: cfg.Log, HideMetrics: cfg.HideMetrics, AttemptConfig: attempt,
		EndCounter: contract.EndSignalMetric, HeaderMetadata: ListenerMetadata(),
		Clusters: map[string]host.CallHandler{TelemetryCluster: w.ingest},
	})
	if err != nil {
		return nil, err
	}
	w.Host, w.start = h, h.Now()
	return w, nil
}

func (w *HostWorld) ingest(c host.Call) host.Answer {
	if c.Headers.Get(":method") != "POST" {
		return host.Answer{Status: 404}
	}
	a := w.plane.Take(c.Headers.Get(":path"), c.Body)
	return host.Answer{Status: a.Status, Delay: a.Delay, Hang: a.Hang}
}

// Epoch is time 0 in Unix ns.
func (w *HostWorld) Epoch() int64 { return w.start.UnixNano() }

// Now is the virtual time since the start.
func (w *HostWorld) Now() time.Duration { return w.Host.Now().Sub(w.start) - w.stepped }

// Step sets the wall clock forward or back.
func (w *HostWorld) Step(by time.Duration) error {
	w.Host.SetClock(w.Host.Now().Add(by))
	w.stepped += by
	return nil
}

// Workers is how many there are.
func (w *HostWorld) Workers() int { return w.Host.Workers() }

// Until advances virtual time. Time that latencies have used up is an error.
func (w *HostWorld) Until(d time.Duration) error {
	if d < w.Now() {
		return fmt.Errorf("time %s has passed: the steps before took until %s", d, w.Now())
	}
	w.Host.Advance(d - w.Now())
	return nil
}

// Push pushes a plan to all workers.
func (w *HostWorld) Push(plan []byte) (bool, error) {
	err := w.Host.Push(host.Update{PluginConfig: plan})
	if errors.Is(err, host.ErrRejected) {
		return false, nil
	}
	return err == nil, err
}

// Trap kills a worker's VM.
func (w *HostWorld) Trap(worker int) error {
	w.Host.Worker(worker).Kill()
	return nil
}

// Telemetry sets how batches fare from now on.
func (w *HostWorld) Telemetry(mode string) error {
	w.plane.Set(mode)
	return nil
}

// Bodies are the batches so far.
func (w *HostWorld) Bodies() []Delivery { return w.plane.Deliveries() }

// Close ends the host.
func (w *HostWorld) Close() error { return w.Host.Close() }

type hostExchange struct {
	w      *HostWorld
	s      *host.Stream
	router *Router // nil: the World is not to play it, or the request has not got there
	req    Request
}

// Answered, Try, Respond and After make it a Routed.
func (e *hostExchange) Answered() bool                    { return e.s.Answered() }
func (e *hostExchange) Respond(r host.Response)           { e.s.Respond(r) }
func (e *hostExchange) After(d time.Duration, run func()) { e.w.Host.After(d, run) }
func (e *hostExchange) Try() Try                          { return hostTry{e.s.Try()} }

type hostTry struct{ *host.Try }

func (t hostTry) Header(name string) string { return t.Headers().Get(name) }

// Send starts a request on a worker.
func (w *HostWorld) Send(worker int, r Request) (Exchange, error) {
	req := host.Request{Method: r.Method, Route: r.Route, NoRoute: r.NoRoute, Path: "/" + r.Route}
	if r.GRPC {
		req.Headers = append(req.Headers, host.H("content-type", "application/grpc")...)
	}
	if r.ID != "" {
		req.Headers = append(req.Headers, host.H("x-request-id", r.ID)...)
	}
	for _, h := range r.Headers {
		req.Headers = append(req.Headers, host.H(h.Key, h.Value)...)
	}
	e := &hostExchange{w: w, req: r}
	if r.Tried {
		req.Forwarded = func(s *host.Stream) {
			e.s = s
			e.router = Route(e, r.Retry)
		}
	}
	e.s = w.Host.Worker(worker).Request(req)
	return e, nil
}

// State says where the request is.
func (e *hostExchange) State() string {
	switch {
	case e.s.Answered():
		return "answered"
	case e.s.Action() == host.Paused:
		return "waiting"
	case e.router != nil && !e.router.Upstream():
		return "waiting"
	}
	return "upstream"
}

// Sent is a header of the request.
func (e *hostExchange) Sent(name string) string {
	if name == timeoutHeader { // the router takes it away
		if d := e.s.Timeout(); d > 0 {
			return strconv.FormatInt(d.Milliseconds(), 10)
		}
	}
	return e.s.RequestHeaders().Get(name)
}

const (
	timeoutHeader = "x-envoy-upstream-rq-timeout-ms"
	waitStep      = 10 * time.Millisecond
	waitLimit     = 10 * time.Minute
)

// End lets the upstream answer, if it was called.
func (e *hostExchange) End(answer string, latency time.Duration) (Reply, error) {
	if answer == "abort" && e.State() == "waiting" {
		e.w.Host.Advance(latency)
		if e.State() == "waiting" {
			e.s.Abort(true)
		}
	}
	for waited := time.Duration(0); answer != "abort" && e.s.Action() == host.Paused && waited < waitLimit; waited += waitStep {
		e.w.Host.Advance(waitStep)
	}
	if e.router != nil {
		err := e.router.Play(answer, latency, e.w.Host.Advance, func() { e.s.Abort(true) })
		if err != nil {
			return Reply{}, err
		}
		if e.s.Answered() {
			e.router.End()
		}
	} else if a := e.s.Action(); a == host.Continued || a == host.Bypassed {
		if latency > 0 {
			e.w.Host.Advance(latency)
		}
		resp, abort, err := Response(answer)
		switch {
		case err != nil:
			return Reply{}, err
		case abort:
			e.s.Abort(true)
		default:
			e.s.Respond(resp)
		}
	}
	res := e.s.Done()
	reply := Reply{
		Status: res.Status, Decision: res.Headers.Get("x-seawall-decision"), RetryAfter: res.Headers.Get("retry-after"),
		GRPCStatus: res.Headers.Get("grpc-status"), Upstream: res.Upstream,
	}
	if e.router != nil {
		e.router.End() // of a client that left, the edge hears first
	}
	e.router.Report(&reply, e.req)
	switch res.Action {
	case host.Failed:
		reply.Note = "(vm dead)"
	case host.Bypassed:
		reply.Note = "(bypassed)"
	default:
	}
	return reply, nil
}

// Response is what an answer's word means for the wazero host: how Envoy would
// report it, or that the client leaves before there is one.
func Response(answer string) (resp host.Response, abort bool, err error) {
	switch answer {
	case "abort":
		return resp, true, nil
	case "reset":
		return host.UpstreamReset, false, nil
	case "timeout":
		return host.RouteTimeout, false, nil
	case "refused":
		return host.ConnectRefused, false, nil
	case "no-healthy":
		return host.NoHealthyUpstream, false, nil
	case "overflow":
		return host.Overflow, false, nil
	case "mid-reset":
		return host.MidBodyReset, false, nil
	}
	answer, after, _ := strings.Cut(answer, ":")
	status, grpc, isGRPC := strings.Cut(answer, "/")
	code, err := strconv.Atoi(status)
	if err != nil {
		return resp, false, fmt.Errorf("upstream=%s: %w", answer, err)
	}
	resp = host.Response{Code: code, Headers: host.H("content-type", "text/plain")}
	if isGRPC {
		resp.Headers = host.H("content-type", "application/grpc")
		resp.Trailers = host.H("grpc-status", grpc)
	}
	if after != "" {
		resp.Headers = append(resp.Headers, host.Header{Name: "retry-after", Value: after})
	}
	return resp, false, nil
}
