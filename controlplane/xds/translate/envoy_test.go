package translate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/xds/translate"
)

// envoyBinary is $ENVOY; these tests look at Envoy alone, so they need neither
// the launcher nor the filter.
func envoyBinary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("ENVOY")
	if path == "" {
		t.Skip("ENVOY names no Envoy binary")
	}
	return path
}

// gateway is a real Envoy that serves an edge statically.
type gateway struct {
	addr   string
	client *http.Client
	access *lockedBuffer
}

func startEnvoy(t *testing.T, edge ir.Edge) *gateway {
	t.Helper()
	bootstrap, err := translate.Static(edge, translate.Module{}, translate.StaticConfig{
		AdminAddress: "127.0.0.1", TelemetryAddress: "127.0.0.1", TelemetryPort: 1, WithoutFilter: true,
	})
	require.NoError(t, err)
	config, err := translate.JSON(bootstrap)
	require.NoError(t, err)
	dir := t.TempDir()
	path, admin := filepath.Join(dir, "envoy.json"), filepath.Join(dir, "admin")
	require.NoError(t, os.WriteFile(path, config, 0o600))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, envoyBinary(t), "-c", path, "--concurrency", "2", "--disable-hot-restart", "--admin-address-path", admin, "-l", "warning")
	access, log := &lockedBuffer{}, &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = access, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("envoy: %s\naccess: %s", log.String(), access.String())
		}
	})
	addr := fmt.Sprintf("127.0.0.1:%d", edge.Listeners[0].Port)
	require.Eventually(t, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}, 20*time.Second, 20*time.Millisecond, "envoy does not listen: %s", log)
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &gateway{addr: addr, access: access, client: &http.Client{
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

func (g *gateway) do(t *testing.T, method, host, path string, header map[string]string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.addr, nil)
	require.NoError(t, err)
	req.URL.Opaque = path
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
		_, _ = io.WriteString(w, `{"type":"https://bank.example/down"}`)
	default:
		_, _ = io.WriteString(w, "hello")
	}
}

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

func freePort(t *testing.T) uint32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return uint32(l.Addr().(*net.TCPAddr).Port)
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestProbe(t *testing.T) {
	up := startUpstream(t)
	g := startEnvoy(t, shop(freePort(t), up.port, freePort(t)))
	show := func(method, host, path string, header map[string]string) {
		a := g.do(t, method, host, path, header)
		t.Logf("%s %s%s -> %d %v %q", method, host, path, a.status, a.header, a.body)
		for _, r := range up.take() {
			t.Logf("    upstream %s %s %v", r.Method, r.RequestURI, r.Header)
		}
	}
	show("GET", "nowhere.local", "/x", nil)
	show("GET", "payments.local", "/none?x=secret", nil)
	show("GET", "payments.local:8080", "/exact?x=secret", map[string]string{"x-seawall-flags": "1", "x-envoy-upstream-rq-timeout-ms": "1", "x-request-id": "mine", "x-forwarded-for": "1.2.3.4"})
	show("GET", "payments.local", "/retry", nil)
	show("POST", "payments.local", "/retry", nil)
	up.take()
	show("POST", "payments.local", "/slow", nil)
	show("GET", "payments.local", "/broken", nil)
	show("GET", "payments.local", "/down", nil)
	show("POST", "payments.local", "/down", map[string]string{"content-type": "application/grpc"})
	show("GET", "payments.local", "/exact%2fx", nil)
	show("GET", "payments.local", "/a/../exact", nil)
	show("GET", "payments.local", "/exact", map[string]string{"a_b": "1"})
	show("GET", "payments.local", "/exact", map[string]string{"a-b": strings.Repeat("x", 70000)})
	c, _ := net.Dial("tcp", g.addr)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nfoo\r\n\r\n")
	b, _ := io.ReadAll(c)
	t.Logf("%s", b)
	c, _ = net.Dial("tcp", g.addr)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
	b, _ = io.ReadAll(c)
	t.Logf("%s", b)
	t.Log(g.access.String())
	_ = json.Valid
}
