package sqlite

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/gate"
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

func TestReleases(t *testing.T) {
	storetest.ExerciseReleases(t, func(t *testing.T) func() storetest.ReleaseStore {
		path := filepath.Join(t.TempDir(), "seawall.db")
		return func() storetest.ReleaseStore { return open(t, path) }
	})
}

// TestOverridesOfSchema2AreTakenOver: those of breakers stay, and versions that
// were used once are never used again.
func TestOverridesOfSchema2AreTakenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	db, err := sql.Open("sqlite", "file:"+path)
	require.NoError(t, err)
	for _, file := range []string{"migrations/0001_counts.sql", "migrations/0002_overrides.sql"} {
		text, err := migrations.ReadFile(file)
		require.NoError(t, err)
		_, err = db.Exec(string(text))
		require.NoError(t, err)
	}
	_, err = db.Exec(`PRAGMA application_id=1398227276; PRAGMA user_version=2;
		INSERT INTO override VALUES (7, 'payments', 'charge', 'open', 'drill', 'ada', 1, 2), (9, 'payments', 'refund', 'open', 'drill', 'ada', 1, 2);
		DELETE FROM override WHERE version = 9`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	s := open(t, path)
	k := override.Key{Kind: override.Breaker, Service: "payments", Route: "charge"}
	list, err := s.Overrides(t.Context())
	require.NoError(t, err)
	require.Equal(t, []override.Override{{
		Key: k, State: override.Open, Reason: "drill", By: "ada", Since: time.Unix(0, 1).UTC(), Until: time.Unix(0, 2).UTC(), Version: 7,
	}}, list)
	version, err := s.PutOverride(t.Context(), override.Override{Key: override.Key{Kind: override.Release, Service: "payments"}, State: override.Deny}, audit.Entry{})
	require.NoError(t, err)
	require.EqualValues(t, 10, version)
}

// TestDeploymentsAreBounded: the newest marks stay.
func TestDeploymentsAreBounded(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "seawall.db"))
	_, err := s.write.Exec("WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO deployment SELECT i, 0, 'a', 'v', '' FROM n")
	require.NoError(t, err)
	_, err = s.PutDeployment(t.Context(), gate.Deployment{Service: "b"}, audit.Entry{})
	require.NoError(t, err)
	var n, oldest int
	require.NoError(t, s.read.QueryRow("SELECT count(*), min(id) FROM deployment").Scan(&n, &oldest))
	require.Equal(t, []int{deploymentsKept, 2}, []int{n, oldest})
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

func TestAlerts(t *testing.T) {
	storetest.ExerciseAlerts(t, func(t *testing.T) func() alert.Store {
		path := filepath.Join(t.TempDir(), "seawall.db")
		return func() alert.Store { return open(t, path) }
	})
}
