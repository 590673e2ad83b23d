package policy

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

func TestLoadSaysWhatTheUserMayNotRead(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/a.yaml", serviceNamed("a"))
	require.NoError(t, os.Chmod(dir+"/a.yaml", 0))
	if os.Geteuid() == 0 { // who may read everything: this thread is to be somebody else
		const nobody = 65534
		for _, d := range []string{filepath.Dir(dir), dir} {
			require.NoError(t, os.Chmod(d, 0o755))
		}
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		require.NoError(t, unix.Setfsuid(nobody))
		defer func() { require.NoError(t, unix.Setfsuid(0)) }()
	}
	set, findings, err := Load(dir)
	require.NoError(t, err)
	require.Nil(t, set)
	require.Equal(t, diag.FileUnreadable, findings[0].Code)
}
