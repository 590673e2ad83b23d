//go:build linux

package realenvoy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/envoy"
)

const (
	// SwitchEnv is the variable that, set to "off", skips every test that needs
	// an Envoy.
	SwitchEnv = "SEAWALL_ENVOY"
	// NotRunEnv names the file to which the name of each skipped test goes.
	NotRunEnv = "SEAWALL_NOT_RUN"

	findTimeout  = 3 * time.Minute
	startTimeout = 30 * time.Second
	poll         = 20 * time.Millisecond
)

// Binary returns the Envoy to test with, or ends the test: skipped and counted
// where SEAWALL_ENVOY=off, else failed with what to do.
func Binary(t testing.TB) envoy.Binary {
	t.Helper()
	if os.Getenv(SwitchEnv) == "off" {
		CountNotRun(t)
		t.Skip("scenario not run: " + SwitchEnv + "=off")
	}
	ctx, cancel := context.WithTimeout(context.Background(), findTimeout)
	defer cancel()
	bin, err := envoy.Find(ctx, envoy.FindConfig{Log: Logger(t)})
	if err != nil {
		t.Fatalf("this test needs a real Envoy: %v; or run with %s=off", err, SwitchEnv)
	}
	return bin
}

// CountNotRun notes a test that is skipped because something real is switched
// off, for the count at the end.
func CountNotRun(t testing.TB) {
	t.Helper()
	path := os.Getenv(NotRunEnv)
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	require.NoError(t, err)
	defer f.Close()
	_, err = fmt.Fprintln(f, t.Name())
	require.NoError(t, err)
}

// Logger returns a logger that writes to the test's output, and is silent once
// the test is over.
func Logger(t testing.TB) *slog.Logger {
	t.Helper()
	w := &testWriter{t: t}
	t.Cleanup(w.close)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct {
	mu sync.Mutex
	t  testing.TB
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

func (w *testWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = nil
}

// Config says what to start. Either Static or XDS and Telemetry are given.
type Config struct {
	// Static is a whole bootstrap, YAML or JSON. Its admin is moved to a free
	// port.
	Static string

	XDS, Telemetry  string       // host:port of a control plane
	NodeID, Cluster string       // "" = "test", "test"
	Module          envoy.Module // advertised and put into the filter folder; may be empty

	Workers  int    // 0 = 2
	LogLevel string // "" = warning, and info for what the filter says
	DataDir  string // "" = a temporary folder of the test
}

// Envoy is one running process. It is not started again when it ends.
type Envoy struct {
	t     testing.TB
	dir   string
	cmd   *exec.Cmd
	admin *envoy.Admin
	gone  chan struct{}
}

// Start runs an Envoy until the test ends. It returns when the admin answers;
// see WaitLive for when it serves.
func Start(t testing.TB, cfg Config) *Envoy {
	t.Helper()
	bin := Binary(t)
	if cfg.DataDir == "" {
		cfg.DataDir = t.TempDir()
	}
	if cfg.Workers == 0 {
		cfg.Workers = 2
	}
	config := filepath.Join(cfg.DataDir, "envoy.yaml")
	raw := []byte(cfg.Static)
	if cfg.Static == "" {
		config = filepath.Join(cfg.DataDir, "envoy.json")
		raw = bootstrap(t, cfg)
	}
	require.NoError(t, os.WriteFile(config, raw, 0o644))

	e := &Envoy{t: t, dir: cfg.DataDir, gone: make(chan struct{})}
	adminFile := filepath.Join(cfg.DataDir, "admin-address")
	_ = os.Remove(adminFile)
	args := []string{
		"--config-path", config,
		"--config-yaml", "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}",
		"--concurrency", strconv.Itoa(cfg.Workers),
		"--disable-hot-restart",
		"--admin-address-path", adminFile,
		"--drain-time-s", "2", "--drain-strategy", "immediate",
	}
	if cfg.LogLevel == "" {
		args = append(args, "--log-level", "warning", "--component-log-level", "wasm:info")
	} else {
		args = append(args, "--log-level", cfg.LogLevel)
	}
	e.cmd = exec.Command(bin.Path, args...)
	e.cmd.Dir = cfg.DataDir
	e.run()
	e.awaitAdmin(adminFile)
	return e
}

func bootstrap(t testing.TB, cfg Config) []byte {
	t.Helper()
	b := envoy.BootstrapConfig{
		NodeID: cfg.NodeID, Cluster: cfg.Cluster, XDS: cfg.XDS, Telemetry: cfg.Telemetry,
		Workers: cfg.Workers, FilterDir: cfg.DataDir, Version: "test",
	}
	if b.NodeID == "" {
		b.NodeID = "test"
	}
	if b.Cluster == "" {
		b.Cluster = "test"
	}
	if cfg.Module.SHA256 != "" {
		b.Filters = []string{cfg.Module.SHA256}
		require.NoError(t, os.WriteFile(filepath.Join(cfg.DataDir, envoy.ModuleFile(cfg.Module.SHA256)), cfg.Module.Bytes, 0o644))
	}
	raw, err := envoy.Bootstrap(b)
	require.NoError(t, err)
	return raw
}

// run starts the process. Its parent is a thread that lives as long as it does:
// the kernel kills it when that thread, and so the test binary, dies.
func (e *Envoy) run() {
	e.t.Helper()
	stderr := e.open("envoy.log")
	stdout := e.open("access.log")
	e.cmd.Stdout, e.cmd.Stderr = stdout, stderr
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := e.cmd.Start()
		started <- err
		if err == nil {
			_ = e.cmd.Wait()
			close(e.gone)
		}
		_ = stdout.Close()
		_ = stderr.Close()
	}()
	require.NoError(e.t, <-started)
	e.t.Cleanup(func() {
		_ = e.cmd.Process.Kill()
		<-e.gone
		if e.t.Failed() {
			e.t.Logf("the end of envoy's log:\n%s", lastLines(e.Log(), 40))
		}
	})
}

func (e *Envoy) open(name string) *os.File {
	e.t.Helper()
	f, err := os.OpenFile(filepath.Join(e.dir, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	require.NoError(e.t, err)
	return f
}

func (e *Envoy) awaitAdmin(file string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		if raw, err := os.ReadFile(file); err == nil && len(raw) > 0 {
			if a, err := envoy.NewAdmin(strings.TrimSpace(string(raw))); err == nil {
				if _, _, err := a.Ready(ctx); err == nil {
					e.admin = a
					return
				}
			}
		}
		select {
		case <-e.gone:
			e.t.Fatalf("envoy ended during its start:\n%s", lastLines(e.Log(), 20))
		case <-ctx.Done():
			e.t.Fatalf("envoy did not open its admin within %s:\n%s", startTimeout, lastLines(e.Log(), 20))
		case <-time.After(poll):
		}
	}
}

// PID is the process id.
func (e *Envoy) PID() int { return e.cmd.Process.Pid }

// Dir is the folder with the configuration, envoy.log and access.log.
func (e *Envoy) Dir() string { return e.dir }

// Admin returns a client for the admin.
func (e *Envoy) Admin() *envoy.Admin { return e.admin }

// WaitLive waits until Envoy serves, or fails the test.
func (e *Envoy) WaitLive() {
	e.t.Helper()
	state := ""
	require.Eventually(e.t, func() bool {
		live, s, err := e.admin.Ready(context.Background())
		state = s
		return err == nil && live
	}, startTimeout, poll, "envoy is not LIVE")
	require.Equal(e.t, "LIVE", state)
}

// Address waits for the listener with that name and returns its host:port, also
// where its port was left to the system.
func (e *Envoy) Address(listener string) string {
	e.t.Helper()
	return ListenerAddress(e.t, e.admin, listener)
}

// ListenerAddress is Address for an Envoy that was started elsewhere.
func ListenerAddress(t testing.TB, a *envoy.Admin, listener string) string {
	t.Helper()
	var address string
	require.Eventually(t, func() bool {
		all, err := a.Listeners(context.Background())
		if err != nil {
			return false
		}
		for _, l := range all {
			if l.Name == listener && !strings.HasSuffix(l.Address, ":0") {
				address = l.Address
				return true
			}
		}
		return false
	}, startTimeout, poll, "envoy has no listener %q", listener)
	return address
}

// Stat returns one counter or gauge by its full name, 0 where it does not exist.
func (e *Envoy) Stat(name string) uint64 {
	e.t.Helper()
	stats, err := e.admin.Stats(context.Background(), "^"+regexp.QuoteMeta(name)+"$")
	require.NoError(e.t, err)
	return stats[name]
}

// Log returns what Envoy has written to stderr.
func (e *Envoy) Log() string { return readAll(filepath.Join(e.dir, "envoy.log")) }

// AccessLog returns what Envoy has written to stdout.
func (e *Envoy) AccessLog() string { return readAll(filepath.Join(e.dir, "access.log")) }

// Kill ends the process as `kill -9` does and waits for its end.
func (e *Envoy) Kill() {
	e.t.Helper()
	require.NoError(e.t, e.cmd.Process.Kill())
	<-e.gone
}

// Pause stops the process (SIGSTOP): it keeps its sockets and answers nothing.
func (e *Envoy) Pause() {
	e.t.Helper()
	require.NoError(e.t, e.cmd.Process.Signal(syscall.SIGSTOP))
}

// Resume lets a paused process go on.
func (e *Envoy) Resume() {
	e.t.Helper()
	require.NoError(e.t, e.cmd.Process.Signal(syscall.SIGCONT))
}

// Gone is closed when the process has ended.
func (e *Envoy) Gone() <-chan struct{} { return e.gone }

// Launch runs an Envoy as `seawall up` does, supervised, until the test ends.
// Binary, Log and DataDir are filled in where they are empty, and so are the
// node's id and cluster ("test") and its workers (2).
func Launch(t testing.TB, cfg envoy.Config) *envoy.Launcher {
	t.Helper()
	Fill(t, &cfg)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	l, err := envoy.Start(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		// A test that is over needs no draining.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = l.Stop(ctx)
		if t.Failed() {
			t.Logf("the end of envoy's log:\n%s", lastLines(readAll(filepath.Join(cfg.DataDir, "envoy", "envoy.log")), 40))
		}
	})
	return l
}

// Fill sets what Launch would set.
func Fill(t testing.TB, cfg *envoy.Config) {
	t.Helper()
	if cfg.Binary.Path == "" {
		cfg.Binary = Binary(t)
	}
	if cfg.Log == nil {
		cfg.Log = Logger(t)
	}
	if cfg.DataDir == "" {
		cfg.DataDir = t.TempDir()
	}
	if cfg.Bootstrap.NodeID == "" {
		cfg.Bootstrap.NodeID = "test"
	}
	if cfg.Bootstrap.Cluster == "" {
		cfg.Bootstrap.Cluster = "test"
	}
	if cfg.Bootstrap.Workers == 0 {
		cfg.Bootstrap.Workers = 2
	}
}

func readAll(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	raw, _ := io.ReadAll(io.LimitReader(f, 64<<20))
	return string(raw)
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
