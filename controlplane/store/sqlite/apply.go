package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// statements are prepared once: the writer runs them thousands of times a
// second.
type statements struct{ count, latency *sql.Stmt }

func (s *Store) prepare(ctx context.Context) (err error) {
	if s.stmts.count, err = s.write.PrepareContext(ctx, `INSERT INTO counts (span, start, series, outcome, status, degraded, n, coarse)
		VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n, coarse = max(coarse, excluded.coarse)`); err != nil {
		return err
	}
	s.stmts.latency, err = s.write.PrepareContext(ctx, `INSERT INTO latency (span, start, series, class, le_us, n)
		VALUES (?,?,?,?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n`)
	return err
}

type countKey struct {
	span, start, series int64
	outcome             contract.Outcome
	status              uint16
	degraded            bool
}

type countSum struct {
	n      uint64
	coarse bool
}

type latencyKey struct {
	span, start, series int64
	class               slo.Class
	leUS                int64
}

// Apply counts batches in one transaction.
func (s *Store) Apply(ctx context.Context, at time.Time, batches []contract.Batch) ([]telemetry.Applied, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	applied := make([]telemetry.Applied, len(batches))
	names := &seriesTx{s: s, day: at.Unix() / 86400, fresh: map[seriesKey]*series{}}
	err := s.inTx(func(tx *sql.Tx) error {
		names.tx = tx
		sums := merged{at: at.Unix() / 60, counts: map[countKey]countSum{}, latency: map[latencyKey]uint64{}}
		var err error
		if sums.rolled, err = roll(tx, sums.at); err != nil {
			return fmt.Errorf("roll up: %w", err)
		}
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
				if !ok {
					for _, c := range row.Counts {
						applied[i].Dropped += c.N
					}
					continue
				}
				sums.add(row, id)
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
	rolled  map[int64]int64
	counts  map[countKey]countSum
	latency map[latencyKey]uint64
}

func (m *merged) add(row *contract.Row, id int64) {
	// A request cannot have ended after its batch arrived: the filter's clock
	// is ahead of ours, and a minute in the future would be in no window.
	minute := min(row.Minute, m.at)
	for _, span := range spans {
		if span > 1 && minute >= m.rolled[span] {
			continue // to be summed up when its time comes
		}
		start := minute - minute%span
		for _, c := range row.Counts {
			outcome, _ := contract.ParseOutcome(c.Outcome)
			k := countKey{span, start, id, outcome, c.Status, c.Degraded}
			sum := m.counts[k]
			m.counts[k] = countSum{sum.n + c.N, sum.coarse || row.Coarse}
		}
		for _, b := range row.Good {
			m.latency[latencyKey{span, start, id, slo.LatencyGood, b.LeUS}] += b.N
		}
		for _, b := range row.Bad {
			m.latency[latencyKey{span, start, id, slo.LatencyBad, b.LeUS}] += b.N
		}
		for _, b := range row.Aborted {
			m.latency[latencyKey{span, start, id, slo.LatencyAborted, b.LeUS}] += b.N
		}
	}
}

// write upserts the sums in key order, which touches each page once.
func (m *merged) write(tx *sql.Tx, stmts statements) error {
	counts := make([]countKey, 0, len(m.counts))
	for k := range m.counts {
		counts = append(counts, k)
	}
	slices.SortFunc(counts, func(a, b countKey) int {
		return cmp.Or(cmp.Compare(a.span, b.span), cmp.Compare(a.start, b.start), cmp.Compare(a.series, b.series),
			cmp.Compare(a.outcome, b.outcome), cmp.Compare(a.status, b.status))
	})
	stmt := tx.Stmt(stmts.count)
	for _, k := range counts {
		v := m.counts[k]
		if _, err := stmt.Exec(k.span, k.start, k.series, int64(k.outcome), int64(k.status), k.degraded, int64(v.n), v.coarse); err != nil {
			return fmt.Errorf("counts: %w", err)
		}
	}
	buckets := make([]latencyKey, 0, len(m.latency))
	for k := range m.latency {
		buckets = append(buckets, k)
	}
	slices.SortFunc(buckets, func(a, b latencyKey) int {
		return cmp.Or(cmp.Compare(a.span, b.span), cmp.Compare(a.start, b.start), cmp.Compare(a.series, b.series),
			cmp.Compare(a.class, b.class), cmp.Compare(a.leUS, b.leUS))
	})
	stmt = tx.Stmt(stmts.latency)
	for _, k := range buckets {
		if _, err := stmt.Exec(k.span, k.start, k.series, int64(k.class), k.leUS, int64(m.latency[k])); err != nil {
			return fmt.Errorf("latency: %w", err)
		}
	}
	return nil
}
