package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/override"
)

var _ override.Store = (*Store)(nil)

// auditKept is how many entries of the audit log are kept, the newest. Entries
// are made by hand, so that is years.
const auditKept = 100_000

// Overrides are all that are kept.
func (s *Store) Overrides(ctx context.Context) ([]override.Override, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT version, kind, service, route, state, reason, author, since, until FROM override ORDER BY kind, service, route")
	if err != nil {
		return nil, err
	}
	var list []override.Override
	for rows.Next() {
		var o override.Override
		var since, until int64
		if err := rows.Scan(&o.Version, &o.Kind, &o.Service, &o.Route, &o.State, &o.Reason, &o.By, &since, &until); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		o.Since, o.Until = time.Unix(0, since).UTC(), time.Unix(0, until).UTC()
		list = append(list, o)
	}
	return list, errors.Join(rows.Err(), rows.Close())
}

// PutOverride replaces the override of its key and appends the entry.
func (s *Store) PutOverride(ctx context.Context, o override.Override, entry audit.Entry) (version int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = s.inTx(func(tx *sql.Tx) error {
		if _, err := tx.Exec("DELETE FROM override WHERE kind=? AND service=? AND route=?", o.Kind, o.Service, o.Route); err != nil {
			return err
		}
		done, err := tx.Exec("INSERT INTO override (kind, service, route, state, reason, author, since, until) VALUES (?,?,?,?,?,?,?,?)",
			o.Kind, o.Service, o.Route, o.State, o.Reason, o.By, o.Since.UnixNano(), o.Until.UnixNano())
		if err != nil {
			return err
		}
		if version, err = done.LastInsertId(); err != nil {
			return err
		}
		return appendAudit(tx, entry)
	})
	return version, err
}

// DropOverride forgets the override of a key and appends the entry.
func (s *Store) DropOverride(ctx context.Context, k override.Key, entry audit.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.inTx(func(tx *sql.Tx) error {
		if _, err := tx.Exec("DELETE FROM override WHERE kind=? AND service=? AND route=?", k.Kind, k.Service, k.Route); err != nil {
			return err
		}
		return appendAudit(tx, entry)
	})
}

// AppendAudit appends an entry that comes with no other change.
func (s *Store) AppendAudit(ctx context.Context, entry audit.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.inTx(func(tx *sql.Tx) error { return appendAudit(tx, entry) })
}

func appendAudit(tx *sql.Tx, e audit.Entry) error {
	until := sql.NullInt64{}
	if e.Until != nil {
		until = sql.NullInt64{Int64: e.Until.UnixNano(), Valid: true}
	}
	if _, err := tx.Exec("INSERT INTO audit (at, author, action, subject, reason, until) VALUES (?,?,?,?,?,?)",
		e.At.UnixNano(), e.By, e.Action, e.Subject, e.Reason, until); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	_, err := tx.Exec("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", auditKept)
	return err
}

// Audit is the newest entries of the log with an ID below before (0 = all),
// newest first, at most limit.
func (s *Store) Audit(ctx context.Context, before int64, limit int) ([]audit.Entry, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT id, at, author, action, subject, reason, until FROM audit
		WHERE ?1 = 0 OR id < ?1 ORDER BY id DESC LIMIT ?2`, before, limit)
	if err != nil {
		return nil, err
	}
	var list []audit.Entry
	for rows.Next() {
		var e audit.Entry
		var at int64
		var until sql.NullInt64
		if err := rows.Scan(&e.ID, &at, &e.By, &e.Action, &e.Subject, &e.Reason, &until); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		e.At = time.Unix(0, at).UTC()
		if until.Valid {
			end := time.Unix(0, until.Int64).UTC()
			e.Until = &end
		}
		list = append(list, e)
	}
	return list, errors.Join(rows.Err(), rows.Close())
}
