package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// spans are the lengths in minutes that counts are kept in, each a multiple of
// the one before. A window of 30 days is read as some days, hours and tens of
// minutes and at most 18 single minutes.
var spans = [...]int64{1, 10, 60, 1440}

// rollLag is for how many minutes a span may still be written by batches that
// come on time, before it is summed up. Later ones are added one by one.
const rollLag = 2

// roll sums up the spans that have ended, and returns up to which minute each
// is summed up now. A sum replaces what was there, so rolling twice is safe.
func roll(tx *sql.Tx, minute int64) (map[int64]int64, error) {
	rolled, err := readRolled(tx)
	if err != nil {
		return nil, err
	}
	for i, span := range spans[1:] {
		end := minute - rollLag
		end -= end % span
		until, known := rolled[span]
		if known && until >= end {
			continue
		}
		if known {
			for _, q := range []string{
				`INSERT OR REPLACE INTO counts SELECT ?1, start - start % ?1, series, outcome, status, degraded, sum(n), max(coarse)
				 FROM counts WHERE span = ?2 AND start >= ?3 AND start < ?4 GROUP BY 2, 3, 4, 5, 6`,
				`INSERT OR REPLACE INTO latency SELECT ?1, start - start % ?1, series, class, le_us, sum(n)
				 FROM latency WHERE span = ?2 AND start >= ?3 AND start < ?4 GROUP BY 2, 3, 4, 5`,
			} {
				if _, err := tx.Exec(q, span, spans[i], until, end); err != nil {
					return nil, err
				}
			}
		}
		// A new file has nothing to sum up: all that comes for earlier minutes is
		// added to every span at once.
		if _, err := tx.Exec("INSERT OR REPLACE INTO rolled (span, until) VALUES (?,?)", span, end); err != nil {
			return nil, err
		}
		rolled[span] = end
	}
	return rolled, nil
}

func readRolled(tx *sql.Tx) (map[int64]int64, error) {
	rows, err := tx.Query("SELECT span, until FROM rolled")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	rolled := map[int64]int64{}
	for rows.Next() {
		var span, until int64
		if err := rows.Scan(&span, &until); err != nil {
			return nil, err
		}
		rolled[span] = until
	}
	return rolled, rows.Err()
}

// stretch is a run of rows of one span.
type stretch struct{ span, from, to int64 }

// cover splits the minutes from ≤ m < to into as few rows as can be.
func cover(from, to int64, rolled map[int64]int64, level int) []stretch {
	if from >= to {
		return nil
	}
	span := spans[level]
	if level == 0 {
		return []stretch{{1, from, to}}
	}
	lo := from + (span-from%span)%span
	hi := min(to, rolled[span])
	hi -= hi % span
	if lo >= hi {
		return cover(from, to, rolled, level-1)
	}
	parts := cover(from, lo, rolled, level-1)
	parts = append(parts, stretch{span, lo, hi})
	return append(parts, cover(hi, to, rolled, level-1)...)
}

// Sums is what was counted between neighbouring bounds.
func (s *Store) Sums(ctx context.Context, bounds []int64, latency bool) ([]slo.Sums, error) {
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // it has only read
	rolled, err := readRolled(tx)
	if err != nil {
		return nil, err
	}
	sums := make([]slo.Sums, max(0, len(bounds)-1))
	for i := range sums {
		parts := cover(max(0, bounds[i]), bounds[i+1], rolled, len(spans)-1)
		if sums[i].Cells, err = s.cells(ctx, tx, parts); err != nil {
			return nil, fmt.Errorf("counts: %w", err)
		}
		if !latency {
			continue
		}
		if sums[i].Latency, err = s.buckets(ctx, tx, parts); err != nil {
			return nil, fmt.Errorf("latency: %w", err)
		}
	}
	return sums, nil
}

func (s *Store) cells(ctx context.Context, tx *sql.Tx, parts []stretch) ([]slo.Cell, error) {
	at := map[countKey]int{}
	var cells []slo.Cell
	for _, p := range parts {
		err := each(ctx, tx, `SELECT series, outcome, status, degraded, sum(n), max(coarse) FROM counts
			WHERE span=? AND start>=? AND start<? GROUP BY 1,2,3,4`, p, func(rows *sql.Rows) error {
			var id, outcome, status, degraded, n, coarse int64
			if err := rows.Scan(&id, &outcome, &status, &degraded, &n, &coarse); err != nil {
				return err
			}
			k := countKey{series: id, outcome: contract.Outcome(outcome), status: uint16(status), degraded: degraded != 0}
			i, ok := at[k]
			if !ok {
				name, err := s.name(ctx, k.series)
				if err != nil {
					return err
				}
				i = len(cells)
				at[k] = i
				cells = append(cells, slo.Cell{
					Service: name.service, Route: name.route, Priority: name.priority,
					Outcome: k.outcome.String(), Status: k.status, Degraded: k.degraded,
				})
			}
			cells[i].N += uint64(n)
			cells[i].Coarse = cells[i].Coarse || coarse != 0
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return cells, nil
}

func (s *Store) buckets(ctx context.Context, tx *sql.Tx, parts []stretch) ([]slo.Latency, error) {
	at := map[latencyKey]int{}
	var buckets []slo.Latency
	for _, p := range parts {
		err := each(ctx, tx, `SELECT series, class, le_us, sum(n) FROM latency
			WHERE span=? AND start>=? AND start<? GROUP BY 1,2,3`, p, func(rows *sql.Rows) error {
			var id, class, le, n int64
			if err := rows.Scan(&id, &class, &le, &n); err != nil {
				return err
			}
			k := latencyKey{series: id, class: slo.Class(class), leUS: le}
			i, ok := at[k]
			if !ok {
				name, err := s.name(ctx, k.series)
				if err != nil {
					return err
				}
				i = len(buckets)
				at[k] = i
				buckets = append(buckets, slo.Latency{
					Service: name.service, Route: name.route, Priority: name.priority, Class: k.class, LeUS: k.leUS,
				})
			}
			buckets[i].N += uint64(n)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return buckets, nil
}

func each(ctx context.Context, tx *sql.Tx, query string, p stretch, f func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query, p.span, p.from, p.to)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := f(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}
