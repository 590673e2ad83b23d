// Package upstream is a programmable service: a real HTTP server (HTTP/1.1 and
// HTTP/2 without TLS) whose behaviour per path is set at run time, and which
// remembers what it was asked. Tests, benchmarks and the demo put it behind a
// data plane and compare what the client saw with what the service saw.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what a Server remembers. What is beyond is counted in Dropped.
const (
	maxRecords = 1024
	maxPaths   = 4096
	maxCharges = 65536
	maxBody    = 4 << 10
)

// Behaviour is what the service does with a request. The zero value answers
// 200 with an empty body.
type Behaviour struct {
	Status  int // 200
	Headers map[string]string
	Body    string
	Latency time.Duration // before the answer
	Reset   bool          // break the connection (HTTP/1.1: TCP RST, HTTP/2: RST_STREAM) instead of answering
	Hang    bool          // never answer; ends when the client leaves or the server closes
	Raw     string        // HTTP/1.1: these bytes instead of an answer, and then the connection's end

	FailNext  int        // so many next calls get Failure
	FailEvery int        // every k-th call gets Failure: 3 is the third, sixth, …
	Failure   *Behaviour // nil: 503

	// Ledger makes each request a charge, made before Latency, Reset or Hang: a
	// client that never hears of it has been charged. Requests with the
	// Idempotency-Key of an earlier charge are not charged again.
	Ledger bool
}

// Record is one request that the service got.
type Record struct {
	At        time.Time
	Method    string
	Path      string
	Proto     string
	Host      string
	Headers   http.Header
	Body      []byte // the first 4 KiB
	Truncated bool   // the body was longer
}

// Charge is one entry of the ledger.
type Charge struct {
	Key   string // Idempotency-Key, "" where the client sent none
	At    time.Time
	Calls int // requests with that key, the first included
}

// Config is a Server's. The zero value is a server on a free loopback port.
type Config struct {
	Addr string // 127.0.0.1:0
	Log  *slog.Logger
	Now  func() time.Time
}

// Server is a running service.
type Server struct {
	log  *slog.Logger
	now  func() time.Time
	lis  net.Listener
	srv  *http.Server
	quit chan struct{}
	done chan struct{}
	once sync.Once

	mu          sync.Mutex
	behaviours  map[string]*program
	calls       map[string]uint64
	total       uint64
	records     []Record
	charges     []Charge
	chargeOf    map[string]int
	dropped     uint64
	inFlight    int
	maxInFlight int
}

// program is a behaviour with its own count of calls.
type program struct {
	Behaviour
	seen int
}

// New starts a service that answers everything with 200. The error is that of
// listening, with the address.
func New(cfg Config) (*Server, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	lis, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", cfg.Addr, err)
	}
	s := &Server{
		log: cfg.Log, now: cfg.Now, lis: lis, quit: make(chan struct{}), done: make(chan struct{}),
		behaviours: map[string]*program{"/": {}}, calls: map[string]uint64{}, chargeOf: map[string]int{},
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.srv = &http.Server{
		Handler: s, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.done)
		if err := s.srv.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("upstream stopped", "err", err)
		}
	}()
	return s, nil
}

// Addr is the host:port that it listens on.
func (s *Server) Addr() string { return s.lis.Addr().String() }

// URL is the address of a path on it.
func (s *Server) URL(path string) string { return "http://" + s.Addr() + path }

// Set says what happens to a path and to what is below it; the longest path
// that was set wins. It takes effect with the next request and starts the
// counts of FailNext and FailEvery anew.
func (s *Server) Set(path string, b Behaviour) {
	b.Headers = maps.Clone(b.Headers)
	if b.Failure != nil {
		f := *b.Failure
		b.Failure = &f
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behaviours[path] = &program{Behaviour: b}
}

// Calls is how many requests came for a path and what is below it; "/" is all.
func (s *Server) Calls(path string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if path == "/" {
		return s.total
	}
	var n uint64
	for p, c := range s.calls {
		if below(p, path) {
			n += c
		}
	}
	return n
}

// Records are the newest requests, oldest first.
func (s *Server) Records() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.records)
}

// Charges is the ledger, oldest first.
func (s *Server) Charges() []Charge {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.charges)
}

// InFlight is how many requests are being served, and the most there were at
// once.
func (s *Server) InFlight() (now, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlight, s.maxInFlight
}

// Dropped counts what the bounds made the server forget.
func (s *Server) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Forget clears counts, records and the ledger, and keeps behaviours.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.chargeOf = map[string]uint64{}, map[string]int{}
	s.records, s.charges, s.total, s.dropped, s.maxInFlight = nil, nil, 0, 0, s.inFlight
}

// Close ends all connections, hanging requests too, and waits for the listener.
// The address is free afterwards: a provider that is down.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		close(s.quit)
		err = s.srv.Close()
		<-s.done
	})
	return err
}

// ServeHTTP serves one request as programmed.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err == nil {
		_, err = io.Copy(io.Discard, r.Body)
	}
	if err != nil {
		s.log.Debug("request body", "path", r.URL.Path, "err", err)
	}
	b := s.take(r, body)
	defer s.leave()
	switch {
	case b.Hang:
		s.wait(r.Context(), nil)
		panic(http.ErrAbortHandler)
	case b.Latency > 0:
		t := time.NewTimer(b.Latency)
		defer t.Stop()
		if !s.wait(r.Context(), t.C) {
			panic(http.ErrAbortHandler)
		}
	}
	if b.Reset {
		reset(w)
	}
	if b.Raw != "" {
		s.write(w, r, b.Raw)
	}
	for k, v := range b.Headers {
		w.Header().Set(k, v)
	}
	w.WriteHeader(b.Status)
	if _, err := io.WriteString(w, b.Body); err != nil {
		s.log.Debug("response body", "path", r.URL.Path, "err", err)
	}
}

// wait returns true at the timer, false when the client or the server left.
func (s *Server) wait(ctx context.Context, timer <-chan time.Time) bool {
	select {
	case <-timer:
		return true
	case <-ctx.Done():
	case <-s.quit:
	}
	return false
}

// write puts bytes of no server's making on the connection and ends it. It does
// not return.
func (s *Server) write(w http.ResponseWriter, r *http.Request, raw string) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, err = buffered.WriteString(raw)
		err = errors.Join(err, buffered.Flush(), conn.Close())
	}
	if err != nil {
		s.log.Debug("raw answer", "path", r.URL.Path, "err", err)
	}
	panic(http.ErrAbortHandler)
}

// reset breaks the connection. It does not return.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // makes Close send RST
		}
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler) // HTTP/2: RST_STREAM
}

// take records a request and decides what happens to it.
func (s *Server) take(r *http.Request, body []byte) Behaviour {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight++
	s.maxInFlight = max(s.maxInFlight, s.inFlight)
	s.total++
	if _, known := s.calls[r.URL.Path]; known || len(s.calls) < maxPaths {
		s.calls[r.URL.Path]++
	} else {
		s.dropped++
	}
	rec := Record{
		At: s.now(), Method: r.Method, Path: r.URL.RequestURI(), Proto: r.Proto, Host: r.Host,
		Headers: r.Header.Clone(), Body: body, Truncated: len(body) > maxBody,
	}
	rec.Body = rec.Body[:min(len(body), maxBody)]
	if len(s.records) == maxRecords {
		s.records = append(s.records[:0], s.records[1:]...)
		s.dropped++
	}
	s.records = append(s.records, rec)

	p := s.program(r.URL.Path)
	p.seen++
	b := p.Behaviour
	if p.seen <= b.FailNext || b.FailEvery > 0 && p.seen%b.FailEvery == 0 {
		b = Behaviour{Status: http.StatusServiceUnavailable}
		if p.Failure != nil {
			b = *p.Failure
		}
	}
	if b.Status == 0 {
		b.Status = http.StatusOK
	}
	if b.Ledger {
		s.charge(r.Header.Get("Idempotency-Key"))
	}
	return b
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
}

func (s *Server) charge(key string) {
	if i, known := s.chargeOf[key]; known && key != "" {
		s.charges[i].Calls++
		return
	}
	if len(s.charges) == maxCharges {
		s.dropped++
		return
	}
	s.chargeOf[key] = len(s.charges)
	s.charges = append(s.charges, Charge{Key: key, At: s.now(), Calls: 1})
}

func (s *Server) program(path string) *program {
	best := ""
	for p := range s.behaviours {
		if below(path, p) && len(p) > len(best) {
			best = p
		}
	}
	return s.behaviours[best]
}

// below reports whether path is prefix or below it, by whole segments.
func below(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/"))
	return ok && (rest == "" || rest[0] == '/')
}
