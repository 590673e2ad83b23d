//go:build linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// startEcho is a service over HTTP/1.1 and HTTP/2 that answers what it got, and
// misbehaves at some paths.
func startEcho(t testing.TB) (e *echo) {
	t.Helper()
	e = &echo{}
	e.server = httptest.NewUnstartedServer(e)
	e.server.Config.Protocols = new(http.Protocols)
	e.server.Config.Protocols.SetHTTP1(true)
	e.server.Config.Protocols.SetUnencryptedHTTP2(true)
	e.server.Start()
	t.Cleanup(func() {
		e.server.CloseClientConnections()
		e.server.Close()
	})
	return e
}

type echo struct {
	server *httptest.Server
	broken atomic.Int64 // request bodies that broke off
}

func (e *echo) addr() string { return e.server.Listener.Addr().String() }

const halfWay = 1 << 20

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if what == "breaks-the-request" {
		_, _ = io.CopyN(io.Discard, r.Body, halfWay)
		panic(http.ErrAbortHandler)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		e.broken.Add(1)
		return
	}
	w.Header().Set("x-proto", r.Proto)
	w.Header().Set("x-request-trailer", r.Trailer.Get("x-sum"))
	w.Header().Set("x-length", strconv.FormatInt(r.ContentLength, 10))
	switch what {
	case "chunks":
		w.Header().Set("trailer", "x-sum")
		for chunk := range slices.Chunk(body, 10_000) {
			_, _ = w.Write(chunk)
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set("x-sum", sum(body))
	case "breaks-the-response":
		w.Header().Set("content-length", strconv.Itoa(2*halfWay))
		_, _ = w.Write(make([]byte, halfWay))
		panic(http.ErrAbortHandler)
	case "goes-on":
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	default:
		w.Header().Set("content-length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// protocolClient speaks one protocol only.
func protocolClient(t testing.TB, h2 bool) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetUnencryptedHTTP2(h2)
	tr := &http.Transport{Protocols: protocols, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: soon}
}

// Bodies of any size come and go through the edge unchanged, over HTTP/1.1 and
// HTTP/2 on either side, of known length or in chunks, with and without retries.
// Trailers pass from HTTP/2 to HTTP/2; HTTP/1.1's are left out, as Envoy does.
func TestBodies(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	const retry = "retry: {attempts: 2, retryOn: [503, connect-failure]}"
	u := startUp(t, upConfig{workers: 2, policy: shop{endpoints: []string{e.addr()}, routes: []route{{name: "one", more: "wrapUpstreamErrors: true"}, {name: "one-again", more: retry}}}.yaml() +
		anotherService("two", endpointsAt(e.addr())+", protocol: http2", "routes: [{name: two, match: {path: {prefix: /two}}}, {name: two-again, match: {path: {prefix: /two-again}}, "+retry+"}]")})
	want := tally{}
	random := rand.NewChaCha8([32]byte{})
	bodies := map[int][]byte{}
	const large = 10 << 20
	for _, size := range []int{0, 1, 64 << 10, large} {
		bodies[size] = make([]byte, size)
		_, _ = random.Read(bodies[size])
	}
	t.Run("each", func(t *testing.T) {
		for _, h2 := range []bool{false, true} {
			for _, route := range []string{"one", "one-again", "two", "two-again"} {
				for _, chunked := range []bool{false, true} {
					for size, body := range bodies {
						if size == large && chunked != h2 {
							continue // half of them tell as much
						}
						want[route+" ok"]++
						t.Run(fmt.Sprintf("h2=%t/%s/chunked=%t/%d", h2, route, chunked, size), func(t *testing.T) {
							t.Parallel()
							path := "/" + route
							var content io.Reader = bytes.NewReader(body)
							if chunked {
								path += "/chunks"
								content = io.MultiReader(content) // hides the length
							}
							req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+u.listen+path, content)
							require.NoError(t, err)
							req.Host = map[byte]string{'o': shopHost, 't': "two.local"}[route[0]]
							if chunked {
								req.Trailer = http.Header{"X-Sum": {sum(body)}}
							}
							resp, err := protocolClient(t, h2).Do(req)
							require.NoError(t, err)
							defer resp.Body.Close()
							got, err := io.ReadAll(resp.Body)
							require.NoError(t, err)
							require.Equal(t, http.StatusOK, resp.StatusCode, "%s", got[:min(len(got), 500)])
							require.Len(t, got, size)
							require.Equal(t, sum(body), sum(got))
							upstreamH2 := route[0] == 't'
							require.Equal(t, map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[upstreamH2], resp.Header.Get("x-proto"))
							if !chunked {
								require.Equal(t, strconv.Itoa(size), resp.Header.Get("x-length"))
								require.EqualValues(t, size, resp.ContentLength)
								return
							}
							trailer := ""
							if h2 && upstreamH2 {
								trailer = sum(body)
							}
							require.Equal(t, trailer, resp.Header.Get("x-request-trailer"), "the request's trailer")
							require.Equal(t, trailer, resp.Trailer.Get("x-sum"), "the answer's trailer")
						})
					}
				}
			}
		}
	})
	u.awaitOutcomes(want)
	u.stop()
}

// A body that breaks off, on whichever side, breaks off on the other one, and
// is counted as what it is.
func TestBrokenBodies(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	policy := shop{endpoints: []string{e.addr()}}
	var more string
	for _, name := range []string{"client-sends", "service-reads", "service-sends", "client-reads"} {
		policy.routes = append(policy.routes, route{name: name})
		more += fmt.Sprintf("{name: %[1]s-2, match: {path: {prefix: /%[1]s}}}, ", name)
	}
	u := startUp(t, upConfig{workers: 2, policy: policy.yaml() + anotherService("two", endpointsAt(e.addr())+", protocol: http2", "routes: ["+strings.TrimSuffix(more, ", ")+"]")})
	want := tally{}
	type side struct{ h2client, h2service bool }
	for _, s := range []side{{false, false}, {false, true}, {true, false}, {true, true}} {
		host, suffix := shopHost, ""
		if s.h2service {
			host, suffix = "two.local", "-2"
		}
		send := func(t *testing.T, path string, body io.Reader) (*http.Response, error) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+u.listen+path, body)
			require.NoError(t, err)
			req.Host = host
			resp, err := protocolClient(t, s.h2client).Do(req)
			if err == nil {
				t.Cleanup(func() { _ = resp.Body.Close() })
			}
			return resp, err
		}
		t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
			t.Run("the client's", func(t *testing.T) {
				want["client-sends"+suffix+" aborted"]++
				before := e.broken.Load()
				_, err := send(t, "/client-sends", io.MultiReader(bytes.NewReader(make([]byte, halfWay)), brokenReader{}))
				require.ErrorIs(t, err, errBroken)
				eventually(t, soon, func() (bool, string) { return e.broken.Load() == before+1, "the service does not hear of it" })
			})
			t.Run("the client's, by the service", func(t *testing.T) {
				want["service-reads"+suffix+" reset"]++
				resp, err := send(t, "/service-reads/breaks-the-request", bytes.NewReader(make([]byte, 8*halfWay)))
				require.NoError(t, err)
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
				require.Contains(t, string(body), typeBase+"upstream-reset")
			})
			t.Run("the service's", func(t *testing.T) {
				want["service-sends"+suffix+" reset"]++
				resp, err := send(t, "/service-sends/breaks-the-response", nil)
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, resp.StatusCode)
				body, err := io.ReadAll(resp.Body)
				require.Error(t, err)
				require.Less(t, len(body), 2*halfWay)
			})
			t.Run("the service's, by the client", func(t *testing.T) {
				// It has been answered by then.
				want["client-reads"+suffix+" ok"]++
				resp, err := send(t, "/client-reads/goes-on", nil)
				require.NoError(t, err)
				_, err = io.CopyN(io.Discard, resp.Body, halfWay)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
			})
		})
	}
	u.awaitOutcomes(want)
	u.stop()
}

var errBroken = errors.New("the client breaks off")

// brokenReader breaks a body off.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }
