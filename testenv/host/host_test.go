package host_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
)

var (
	probe     *host.Module
	probeWasm []byte
)

func TestMain(m *testing.M) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "seawall-probe-")
	if err == nil {
		defer os.RemoveAll(dir)
		probe, err = buildProbe(ctx, dir)
	}
	if err != nil {
		panic(err) // without the probe nothing here may pass
	}
	defer probe.Close(ctx)
	m.Run()
}

func buildProbe(ctx context.Context, dir string) (*host.Module, error) {
	wasm := filepath.Join(dir, "probe.wasm")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", wasm, "./testdata/probe")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the probe: %w\n%s", err, out)
	}
	var err error
	if probeWasm, err = os.ReadFile(wasm); err != nil {
		return nil, err
	}
	return host.Compile(ctx, probeWasm, host.CompileConfig{})
}

func start(t *testing.T, cfg host.Config) *host.Host {
	t.Helper()
	if cfg.Module == nil {
		cfg.Module = probe
	}
	h, err := host.New(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

// do sends one request that makes the probe run a command, and returns what
// the probe found.
func do(h *host.Host, worker int, cmd string) string {
	s := h.Worker(worker).Request(host.Request{Headers: host.H("x-cmd", cmd)})
	if s.Action() == host.Continued {
		s.Respond(host.Response{})
	}
	out := s.RequestHeaders().Get("x-out")
	s.Done()
	return out
}

// logs are the messages of the probe with a prefix.
func logs(h *host.Host, prefix string) []string {
	var out []string
	for _, l := range h.Logs() {
		if s, ok := strings.CutPrefix(l.Message, prefix); ok {
			out = append(out, s)
		}
	}
	return out
}

func TestSharedData(t *testing.T) {
	for _, tc := range []struct{ name, cmd, want string }{
		{"a missing key is not found", "get k", "notfound"},
		{"cas 0 overwrites", "set k a 0; set k b 0; get k", "ok | ok | ok:b@2"},
		{"the cas sequence is one over all keys", "set a 1 0; set b 1 0; set a 2 0; get a; get b", "ok | ok | ok | ok:2@3 | ok:1@2"},
		{"cas 0xFFFFFFFF creates if absent", "set k a 0xFFFFFFFF; set k b 0xFFFFFFFF; get k", "ok | casmismatch | ok:a@1"},
		{"an old cas mismatches, the current one does not", "set k a 0; set k b 7; set k c 1; get k", "ok | casmismatch | ok | ok:c@2"},
		{"an empty value is a value", "set k ; get k", "ok | ok:@1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, do(start(t, host.Config{}), 0, tc.cmd))
		})
	}
	t.Run("it is one for all workers, and its cas loses no update", func(t *testing.T) {
		h := start(t, host.Config{Workers: 2})
		do(h, 0, "set n 0 0")
		h.Worker(0).Interleave(func(c host.Crossing) {
			if c.Name == "proxy_set_shared_data" {
				require.Equal(t, "ok", do(h, 1, "incr n"))
			}
		})
		require.Equal(t, "casmismatch", do(h, 0, "incr n"))
		h.Worker(0).Interleave(nil)
		require.Equal(t, "ok", do(h, 0, "incr n"))
		v, ok := h.Shared("seawall", "n")
		require.True(t, ok)
		require.Equal(t, "2", string(v))
	})
}

func TestMetrics(t *testing.T) {
	t.Run("a gauge is one for all VMs, whatever their ids", func(t *testing.T) {
		h := start(t, host.Config{Workers: 2})
		require.Equal(t, "ok:5 | ok:9 | ok | ok", do(h, 0, "define 1 g; define 1 g; inc 5 3; inc 9 2"))
		require.Equal(t, "ok:5 | ok:5 | ok | ok:4", do(h, 1, "define 1 g; read 5; inc 5 -1; read 5"))
		require.Equal(t, host.Metric{Kind: "gauge", Value: 4}, h.Metrics()["g"])
	})
	for _, tc := range []struct{ name, cmd, want string }{
		{"a counter takes no step back", "define 0 c; inc 4 1; inc 4 0; inc 4 -1; read 4", "ok:4 | ok | badarg | badarg | ok:1"},
		{"recording sets a gauge and adds to a counter", "define 0 c; define 1 g; rec 4 3; rec 4 3; rec 5 3; rec 5 2; read 4; read 5",
			"ok:4 | ok:5 | ok | ok | ok | ok | ok:6 | ok:2"},
		{"a histogram cannot be read", "define 2 h; rec 6 9; read 6; inc 6 1", "ok:6 | ok | badarg:0 | badarg"},
		{"an unknown id", "read 4; rec 400 1; inc 5 1", "notfound:0 | notfound | notfound"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, do(start(t, host.Config{}), 0, tc.cmd))
		})
	}
	t.Run("behind a stats_matcher it takes all and reads 0", func(t *testing.T) {
		h := start(t, host.Config{HideMetrics: func(n string) bool { return n == "g" }})
		require.Equal(t, "ok:5 | ok | ok:0", do(h, 0, "define 1 g; inc 5 1; read 5"))
	})
}

func TestProperties(t *testing.T) {
	h := start(t, host.Config{Node: host.Node{ID: "n1", Cluster: "edge"}, PluginConfig: []byte("prop xds.node.id; prop node.id; prop plugin_name; prop xds.route_name")})
	require.Contains(t, logs(h, ""), "ok:n1", "readable in plugin start")
	require.Contains(t, logs(h, ""), "ok:seawall")
	require.Contains(t, logs(h, ""), "notfound")

	ask := func(r host.Request, resp host.Response, phase, cmd string) string {
		r.Headers = host.H(phase, cmd)
		before := len(h.Logs())
		s := h.Worker(0).Request(r)
		out := s.RequestHeaders().Get("x-out")
		h.Advance(resp.After)
		s.Respond(resp)
		s.Done()
		for _, l := range h.Logs()[before:] {
			if msg, ok := strings.CutPrefix(l.Message, "log: "); ok {
				out += msg + " "
			}
		}
		return strings.TrimSpace(out)
	}
	for _, tc := range []struct {
		name       string
		req        host.Request
		resp       host.Response
		phase, cmd string
		want       string
	}{
		{"route name", host.Request{Route: "payments/charge"}, host.Response{}, "x-cmd", "prop xds.route_name", "ok:payments/charge"},
		{"a route without a name", host.Request{}, host.Response{}, "x-cmd", "prop xds.route_name", "ok:"},
		{"no route", host.Request{NoRoute: true}, host.Response{}, "x-cmd", "prop xds.route_name", "notfound"},
		{"what is not there at top level", host.Request{}, host.Response{}, "x-cmd", "prop route_name; prop cluster_name; prop node.id; prop listener_direction",
			"notfound | notfound | notfound | notfound"},
		{"code and duration come later", host.Request{}, host.Response{}, "x-cmd", "prop response.code; prop request.duration", "notfound | notfound"},
		{"code is 8 bytes", host.Request{}, host.Response{Code: 503}, "x-cmd-log", "prop response.code", "ok:le8=503"},
		{"duration is in ns", host.Request{}, host.Response{After: 250 * time.Millisecond}, "x-cmd-log", "prop request.duration", "ok:le8=250000000"},
		{"flags and details of a refused connection", host.Request{}, host.ConnectRefused, "x-cmd-log", "prop response.flags; prop response.code_details",
			"ok:le8=32 ok:upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}"},
		{"gRPC status from trailers", host.Request{}, host.Response{Trailers: host.H("grpc-status", "14")}, "x-cmd-log", "prop response.grpc_status", "ok:le8=14"},
		{"gRPC status is made up where there is none", host.Request{}, host.Response{Code: 503}, "x-cmd-log", "prop response.grpc_status", "ok:le8=14"},
		{"request headers by name", host.Request{Path: "/a?b"}, host.Response{}, "x-cmd", "prop request.headers.:path; prop request.url_path", "ok:/a?b | ok:/a"},
		{"state is kept per stream", host.Request{}, host.Response{}, "x-cmd", "setprop own v; prop own; prop wasm.own", "ok | ok:v | notfound"},
	} {
		t.Run(tc.name, func(t *testing.T) { require.Equal(t, tc.want, ask(tc.req, tc.resp, tc.phase, tc.cmd)) })
	}

	t.Run("a client that left", func(t *testing.T) {
		for _, visible := range []bool{true, false} {
			s := h.Worker(0).Request(host.Request{Headers: host.H("x-cmd-log", "prop response.code; prop response.flags; prop response.code_details")})
			s.Abort(visible)
			before := len(h.Logs())
			require.Zero(t, s.Done().Status)
			var got []string
			for _, l := range h.Logs()[before:] {
				got = append(got, l.Message)
			}
			want := []string{"log: notfound", "log: notfound", "log: notfound"}
			if visible {
				want = []string{"log: notfound", "log: ok:le8=16384", "log: ok:downstream_remote_disconnect"}
			}
			require.Equal(t, want, got)
		}
	})
}

func TestHeaders(t *testing.T) {
	h := start(t, host.Config{})
	t.Run("the first of repeated values, all in pairs", func(t *testing.T) {
		s := h.Worker(0).Request(host.Request{Headers: host.H("x-cmd", "hdr 0 x-a; hdr 0 none; pairs 0", "x-a", "1", "x-a", "2", "x-request-id", "r")})
		require.Equal(t, "ok:1 | notfound | ok::authority=edge.test,:path=/,:method=GET,:scheme=http,x-cmd=hdr 0 x-a; hdr 0 none; pairs 0,x-a=1,x-a=2,x-request-id=r,",
			s.RequestHeaders().Get("x-out"))
		s.Done()
	})
	t.Run("in response callbacks the request is gone", func(t *testing.T) {
		s := h.Worker(0).Request(host.Request{})
		s.Respond(host.Response{Headers: host.H("x-cmd-response", "hdr 0 :path; hdr 2 :status; pairs 0")})
		r := s.Done()
		var out []string
		for _, hd := range r.Headers {
			if hd.Name == "x-out" {
				out = append(out, hd.Value)
			}
		}
		require.Equal(t, []string{"badarg", "ok:200", "ok:"}, out)
	})
	t.Run("in on_log both are back", func(t *testing.T) {
		s := h.Worker(0).Request(host.Request{Path: "/logged", Headers: host.H("x-cmd-log", "hdr 0 :path; hdr 2 :status; add 0 x y")})
		s.Respond(host.Response{Code: 204})
		before := len(h.Logs())
		s.Done()
		var got []string
		for _, l := range h.Logs()[before:] {
			got = append(got, l.Message)
		}
		require.Equal(t, []string{"log: ok:/logged", "log: ok:204", "log: badarg"}, got)
	})
	t.Run("changes reach the upstream and the client", func(t *testing.T) {
		s := h.Worker(0).Request(host.Request{Headers: host.H("x-cmd", "remove 0 x-drop; replace 0 x-keep 2; add 0 x-new 3", "x-drop", "1", "x-keep", "1")})
		require.False(t, s.RequestHeaders().Has("x-drop"))
		require.Equal(t, "2", s.RequestHeaders().Get("x-keep"))
		require.Equal(t, "3", s.RequestHeaders().Get("x-new"))
		s.Respond(host.Response{Code: 503, Headers: host.H("x-cmd-response", "replace 2 :status 200")})
		require.Equal(t, 200, s.Done().Status)
	})
}

func TestLocalReply(t *testing.T) {
	for _, tc := range []struct {
		name    string
		req     host.Request
		cmd     string
		status  int
		headers host.Headers
		body    string
	}{
		{"as it was given", host.Request{}, "reply 429 {}", 429,
			host.H(":status", "429", "content-type", "application/problem+json", "x-dup", "a", "x-dup", "b", "content-length", "2"), "{}"},
		{"without a type it is text", host.Request{}, "reply 503 hi bare", 503,
			host.H(":status", "503", "retry-after", "3", "content-length", "2", "content-type", "text/plain"), "hi"},
		{"HEAD has no body", host.Request{Method: "HEAD"}, "reply 503 hi bare", 503,
			host.H(":status", "503", "retry-after", "3", "content-length", "2", "content-type", "text/plain"), ""},
		{"gRPC gets trailers only", host.Request{Headers: host.H("content-type", "application/grpc")}, "reply 503 no!%", 200,
			host.H(":status", "200", "content-type", "application/grpc", "x-dup", "a", "x-dup", "b", "grpc-status", "14", "grpc-message", "no!%25"), ""},
		{"the first of two wins", host.Request{}, "reply 503 one bare; reply 504 two bare", 503,
			host.H(":status", "503", "retry-after", "3", "content-length", "3", "content-type", "text/plain"), "one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := start(t, host.Config{})
			tc.req.Headers = append(tc.req.Headers, host.H("x-cmd", tc.cmd, "x-cmd-log", "prop response.code; prop response.flags; prop response.code_details")...)
			r := h.Worker(0).Exchange(tc.req, host.Response{})
			require.Equal(t, host.Replied, r.Action)
			require.False(t, r.Upstream)
			require.Equal(t, tc.status, r.Status)
			require.Equal(t, tc.headers, r.Headers)
			require.Equal(t, tc.body, string(r.Body))
			require.Equal(t, []string{fmt.Sprintf("ok:le8=%d", tc.status), "ok:le8=0", "ok:"}, logs(h, "log: "), "no flags, empty details")
		})
	}
	t.Run("from the response path it replaces the upstream's", func(t *testing.T) {
		h := start(t, host.Config{})
		r := h.Worker(0).Exchange(host.Request{}, host.Response{Code: 503, Body: []byte("upstream"), Headers: host.H("x-cmd-response", "reply 200 fallback bare", "x-up", "1")})
		require.Equal(t, 200, r.Status)
		require.Equal(t, "fallback", string(r.Body))
		require.False(t, r.Headers.Has("x-up"))
		require.True(t, r.Upstream)
	})
}
