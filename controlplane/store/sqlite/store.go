package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

var _ telemetry.Store = (*Store)(nil)

// Store is a telemetry.Store in one SQLite file.
type Store struct {
	path        string
	write       *sql.DB // one connection: SQLite has one writer, and queueing in Go is fairer than busy_timeout
	read        *sql.DB
	stmts       statements
	seriesLimit int

	mu     sync.RWMutex // guards what follows
	series map[seriesKey]*series
	names  map[int64]seriesKey
}

// Close closes the file. Calls still running may fail.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// inTx runs f in one immediate write transaction.
func (s *Store) inTx(f func(*sql.Tx) error) error {
	// Not the caller's context: database/sql would roll back by itself in the
	// middle, and the driver starts a goroutine per statement to watch it.
	// busy_timeout bounds the wait.
	tx, err := s.write.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// LastBatches is when the newest batch of each node arrived.
func (s *Store) LastBatches(ctx context.Context) (map[string]time.Time, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT node, max(seen) FROM vm GROUP BY node")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	heard := map[string]time.Time{}
	for rows.Next() {
		var node string
		var ns int64
		if err := rows.Scan(&node, &ns); err != nil {
			return nil, err
		}
		heard[node] = time.Unix(0, ns)
	}
	return heard, rows.Err()
}

// cleanFrom is the end of the newest stretch that has buckets, by the shortest
// span that has any: of what is old, only longer ones are kept.
const cleanFrom = `SELECT coalesce(
	(SELECT start + span FROM tally WHERE span = 1 AND latency <> x'' ORDER BY start DESC LIMIT 1),
	(SELECT start + span FROM tally WHERE span = 10 AND latency <> x'' ORDER BY start DESC LIMIT 1),
	(SELECT start + span FROM tally WHERE span = 60 AND latency <> x'' ORDER BY start DESC LIMIT 1),
	(SELECT start + span FROM tally WHERE span = 1440 AND latency <> x'' ORDER BY start DESC LIMIT 1), 0)`

// Routes are those that counts are kept of, and that KnowRoutes was told of.
func (s *Store) Routes(ctx context.Context) ([]telemetry.Route, error) {
	all := map[telemetry.Route]bool{}
	rows, err := s.read.QueryContext(ctx, "SELECT service, route FROM route")
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var r telemetry.Route
		if err := rows.Scan(&r.Service, &r.Route); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		all[r] = true
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for k := range s.series {
		all[telemetry.Route{Service: k.service, Route: k.route}] = true
	}
	return slices.Collect(maps.Keys(all)), nil
}

// KnowRoutes notes routes that policies have.
func (s *Store) KnowRoutes(ctx context.Context, at time.Time, routes []telemetry.Route) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.inTx(func(tx *sql.Tx) error {
		for _, r := range routes {
			if _, err := tx.Exec("INSERT OR REPLACE INTO route VALUES (?,?,?)", r.Service, r.Route, at.UnixNano()); err != nil {
				return err
			}
		}
		return nil
	})
}

// Boundaries replaces the histogram bounds in force. A new one holds from the
// minute after the newest that has buckets already: those may straddle it.
func (s *Store) Boundaries(ctx context.Context, boundsUS []int64) (map[int64]int64, error) {
	since := make(map[int64]int64, len(boundsUS))
	err := s.inTx(func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT le_us, since FROM boundary")
		if err != nil {
			return err
		}
		old := map[int64]int64{}
		for rows.Next() {
			var le, minute int64
			if err := rows.Scan(&le, &minute); err != nil {
				return errors.Join(err, rows.Close())
			}
			old[le] = minute
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		var clean int64
		if err := tx.QueryRowContext(ctx, cleanFrom).Scan(&clean); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM boundary"); err != nil {
			return err
		}
		for _, le := range boundsUS {
			minute, had := old[le]
			if !had {
				minute = clean
			}
			since[le] = minute
			if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO boundary VALUES (?,?)", le, minute); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return since, nil
}
