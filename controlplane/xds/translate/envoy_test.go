package translate_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/xds/translate"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

// gateway is a real Envoy that serves an edge statically and without the
// filter: these tests look at what Envoy's own features do.
type gateway struct {
	*realenvoy.Envoy
	addr   string
	client *http.Client
}

func startEnvoy(t *testing.T, edge ir.Edge) *gateway {
	t.Helper()
	return serve(t, edge, staticConfig(t, edge, translate.StaticConfig{WithoutFilter: true}, translate.Module{}))
}

// serve runs a bootstrap of edge.
func serve(t *testing.T, edge ir.Edge, bootstrap string) *gateway {
	t.Helper()
	e := realenvoy.Start(t, realenvoy.Config{Static: bootstrap})
	e.WaitLive()
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &gateway{Envoy: e, addr: e.Address(edge.Listeners[0].Name), client: &http.Client{
		Transport:     transport,
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends path as it is, not as net/url would write it.
func (g *gateway) do(t *testing.T, method, host, path string, header map[string]string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.addr, nil)
	require.NoError(t, err)
	req.URL = &url.URL{Scheme: "http", Host: g.addr, Opaque: path}
	req.Host = host
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := g.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// raw sends bytes and returns all that comes back until the end.
func (g *gateway) raw(t *testing.T, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", g.addr)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(c, request)
	require.NoError(t, err)
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	return string(all)
}

// brokenBody is what the upstream says is a problem document; nobody looks
// into it on the way.
const brokenBody = "type: https://bank.example/down"

// upstream records what reaches it and answers by path.
type upstream struct {
	mu       sync.Mutex
	requests []*http.Request
	port     uint32
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.requests = append(u.requests, r)
	n := len(u.requests)
	u.mu.Unlock()
	switch {
	case strings.HasPrefix(r.URL.Path, "/retry") && n < 3:
		w.WriteHeader(http.StatusServiceUnavailable)
	case strings.HasPrefix(r.URL.Path, "/slow"):
		<-r.Context().Done()
	case strings.HasPrefix(r.URL.Path, "/broken"):
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, brokenBody)
	default:
		_, _ = io.WriteString(w, "hello")
	}
}

// take returns the requests since the last call.
func (u *upstream) take() []*http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	taken := u.requests
	u.requests = nil
	return taken
}

func startUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{}
	server := httptest.NewServer(u)
	t.Cleanup(server.Close)
	u.port = uint32(server.Listener.Addr().(*net.TCPAddr).Port)
	return u
}

// closedPort is one on which nothing listens, reserved by a socket that does
// not accept.
func closedPort(t *testing.T) uint32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := uint32(l.Addr().(*net.TCPAddr).Port)
	require.NoError(t, l.Close())
	return port
}

func TestEnvoy(t *testing.T) {
	up := startUpstream(t)
	g := startEnvoy(t, shop(0, up.port, closedPort(t)))

	problems := []struct {
		name, method, host, path string
		header                   map[string]string
		status                   int
		slug                     string
		retryable                bool
		calls                    int
	}{
		{"unknown host", "GET", "nowhere.local", "/x", nil, 404, "no-route", false, 0},
		{"unknown path", "GET", "payments.local", "/none", nil, 404, "no-route", false, 0},
		{"too slow", "POST", "payments.local", "/slow", nil, 504, "timeout", true, 1},
		{"nobody listens", "GET", "payments.local", "/down", nil, 503, "connect-failure", true, 0},
		{"underscore in a header name", "GET", "payments.local", "/exact", map[string]string{"a_b": "1"}, 400, "bad-request", false, 0},
		{"large headers", "GET", "payments.local", "/exact", map[string]string{"a": strings.Repeat("x", 70_000)}, 431, "headers-too-large", false, 0},
	}
	for _, c := range problems {
		t.Run(c.name, func(t *testing.T) {
			a := g.do(t, c.method, c.host, c.path, c.header)
			require.Equal(t, c.status, a.status, a.body)
			require.Equal(t, "application/problem+json", a.header.Get("Content-Type"))
			var doc map[string]any
			require.NoError(t, json.Unmarshal([]byte(a.body), &doc), a.body)
			require.Equal(t, "https://seawall-mesh.github.io/problems/"+c.slug, doc["type"])
			require.InDelta(t, c.status, doc["status"], 0)
			require.NotEmpty(t, doc["title"])
			require.NotEmpty(t, doc["detail"])
			require.Equal(t, c.retryable, doc["retryable"])
			require.NotContains(t, a.body, "upstream", "nothing of Envoy's inside")
			require.NotEmpty(t, a.header.Get("X-Request-Id"))
			require.Equal(t, a.header.Get("X-Request-Id"), doc["instance"])
			require.Len(t, up.take(), c.calls)
		})
	}

	t.Run("no HTTP at all", func(t *testing.T) {
		require.Contains(t, g.raw(t, "GET / HTTP/1.1\r\nfoo\r\n\r\n"), "problems/bad-request")
	})
	t.Run("grpc callers get a short message", func(t *testing.T) {
		for _, media := range []string{"application/grpc", "application/grpc+proto"} {
			a := g.do(t, "POST", "payments.local", "/down", map[string]string{"content-type": media})
			require.Equal(t, 200, a.status)
			require.Equal(t, "14", a.header.Get("Grpc-Status"))
			require.Equal(t, "No connection to the service", a.header.Get("Grpc-Message"))
			require.NotEmpty(t, a.header.Get("X-Request-Id"))
		}
	})
	t.Run("gRPC-Web is no gRPC", func(t *testing.T) {
		for _, media := range []string{"application/grpc-web", "application/grpc-web+proto", "application/grpc;x=y"} {
			a := g.do(t, "POST", "payments.local", "/down", map[string]string{"content-type": media})
			require.Equal(t, 503, a.status)
			require.Equal(t, "application/problem+json", a.header.Get("Content-Type"), media)
			require.Empty(t, a.header.Get("Grpc-Status"))
		}
	})
	t.Run("an upstream's own problem is passed on", func(t *testing.T) {
		a := g.do(t, "GET", "payments.local", "/broken", nil)
		require.Equal(t, 502, a.status)
		require.Equal(t, brokenBody, a.body)
		up.take()
	})
	t.Run("clients cannot speak for us", func(t *testing.T) {
		a := g.do(t, "GET", "payments.local:8080", "/exact?x=1", map[string]string{
			"x-seawall-flags": "a=true", "x-seawall-deadline-ms": "1", "x-envoy-upstream-rq-timeout-ms": "1",
			"x-envoy-retry-on": "5xx", "x-envoy-original-path": "/admin", "x-request-id": "mine", "x-other": "kept",
		})
		require.Equal(t, 200, a.status)
		seen := up.take()
		require.Len(t, seen, 1)
		require.Equal(t, "/exact?x=1", seen[0].RequestURI)
		require.Equal(t, "payments.local:8080", seen[0].Host)
		require.Equal(t, "kept", seen[0].Header.Get("X-Other"))
		for name, values := range seen[0].Header {
			if strings.HasPrefix(name, "X-Seawall-") { // the route's time, and nothing of the client's
				require.Equal(t, "X-Seawall-Deadline-Ms", name)
				require.Equal(t, []string{"500"}, values)
			}
			if strings.HasPrefix(name, "X-Envoy-") {
				require.Contains(t, []string{"X-Envoy-Attempt-Count", "X-Envoy-Expected-Rq-Timeout-Ms", "X-Envoy-External-Address"}, name, "%v", values)
			}
		}
		require.NotEqual(t, "mine", seen[0].Header.Get("X-Request-Id"))
		require.Equal(t, a.header.Get("X-Request-Id"), seen[0].Header.Get("X-Request-Id"))
		for name := range a.header {
			require.NotContains(t, name, "X-Envoy-", "clients learn nothing of our inside")
		}
	})
	t.Run("a retry hides glitches", func(t *testing.T) {
		up.take()
		require.Equal(t, 200, g.do(t, "GET", "payments.local", "/retry", nil).status)
		require.Len(t, up.take(), 3)
	})
	t.Run("the other half of the route does not retry", func(t *testing.T) {
		require.Equal(t, 503, g.do(t, "POST", "payments.local", "/retry", nil).status)
		require.Len(t, up.take(), 1)
	})
	t.Run("escaped slashes are redirected to what they mean", func(t *testing.T) {
		a := g.do(t, "GET", "payments.local", "/exact%2fx", nil)
		require.Equal(t, 307, a.status)
		require.Equal(t, "/exact/x", a.header.Get("Location"))
		require.NotEmpty(t, a.header.Get("X-Request-Id"))
		require.Empty(t, a.body)
		require.Empty(t, up.take())
	})
	t.Run("paths are normalised before they are matched", func(t *testing.T) {
		for _, path := range []string{"/a/../exact", "/./exact", "/%65xact"} {
			require.Equal(t, 200, g.do(t, "GET", "payments.local", path, nil).status, path)
			require.Equal(t, "/exact", up.take()[0].RequestURI)
		}
		got := g.raw(t, "GET //exact HTTP/1.1\r\nhost: payments.local\r\nconnection: close\r\n\r\n")
		require.True(t, strings.HasPrefix(got, "HTTP/1.1 200 "), got)
		require.Equal(t, "/exact", up.take()[0].RequestURI)
	})
}

// TestEnvoyMatchesAsWeDo asks Envoy and ir.Match the same questions. The
// upstream's answer does not tell the route, so each route gets one of its own.
func TestEnvoyMatchesAsWeDo(t *testing.T) {
	edge := shop(0, 1, 2)
	for i := range edge.VirtualHosts {
		for j := range edge.VirtualHosts[i].Routes {
			r := &edge.VirtualHosts[i].Routes[j]
			r.Cluster, r.Retry, r.DirectStatus = "", nil, uint32(410+10*i+j)
		}
	}
	g := startEnvoy(t, edge)
	hosts := []string{"payments.local", "PAYMENTS.local:80", "a.shop.local", "a.b.shop.local:1", "shop.local", "x"}
	paths := []string{
		"/", "/retry", "/retry/", "/retry/x?y=1", "/retryx", "/RETRY", "/users/7/cards", "/users/7/8/cards", "/users//cards",
		"/users/7/cards?x", "/users/a;b=c/cards", "/v1/x", "/v1", "/v12/x", "/v2/x", "/v1/x?y=/v1", "/beta", "/beta/x", "/exact", "/exact/",
		"/exact?x", "/slow", "/down/x",
	}
	headers := []map[string]string{nil, {"x-ring": "beta"}, {"x-ring": "betax"}, {"x-ring": "gamma", "x-off": "1"}}
	asked := map[int]int{}
	for _, host := range hosts {
		for _, path := range paths {
			for _, method := range []string{"GET", "POST"} {
				for _, header := range headers {
					if header != nil && !strings.HasPrefix(path, "/beta") {
						continue
					}
					// Envoy merges slashes before it matches.
					want := ir.MatchRoute(edge, method, host, strings.ReplaceAll(path, "//", "/"), header)
					require.NotNil(t, want)
					got := g.do(t, method, host, path, header)
					require.Equal(t, int(want.DirectStatus), got.status, "%s %s%s %v: route %s", method, host, path, header, want.Name)
					asked[got.status]++
				}
			}
		}
	}
	require.Greater(t, len(asked), 8, "routes that were asked for: %v", asked)
}

// TestAccessLog reads the lines of one Envoy, which it writes at its end.
func TestAccessLog(t *testing.T) {
	up := startUpstream(t)
	g := startEnvoy(t, shop(0, up.port, closedPort(t)))
	id := g.do(t, "GET", "payments.local", "/exact?token=secret", nil).header.Get("X-Request-Id")
	g.do(t, "GET", "payments.local", "/none", nil)
	require.NoError(t, g.Admin().Quit(t.Context()))
	<-g.Gone()
	require.NotContains(t, g.AccessLog(), "secret")
	var lines []map[string]any
	for line := range strings.Lines(g.AccessLog()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
		lines = append(lines, fields)
	}
	require.Len(t, lines, 2)
	require.Equal(t, id, lines[0]["requestId"])
	require.Equal(t, "payments/exact", lines[0]["route"])
	require.Equal(t, "/exact", lines[0]["path"])
	require.InDelta(t, 200, lines[0]["status"], 0)
	require.InDelta(t, 1, lines[0]["attempts"], 0)
	require.NotEmpty(t, lines[0]["upstream"])
	require.NotContains(t, lines[0], "decision", "empty fields are left out")
	require.Equal(t, "payments/", lines[1]["route"])
	require.InDelta(t, 404, lines[1]["status"], 0)
}
