package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/budget"
	"github.com/seawall-mesh/seawall/controlplane/gate"
)

// ReleaseStore is what keeps the actions of budget policies and the marks of
// deployments, beside the audit log.
type ReleaseStore interface {
	budget.Store
	gate.Deployments
	AppendAudit(ctx context.Context, entry audit.Entry) error
	Audit(ctx context.Context, before int64, limit int) ([]audit.Entry, error)
}

// ExerciseReleases runs the suite of release stores. fresh makes empty data for
// one test; what it returns opens the same data again each time.
func ExerciseReleases(t *testing.T, fresh func(t *testing.T) func() ReleaseStore) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, func() ReleaseStore){
		"standings are replaced whole": standings,
		"deployments are paged":        deployments,
		"an entry alone":               entryAlone,
		"a cancelled change is none":   cancelledRelease,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

func entry(action string) audit.Entry {
	return audit.Entry{At: start, By: "ada", Action: action, Subject: "x", Reason: "'; DROP TABLE audit; --"}
}

func actions(t *testing.T, s ReleaseStore) (all []string) {
	t.Helper()
	entries, err := s.Audit(t.Context(), 0, 100)
	require.NoError(t, err)
	for _, e := range entries {
		all = append(all, e.Action)
	}
	return all
}

func standings(t *testing.T, open func() ReleaseStore) {
	s := open()
	got, err := s.Standings(t.Context())
	require.NoError(t, err)
	require.Empty(t, got)
	first := []budget.Standing{
		{Key: budget.Key{Objective: "a", Action: "freeze-releases"}, Service: "ünï", Since: start},
		{Key: budget.Key{Objective: "a", Action: "mandatory-postmortem"}, Service: "ünï", Since: start.Add(time.Millisecond), Closed: true},
		{Key: budget.Key{Objective: "b", Action: "freeze-releases"}, Service: "x", Since: start},
	}
	require.NoError(t, s.PutStandings(t.Context(), first, []audit.Entry{entry("one"), entry("two")}))
	s = open()
	got, err = s.Standings(t.Context())
	require.NoError(t, err)
	require.Equal(t, first, got)
	require.NoError(t, s.PutStandings(t.Context(), first[1:2], nil))
	got, err = open().Standings(t.Context())
	require.NoError(t, err)
	require.Equal(t, first[1:2], got)
	require.Equal(t, []string{"two", "one"}, actions(t, s))
}

func deploy(t *testing.T, s ReleaseStore, service, version string) gate.Deployment {
	t.Helper()
	d := gate.Deployment{At: start, Service: service, Version: version, By: "ada"}
	id, err := s.PutDeployment(t.Context(), d, entry("deployment"))
	require.NoError(t, err)
	d.ID = id
	return d
}

func marked(t *testing.T, s ReleaseStore, service string, before int64, limit int) []gate.Deployment {
	t.Helper()
	list, err := s.ListDeployments(t.Context(), service, before, limit)
	require.NoError(t, err)
	return list
}

func deployments(t *testing.T, open func() ReleaseStore) {
	s := open()
	require.Empty(t, marked(t, s, "", 0, 10))
	a1, b1, a2 := deploy(t, s, "a", "v1"), deploy(t, s, "b", "v1"), deploy(t, s, "a", "v1")
	s = open()
	require.Equal(t, []gate.Deployment{a2, b1, a1}, marked(t, s, "", 0, 10))
	require.Equal(t, []gate.Deployment{a2}, marked(t, s, "a", 0, 1))
	require.Equal(t, []gate.Deployment{a1}, marked(t, s, "a", a2.ID, 10))
	require.Empty(t, marked(t, s, "c", 0, 10))
	require.Len(t, actions(t, s), 3)
}

func entryAlone(t *testing.T, open func() ReleaseStore) {
	s := open()
	require.NoError(t, s.AppendAudit(t.Context(), entry("one")))
	require.Equal(t, []string{"one"}, actions(t, open()))
}

func cancelledRelease(t *testing.T, open func() ReleaseStore) {
	s := open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, s.PutStandings(ctx, []budget.Standing{{Service: "x"}}, []audit.Entry{entry("one")}))
	_, err := s.PutDeployment(ctx, gate.Deployment{Service: "x"}, entry("two"))
	require.Error(t, err)
	require.Error(t, s.AppendAudit(ctx, entry("three")))
	require.Empty(t, actions(t, s))
	require.Empty(t, marked(t, s, "", 0, 10))
	got, err := s.Standings(t.Context())
	require.NoError(t, err)
	require.Empty(t, got)
}
