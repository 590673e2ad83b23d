package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// spans are the lengths in minutes that counts are kept in, each a multiple of
// the one before. A window of 30 days is read as some days, hours and tens of
// minutes and at most 18 single minutes.
var spans = [...]int64{1, 10, 60, 1440}

const levels = len(spans)

// grid says what is there of each span, by its index in spans.
type grid struct {
	rolled [levels]int64 // summed up to this minute, exclusive; not used for single minutes
	kept   [levels]int64 // forgotten before this minute
	seen   [levels]bool  // rolled is known
}

// snap moves a bound up to where what is kept can be cut.
func (g grid) snap(minute int64) int64 {
	for level, span := range spans {
		if minute >= g.kept[level] || level == levels-1 {
			return max(minute+(span-minute%span)%span, g.kept[level])
		}
	}
	return minute
}

// rollLag is for how many minutes a span may still be written by batches that
// come on time, before it is summed up. Later ones are added one by one.
const rollLag = 2

// roll sums up the spans that have ended. A sum replaces what was there, so
// rolling twice is safe.
func roll(tx *sql.Tx, minute int64) (grid, error) {
	rows, err := tx.Query(selectGrid)
	if err != nil {
		return grid{}, err
	}
	g, err := readGrid(rows)
	if err != nil {
		return g, err
	}
	for level := 1; level < levels; level++ {
		span := spans[level]
		end := minute - rollLag
		end -= end % span
		if g.seen[level] && g.rolled[level] >= end {
			continue
		}
		if g.seen[level] {
			if _, err := tx.Exec(`INSERT OR REPLACE INTO tally
				SELECT ?1, start - start % ?1, series, seawall_sum(counts), seawall_sum(latency)
				FROM tally WHERE span = ?2 AND start >= ?3 AND start < ?4 GROUP BY 2, 3`, span, spans[level-1], g.rolled[level], end); err != nil {
				return g, err
			}
		}
		// A new file has nothing to sum up: all that comes for earlier minutes is
		// added to every span at once.
		if _, err := tx.Exec("INSERT OR REPLACE INTO rolled (span, until) VALUES (?,?)", span, end); err != nil {
			return g, err
		}
		g.rolled[level], g.seen[level] = end, true
	}
	return g, nil
}

const selectGrid = "SELECT span, until, NULL FROM rolled UNION ALL SELECT span, NULL, since FROM kept"

func readGrid(rows *sql.Rows) (grid, error) {
	var g grid
	defer rows.Close()
	for rows.Next() {
		var span int64
		var until, since sql.NullInt64
		if err := rows.Scan(&span, &until, &since); err != nil {
			return g, err
		}
		level := slices.Index(spans[:], span)
		if level < 0 {
			continue
		}
		if until.Valid {
			g.rolled[level], g.seen[level] = until.Int64, true
		}
		if since.Valid {
			g.kept[level] = since.Int64
		}
	}
	return g, rows.Err()
}

// stretch is a run of rows of one span.
type stretch struct{ span, from, to int64 }

// cover splits the minutes from ≤ m < to into as few rows as can be.
func (g grid) cover(from, to int64) []stretch {
	return g.coverBy(levels-1, g.snap(from), g.snap(to))
}

func (g grid) coverBy(level int, from, to int64) []stretch {
	if from >= to {
		return nil
	}
	span := spans[level]
	if level == 0 {
		return []stretch{{1, from, to}}
	}
	lo := from + (span-from%span)%span
	hi := min(to, g.rolled[level])
	hi -= hi % span
	if lo >= hi {
		return g.coverBy(level-1, from, to)
	}
	parts := g.coverBy(level-1, from, lo)
	parts = append(parts, stretch{span, lo, hi})
	return append(parts, g.coverBy(level-1, hi, to)...)
}

// Sums is what was counted between neighbouring bounds.
func (s *Store) Sums(ctx context.Context, bounds []int64, latency bool) ([]slo.Sums, error) {
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // it has only read
	rows, err := tx.StmtContext(ctx, s.stmts.grid).QueryContext(ctx)
	if err != nil {
		return nil, err
	}
	g, err := readGrid(rows)
	if err != nil {
		return nil, err
	}
	// It leaves the latency where it is unless it is wanted.
	stmt := s.stmts.counts
	if latency {
		stmt = s.stmts.latency
	}
	stmt = tx.StmtContext(ctx, stmt)
	sums := make([]slo.Sums, max(0, len(bounds)-1))
	for i := range sums {
		totals := totals{}
		for _, p := range g.cover(max(0, bounds[i]), bounds[i+1]) {
			if err := totals.read(ctx, stmt, p); err != nil {
				return nil, fmt.Errorf("tally: %w", err)
			}
		}
		if sums[i], err = s.unpack(ctx, totals); err != nil {
			return nil, fmt.Errorf("tally: %w", err)
		}
	}
	return sums, nil
}

// totals are packs by series.
type totals map[int64]*[2][]byte

func (t totals) read(ctx context.Context, stmt *sql.Stmt, p stretch) error {
	rows, err := stmt.QueryContext(ctx, p.span, p.from, p.to)
	if err != nil {
		return err
	}
	var id int64
	var counts, latency sql.RawBytes
	for rows.Next() {
		err := rows.Scan(&id, &counts, &latency)
		if err == nil {
			err = t.add(id, counts, latency)
		}
		if err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

func (t totals) add(id int64, packs ...[]byte) (err error) {
	sum := t[id]
	if sum == nil {
		sum = new([2][]byte)
		t[id] = sum
	}
	for i, p := range packs {
		if sum[i], err = addPacks(sum[i], p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) unpack(ctx context.Context, t totals) (slo.Sums, error) {
	var sums slo.Sums
	for id, packs := range t {
		name, err := s.name(ctx, id)
		if err != nil {
			return sums, err
		}
		counts := packReader{rest: packs[0]}
		for counts.next() {
			if counts.key == attemptsKey {
				sums.Attempts = append(sums.Attempts, slo.Attempts{Service: name.service, Route: name.route, Priority: name.priority, N: counts.n})
				continue
			}
			cell := slo.Cell{
				Service: name.service, Route: name.route, Priority: name.priority,
				Outcome: contract.Outcome(counts.key >> outcomeShift & outcomeMask).String(),
				Status:  uint16(counts.key >> statusShift), Degraded: counts.key&flagDegraded != 0, Synthetic: counts.key&flagSynthetic != 0,
				Coarse: counts.key&flagCoarse != 0, N: counts.n,
			}
			// The coarse ones of a kind come right after the others.
			if n := len(sums.Cells) - 1; cell.Coarse && n >= 0 {
				before := cell
				before.Coarse, before.N = false, sums.Cells[n].N
				if before == sums.Cells[n] {
					sums.Cells[n].Coarse = true
					sums.Cells[n].N += cell.N
					continue
				}
			}
			sums.Cells = append(sums.Cells, cell)
		}
		latency := packReader{rest: packs[1]}
		for latency.next() {
			sums.Latency = append(sums.Latency, slo.Latency{
				Service: name.service, Route: name.route, Priority: name.priority,
				Class: slo.Class(latency.key & kindMask), LeUS: int64(latency.key>>8) - 1, N: latency.n,
			})
		}
		if err := errors.Join(counts.err, latency.err); err != nil {
			return sums, err
		}
	}
	return sums, nil
}
