package sqlite

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/slo"
)

func unpacked(t require.TestingT, pack []byte) map[uint64]uint64 {
	numbers := map[uint64]uint64{}
	r := packReader{rest: pack}
	for r.next() {
		numbers[r.key] += r.n
	}
	require.NoError(t, r.err)
	return numbers
}

func TestPacksAddUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		numbers := rapid.MapOfN(rapid.OneOf(rapid.Uint64Range(0, 40), rapid.Uint64Range(0, 1<<60)), rapid.OneOf(rapid.Uint64Range(0, 300), rapid.Uint64()), 0, 40)
		a, b := numbers.Draw(rt, "a"), numbers.Draw(rt, "b")
		sum, err := addPacks(packOf(a), packOf(b))
		require.NoError(rt, err)
		want := map[uint64]uint64{}
		for _, m := range []map[uint64]uint64{a, b} {
			for k, n := range m {
				add(want, k, n)
			}
		}
		require.Equal(rt, want, unpacked(rt, sum))
		require.Equal(rt, packOf(want), sum, "one set of numbers has one pack")
	})
}

func TestAPackStopsToGrowByKeys(t *testing.T) {
	numbers := map[uint64]uint64{}
	var pack []byte
	total := uint64(0)
	for k := range uint64(4_000) {
		clear(numbers)
		numbers[k*1000<<8|k%3], total = k, total+k
		var err error
		pack, err = addPacks(pack, packOf(numbers))
		require.NoError(t, err)
	}
	sum, kinds := uint64(0), map[uint64]bool{}
	for k, n := range unpacked(t, pack) {
		sum += n
		kinds[k&kindMask] = true
	}
	require.Equal(t, total, sum)
	require.Len(t, kinds, 3)
	require.LessOrEqual(t, len(unpacked(t, pack)), maxKeys+3)
}

// FuzzPack: whatever is in the file is a pack or an error, and adding it up
// ends.
func FuzzPack(f *testing.F) {
	f.Add(packOf(map[uint64]uint64{1: 2, 300: 70_000}), []byte{})
	f.Add([]byte{1}, []byte{0x80})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 1, 1}, []byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		sum, err := addPacks(a, b)
		if err != nil {
			require.ErrorIs(t, err, errPack)
			return
		}
		_, err = addPacks(sum, sum)
		require.NoError(t, err)
	})
}

// TestFilesOfSchema2AreTakenOver has rows as the two former tables had them.
func TestFilesOfSchema2AreTakenOver(t *testing.T) {
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
		INSERT INTO series VALUES (1, 'payments', 'charge', 'critical', 20000), (2, 'payments', 'refund', 'low', 20000);
		INSERT INTO rolled VALUES (10, 1000), (60, 960), (1440, 0);
		INSERT INTO counts VALUES (1, 1001, 1, 0, 0, 0, 5, 0), (1, 1001, 1, 2, 503, 0, 2, 1), (1, 1001, 1, 7, 0, 1, 3, 0), (10, 990, 2, 0, 0, 0, 7, 0);
		INSERT INTO latency VALUES (1, 1001, 1, 0, 1000, 4), (1, 1001, 1, 0, -1, 1), (1, 1001, 1, 2, 5000, 2), (1, 1002, 2, 0, 1000, 9)`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	s := open(t, path)
	sums, err := s.Sums(t.Context(), []int64{990, 1000, 1001, 1002, 1003}, true)
	require.NoError(t, err)
	cell := func(route, priority, outcome string, status uint16, degraded, coarse bool, n uint64) slo.Cell {
		return slo.Cell{Service: "payments", Route: route, Priority: priority, Outcome: outcome, Status: status, Degraded: degraded, Coarse: coarse, N: n}
	}
	require.Equal(t, []slo.Cell{cell("refund", "low", "ok", 0, false, false, 7)}, sums[0].Cells)
	require.Empty(t, sums[1].Cells)
	require.ElementsMatch(t, []slo.Cell{
		cell("charge", "critical", "ok", 0, false, false, 5), cell("charge", "critical", "5xx", 503, false, true, 2),
		cell("charge", "critical", "breaker-open", 0, true, false, 3),
	}, sums[2].Cells)
	bucket := func(route, priority string, class slo.Class, le int64, n uint64) slo.Latency {
		return slo.Latency{Service: "payments", Route: route, Priority: priority, Class: class, LeUS: le, N: n}
	}
	require.ElementsMatch(t, []slo.Latency{
		bucket("charge", "critical", slo.LatencyGood, 1000, 4), bucket("charge", "critical", slo.LatencyGood, -1, 1), bucket("charge", "critical", slo.LatencyAborted, 5000, 2),
	}, sums[2].Latency)
	require.Equal(t, []slo.Latency{bucket("refund", "low", slo.LatencyGood, 1000, 9)}, sums[3].Latency)
}
