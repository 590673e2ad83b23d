//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/capture"
)

// The first thing that anybody sees of Seawall: all acts go as promised, it
// ends by itself, and writes plain text where there is no terminal.
func TestDemo(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	var stdout, stderr capture.Output
	started := time.Now()
	cmd, exited := startSeawall(t, "", append(seawallEnv(t), "TMPDIR="+tmp, "TERM=xterm-256color"), &stdout, &stderr, "demo")
	select {
	case <-exited:
	case <-time.After(2 * time.Minute):
		_ = cmd.Process.Kill()
		t.Fatalf("it does not end:\n%s\n%s", stdout.String(), stderr.String())
	}
	t.Logf("in %s:\n%s", time.Since(started).Round(time.Second), stdout.String())
	require.Equal(t, 0, cmd.ProcessState.ExitCode(), stderr.String())
	require.NotContains(t, stdout.String()+stderr.String(), "\x1b", "colours where there is no terminal")
	require.Contains(t, stdout.String(), " checks held")
	require.NotContains(t, stderr.String(), `"level":"error"`)
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left, "what it leaves behind")
	require.Empty(t, processesBelow(filepath.Clean(tmp)))
}
