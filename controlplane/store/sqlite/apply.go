package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// statements are prepared once: the writer runs them thousands of times a
// second, and one question asks for hundreds of stretches.
type statements struct {
	add     *sql.Stmt
	grid    *sql.Stmt
	counts  *sql.Stmt
	latency *sql.Stmt // and counts
}

func (s *Store) prepare(ctx context.Context) (err error) {
	s.stmts.add, err = s.write.PrepareContext(ctx, `INSERT INTO tally (span, start, series, counts, latency) VALUES (?,?,?,?,?)
		ON CONFLICT DO UPDATE SET counts = seawall_add(counts, excluded.counts), latency = seawall_add(latency, excluded.latency)`)
	if err != nil {
		return err
	}
	for query, stmt := range map[string]**sql.Stmt{
		selectGrid: &s.stmts.grid,
		"SELECT series, counts, x'' FROM tally WHERE span=? AND start>=? AND start<?":     &s.stmts.counts,
		"SELECT series, counts, latency FROM tally WHERE span=? AND start>=? AND start<?": &s.stmts.latency,
	} {
		if *stmt, err = s.read.PrepareContext(ctx, query); err != nil {
			return err
		}
	}
	return nil
}

type tallyKey struct{ span, start, series int64 }

// tally are the counters of one row, by the keys of packs.
type tally struct{ counts, latency map[uint64]uint64 }

// Apply counts batches in one transaction.
func (s *Store) Apply(ctx context.Context, at time.Time, batches []contract.Batch) ([]telemetry.Applied, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	applied := make([]telemetry.Applied, len(batches))
	names := &seriesTx{s: s, day: at.Unix() / 86400, fresh: map[seriesKey]*series{}}
	err := s.inTx(func(tx *sql.Tx) error {
		names.tx = tx
		grid, err := roll(tx, at.Unix()/60)
		if err != nil {
			return fmt.Errorf("roll up: %w", err)
		}
		sums := merged{at: at.Unix() / 60, grid: grid, tallies: map[tallyKey]tally{}}
		for i := range batches {
			b := &batches[i]
			if applied[i], err = mark(tx, b, at); err != nil {
				return fmt.Errorf("mark batch: %w", err)
			}
			if applied[i].Duplicate {
				continue
			}
			for r := range b.Rows {
				row := &b.Rows[r]
				id, ok, err := names.id(seriesKey{row.Service, row.Route, row.Priority})
				if err != nil {
					return fmt.Errorf("series: %w", err)
				}
				if !ok || !sums.add(row, id) {
					for _, c := range row.Counts {
						applied[i].Dropped += c.N
					}
				}
			}
		}
		return sums.write(tx, s.stmts)
	})
	if err != nil {
		return nil, err
	}
	names.committed()
	return applied, nil
}

// merged are the sums of many batches, by row to write.
type merged struct {
	at      int64
	grid    grid
	tallies map[tallyKey]tally
}

// add counts a row, unless its minute is forgotten already.
func (m *merged) add(row *contract.Row, id int64) (counted bool) {
	// A request cannot have ended after its batch arrived: the filter's clock
	// is ahead of ours, and a minute in the future would be in no window.
	minute := min(row.Minute, m.at)
	for level, span := range spans {
		if minute < m.grid.kept[level] || (level > 0 && minute >= m.grid.rolled[level]) {
			continue // forgotten at this length, or to be summed up when its time comes
		}
		counted = true
		k := tallyKey{span, minute - minute%span, id}
		t, ok := m.tallies[k]
		if !ok {
			t = tally{map[uint64]uint64{}, map[uint64]uint64{}}
			m.tallies[k] = t
		}
		if row.Attempts > 0 {
			add(t.counts, attemptsKey, row.Attempts)
		}
		for _, c := range row.Counts {
			add(t.counts, countKey(c, row.Coarse), c.N)
		}
		for class, buckets := range [...][]contract.Bucket{slo.LatencyGood: row.Good, slo.LatencyBad: row.Bad, slo.LatencyAborted: row.Aborted} {
			for _, b := range buckets {
				add(t.latency, latencyKey(slo.Class(class), b.LeUS), b.N)
			}
		}
	}
	return counted
}

// write upserts the sums in key order, which touches each page once.
func (m *merged) write(tx *sql.Tx, stmts statements) error {
	keys := slices.SortedFunc(maps.Keys(m.tallies), func(a, b tallyKey) int {
		return cmp.Or(cmp.Compare(a.span, b.span), cmp.Compare(a.start, b.start), cmp.Compare(a.series, b.series))
	})
	stmt := tx.Stmt(stmts.add)
	for _, k := range keys {
		t := m.tallies[k]
		if _, err := stmt.Exec(k.span, k.start, k.series, packOf(t.counts), packOf(t.latency)); err != nil {
			return fmt.Errorf("tally: %w", err)
		}
	}
	return nil
}
