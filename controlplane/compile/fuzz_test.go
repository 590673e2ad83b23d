package compile_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/policy/policytest"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// FuzzCompile: whatever validates compiles, and what it compiles to is read by
// the filter.
func FuzzCompile(f *testing.F) {
	policytest.Seed(f, "../../policies/*/*.yaml", "testdata/*/policies/*.yaml", "../policy/testdata/*/*.y*ml", "../policy/testdata/codes/*.txtar")
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
	rapid.Check(t, func(t *rapid.T) {
		file := filepath.Join(dir, "policy.yaml")
		require.NoError(t, os.WriteFile(file, []byte(written(t, anySet(t))), 0o600))
		set, findings, err := policy.Load(file)
		require.NoError(t, err)
		require.NotNil(t, set, "%v", findings)
		model := compiles(t, set)
		dead := map[string]string{}
		for _, d := range findings {
			if d.Code != diag.UnreachableRoute && d.Code != diag.RouteOutside {
				continue
			}
			for _, p := range set.Policies {
				for _, r := range p.Spec.Routes {
					if r.Pos.Line == d.Pos.Line {
						dead[p.Spec.Service+"/"+r.Name] = d.Message
					}
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

// written is a set of anySet as a policy file, each route in a line.
func written(t *rapid.T, set *policy.Set) string {
	var b strings.Builder
	compact := func(v any) string {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		return string(text)
	}
	for _, s := range set.Services {
		fmt.Fprintf(&b, "---\napiVersion: seawall.io/v1alpha1\nkind: Service\nmetadata: {name: %s}\nspec: {hosts: %s, paths: %s, endpoints: [{address: 127.0.0.1, port: 9000}]}\n",
			s.Metadata.Name, compact(s.Spec.Hosts), compact(s.Spec.Paths))
	}
	for _, p := range set.Policies {
		fmt.Fprintf(&b, "---\napiVersion: seawall.io/v1alpha1\nkind: ResiliencePolicy\nmetadata: {name: %s}\nspec:\n  service: %s\n  routes:\n", p.Spec.Service, p.Spec.Service)
		for _, r := range p.Spec.Routes {
			fmt.Fprintf(&b, "  - {name: %s, match: %s}\n", r.Name, compact(r.Match))
		}
	}
	return b.String()
}
