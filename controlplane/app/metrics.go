package app

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/controlplane/xds/server"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// collectTimeout bounds the queries of one scrape.
const collectTimeout = 5 * time.Second

// metrics is what /metrics shows: what batches have counted since the start,
// and the state of the parts at the moment of the scrape.
type metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	attempts  *prometheus.CounterVec
	degraded  *prometheus.CounterVec
	synthetic *prometheus.CounterVec
	slos      *objectiveMetrics
}

func newMetrics(version, filterHash string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seawall_requests_total", Help: "Requests by how they ended, as the filters counted them, since this control plane started.",
		}, []string{"service", "route", "priority", "outcome"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seawall_attempts_total", Help: "Calls that services were sent for these requests, retries included.",
		}, []string{"service", "route", "priority"}),
		degraded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seawall_degraded_total", Help: "Of those, requests that were answered by a fallback.",
		}, []string{"service", "route", "priority"}),
		synthetic: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seawall_synthetic_total", Help: "Requests that are marked as tests, which the others do not count.",
		}, []string{"service", "route", "priority"}),
		slos: newObjectiveMetrics(),
	}
	m.registry.MustRegister(m.slos.collectors()...)
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "seawall_build_info", Help: "Always 1; the labels tell the build.", ConstLabels: prometheus.Labels{"version": version, "filter": filterHash},
	})
	info.Set(1)
	m.registry.MustRegister(m.requests, m.attempts, m.degraded, m.synthetic, info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// count adds a batch that was not seen before.
func (m *metrics) count(b contract.Batch) {
	m.slos.count(&b)
	for _, row := range b.Rows {
		m.attempts.WithLabelValues(row.Service, row.Route, row.Priority).Add(float64(row.Attempts))
		for _, c := range row.Counts {
			if c.Synthetic {
				m.synthetic.WithLabelValues(row.Service, row.Route, row.Priority).Add(float64(c.N))
				continue
			}
			m.requests.WithLabelValues(row.Service, row.Route, row.Priority, c.Outcome).Add(float64(c.N))
			if c.Degraded {
				m.degraded.WithLabelValues(row.Service, row.Route, row.Priority).Add(float64(c.N))
			}
		}
	}
}

func (m *metrics) collect(src *source, xds *server.Server, ingest *telemetry.Ingest, l *loader) {
	m.registry.MustRegister(&stateCollector{src: src, xds: xds, ingest: ingest, loader: l})
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// stateCollector reads the parts when it is scraped, so that nothing is kept
// twice.
type stateCollector struct {
	src    *source
	xds    *server.Server
	ingest *telemetry.Ingest
	loader *loader
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descNodes       = desc("seawall_nodes", "Nodes by state; a node may be in several.", "state")
	descPushes      = desc("seawall_xds_pushes_total", "Responses sent, by resource type.", "type")
	descAcks        = desc("seawall_xds_acks_total", "Acknowledged responses, by resource type.", "type")
	descNacks       = desc("seawall_xds_nacks_total", "Rejected responses, by resource type.", "type")
	descHeals       = desc("seawall_xds_heals_total", "Nodes moved to a new vm_id because their workers did not run what was acknowledged.")
	descLoads       = desc("seawall_policy_loads_total", "Loads of policies.", "result")
	descRefused     = desc("seawall_policy_refused", "1 while the last load was refused and the policies before it are in force.")
	descLoaded      = desc("seawall_policy_loaded_timestamp_seconds", "When the policies in force were loaded.")
	descBatches     = desc("seawall_batches_total", "Telemetry batches.", "result")
	descMissing     = desc("seawall_batches_missing_total", "Batches that a VM numbered and that never came.")
	descDropped     = desc("seawall_telemetry_dropped_total", "What found no room, by kind.", "kind")
	descBreaker     = desc("seawall_breaker_state", "1 for the state that a breaker is in, per node.", "service", "route", "node", "state")
	descForced      = desc("seawall_breaker_forced", "1 while an operator holds a breaker in its state, per node.", "service", "route", "node")
	descPoolHeld    = desc("seawall_pool_held", "Permits of a pool that are taken, per node.", "service", "pool", "node")
	descPoolWaiting = desc("seawall_pool_waiting", "Requests that wait for a permit of a pool, per node.", "service", "pool", "node")
	descPoolLimit   = desc("seawall_pool_limit", "Permits of a pool, per node.", "service", "pool", "node")
	descPoolRefused = desc("seawall_pool_refused_total", "Requests that a pool refused since the node's Envoy started.", "service", "pool", "node", "cause")
	descPoolGranted = desc("seawall_pool_granted_total", "Permits that a pool gave since the node's Envoy started.", "service", "pool", "node")
	descObjective   = desc("seawall_slo_objective_ratio", "Share of good requests that is promised.", "slo", "service")
	descSLOTotal    = desc("seawall_slo_window_requests", "Requests in the objective's window.", "slo", "service")
	descSLOBad      = desc("seawall_slo_window_bad_requests", "Bad requests in the objective's window.", "slo", "service")
	descSLOConsumed = desc("seawall_slo_budget_consumed_ratio", "Consumed share of the error budget; absent without requests.", "slo", "service")
	descSLOAction   = desc("seawall_slo_action", "1 for each action of the objective's budget policy that is in force.", "slo", "service", "action")
	descDeployment  = desc("seawall_deployment_timestamp_seconds", "When a service's newest deployment was marked, for annotations.", "service", "version")
	descSLOBurn     = desc("seawall_slo_burn_rate", "Burn rate over a tier's long and short window.", "slo", "service", "tier", "window")
)

// Describe sends nothing: the collector is unchecked, its series come and go
// with nodes and policies.
func (c *stateCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	nodes := c.src.fleet.Counts()
	gauge(descNodes, float64(nodes.Connected), "connected")
	gauge(descNodes, float64(nodes.Synced), "synced")
	gauge(descNodes, float64(nodes.Rejected), "rejected")

	x := c.xds.Stats()
	for kind, s := range x.Kinds {
		counter(descPushes, s.Pushes, string(kind))
		counter(descAcks, s.ACKs, string(kind))
		counter(descNacks, s.NACKs, string(kind))
	}
	counter(descHeals, x.Heals)

	accepts, refusals := c.loader.counts()
	counter(descLoads, accepts, "accepted")
	counter(descLoads, refusals, "refused")
	gauge(descRefused, boolValue(c.loader.refused() != nil))
	gauge(descLoaded, float64(c.loader.current().at.UnixMilli())/1000)

	t := c.ingest.Stats()
	counter(descBatches, t.Fresh, "stored")
	counter(descBatches, t.Duplicate, "duplicate")
	counter(descBatches, t.Rejected, "rejected")
	counter(descBatches, t.Unavailable, "unavailable")
	counter(descMissing, t.Missing-min(t.Missing, t.Late))
	counter(descDropped, t.DroppedRequests, "requests")
	counter(descDropped, t.UnknownRequests, "unknown-routes")
	counter(descDropped, t.DroppedEvents, "events")
	counter(descDropped, t.DroppedBreakers, "breakers")
	counter(descDropped, t.DroppedPools, "pools")

	for _, b := range c.src.Breakers() {
		for _, state := range []string{"closed", "open", "half-open"} {
			gauge(descBreaker, boolValue(b.State == state), b.Service, b.Route, b.Node, state)
		}
		gauge(descForced, boolValue(b.Forced), b.Service, b.Route, b.Node)
	}
	for _, p := range c.src.Pools() {
		gauge(descPoolHeld, float64(p.Held), p.Service, p.Pool, p.Node)
		gauge(descPoolWaiting, float64(p.Waiting), p.Service, p.Pool, p.Node)
		gauge(descPoolLimit, float64(p.Limit), p.Service, p.Pool, p.Node)
		counter(descPoolGranted, p.Granted, p.Service, p.Pool, p.Node)
		counter(descPoolRefused, p.Full, p.Service, p.Pool, p.Node, "bulkhead-full")
		counter(descPoolRefused, p.TimedOut, p.Service, p.Pool, p.Node, "bulkhead-timeout")
	}
	c.objectives(out, gauge)
}

func (c *stateCollector) objectives(out chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, ...string)) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	all, err := c.src.SLOs(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(descObjective, err)
		return
	}
	for _, s := range all {
		gauge(descObjective, s.Objective, s.Name, s.Service)
		gauge(descSLOTotal, float64(s.Total), s.Name, s.Service)
		gauge(descSLOBad, float64(s.Bad), s.Name, s.Service)
		if s.Budget.Consumed != nil {
			gauge(descSLOConsumed, *s.Budget.Consumed, s.Name, s.Service)
		}
		for _, b := range s.Burn {
			gauge(descSLOBurn, b.LongRate, s.Name, s.Service, string(b.Tier), "long")
			gauge(descSLOBurn, b.ShortRate, s.Name, s.Service, string(b.Tier), "short")
		}
		for _, action := range s.Actions {
			gauge(descSLOAction, 1, s.Name, s.Service, action)
		}
	}
	marks, err := c.src.lastDeployments(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(descDeployment, err)
	}
	for _, d := range marks {
		gauge(descDeployment, float64(d.At.UnixMilli())/1000, d.Service, d.Version)
	}
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
