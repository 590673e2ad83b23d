package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
)

const requestIDHeader = "X-Request-Id"

type requestIDKey struct{}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// guard puts what every request passes before next, outermost first: an id and
// the security headers, the panic net, the Host allow-list, the cross-origin
// check on writes, and the bound on bodies.
func (s *Server) guard(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.problems.write(w, r, problemf(typeCrossOrigin, "a write from another origin (%s) is refused", shorten(r.Header.Get("Origin"), 100)))
	}))
	h := origin.Handler(http.MaxBytesHandler(next, maxBodyBytes))
	h = s.knownHost(h)
	h = s.recovered(h)
	return s.stamped(h)
}

// stamped gives the request its id and the response the headers that all have.
// An id that the caller sent is not taken over: it would end in our log.
func (s *Server) stamped(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := s.cfg.NewRequestID()
		h := w.Header()
		h.Set(requestIDHeader, id)
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

// recovered turns a panic into a 500 without details and a log record with them.
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { //nolint:errorlint // the server compares it by identity, too
				panic(p)
			}
			s.cfg.Log.Error("admin request panicked", "requestId", requestID(r.Context()), "method", r.Method, "path", r.URL.Path,
				"exception", map[string]string{"type": fmt.Sprintf("%T", p), "message": fmt.Sprint(p), "trace": string(debug.Stack())})
			s.problems.write(w, r, problemf(typeInternal, "the control plane hit a fault of its own; its log has the details under this request id"))
		}()
		next.ServeHTTP(w, r)
	})
}

// knownHost refuses a Host that is neither a loopback name nor configured: a
// page on the internet may point a name of its own at 127.0.0.1, but it cannot
// choose the Host that the browser sends for it.
func (s *Server) knownHost(next http.Handler) http.Handler {
	allowed := make(map[string]bool, len(s.cfg.Hosts))
	for _, h := range s.cfg.Hosts {
		allowed[canonicalHost(h)] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := canonicalHost(r.Host)
		if !isLoopbackName(host) && !allowed[host] {
			s.problems.write(w, r, problemf(typeUnknownHost, "Host %q is not one of this control plane's names; use 127.0.0.1 or localhost", shorten(r.Host, 100)))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// canonicalHost is a Host header or a configured name without port, brackets,
// final dot and upper case.
func canonicalHost(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

func isLoopbackName(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// shorten keeps what a caller sent from filling our answers and logs.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
