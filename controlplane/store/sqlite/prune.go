package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// pruneStep is how many rows' starts go in one transaction, so that batches
// wait some ten milliseconds at most.
const pruneStep = 60

// Prune forgets old counts and VMs, in steps. What is forgotten of a span is in
// the next longer one before.
func (s *Store) Prune(ctx context.Context, at time.Time, keep telemetry.Retention, vmSeenFrom time.Time) (int64, error) {
	var g grid
	err := s.inTx(func(tx *sql.Tx) (err error) {
		if g, err = roll(tx, at.Unix()/60); err != nil {
			return err
		}
		for level, span := range spans {
			next := min(level+1, levels-1)
			since := at.Add(-[levels]time.Duration{keep.Minutes, keep.Tens, keep.Hours, keep.Days}[level]).Unix() / 60
			since = max(since-since%spans[next], g.kept[level])
			if next > level {
				since = max(min(since, g.rolled[next]), g.kept[level])
			}
			g.kept[level] = since
			// First of all: who reads from now on does not look for what goes.
			if _, err := tx.Exec("INSERT OR REPLACE INTO kept (span, since) VALUES (?,?)", span, since); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("prune: %w", err)
	}
	var gone int64
	for level, span := range spans {
		n, err := s.pruneSpan(ctx, span, g.kept[level])
		gone += n
		if err != nil {
			return gone, fmt.Errorf("prune: %w", err)
		}
	}
	keepFrom := g.kept[levels-1]
	err = s.inTx(func(tx *sql.Tx) error {
		for _, d := range []struct {
			query string
			arg   int64
		}{
			{"DELETE FROM vm WHERE seen < ?", vmSeenFrom.UnixNano()},
			{"DELETE FROM route WHERE told < ?", vmSeenFrom.UnixNano()},
			{"DELETE FROM series WHERE (day + 1) * 1440 <= ?", keepFrom},
		} {
			res, err := tx.ExecContext(ctx, d.query, d.arg)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			gone += n
		}
		return nil
	})
	if err != nil {
		return gone, fmt.Errorf("prune: %w", err)
	}
	return gone, s.loadSeries(ctx)
}

func (s *Store) pruneSpan(ctx context.Context, span, since int64) (gone int64, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return gone, err
		}
		more := false
		err := s.inTx(func(tx *sql.Tx) error {
			var oldest sql.NullInt64
			if err := tx.QueryRow("SELECT min(start) FROM tally WHERE span=?", span).Scan(&oldest); err != nil {
				return err
			}
			end := min(since, oldest.Int64+pruneStep*span)
			if !oldest.Valid || oldest.Int64 >= end {
				return nil
			}
			more = true
			res, err := tx.Exec("DELETE FROM tally WHERE span=? AND start<?", span, end)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			gone += n
			return err
		})
		if err != nil || !more {
			return gone, err
		}
	}
}
