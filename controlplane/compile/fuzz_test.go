package compile_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// FuzzCompile: whatever validates compiles, and what it compiles to is read by
// the filter.
func FuzzCompile(f *testing.F) {
	for _, pattern := range []string{"../../policies/*/*.yaml", "testdata/*/policies/*.yaml", "../policy/testdata/*/*.y*ml", "../policy/testdata/codes/*.txtar"} {
		files, err := filepath.Glob(pattern)
		require.NoError(f, err)
		require.NotEmpty(f, files, pattern)
		for _, name := range files {
			text, err := os.ReadFile(name)
			require.NoError(f, err)
			if filepath.Ext(name) == ".txtar" {
				text = txtar.Parse(text).Files[0].Data
			}
			if len(text) < 16<<10 {
				f.Add(string(text))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "policy.yaml")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		set, _, err := policy.Load(file)
		require.NoError(t, err)
		if set != nil {
			compiles(t, set)
		}
	})
}

func compiles(t require.TestingT, set *policy.Set) *ir.Model {
	model, err := compile.Compile(set, compile.Options{Listen: "127.0.0.1:10000"})
	require.NoError(t, err)
	for _, edge := range model.Edges {
		for _, text := range [][]byte{edge.Filter.PlanJSON, edge.Filter.SafeJSON} {
			_, err := contract.ParsePlan(text)
			require.NoError(t, err)
		}
	}
	return model
}

// TestUnreachableIsNeverReached: a route that validation calls unreachable, or
// outside of its service's paths, is the answer to no request.
func TestUnreachableIsNeverReached(t *testing.T) {
	told := 0
	dir := t.TempDir()
	place := regexp.MustCompile(`^spec\.routes\[(\d+)\]`)
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		require.NoError(t, anySet(t).Encode(&text))
		file := filepath.Join(dir, "policy.yaml")
		require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o600))
		set, findings, err := policy.Load(file)
		require.NoError(t, err)
		require.NotNil(t, set, "%v", findings)
		model := compiles(t, set)
		dead := map[string]string{}
		for _, d := range findings {
			if d.Code != diag.UnreachableRoute && d.Code != diag.RouteOutside {
				continue
			}
			i, err := strconv.Atoi(place.FindStringSubmatch(d.Path)[1])
			require.NoError(t, err)
			for _, p := range set.Policies { // of the document that the line is in
				if p.Spec.Routes[i].Pos.Line == d.Pos.Line && strings.Contains(text.String(), p.Spec.Routes[i].Name) && p.Pos.Line <= d.Pos.Line {
					dead[p.Spec.Service+"/"+p.Spec.Routes[i].Name] = d.Message
				}
			}
		}
		told += len(dead)
		for range 40 {
			host := rapid.SampledFrom([]string{"a", "b", "c", "x"}).Draw(t, "host")
			method := rapid.SampledFrom([]string{"GET", "POST", "PATCH"}).Draw(t, "method")
			_, name := ir.Match(model.Edges[0], method, host, anyPath(t, "path"), nil)
			require.Empty(t, dead[name], "%s is reached", name)
		}
	})
	require.Positive(t, told, "no route was told to be unreachable")
}
