//go:build linux

package realenvoy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seawall-mesh/seawall/testenv/host"
)

// gate is the upstream: each request waits there until the test answers it.
type gate struct {
	t       testing.TB
	srv     *httptest.Server
	quit    chan struct{}
	mu      sync.Mutex
	waiting map[string]*Stream
}

func newGate(t testing.TB) *gate {
	g := &gate{t: t, quit: make(chan struct{}), waiting: map[string]*Stream{}}
	g.srv = httptest.NewUnstartedServer(g)
	g.srv.Config.Protocols = new(http.Protocols)
	g.srv.Config.Protocols.SetHTTP1(true)
	g.srv.Config.Protocols.SetUnencryptedHTTP2(true)
	g.srv.Start()
	t.Cleanup(func() {
		close(g.quit)
		g.srv.CloseClientConnections()
		g.srv.Close()
	})
	return g
}

func (g *gate) addr() string { return g.srv.Listener.Addr().String() }

func (g *gate) expect(id string, s *Stream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting[id] = s
}

func (g *gate) forget(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.waiting, id)
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	s := g.waiting[r.Header.Get(idHeader)]
	g.mu.Unlock()
	if s == nil {
		w.WriteHeader(http.StatusTeapot) // of an earlier test
		return
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	s.arrive(headersOf(r.Header), body)
	select {
	case resp := <-s.answers:
		respond(w, resp)
	case <-r.Context().Done():
	case <-g.quit:
		panic(http.ErrAbortHandler)
	}
}

// respond does to Envoy what makes it report this response.
func respond(w http.ResponseWriter, r host.Response) {
	switch r.Flags {
	case host.FlagUpstreamConnectionClosed:
		panic(http.ErrAbortHandler)
	case host.FlagUpstreamProtocolError: // breaks off in the body
		w.Header().Set("content-length", "1000")
		w.WriteHeader(r.Code)
		_, _ = io.WriteString(w, "the beginning")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for _, t := range r.Trailers {
		w.Header().Add("trailer", t.Name)
	}
	for _, hd := range r.Headers {
		w.Header().Add(hd.Name, hd.Value)
	}
	if r.Code == 0 {
		r.Code = http.StatusOK
	}
	w.WriteHeader(r.Code)
	_, _ = w.Write(r.Body)
	for _, t := range r.Trailers {
		w.Header().Set(t.Name, t.Value)
	}
}

func headersOf(hs http.Header) host.Headers {
	var out host.Headers
	for name, values := range hs {
		for _, v := range values {
			out = append(out, host.Header{Name: strings.ToLower(name), Value: v})
		}
	}
	return out
}

// callServer answers a plugin's calls out to one cluster as its handler says.
func callServer(t testing.TB, name string, handler host.CallHandler) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answerCall(w, r, name, handler) }))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv
}

func answerCall(w http.ResponseWriter, r *http.Request, name string, handler host.CallHandler) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	headers := append(host.H(":method", r.Method, ":path", r.URL.RequestURI(), ":authority", r.Host), headersOf(r.Header)...)
	ans := handler(host.Call{At: time.Now(), Cluster: name, Headers: headers, Body: body})
	if ans.Hang {
		<-r.Context().Done()
		return
	}
	wait(r.Context(), ans.Delay)
	if ans.Reset || ans.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	for _, hd := range ans.Headers {
		w.Header().Add(hd.Name, hd.Value)
	}
	w.Header().Set("content-length", strconv.Itoa(len(ans.Body)))
	w.WriteHeader(ans.Status)
	_, _ = w.Write(ans.Body)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (h *Host) nextID() string {
	h.gate.mu.Lock()
	defer h.gate.mu.Unlock()
	h.streams++
	return fmt.Sprint(h.streams)
}
