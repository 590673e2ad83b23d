package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/override"
)

// OverrideStore is what keeps overrides and the audit log.
type OverrideStore interface {
	override.Store
	Audit(ctx context.Context, before int64, limit int) ([]audit.Entry, error)
}

// ExerciseOverrides runs the suite of override stores. fresh makes empty data
// for one test; what it returns opens the same data again each time.
func ExerciseOverrides(t *testing.T, fresh func(t *testing.T) func() OverrideStore) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, func() OverrideStore){
		"nothing is kept at first":      noOverrides,
		"what was put is there":         overridesAreKept,
		"a version is never used twice": versionsAscend,
		"the log is paged":              auditPages,
		"a cancelled change is none":    cancelledOverride,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

var charge = override.Key{Kind: override.Breaker, Service: "payments", Route: "charge"}

func forced(k override.Key, state string) override.Override {
	return override.Override{Key: k, State: state, Reason: "'; DROP TABLE audit; --", By: "ünï", Since: start, Until: start.Add(10 * time.Minute)}
}

func entryOf(o override.Override) audit.Entry {
	return audit.Entry{At: o.Since, By: o.By, Action: o.Kind.Action(o.State), Subject: o.Subject(), Reason: o.Reason, Until: &o.Until}
}

func put(t *testing.T, s OverrideStore, o override.Override) override.Override {
	t.Helper()
	version, err := s.PutOverride(t.Context(), o, entryOf(o))
	require.NoError(t, err)
	o.Version = version
	return o
}

func kept(t *testing.T, s OverrideStore) []override.Override {
	t.Helper()
	list, err := s.Overrides(t.Context())
	require.NoError(t, err)
	return list
}

func logged(t *testing.T, s OverrideStore, before int64, limit int) (lines []string) {
	t.Helper()
	entries, err := s.Audit(t.Context(), before, limit)
	require.NoError(t, err)
	for _, e := range entries {
		lines = append(lines, fmt.Sprintf("%d %s %s", e.ID, e.Action, e.Subject))
	}
	return lines
}

func noOverrides(t *testing.T, open func() OverrideStore) {
	s := open()
	require.Empty(t, kept(t, s))
	require.Empty(t, logged(t, s, 0, 10))
}

func overridesAreKept(t *testing.T, open func() OverrideStore) {
	s := open()
	put(t, s, forced(charge, override.Open))
	refund := put(t, s, forced(override.Key{Kind: override.Breaker, Service: "payments", Route: "refund"}, override.Open))
	again := put(t, s, forced(charge, override.Closed))
	gate := put(t, s, forced(override.Key{Kind: override.Release, Service: "payments"}, override.Deny))
	s = open()
	require.Equal(t, []override.Override{again, refund, gate}, kept(t, s), "one per breaker and gate, over a restart")

	lift := audit.Entry{At: start.Add(time.Minute), By: "ada", Action: "breaker-reset", Subject: charge.Subject(), Reason: "over"}
	require.NoError(t, s.DropOverride(t.Context(), charge, lift))
	s = open()
	require.Equal(t, []override.Override{refund, gate}, kept(t, s))
	entries, err := s.Audit(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, entries, 5)
	lift.ID = entries[0].ID
	require.Equal(t, lift, entries[0], "newest first, and without an end it has none")
	last := entryOf(gate)
	last.ID = entries[1].ID
	require.Equal(t, last, entries[1])
}

func versionsAscend(t *testing.T, open func() OverrideStore) {
	s := open()
	last := int64(0)
	for range 3 {
		o := put(t, s, forced(charge, override.Open))
		require.Greater(t, o.Version, last)
		last = o.Version
		require.NoError(t, s.DropOverride(t.Context(), charge, entryOf(o)))
		s = open()
	}
}

func auditPages(t *testing.T, open func() OverrideStore) {
	s := open()
	for range 5 {
		put(t, s, forced(charge, override.Open))
	}
	require.Equal(t, []string{"5 breaker-open breakers/payments/charge", "4 breaker-open breakers/payments/charge"}, logged(t, s, 0, 2))
	require.Len(t, logged(t, s, 4, 10), 3)
	require.Empty(t, logged(t, s, 1, 10))
}

func cancelledOverride(t *testing.T, open func() OverrideStore) {
	s := open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := forced(charge, override.Open)
	_, err := s.PutOverride(ctx, o, entryOf(o))
	require.Error(t, err)
	require.Error(t, s.DropOverride(ctx, charge, entryOf(o)))
	require.Empty(t, kept(t, s))
	require.Empty(t, logged(t, s, 0, 10))
}
