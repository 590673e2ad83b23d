package app

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/store/sqlite"
)

// TestADataFileThatCannotServeEndsTheStart: with one line that names the file and
// says what to do, before anything is served, and the file stays as it was.
func TestADataFileThatCannotServeEndsTheStart(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, path string)
		want  string
	}{
		"another kind of file": {
			func(t *testing.T, path string) {
				t.Helper()
				require.NoError(t, os.WriteFile(path, []byte("this is text, not a database"), 0o600))
			}, `^data file .*telemetry\.db is not a Seawall database: choose another data folder, or move the file away$`,
		},
		"a newer version's": {
			func(t *testing.T, path string) {
				t.Helper()
				store, err := sqlite.Open(t.Context(), path)
				require.NoError(t, err)
				require.NoError(t, store.Close())
				db, err := sql.Open("sqlite", "file:"+path)
				require.NoError(t, err)
				_, err = db.Exec("PRAGMA user_version=99")
				require.NoError(t, err)
				require.NoError(t, db.Close())
			}, `^data file .*telemetry\.db was written by a newer Seawall \(schema 99, .*\): run that version, or choose another data folder$`,
		},
		"damaged": {
			func(t *testing.T, path string) {
				t.Helper()
				require.NoError(t, os.WriteFile(path, append([]byte("SQLite format 3\x00"), bytes.Repeat([]byte{0xff}, 8192)...), 0o600))
			}, `^data file .*telemetry\.db is (damaged|not a Seawall database) .*: `,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			policies, data := filepath.Join(dir, "policies.yaml"), filepath.Join(dir, "data")
			require.NoError(t, os.WriteFile(policies, fmt.Appendf(nil, shopPolicy, 1), 0o600))
			require.NoError(t, os.Mkdir(data, 0o700))
			file := filepath.Join(data, "telemetry.db")
			tc.spoil(t, file)
			before, err := os.ReadFile(file)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			const anyPort = "127.0.0.1:0"
			err = Serve(ctx, ServeOptions{
				PolicyPaths: []string{policies}, Listen: anyPort, Admin: anyPort, XDS: anyPort, Telemetry: anyPort,
				DataDir: data, Log: slog.New(slog.DiscardHandler), Stdout: io.Discard, Version: "test",
			})
			require.Error(t, err)
			require.Regexp(t, tc.want, err.Error())
			after, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, before, after)
		})
	}
}
