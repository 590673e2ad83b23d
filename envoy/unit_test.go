//go:build linux

package envoy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestBackoff(t *testing.T) {
	var b backoff
	var got []time.Duration
	for range 7 {
		got = append(got, b.after(time.Second))
	}
	ms := time.Millisecond
	require.Equal(t, []time.Duration{200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms}, got)
	require.Equal(t, 200*ms, b.after(30*time.Second), "half a minute of health forgives")
	require.Equal(t, 400*ms, b.after(0))
}

func TestParseStat(t *testing.T) {
	// The command may hold anything, also what looks like further fields.
	rest := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21"
	for name, c := range map[string]struct {
		raw   string
		state byte
		start uint64
		ok    bool
	}{
		"plain":       {"77 (envoy)" + rest, 'S', 4242, true},
		"parentheses": {"77 (a) Z 1 (b c)" + rest, 'S', 4242, true},
		"short":       {"77 (envoy) S 1 2", 0, 0, false},
		"empty":       {"", 0, 0, false},
		"no number":   {"77 (envoy)" + strings.Replace(rest, "4242", "x", 1), 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			state, start, ok := parseStat([]byte(c.raw))
			require.Equal(t, c.ok, ok)
			require.Equal(t, c.state, state)
			require.Equal(t, c.start, start)
		})
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("77 (envoy) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21"))
	f.Fuzz(func(t *testing.T, raw []byte) { parseStat(raw) })
}

func TestProcessIdentity(t *testing.T) {
	own, err := identify(os.Getpid())
	require.NoError(t, err)
	exe := exeOf(os.Getpid())
	require.NotEmpty(t, exe)

	t.Run("the same process opens", func(t *testing.T) {
		p, err := openProcess(own, exe)
		require.NoError(t, err)
		p.finish("test over")
	})
	t.Run("another start time is another process", func(t *testing.T) {
		other := own
		other.StartTick--
		_, err := openProcess(other, exe)
		require.ErrorIs(t, err, errGone)
	})
	t.Run("another boot is another process", func(t *testing.T) {
		other := own
		other.BootID = "x"
		_, err := openProcess(other, exe)
		require.ErrorIs(t, err, errGone)
	})
	t.Run("another binary is another process", func(t *testing.T) {
		_, err := openProcess(own, "/bin/sh")
		require.ErrorIs(t, err, errGone)
	})
	t.Run("no such pid", func(t *testing.T) {
		_, err := openProcess(identity{PID: 1 << 30}, exe)
		require.ErrorIs(t, err, errGone)
	})
}

func TestProcessEnds(t *testing.T) {
	t.Run("by itself, a child", func(t *testing.T) {
		p, err := spawn(exec.Command("/bin/sh", "-c", "exit 7"))
		require.NoError(t, err)
		<-p.exited
		require.Equal(t, "exit status 7", p.exitReason())
		require.ErrorIs(t, p.signal(syscall.SIGTERM), errGone)
	})
	t.Run("before we could look at it, a child", func(t *testing.T) {
		cmd := exec.Command("/bin/true")
		require.NoError(t, cmd.Start())
		pid := cmd.Process.Pid
		require.Eventually(t, func() bool { _, err := identify(pid); return errors.Is(err, errGone) }, 10*time.Second, time.Millisecond)
		p, err := attach(pid, readIdentity)
		require.NoError(t, err, "a zombie of ours is still ours")
		_, err = attach(pid, identify)
		require.ErrorIs(t, err, errGone, "to others it is gone")
		require.NoError(t, cmd.Wait())
		p.finish("test over")
	})
	t.Run("by SIGKILL when it ignores SIGTERM and time is up", func(t *testing.T) {
		ready := filepath.Join(t.TempDir(), "ready")
		p, err := spawn(exec.Command("/bin/sh", "-c", "trap '' TERM; touch "+ready+"; while :; do sleep 0.05; done"))
		require.NoError(t, err)
		require.Eventually(t, func() bool { _, err := os.Stat(ready); return err == nil }, 10*time.Second, time.Millisecond)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		require.NoError(t, p.terminate(ctx))
		require.Equal(t, "signal: killed", p.exitReason())
	})
	t.Run("seen through its pidfd, not a child of ours", func(t *testing.T) {
		cmd := exec.Command("/bin/sleep", "60")
		require.NoError(t, cmd.Start())
		id, err := identify(cmd.Process.Pid)
		require.NoError(t, err)
		p, err := openProcess(id, exeOf(id.PID))
		require.NoError(t, err)
		require.NoError(t, p.signal(syscall.SIGKILL))
		<-p.exited
		require.Error(t, cmd.Wait())
	})
}

func TestLockData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first, err := LockData(dir)
	require.NoError(t, err)
	_, err = LockData(dir)
	require.True(t, IsLocked(err))
	require.ErrorContains(t, err, fmt.Sprintf("data folder %s is in use by another seawall (process %d)", dir, os.Getpid()))
	require.NotContains(t, err.Error(), "\n")
	first.Release()
	second, err := LockData(dir)
	require.NoError(t, err)
	second.Release()
}

func TestDataFolderThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	for name, dir := range map[string]string{"a file": filepath.Join(file, "data"), "not permitted, not even to root": "/sys/seawall"} {
		t.Run(name, func(t *testing.T) {
			_, err := LockData(dir)
			require.ErrorContains(t, err, "data folder "+dir+" cannot be written")
			require.ErrorContains(t, err, "--data")
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestWriteModule(t *testing.T) {
	code := []byte("\x00asm fake")
	sum := sha256.Sum256(code)
	m := Module{Bytes: code, SHA256: hex.EncodeToString(sum[:])}
	dir := filepath.Join(t.TempDir(), "filters")
	path := filepath.Join(dir, ModuleFile(m.SHA256))

	require.NoError(t, writeModule(dir, m))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, code, got)

	require.NoError(t, os.WriteFile(path, []byte("half"), 0o644))
	require.NoError(t, writeModule(dir, m))
	got, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, code, got, "a damaged file is written again")

	require.ErrorContains(t, writeModule(dir, Module{Bytes: []byte("x"), SHA256: m.SHA256}), "checksum")

	old := filepath.Join(dir, ModuleFile("00"))
	other := filepath.Join(dir, "notes.txt")
	require.NoError(t, os.WriteFile(old, nil, 0o644))
	require.NoError(t, os.WriteFile(other, nil, 0o644))
	require.NoError(t, pruneModules(dir, m.SHA256))
	require.NoFileExists(t, old)
	require.FileExists(t, other)
	require.FileExists(t, path)
}

func TestParseRecord(t *testing.T) {
	good := record{identity: identity{PID: 7, StartTick: 9, BootID: "b"}, Exe: "/bin/envoy", RunHash: "h", Admin: "127.0.0.1:1"}
	raw, err := json.Marshal(good)
	require.NoError(t, err)
	got, ok, err := parseRecord(raw)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, good, got)
	for name, raw := range map[string]string{
		"empty": "", "cut": `{"pid": 7`, "no process": "{}", "init": `{"pid":1,"startTick":1,"exe":"/x"}`, "negative": `{"pid":-1,"startTick":1,"exe":"/x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, ok, err := parseRecord([]byte(raw))
			require.Error(t, err)
			require.False(t, ok)
		})
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"pid":7,"startTick":9,"exe":"/x"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if rec, ok, err := parseRecord(raw); ok {
			require.NoError(t, err)
			require.Greater(t, rec.PID, 1, "never a process group or init")
		}
	})
}

func TestParseLogLine(t *testing.T) {
	for name, c := range map[string]struct {
		line  string
		want  logRecord
		level slog.Level
	}{
		"ours":         {`{"time":"2026-01-01T00:00:00.000Z","level":"warning","logger":"config","message":"a \"b\"\nc"}`, logRecord{"warning", "config", "a \"b\"\nc"}, slog.LevelWarn},
		"info":         {`{"level":"info","logger":"wasm","message":"x"}`, logRecord{"info", "wasm", "x"}, slog.LevelInfo},
		"critical":     {`{"level":"critical","logger":"main","message":"x"}`, logRecord{"critical", "main", "x"}, slog.LevelError},
		"debug":        {`{"level":"debug","logger":"main","message":"x"}`, logRecord{"debug", "main", "x"}, slog.LevelDebug},
		"V8's words":   {`Fatal process out of memory`, logRecord{"error", "stderr", "Fatal process out of memory"}, slog.LevelError},
		"another JSON": {`{"a":1}`, logRecord{"error", "stderr", `{"a":1}`}, slog.LevelError},
	} {
		t.Run(name, func(t *testing.T) {
			got := parseLogLine([]byte(c.line))
			require.Equal(t, c.want, got)
			require.Equal(t, c.level, got.slogLevel())
		})
	}
}

func FuzzParseLogLine(f *testing.F) {
	f.Add([]byte(`{"level":"info","logger":"wasm","message":"x"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		rec := parseLogLine(line)
		require.NotEmpty(t, rec.Level)
		_ = rec.slogLevel()
	})
}

// Whatever the pieces in which the file grows, every line is told once, in
// order.
func TestTailTellsEveryLineOnce(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(dir, "log")
		require.NoError(t, os.WriteFile(path, nil, 0o644))
		var seen recorder
		tl := tail{file: logFile{path: path, limit: 1 << 20}, log: slog.New(&seen)}
		lines := rapid.SliceOf(rapid.StringMatching(`[a-z]{1,40}`)).Draw(rt, "lines")
		text := ""
		if len(lines) > 0 {
			text = strings.Join(lines, "\n") + "\n"
		}
		for len(text) > 0 {
			n := rapid.IntRange(1, len(text)).Draw(rt, "piece")
			appendTo(t, path, text[:n])
			text = text[n:]
			require.NoError(t, tl.step())
		}
		var got []string
		for _, rec := range seen.records {
			got = append(got, rec.Message)
		}
		require.Len(t, got, len(lines))
		for i := range lines {
			require.Equal(t, lines[i], got[i])
		}
	})
}

func TestTailBoundsALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("x", 5*maxLogLine)), 0o644))
	var seen recorder
	tl := tail{file: logFile{path: path, limit: 1 << 20}, log: slog.New(&seen)}
	require.NoError(t, tl.step())
	require.LessOrEqual(t, len(tl.part), maxLogLine)
	require.Len(t, seen.records, 4)
}

func TestLogIsCutAtItsLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := logFile{path: path, limit: 100}
	var seen recorder
	tl := tail{file: f, log: slog.New(&seen)}
	w, err := f.append()
	require.NoError(t, err)
	defer w.Close()
	for i := range 30 {
		_, err := fmt.Fprintf(w, "line %02d\n", i) // the writer keeps its file open, as Envoy does
		require.NoError(t, err)
		require.NoError(t, tl.step())
		require.LessOrEqual(t, f.size(), int64(108))
	}
	require.Len(t, seen.records, 30, "a cut loses no line that the tail has read")
	old, err := os.ReadFile(path + ".1")
	require.NoError(t, err)
	require.NotEmpty(t, old)
	require.LessOrEqual(t, len(old), 108)
}

func TestLogThatGrewUnwatchedKeepsItsEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := logFile{path: path, limit: 10}
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("a", 100)+"0123456789"), 0o644))
	cut, err := f.rotate()
	require.NoError(t, err)
	require.True(t, cut)
	old, err := os.ReadFile(path + ".1")
	require.NoError(t, err)
	require.Equal(t, "0123456789", string(old))
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestParseStats(t *testing.T) {
	got := parseStats([]byte("http.edge.downstream_rq_active: 3\nname with: colon: 4\nversion_text: \"v1\"\nh: P0(nan,1) P25(nan,2)\nbroken\n"))
	require.Equal(t, map[string]uint64{"http.edge.downstream_rq_active": 3, "name with: colon": 4}, got)
}

func TestNewAdminWantsLoopback(t *testing.T) {
	for _, address := range []string{"10.0.0.1:9901", "localhost:1", "127.0.0.1", "", "0.0.0.0:1"} {
		_, err := NewAdmin(address)
		require.ErrorContains(t, err, "not a loopback ip:port", address)
	}
	for _, address := range []string{"127.0.0.1:1", "[::1]:1"} {
		_, err := NewAdmin(address)
		require.NoError(t, err)
	}
}

func TestConfigDefaults(t *testing.T) {
	ok := Config{Binary: Binary{Path: "/bin/true"}, DataDir: "x"}
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no binary":            {func(c *Config) { c.Binary = Binary{} }, "binary"},
		"no data":              {func(c *Config) { c.DataDir = "" }, "data folder"},
		"drain too long":       {func(c *Config) { c.DrainTime = 5 * time.Second }, "drain time"},
		"drain in parts":       {func(c *Config) { c.DrainTime = 1500 * time.Millisecond }, "drain time"},
		"drain below a second": {func(c *Config) { c.DrainTime = time.Millisecond }, "drain time"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := ok
			c.change(&cfg)
			require.ErrorContains(t, cfg.defaults(), c.says)
		})
	}
	require.NoError(t, ok.defaults())
	require.True(t, filepath.IsAbs(ok.DataDir))
	require.Equal(t, 2*time.Second, ok.DrainTime)
	require.Positive(t, ok.Bootstrap.Workers)
	require.Positive(t, ok.Bootstrap.MaxConnections)
}

func TestRunHashSeesWhatMatters(t *testing.T) {
	bin := Binary{Path: "/e", SHA256: "1"}
	base := runHash([]byte("b"), bin, []string{"a"})
	require.Equal(t, base, runHash([]byte("b"), bin, []string{"a"}))
	for name, other := range map[string]string{
		"bootstrap": runHash([]byte("c"), bin, []string{"a"}),
		"binary":    runHash([]byte("b"), Binary{Path: "/e", SHA256: "2"}, []string{"a"}),
		"arguments": runHash([]byte("b"), bin, []string{"a", "z"}),
	} {
		require.NotEqual(t, base, other, name)
	}
}

func TestWarningsOfAnEndThatWasAskedForAreDebug(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var seen recorder
	tl := tail{file: logFile{path: path, limit: 1 << 20}, log: slog.New(&seen), ending: true}
	require.NoError(t, os.WriteFile(path, []byte(`{"level":"warning","logger":"main","message":"caught ENVOY_SIGTERM"}`+"\n"+`{"level":"critical","logger":"main","message":"crash"}`+"\n"), 0o600))
	require.NoError(t, tl.step())
	require.Len(t, seen.records, 2)
	require.Equal(t, slog.LevelDebug, seen.records[0].Level)
	require.Equal(t, slog.LevelError, seen.records[1].Level)
}
