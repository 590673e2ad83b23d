package sqlite

import (
	"context"
	"database/sql"
	"errors"
)

// seriesLimit bounds the series table and its copy in memory (some 30 MiB).
// Requests of further series are not counted, but reported as dropped.
const seriesLimit = 100_000

type seriesKey struct{ service, route, priority string }

type series struct{ id, day int64 }

func (s *Store) loadSeries(ctx context.Context) error {
	rows, err := s.read.QueryContext(ctx, "SELECT id, service, route, priority, day FROM series")
	if err != nil {
		return err
	}
	defer rows.Close()
	byKey, names := map[seriesKey]*series{}, map[int64]seriesKey{}
	for rows.Next() {
		var k seriesKey
		var v series
		if err := rows.Scan(&v.id, &k.service, &k.route, &k.priority, &v.day); err != nil {
			return err
		}
		byKey[k], names[v.id] = &v, k
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.series, s.names = byKey, names
	return nil
}

// seriesTx looks up and creates series in one transaction; the store's copy
// changes only when that is committed.
type seriesTx struct {
	s     *Store
	tx    *sql.Tx
	day   int64
	fresh map[seriesKey]*series
}

// id is the series' number; ok is false where the limit forbids a new one.
func (t *seriesTx) id(k seriesKey) (id int64, ok bool, err error) {
	if v := t.fresh[k]; v != nil {
		return v.id, true, nil
	}
	t.s.mu.RLock()
	v, size := t.s.series[k], len(t.s.series)+len(t.fresh)
	t.s.mu.RUnlock()
	switch {
	case v != nil && v.day >= t.day:
		return v.id, true, nil
	case v == nil && size >= t.s.seriesLimit:
		return 0, false, nil
	}
	now := series{day: t.day}
	err = t.tx.QueryRow(`INSERT INTO series (service, route, priority, day) VALUES (?,?,?,?)
		ON CONFLICT DO UPDATE SET day = max(day, excluded.day) RETURNING id`,
		k.service, k.route, k.priority, t.day).Scan(&now.id)
	if err != nil {
		return 0, false, err
	}
	t.fresh[k] = &now
	return now.id, true, nil
}

func (t *seriesTx) committed() {
	if len(t.fresh) == 0 {
		return
	}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	for k, v := range t.fresh {
		t.s.series[k], t.s.names[v.id] = v, k
	}
}

// name is the inverse of id. It reads again once where another process may
// have created the series.
func (s *Store) name(ctx context.Context, id int64) (seriesKey, error) {
	for again := false; ; again = true {
		s.mu.RLock()
		k, ok := s.names[id]
		s.mu.RUnlock()
		if ok {
			return k, nil
		}
		if again {
			return seriesKey{}, errors.New("series without a name")
		}
		if err := s.loadSeries(ctx); err != nil {
			return seriesKey{}, err
		}
	}
}
