package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/store/storetest"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	storetest.Exercise(t, func(t *testing.T) storetest.Open {
		path := filepath.Join(t.TempDir(), "seawall.db")
		return func() telemetry.Store { return open(t, path) }
	})
}

func TestOverrides(t *testing.T) {
	storetest.ExerciseOverrides(t, func(t *testing.T) func() storetest.OverrideStore {
		path := filepath.Join(t.TempDir(), "seawall.db")
		return func() storetest.OverrideStore { return open(t, path) }
	})
}

// TestTheAuditLogIsBounded: the newest entries stay.
func TestTheAuditLogIsBounded(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "seawall.db"))
	exec := func(query string) {
		_, err := s.write.Exec(query)
		require.NoError(t, err)
	}
	exec("WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 100000) INSERT INTO audit SELECT i, 0, '', '', '', '', NULL FROM n")
	k := override.Key{Kind: override.Breaker, Service: "payments", Route: "charge"}
	require.NoError(t, s.DropOverride(t.Context(), k, audit.Entry{Action: "newest"}))
	var n, oldest int
	require.NoError(t, s.read.QueryRow("SELECT count(*), min(id) FROM audit").Scan(&n, &oldest))
	require.Equal(t, []int{auditKept, 2}, []int{n, oldest})
	entries, err := s.Audit(t.Context(), 0, 1)
	require.NoError(t, err)
	require.Equal(t, "newest", entries[0].Action)
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}
