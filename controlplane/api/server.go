package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/seawall-mesh/seawall/filter/problem"
)

// The server's bounds. The longest answer is a page of SLOs over 30 days, which
// takes well under a second; a client that needs longer than these is broken
// or hostile.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 60 * time.Second
	shutdownTimeout   = 5 * time.Second
	maxHeaderBytes    = 32 << 10
	maxBodyBytes      = 1 << 20
	maxConnections    = 512
)

// Config is what the admin interface needs. Source, Overrides, Postmortems,
// Audit, Ready, Log and Now are required.
type Config struct {
	Source    Source
	Overrides Overrides
	// Postmortems are those that budget policies have opened.
	Postmortems Postmortems
	Audit       AuditLog
	// Ready reports whether the first accepted policy has been served; once
	// true it stays true.
	Ready func() bool
	Log   *slog.Logger
	Now   func() time.Time

	// Metrics serves /metrics; nil answers 404 there.
	Metrics http.Handler
	// Hosts are Host header names, without port, that are accepted beside
	// loopback ones. They are what stops DNS rebinding: list only names that
	// resolve to this admin address.
	Hosts []string
	// ProblemTypeBase is the prefix of problem types, with its final slash; ""
	// means problem.DefaultBase.
	ProblemTypeBase string
	// NewRequestID makes the id of one request; nil means 128 random bits.
	NewRequestID func() string
}

func (c *Config) defaults() error {
	switch {
	case c.Source == nil:
		return errors.New("api: Config.Source is required")
	case c.Overrides == nil:
		return errors.New("api: Config.Overrides is required")
	case c.Postmortems == nil:
		return errors.New("api: Config.Postmortems is required")
	case c.Audit == nil:
		return errors.New("api: Config.Audit is required")
	case c.Ready == nil:
		return errors.New("api: Config.Ready is required")
	case c.Log == nil:
		return errors.New("api: Config.Log is required")
	case c.Now == nil:
		return errors.New("api: Config.Now is required")
	}
	if c.ProblemTypeBase == "" {
		c.ProblemTypeBase = problem.DefaultBase
	}
	if !strings.HasSuffix(c.ProblemTypeBase, "/") {
		c.ProblemTypeBase += "/"
	}
	if c.NewRequestID == nil {
		c.NewRequestID = rand.Text
	}
	return nil
}

// Server is the admin interface. It holds no state of its own beside its
// templates and the OpenAPI document.
type Server struct {
	cfg      Config
	problems problemWriter
	handler  http.Handler
}

// New builds the server and everything that can be built once. It fails where
// cfg lacks a required member.
func New(cfg Config) (*Server, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, problems: problemWriter{typeBase: cfg.ProblemTypeBase, log: cfg.Log}}
	mux, err := s.routes()
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	s.handler = s.guard(mux)
	return s, nil
}

// Handler is the whole interface, guards included.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers on ln until ctx ends, then lets requests in flight finish for
// at most five seconds. It closes ln. The error is nil after an orderly end.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(netutil.LimitListener(ln, maxConnections)) }()

	select {
	case err := <-served:
		return fmt.Errorf("admin server on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	// ctx has ended, but the requests in flight deserve their answers.
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := srv.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-served //nolint:errcheck // http.ErrServerClosed
	if err != nil {
		return fmt.Errorf("stop admin server on %s: %w", ln.Addr(), err)
	}
	return nil
}
