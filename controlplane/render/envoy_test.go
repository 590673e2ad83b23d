//go:build linux

package render

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/envoy"
	"github.com/seawall-mesh/seawall/filter/module"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

// largest holds the largest expressions that validation lets through, in the
// estimate of package policy.
const largest = `apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: a}
spec: {hosts: [a.local], endpoints: [{address: 127.0.0.1, port: 9001}]}
---
apiVersion: seawall.io/v1alpha1
kind: ResiliencePolicy
metadata: {name: a}
spec:
  service: a
  routes:
  - {name: letter, match: {path: {regex: '/\pL{1000}'}}}
  - {name: any, match: {path: {regex: '/.{1000}.{1000}'}}}
  - {name: class, match: {path: {regex: '/[a-z0-9-]{1,1000}'}}}
  - {name: nested, match: {path: {regex: '/([a-z0-9-]{1,31}/){1,31}'}}}
  - {name: header, match: {headers: [{name: x-a, regex: '(?i)[^a-z]{1000}|\pN+'}]}}
  - {name: rest}
`

// TestEnvoyTakesEveryExample: what `render envoy` writes of each example is
// accepted by Envoy's own check, which starts the filter with its plan.
func TestEnvoyTakesEveryExample(t *testing.T) {
	bin := realenvoy.Binary(t)
	code, sha, err := module.Load()
	require.NoError(t, err)
	filters := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(filters, envoy.ModuleFile(sha)), code, 0o600))
	sources, err := filepath.Glob("../../policies/*/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, sources)
	file := filepath.Join(t.TempDir(), "largest.yaml")
	require.NoError(t, os.WriteFile(file, []byte(largest), 0o600))
	for i := range sources {
		sources[i] = filepath.Dir(sources[i])
	}
	for _, source := range append(slices.Compact(sources), file) {
		t.Run(filepath.Base(source), func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, Envoy(&out, source))
			text := strings.ReplaceAll(out.String(), filterDir, filters)
			edges := 0
			for dec := json.NewDecoder(strings.NewReader(text)); dec.More(); edges++ {
				var bootstrap json.RawMessage
				require.NoError(t, dec.Decode(&bootstrap))
				config := filepath.Join(t.TempDir(), "envoy.json")
				require.NoError(t, os.WriteFile(config, bootstrap, 0o600))
				said, err := exec.CommandContext(t.Context(), bin.Path, "--mode", "validate", "-c", config, "-l", "warning").CombinedOutput()
				require.NoError(t, err, "%s", said)
				require.NotContains(t, string(said), "deprecated")
			}
			require.Equal(t, 1, edges)
		})
	}
}
