package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/api/apitest"
	"github.com/seawall-mesh/seawall/controlplane/cli"
	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// result is what one command did.
type result struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, change func(*cli.Env), args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	env := cli.Env{
		Context: t.Context(), Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Getenv: func(string) string { return "" }, Now: apitest.Now, Version: "0.1.0-test",
	}
	if change != nil {
		change(&env)
	}
	code := cli.Main(env)
	return result{code, out.String(), errs.String()}
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown command":              {[]string{"frob"}, `unknown command "frob"`},
		"near a command":               {[]string{"statsu"}, "did you mean: seawall status"},
		"unknown flag":                 {[]string{"status", "--frob"}, "unknown flag: --frob"},
		"arguments where none":         {[]string{"nodes", "x"}, `takes no arguments, got "x"`},
		"output format":                {[]string{"nodes", "-o", "yaml"}, `"yaml" is neither table nor json`},
		"admin without port":           {[]string{"status", "--admin", "somewhere"}, "not host:port"},
		"admin of another scheme":      {[]string{"status", "--admin", "ftp://x"}, "neither host:port nor an http(s) URL"},
		"admin with a password":        {[]string{"status", "--admin", "http://u:p@x"}, "neither host:port nor an http(s) URL"},
		"window":                       {[]string{"traffic", "--window", "soon"}, `--window "soon"`},
		"validate nothing":             {[]string{"validate"}, "at least one file or directory"},
		"validate nowhere":             {[]string{"validate", "/no/such/place"}, "no such file"},
		"validate fail-on":             {[]string{"validate", "--fail-on", "x", "."}, `"x" is none of error, warning`},
		"render what":                  {[]string{"render"}, "render what?"},
		"render something else":        {[]string{"render", "tea"}, `"tea" cannot be rendered`},
		"render an odd part":           {[]string{"render", "prometheus", "--part", "tea", "x"}, `--part "tea" is none of rules, tests, alertmanager`},
		"up without policies":          {[]string{"up"}, "-p is required"},
		"up with an argument":          {[]string{"up", "policies"}, "takes no arguments"},
		"embedded data plane":          {[]string{"up", "-p", "x", "--dataplane", "embedded"}, "not available yet"},
		"embedded demo":                {[]string{"demo", "--dataplane", "embedded"}, "not available yet"},
		"unknown data plane":           {[]string{"up", "-p", "x", "--dataplane", "nginx"}, "none of auto, envoy, embedded"},
		"admin for everybody":          {[]string{"up", "-p", "x", "--admin", "0.0.0.0:9900"}, "not a loopback address"},
		"listen without port":          {[]string{"up", "-p", "x", "--listen", "127.0.0.1"}, `--listen "127.0.0.1": not host:port`},
		"port out of range":            {[]string{"up", "-p", "x", "--xds", "127.0.0.1:70000"}, "0 to 65535"},
		"two on one address":           {[]string{"up", "-p", "x", "--xds", "127.0.0.1:9902"}, "--xds and --telemetry are both 127.0.0.1:9902"},
		"xds for everybody":            {[]string{"up", "-p", "x", "--xds", "0.0.0.0:9901"}, "--xds 0.0.0.0:9901 is not a loopback address"},
		"serve without policies":       {[]string{"serve"}, "-p is required"},
		"serve for everybody":          {[]string{"serve", "-p", "x", "--telemetry", "10.0.0.1:9902"}, "--telemetry 10.0.0.1:9902 is not a loopback address"},
		"edge without a name":          {[]string{"edge", "--node-cluster", "c"}, "--node-id is required"},
		"edge without a cluster":       {[]string{"edge", "--node-id", "i"}, "--node-cluster is required"},
		"edge of two words":            {[]string{"edge", "--node-id", "a b", "--node-cluster", "c"}, "--node-id is not one word"},
		"edge far away":                {[]string{"edge", "--node-id", "i", "--node-cluster", "c", "--xds", "xds.example:9901"}, "--xds xds.example:9901 is not a loopback address"},
		"edge of any port":             {[]string{"edge", "--node-id", "i", "--node-cluster", "c", "--telemetry", "127.0.0.1:0"}, "has no port to connect to"},
		"edge workers":                 {[]string{"edge", "--node-id", "i", "--node-cluster", "c", "--workers", "999"}, "--workers 999"},
		"workers":                      {[]string{"up", "-p", "x", "--workers", "-1"}, "--workers -1"},
		"no data folder":               {[]string{"up", "-p", "x", "--data", ""}, "--data is empty"},
		"log level":                    {[]string{"up", "-p", "x", "--log-level", "loud"}, "--log-level"},
		"log format":                   {[]string{"up", "-p", "x", "--log-format", "xml"}, "--log-format"},
		"token file that is not there": {[]string{"status", "--token-file", "/no/such/file"}, "token file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, func(e *cli.Env) {
				e.Up = func(context.Context, cli.UpOptions) error { return errors.New("must not be called") }
				e.Demo = func(context.Context, cli.DemoOptions) error { return errors.New("must not be called") }
			}, c.args...)
			require.Equal(t, cli.ExitUsage, r.code, r.stderr)
			require.Contains(t, r.stderr, c.want)
			require.Empty(t, r.stdout)
			requireTidy(t, r.stderr)
		})
	}
}

// requireTidy holds the form of an error: one line, perhaps a hint, no trace
// and no usage dump.
func requireTidy(t *testing.T, stderr string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	require.LessOrEqual(t, len(lines), 2, stderr)
	require.True(t, strings.HasPrefix(lines[0], "seawall: "), stderr)
	if len(lines) == 2 {
		require.True(t, strings.HasPrefix(lines[1], "  hint: "), stderr)
	}
	require.NotContains(t, stderr, "goroutine")
	require.NotContains(t, stderr, "Usage:")
}

type hinted struct{ error }

func (hinted) Hint() string { return "buy a newer Envoy" }

type refused struct{ error }

func (refused) Diagnostics() diag.List {
	return diag.List{{Code: "SW0102", Severity: diag.Error, Pos: diag.Pos{File: "a.yaml", Line: 1, Column: 2}, Message: "unknown field"}}
}

type exits struct{ error }

func (exits) ExitCode() int { return 5 }

func TestErrorsOfUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		code int
		want []string
	}{
		"orderly end":         {nil, 0, nil},
		"plain":               {errors.New("it broke"), 1, []string{"seawall: it broke\n"}},
		"several lines":       {errors.New("it broke\nhere\x1b[2J"), 1, []string{"seawall: it broke here [2J\n"}},
		"with a hint":         {fmt.Errorf("start: %w", hinted{errors.New("too old")}), 1, []string{"seawall: start: too old\n", "hint: buy a newer Envoy"}},
		"with a code":         {fmt.Errorf("lock: %w", exits{errors.New("taken")}), 5, []string{"lock: taken"}},
		"refused policies":    {refused{errors.New("the policies have errors")}, 1, []string{"a.yaml:1:2: error SW0102", "seawall: the policies have errors"}},
		"port in use":         {&net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}, 1, []string{"hint: something else listens there", "--listen"}},
		"read-only folder":    {&os.PathError{Op: "open", Path: "/x", Err: syscall.EROFS}, 1, []string{"/x", "--data"}},
		"forbidden folder":    {&os.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}, 1, []string{"/x", "--data"}},
		"disk full":           {&os.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}, 1, []string{"free some space"}},
		"address of no one's": {&net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)}, 1, []string{"no such address"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, func(e *cli.Env) {
				e.Up = func(context.Context, cli.UpOptions) error { return c.err }
			}, "up", "-p", "policies")
			require.Equal(t, c.code, r.code)
			for _, w := range c.want {
				require.Contains(t, r.stderr, w)
			}
			require.Empty(t, r.stdout)
		})
	}
}

func TestAnInterruptedCommandExits130(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	r := run(t, func(e *cli.Env) {
		e.Context = ctx
		e.Up = func(ctx context.Context, _ cli.UpOptions) error {
			cancel()
			<-ctx.Done()
			return fmt.Errorf("wait: %w", ctx.Err())
		}
	}, "up", "-p", "policies")
	require.Equal(t, result{code: cli.ExitInterrupted}, r)
}

func TestUpPassesWhatWasAsked(t *testing.T) {
	t.Parallel()
	var got cli.UpOptions
	up := func(e *cli.Env) {
		e.Up = func(_ context.Context, o cli.UpOptions) error {
			got = o
			o.Log.Info("hello", "logger", "xds", "node", "edge-1")
			_, err := io.WriteString(o.Stdout, "ready\n")
			return err
		}
	}
	r := run(t, up, "up", "-p", "a", "-p", "b", "--listen", "127.0.0.1:0", "--xds", "127.0.0.1:0", "--data", "/d", "--workers", "2", "--dataplane", "envoy")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "ready\n", r.stdout)
	require.Contains(t, r.stderr, `"level":"info"`)
	require.Contains(t, r.stderr, `"logger":"xds"`)
	require.Contains(t, r.stderr, `"message":"hello"`)
	require.Equal(t, []string{"a", "b"}, got.PolicyPaths)
	require.Equal(t, "127.0.0.1:0", got.Listen)
	require.Equal(t, "127.0.0.1:9900", got.Admin)
	require.Equal(t, "127.0.0.1:9902", got.Telemetry)
	require.Equal(t, "/d", got.DataDir)
	require.Equal(t, 2, got.Workers)
	require.Equal(t, "envoy", got.DataPlane)
	require.Equal(t, "0.1.0-test", got.Version)
}

func TestServeAndEdgePassWhatWasAsked(t *testing.T) {
	t.Parallel()
	var serve cli.ServeOptions
	var edge cli.EdgeOptions
	env := func(e *cli.Env) {
		e.Serve = func(_ context.Context, o cli.ServeOptions) error { serve = o; return nil }
		e.Edge = func(_ context.Context, o cli.EdgeOptions) error { edge = o; return nil }
	}
	require.Zero(t, run(t, env, "serve", "-p", "a", "--xds", "127.0.0.1:1", "--data", "/d").code)
	require.Equal(t, []string{"a"}, serve.PolicyPaths)
	require.Equal(t, []string{"127.0.0.1:10000", "127.0.0.1:9900", "127.0.0.1:1", "127.0.0.1:9902", "/d"},
		[]string{serve.Listen, serve.Admin, serve.XDS, serve.Telemetry, serve.DataDir})
	require.Zero(t, run(t, env, "edge", "--node-id", "i", "--node-cluster", "c", "--workers", "3").code)
	require.Equal(t, []string{"127.0.0.1:9901", "127.0.0.1:9902", "i", "c", ".seawall-edge"},
		[]string{edge.XDS, edge.Telemetry, edge.NodeID, edge.NodeCluster, edge.DataDir})
	require.Equal(t, 3, edge.Workers)
	require.NotNil(t, edge.Log)
}

// TestWaitingForTheGate: it asks again while the answer is no, and while nobody
// answers, and is through as soon as it may be.
func TestWaitingForTheGate(t *testing.T) {
	t.Parallel()
	src := apitest.Incident()
	src.OpenAfter = 2
	srv := serveAPI(t, src, true)
	r := run(t, nil, "can-deploy", "payments", "--wait", "1m", "--admin", srv)
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "payments: allow (decision decision-1)\n", r.stdout)
	require.EqualValues(t, 2, src.Asked.Load())

	src.OpenAfter = 0
	r = run(t, nil, "can-deploy", "payments", "--wait", "100ms", "--admin", srv)
	require.Equal(t, cli.ExitDeny, r.code)
	require.Contains(t, r.stdout, "payments: deny")
}

func TestDemoPassesWhatWasAsked(t *testing.T) {
	t.Parallel()
	for _, tty := range []bool{true, false} {
		var got cli.DemoOptions
		r := run(t, func(e *cli.Env) {
			e.StdoutTTY = tty
			e.Demo = func(_ context.Context, o cli.DemoOptions) error { got = o; return nil }
		}, "demo", "--keep")
		require.Zero(t, r.code, r.stderr)
		require.True(t, got.Keep)
		require.Equal(t, "auto", got.DataPlane)
		require.Equal(t, tty, got.Colour)
	}
}

func TestPartsThatAreNotBuiltInSaySo(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"up", "-p", "x"}, {"demo"}, {"serve", "-p", "x"}, {"edge", "--node-id", "i", "--node-cluster", "c"}, {"render", "envoy", "x"}} {
		r := run(t, nil, args...)
		require.Equal(t, cli.ExitFindings, r.code)
		requireTidy(t, r.stderr)
	}
}

func TestExitCodesOfAnswers(t *testing.T) {
	t.Parallel()
	serve := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	const problemJSON = "application/problem+json"
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		code    int
		want    string
	}{
		"unauthorised":       {serve(401, problemJSON, `{"title":"Who are you"}`), 3, "Who are you"},
		"forbidden":          {serve(403, problemJSON, `{"title":"No","detail":"not for you"}`), 3, "No: not for you"},
		"conflict":           {serve(409, problemJSON, `{"title":"Taken"}`), 5, "Taken"},
		"changed meanwhile":  {serve(412, problemJSON, `{"title":"Changed"}`), 5, "Changed"},
		"not found":          {serve(404, problemJSON, `{"title":"Gone"}`), 1, "Gone"},
		"unavailable":        {serve(503, problemJSON, `{"title":"Busy"}`), 1, "Busy"},
		"malformed problem":  {serve(500, problemJSON, `<html>`), 4, "malformed problem document"},
		"some web server":    {serve(200, "text/html", "<html>"), 4, "does not answer like a Seawall control plane"},
		"a redirect":         {serve(302, "text/html", ""), 4, "does not answer like a Seawall control plane"},
		"malformed list":     {serve(200, "application/json", `[1]`), 4, "list is malformed"},
		"malformed item":     {serve(200, "application/json", `{"items":[7]}`), 4, "item 0"},
		"a list without end": {serve(200, "application/json", `{"items":[],"next":"x"}`), 4, "does not end"},
		"control characters": {serve(404, problemJSON, `{"title":"x","detail":"\u001b[2Jgone"}`), 1, "[2Jgone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(c.handler)
			defer srv.Close()
			r := run(t, nil, "nodes", "--admin", srv.URL)
			require.Equal(t, c.code, r.code, r.stderr)
			require.Contains(t, r.stderr, c.want)
			require.NotContains(t, r.stderr, "\x1b")
			requireTidy(t, r.stderr)
		})
	}
}

func TestUnreachableControlPlane(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.NoError(t, ln.Close())
	for _, command := range []string{"status", "nodes", "breakers", "traffic", "slo", "deployments"} {
		r := run(t, nil, command, "--admin", addr)
		require.Equal(t, cli.ExitUnreachable, r.code)
		require.Equal(t, "seawall: no control plane at "+addr+": connection refused\n  hint: start one with `seawall up -p policies/`, or name another with --admin\n", r.stderr)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"items":[],"next":""}`)
	}))
	defer srv.Close()
	env := func(e *cli.Env) {
		e.Getenv = func(k string) string { return map[string]string{"SEAWALL_TOKEN": "from-env"}[k] }
	}
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("from-file\n"), 0o600))

	require.Zero(t, run(t, env, "nodes", "--admin", srv.URL).code)
	require.Equal(t, "Bearer from-env", <-got)
	require.Zero(t, run(t, env, "nodes", "--admin", srv.URL, "--token-file", file).code)
	require.Equal(t, "Bearer from-file", <-got)
	require.Zero(t, run(t, nil, "nodes", "--admin", srv.URL).code)
	require.Empty(t, <-got)

	r := run(t, env, "nodes", "--admin", "http://seawall.example:9900")
	require.Equal(t, cli.ExitUsage, r.code)
	require.Contains(t, r.stderr, "never sent in plain text")
	require.NotContains(t, r.stderr, "from-env")

	require.NoError(t, os.WriteFile(file, []byte("two words"), 0o600))
	r = run(t, nil, "nodes", "--admin", srv.URL, "--token-file", file)
	require.Equal(t, cli.ExitUsage, r.code)
	require.NotContains(t, r.stderr, "words", "a token is never printed")
}

// TestForcedBreakersSayWhyAndForHowLong: once for all nodes.
func TestForcedBreakersSayWhyAndForHowLong(t *testing.T) {
	t.Parallel()
	until := apitest.Now().Add(9 * time.Minute)
	src := apitest.Incident()
	for i := range src.BreakerList[1:] {
		b := &src.BreakerList[i+1]
		b.Route, b.State, b.Forced, b.Reason, b.Until = "charge", "open", true, "provider\x1b[2J is migrating", &until
	}
	src.BreakerList[2].Node = "edge-2"
	r := run(t, nil, "breakers", "--admin", serveAPI(t, src, true))
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, 2, strings.Count(r.stdout, "forced\n"), r.stdout)
	require.Equal(t, 1, strings.Count(r.stdout, "payments/charge is forced; that ends by itself in 9m"), r.stdout)
	require.Contains(t, r.stdout, "provider [2J is migrating")

	src.BreakerList[1].State = "closed"
	r = run(t, nil, "status", "--admin", serveAPI(t, src, true))
	require.Contains(t, r.stdout, "breakers  3, payments/charge forced closed, payments/charge forced open")
}

func TestColourOnlyOnATerminalThatWantsIt(t *testing.T) {
	t.Parallel()
	srv := serveAPI(t, apitest.Incident(), true)
	for name, c := range map[string]struct {
		tty   bool
		env   map[string]string
		wants bool
	}{
		"terminal": {true, nil, true}, "pipe": {false, nil, false},
		"NO_COLOR": {true, map[string]string{"NO_COLOR": "1"}, false}, "dumb": {true, map[string]string{"TERM": "dumb"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, command := range []string{"status", "nodes", "breakers", "slo"} {
				r := run(t, func(e *cli.Env) {
					e.StdoutTTY, e.Getenv = c.tty, func(k string) string { return c.env[k] }
				}, command, "--admin", srv)
				require.Zero(t, r.code, r.stderr)
				require.Equal(t, c.wants, strings.Contains(r.stdout, "\x1b["), command)
			}
		})
	}
}
