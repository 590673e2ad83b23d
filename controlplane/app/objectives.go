package app

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// objectiveMetrics counts by objective, as it counts itself: a Prometheus rule
// then needs to know neither its outcomes nor its threshold. It also counts what
// breakers do.
type objectiveMetrics struct {
	total, bad  *prometheus.CounterVec
	transitions *prometheus.CounterVec

	mu         sync.Mutex // guards what follows
	objectives []slo.Objective
	book       *slo.Book
}

func newObjectiveMetrics() *objectiveMetrics {
	return &objectiveMetrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seawall_slo_requests_total", Help: "Requests that an objective counted, since this control plane started.",
		}, []string{"slo", "service"}),
		bad: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seawall_slo_bad_requests_total", Help: "Of those, the bad ones.",
		}, []string{"slo", "service"}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seawall_breaker_transitions_total", Help: "Times that breakers entered a state, over all nodes.",
		}, []string{"service", "route", "to"}),
		book: slo.NewBook(nil),
	}
}

func (m *objectiveMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.total, m.bad, m.transitions}
}

// set says what there is to count. Series begin at 0: an increase from nothing
// to the first count is one that Prometheus does not see.
func (m *objectiveMetrics) set(objectives []slo.Objective, breakers []telemetry.Route) {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := map[[2]string]bool{}
	for _, o := range objectives {
		kept[[2]string{o.Name, o.Service}] = true
		m.total.WithLabelValues(o.Name, o.Service)
		m.bad.WithLabelValues(o.Name, o.Service)
	}
	for _, o := range m.objectives {
		if !kept[[2]string{o.Name, o.Service}] {
			m.total.DeleteLabelValues(o.Name, o.Service)
			m.bad.DeleteLabelValues(o.Name, o.Service)
		}
	}
	for _, b := range breakers {
		m.transitions.WithLabelValues(b.Service, b.Route, "open")
	}
	m.objectives, m.book = objectives, slo.NewBook(objectives)
}

// count adds a batch that was not seen before.
func (m *objectiveMetrics) count(b *contract.Batch) {
	for _, e := range b.Events {
		if e.Kind == "breaker" {
			m.transitions.WithLabelValues(e.Service, e.Route, e.To).Inc()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, c := range m.book.Count(sums(b)) {
		if c.Total == 0 && c.Bad == 0 {
			continue // most objectives are of other services
		}
		o := &m.objectives[n]
		m.total.WithLabelValues(o.Name, o.Service).Add(float64(c.Total))
		m.bad.WithLabelValues(o.Name, o.Service).Add(float64(c.Bad))
	}
}

// sums is what a batch counts, as objectives look at it.
func sums(b *contract.Batch) slo.Sums {
	var s slo.Sums
	for i := range b.Rows {
		row := &b.Rows[i]
		for _, c := range row.Counts {
			s.Cells = append(s.Cells, slo.Cell{
				Service: row.Service, Route: row.Route, Priority: row.Priority,
				Outcome: c.Outcome, Status: c.Status, Degraded: c.Degraded, Synthetic: c.Synthetic, N: c.N,
			})
		}
		for class, buckets := range [...][]contract.Bucket{slo.LatencyGood: row.Good, slo.LatencyBad: row.Bad, slo.LatencyAborted: row.Aborted} {
			for _, l := range buckets {
				s.Latency = append(s.Latency, slo.Latency{
					Service: row.Service, Route: row.Route, Priority: row.Priority, Class: slo.Class(class), LeUS: l.LeUS, N: l.N,
				})
			}
		}
	}
	return s
}
