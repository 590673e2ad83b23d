//go:build linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/module"
)

// The filter is the same bytes wherever and by whomever it is built: its hash
// is its identity. The two builds differ in folder, HOME, user, GOFLAGS and
// cache state as far as `make wasm` lets them in.
func TestFilterBuildIsReproducible(t *testing.T) {
	t.Parallel()
	_, embedded, err := module.Load()
	require.NoError(t, err)
	for _, tc := range []struct {
		name  string
		fresh bool // with an empty build cache, so that all is compiled
		env   []string
	}{
		{"one machine", false, []string{"GOFLAGS=-mod=mod", "USER=alice", "LANG=C", "TZ=UTC", "GOMAXPROCS=1"}},
		{"another machine with a longer name", true, []string{
			"GOFLAGS=-buildvcs=true -gcflags=-N", "USER=bob", "LANG=de_DE.UTF-8", "TZ=Asia/Tokyo", "CGO_ENABLED=1", "GOWASM=satconv,signext", "GOEXPERIMENT=nogreenteagc",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "seawall")
			copyTree(t, "../..", dir)
			cmd := exec.Command("make", "-B", "wasm")
			cmd.Dir = dir
			home, cache := t.TempDir(), goEnv(t, "GOCACHE")
			if tc.fresh {
				cache = t.TempDir()
			}
			cmd.Env = append(append(os.Environ(), tc.env...), "HOME="+home, "GOPATH="+goEnv(t, "GOPATH"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "GOCACHE="+cache)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			built, err := os.ReadFile(filepath.Join(dir, "bin", "filter.wasm"))
			require.NoError(t, err)
			sum := sha256.Sum256(built)
			require.Equal(t, embedded, hex.EncodeToString(sum[:]), "filter/module/dist/filter.wasm is another build; is it older than the sources? (`make wasm`)")
			require.NotContains(t, string(built), filepath.Dir(dir), "the build's folder is in it")
			require.NotContains(t, string(built), home)
			require.NotContains(t, string(built), headerTrapdoor, "a build for tests")
			copied, err := os.ReadFile(filepath.Join(dir, "filter", "module", "dist", "filter.wasm"))
			require.NoError(t, err)
			require.True(t, bytes.Equal(built, copied), "what is embedded is not what was built")
		})
	}
}

func goEnv(t testing.TB, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// copyTree copies what the filter is built from.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	for _, top := range []string{"go.mod", "go.sum", "Makefile", "filter"} {
		err := filepath.WalkDir(filepath.Join(from, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			target := filepath.Join(to, rel)
			if d.IsDir() {
				return os.MkdirAll(target, 0o755)
			}
			if strings.HasSuffix(path, ".wasm") {
				return nil
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			return os.WriteFile(target, raw, 0o644)
		})
		require.NoError(t, err)
	}
}
