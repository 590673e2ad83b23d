package policies_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/policies"
)

// TestExamples: what people copy has no finding, not even a warning that a field
// does nothing yet, and compiles.
func TestExamples(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	examples := 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		examples++
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			set, findings, err := policy.Load(e.Name())
			require.NoError(t, err)
			require.Empty(t, findings)
			_, err = compile.Compile(set, compile.Options{Listen: "127.0.0.1:10000"})
			require.NoError(t, err)
			_, err = policies.FS.ReadDir(e.Name())
			require.NoError(t, err, "it is not embedded")
		})
	}
	require.GreaterOrEqual(t, examples, 2)
}
