package compile_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestGolden compiles testdata/<case>/policies to <case>/golden: model.json,
// and the plans of each edge. Package translate goes on from these files.
func TestGolden(t *testing.T) {
	cases, err := os.ReadDir("testdata")
	require.NoError(t, err)
	require.NotEmpty(t, cases)
	for _, c := range cases {
		if c.Name() == "rapid" || c.Name() == "fuzz" {
			continue
		}
		t.Run(c.Name(), func(t *testing.T) {
			dir := filepath.Join("testdata", c.Name())
			model, err := compile.Compile(load(t, filepath.Join(dir, "policies")), compile.Options{Listen: "127.0.0.1:10000"})
			require.NoError(t, err)
			got := map[string][]byte{"model.json": pretty(t, model)}
			for _, e := range model.Edges {
				got[e.Name+".plan.json"] = indent(t, e.Filter.PlanJSON)
				got[e.Name+".safe.json"] = indent(t, e.Filter.SafeJSON)
			}
			compareGolden(t, filepath.Join(dir, "golden"), got)
		})
	}
}

func load(t testing.TB, paths ...string) *policy.Set {
	t.Helper()
	set, findings, err := policy.Load(paths...)
	require.NoError(t, err)
	require.False(t, findings.HasErrors(), "%v", findings)
	return set
}

// compareGolden compares the files of dir with got, name by name; -update
// rewrites them and deletes those that are no longer made.
func compareGolden(t *testing.T, dir string, got map[string][]byte) {
	t.Helper()
	if *update {
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.MkdirAll(dir, 0o755))
		for name, data := range got {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
		}
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err, "run with -update")
	for _, e := range entries {
		require.Contains(t, got, e.Name(), "stale golden file; run with -update")
	}
	for name, data := range got {
		want, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err, "run with -update")
		require.Equal(t, string(want), string(data), name)
	}
}

func pretty(t testing.TB, v *ir.Model) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	return indent(t, raw)
}

func indent(t testing.TB, raw []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, json.Indent(&out, raw, "", "  "))
	out.WriteByte('\n')
	return out.Bytes()
}
