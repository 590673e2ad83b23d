package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/budget"
	"github.com/seawall-mesh/seawall/controlplane/gate"
)

var (
	_ budget.Store     = (*Store)(nil)
	_ gate.Deployments = (*Store)(nil)
)

// deploymentsKept is how many markers are kept, the newest.
const deploymentsKept = 10_000

// Standings are all that are kept.
func (s *Store) Standings(ctx context.Context) ([]budget.Standing, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT objective, action, service, since, closed FROM standing ORDER BY objective, action")
	if err != nil {
		return nil, err
	}
	var all []budget.Standing
	for rows.Next() {
		var b budget.Standing
		var since int64
		if err := rows.Scan(&b.Objective, &b.Action, &b.Service, &since, &b.Closed); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		b.Since = time.Unix(0, since).UTC()
		all = append(all, b)
	}
	return all, errors.Join(rows.Err(), rows.Close())
}

// PutStandings replaces all that are kept and appends the entries.
func (s *Store) PutStandings(ctx context.Context, all []budget.Standing, entries []audit.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.inTx(func(tx *sql.Tx) error {
		if _, err := tx.Exec("DELETE FROM standing"); err != nil {
			return err
		}
		for _, b := range all {
			if _, err := tx.Exec("INSERT INTO standing (objective, action, service, since, closed) VALUES (?,?,?,?,?)",
				b.Objective, b.Action, b.Service, b.Since.UnixNano(), b.Closed); err != nil {
				return err
			}
		}
		for _, e := range entries {
			if err := appendAudit(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// PutDeployment keeps a marker, gives it an ID above all before, which it
// returns, and appends the entry.
func (s *Store) PutDeployment(ctx context.Context, d gate.Deployment, entry audit.Entry) (id int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = s.inTx(func(tx *sql.Tx) error {
		done, err := tx.Exec("INSERT INTO deployment (at, service, version, author) VALUES (?,?,?,?)", d.At.UnixNano(), d.Service, d.Version, d.By)
		if err != nil {
			return err
		}
		if id, err = done.LastInsertId(); err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM deployment WHERE id <= ?", id-deploymentsKept); err != nil {
			return err
		}
		return appendAudit(tx, entry)
	})
	return id, err
}

// ListDeployments is the newest markers with an ID below before (0 = all) of a
// service ("" = all), newest first, at most limit.
func (s *Store) ListDeployments(ctx context.Context, service string, before int64, limit int) ([]gate.Deployment, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT id, at, service, version, author FROM deployment
		WHERE (?1 = '' OR service = ?1) AND (?2 = 0 OR id < ?2) ORDER BY id DESC LIMIT ?3`, service, before, limit)
	if err != nil {
		return nil, err
	}
	var list []gate.Deployment
	for rows.Next() {
		var d gate.Deployment
		var at int64
		if err := rows.Scan(&d.ID, &at, &d.Service, &d.Version, &d.By); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		d.At = time.Unix(0, at).UTC()
		list = append(list, d)
	}
	return list, errors.Join(rows.Err(), rows.Close())
}
