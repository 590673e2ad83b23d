package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// pruneStep is how many rows' starts go in one transaction, so that batches
// wait some ten milliseconds at most.
const pruneStep = 60

// Prune forgets old counts and VMs, in steps.
func (s *Store) Prune(ctx context.Context, keepFrom int64, vmSeenFrom time.Time) (int64, error) {
	var gone int64
	for _, table := range []string{"counts", "latency"} {
		for _, span := range spans {
			n, err := s.pruneSpan(ctx, table, span, keepFrom)
			gone += n
			if err != nil {
				return gone, fmt.Errorf("prune %s: %w", table, err)
			}
		}
	}
	err := s.inTx(func(tx *sql.Tx) error {
		for _, d := range []struct {
			query string
			arg   int64
		}{
			{"DELETE FROM vm WHERE seen < ?", vmSeenFrom.UnixNano()},
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

func (s *Store) pruneSpan(ctx context.Context, table string, span, keepFrom int64) (gone int64, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return gone, err
		}
		more := false
		err := s.inTx(func(tx *sql.Tx) error {
			var oldest sql.NullInt64
			if err := tx.QueryRow("SELECT min(start) FROM "+table+" WHERE span=?", span).Scan(&oldest); err != nil {
				return err
			}
			// A longer span goes when all of its minutes have gone.
			end := min(keepFrom-span+1, oldest.Int64+pruneStep*span)
			if !oldest.Valid || oldest.Int64 >= end {
				return nil
			}
			more = true
			res, err := tx.Exec("DELETE FROM "+table+" WHERE span=? AND start<?", span, end)
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
