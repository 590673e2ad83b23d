//go:build linux

package realenvoy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/seawall-mesh/seawall/testenv/host"
)

// streamTimeout is how long a stream may take to get where a test waits for it.
const streamTimeout = 10 * time.Second

// Worker is a client whose requests all go to one worker thread: an HTTP/2
// connection that lives as long as the Host. Envoy deals connections out
// evenly, so the first ones go to different workers; which index is which
// thread is chance.
type Worker struct {
	h     *Host
	index int
	trip  http.RoundTripper
	http1 net.Conn          // nil: HTTP/2
	http2 *http2.ClientConn //nolint:staticcheck // nil: HTTP/1.1; net/http's cannot ping
}

func newWorker(h *Host, index int) *Worker {
	h.t.Helper()
	tr := &http2.Transport{DisableCompression: true, AllowHTTP: true} //nolint:staticcheck // net/http's cannot ping
	conn, err := tr.NewClientConn(h.dial())                           //nolint:staticcheck // as above
	require.NoError(h.t, err)
	return &Worker{h: h, index: index, trip: conn, http2: conn}
}

// Sync waits until the thread has dealt with all that this client has sent, and
// with what followed of it at once: Envoy answers a PING in its turn. An
// HTTP/1.1 client has nothing like it, and does not wait.
func (w *Worker) Sync() {
	w.h.t.Helper()
	if w.http2 == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), streamTimeout)
	defer cancel()
	require.NoError(w.h.t, w.http2.Ping(ctx), "worker %d answers no PING", w.index)
}

// Index is its number, from 0.
func (w *Worker) Index() int { return w.index }

// HTTP1 is a client with an HTTP/1.1 connection of its own, to some worker. Its
// Stream.Abort closes the connection, where that of HTTP/2 resets the stream.
func (h *Host) HTTP1() *Worker {
	h.t.Helper()
	conn := h.dial()
	var once sync.Once
	tr := &http.Transport{
		DisableCompression: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			var c net.Conn
			once.Do(func() { c = conn })
			if c == nil {
				return nil, errors.New("the connection is used up")
			}
			return c, nil
		},
	}
	h.t.Cleanup(tr.CloseIdleConnections)
	return &Worker{h: h, index: -1, trip: tr, http1: conn}
}

// Stream is one request. Nothing that it does waits but Upstream and Done.
type Stream struct {
	h      *Host
	worker *Worker
	id     string
	stop   context.CancelFunc
	wrote  chan struct{} // closed when the client has sent the request's headers

	arrived chan struct{} // closed when the upstream has the request
	seen    host.Headers
	body    []byte
	once    sync.Once
	answers chan host.Response

	done   chan struct{} // closed when the client has all, or has given up
	doneAt time.Time
	resp   host.Result
	err    error
	left   bool
}

// Request sends a request and does not wait for anything. Request.Cluster may
// be "refused", "empty" (no endpoint), "full" (its circuit breaker is open),
// "http2" (the upstream, over HTTP/2: with trailers), "late" (the upstream, for which the route's timeout is LateTimeout)
// or "direct" (a direct response of 404); but for "http2" such requests need no Respond.
func (w *Worker) Request(r host.Request) *Stream {
	w.h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Stream{
		h: w.h, worker: w, id: w.h.nextID(), stop: cancel, wrote: make(chan struct{}),
		arrived: make(chan struct{}), answers: make(chan host.Response, 1), done: make(chan struct{}),
	}
	w.h.gate.expect(s.id, s)
	wrote := sync.OnceFunc(func() { close(s.wrote) })
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: wrote})
	req, err := http.NewRequestWithContext(ctx, def(r.Method, "GET"), "http://"+w.h.edge+def(r.Path, "/"), bytes.NewReader(r.Body))
	require.NoError(w.h.t, err)
	if len(r.Body) == 0 {
		req.Body = nil
	}
	req.Host = def(r.Host, "edge.test")
	if r.NoRoute {
		req.Host = noRouteHost
	}
	req.Header.Set("user-agent", "test")
	for _, hd := range r.Headers {
		req.Header[http.CanonicalHeaderKey(hd.Name)] = append(req.Header[http.CanonicalHeaderKey(hd.Name)], hd.Value)
	}
	req.Header.Set(idHeader, s.id)
	req.Header.Set(clusterHeader, def(r.Cluster, "upstream"))
	if r.Route != "" {
		req.Header.Set(routeHeader, r.Route)
	}
	go s.run(w.trip, req)
	w.h.t.Cleanup(cancel)
	return s
}

func def(v, d string) string {
	if v == "" {
		return d
	}
	return v
}

func (s *Stream) run(trip http.RoundTripper, req *http.Request) {
	defer func() {
		s.doneAt = time.Now()
		close(s.done)
	}()
	defer s.h.gate.forget(s.id)
	resp, err := trip.RoundTrip(req)
	if err != nil {
		s.err = err
		return
	}
	defer func() { _ = resp.Body.Close() }()
	s.resp.Status = resp.StatusCode
	s.resp.Headers = append(host.H(":status", strings.Fields(resp.Status)[0]), headersOf(resp.Header)...)
	s.resp.Body, s.err = io.ReadAll(resp.Body)
	s.resp.Headers = append(s.resp.Headers, headersOf(resp.Trailer)...)
}

func (s *Stream) arrive(hs host.Headers, body []byte) {
	s.once.Do(func() {
		s.seen, s.body = hs, body
		close(s.arrived)
	})
}

// Upstream waits until the upstream has the request, and returns its headers
// there. It is false if the client was answered before, or if after the time
// nothing has happened: the filter holds it.
func (s *Stream) Upstream(within time.Duration) (host.Headers, bool) {
	select {
	case <-s.arrived:
		return s.seen, true
	default:
	}
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-s.arrived:
		return s.seen, true
	case <-s.done:
		select {
		case <-s.arrived:
			return s.seen, true
		default:
			return nil, false
		}
	case <-t.C:
		return nil, false
	}
}

// UpstreamBody is the request's body as the upstream got it, up to 1 MiB.
func (s *Stream) UpstreamBody() []byte {
	if _, ok := s.Upstream(0); !ok {
		return nil
	}
	return s.body
}

// Action is what became of the request within a time: Continued, Paused, or
// Replied, which here may be anybody's reply but the upstream's.
func (s *Stream) Action(within time.Duration) host.Action {
	if _, ok := s.Upstream(within); ok {
		return host.Continued
	}
	select {
	case <-s.done:
		return host.Replied
	default:
		return host.Paused
	}
}

// Respond lets the upstream answer, as soon as the request is there. Of the
// failures it can do host.UpstreamReset and host.MidBodyReset; for others pick
// a Cluster, or a Route with a timeout.
func (s *Stream) Respond(r host.Response) {
	select {
	case s.answers <- r:
	default: // answered already
	}
}

// Abort is the client leaving: it resets the stream (HTTP/2) or closes the
// connection.
func (s *Stream) Abort() {
	s.left = true
	conn := s.worker.http2
	if conn == nil {
		s.stop()
		return
	}
	open := conn.State().StreamsActive
	s.stop()
	for limit := time.Now().Add(time.Second); open > 0 && conn.State().StreamsActive >= open && time.Now().Before(limit); {
		<-time.After(time.Millisecond) // the reset is written by another goroutine
	}
}

// Sync waits until the worker has dealt with all that the client has sent of
// this request: its filter has decided, or knows that the client has left.
func (s *Stream) Sync() {
	s.h.t.Helper()
	select {
	case <-s.wrote:
	case <-s.done:
	case <-time.After(streamTimeout):
		require.FailNow(s.h.t, "a request could not be sent", "within %s", streamTimeout)
	}
	s.worker.Sync()
}

// Ended is when the client had all that it got, zero while it has not.
func (s *Stream) Ended() time.Time {
	if !s.Over() {
		return time.Time{}
	}
	return s.doneAt
}

// Over reports whether the client has all that it will get.
func (s *Stream) Over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Done waits for the client to have all, and returns it. Status is 0 where
// there was no answer.
func (s *Stream) Done() host.Result {
	s.h.t.Helper()
	select {
	case <-s.done:
	case <-time.After(streamTimeout):
		s.stop()
		require.FailNow(s.h.t, "a request was not answered", "within %s", streamTimeout)
	}
	_, s.resp.Upstream = s.Upstream(0)
	switch {
	case s.resp.Upstream:
		s.resp.Action = host.Continued
	case s.left:
		s.resp.Action = host.Paused
	default:
		s.resp.Action = host.Replied
	}
	s.stop()
	return s.resp
}

// Exchange is a whole request: it starts, an upstream that it reaches answers,
// and it ends. A request that the filter holds is given up by its client after
// half a second.
func (w *Worker) Exchange(r host.Request, resp host.Response) host.Result {
	w.h.t.Helper()
	s := w.Request(r)
	if s.Action(500*time.Millisecond) == host.Paused {
		s.Abort()
	}
	if resp.After > 0 {
		wait(context.Background(), resp.After)
	}
	s.Respond(resp)
	return s.Done()
}
