package policy

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEncodeLoadsBack holds that what a control plane keeps aside is the policy
// that it accepted.
func TestEncodeLoadsBack(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/*")
	require.NoError(t, err)
	cases = append(cases, "../../policies/payments")
	loaded := 0
	for _, dir := range cases {
		set, _, err := Load(dir)
		require.NoError(t, err)
		if set == nil {
			continue
		}
		loaded++
		var text bytes.Buffer
		require.NoError(t, set.Encode(&text))
		file := filepath.Join(t.TempDir(), "accepted.yaml")
		require.NoError(t, os.WriteFile(file, text.Bytes(), 0o600))
		again, findings, err := Load(file)
		require.NoError(t, err)
		require.NotNil(t, again, "%s: %v", dir, findings)
		require.Equal(t, set.Hash, again.Hash, dir)
	}
	require.NotZero(t, loaded)
}
