package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/alert"
)

var _ alert.Store = (*Store)(nil)

// Alerts are all that are kept.
func (s *Store) Alerts(ctx context.Context) ([]alert.Alert, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT name, labels, state, severity, began, since, summary, action, told FROM alert ORDER BY name, labels")
	if err != nil {
		return nil, err
	}
	var all []alert.Alert
	for rows.Next() {
		var a alert.Alert
		var labels string
		var began, since int64
		err := rows.Scan(&a.Name, &labels, &a.State, &a.Severity, &began, &since, &a.Summary, &a.Action, &a.Told)
		if err == nil {
			err = json.Unmarshal([]byte(labels), &a.Labels)
		}
		if err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		a.Began, a.Since = time.Unix(0, began).UTC(), time.Unix(0, since).UTC()
		all = append(all, a)
	}
	return all, errors.Join(rows.Err(), rows.Close())
}

// PutAlerts replaces all that are kept.
func (s *Store) PutAlerts(ctx context.Context, all []alert.Alert) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.inTx(func(tx *sql.Tx) error {
		if _, err := tx.Exec("DELETE FROM alert"); err != nil {
			return err
		}
		for i := range all {
			a := &all[i]
			labels, err := json.Marshal(a.Labels)
			if err != nil {
				return fmt.Errorf("labels of %s: %w", a.Name, err)
			}
			if _, err := tx.Exec("INSERT INTO alert (name, labels, state, severity, began, since, summary, action, told) VALUES (?,?,?,?,?,?,?,?,?)",
				a.Name, string(labels), a.State, a.Severity, a.Began.UnixNano(), a.Since.UnixNano(), a.Summary, a.Action, a.Told); err != nil {
				return err
			}
		}
		return nil
	})
}
