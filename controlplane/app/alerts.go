package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/config"
)

// alerts are the keeper of alerts and those that it tells.
type alerts struct {
	*alert.Keeper

	managers *alert.Alertmanagers
	webhooks *alert.Webhooks
	src      *source
	close    func()
}

func openAlerts(ctx context.Context, cfg config.Config, src *source, store alert.Store, admin string, log *slog.Logger) (*alerts, error) {
	client := alert.NewClient()
	notify := alert.NotifyConfig{Log: log, Now: time.Now, Client: client, Wait: alert.Sleep}
	a := &alerts{
		managers: alert.NewAlertmanagers(notify, cfg.AlertmanagerURLs(), "http://"+admin+"/"),
		webhooks: alert.NewWebhooks(notify, cfg.AlertWebhooks()),
		src:      src,
		close:    client.CloseIdleConnections,
	}
	var err error
	a.Keeper, err = alert.Load(ctx, alert.Config{
		Log: log, Store: store, Now: time.Now, Look: a.look, Events: src.ingest.Events, Alertmanagers: a.managers, Webhooks: a.webhooks,
	})
	return a, err
}

func (a *alerts) look(ctx context.Context) (alert.Facts, error) {
	f := alert.Facts{Now: time.Now(), Breakers: a.src.Breakers(), Nodes: a.src.Nodes(), LastBatch: a.src.ingest.Stats().LastBatch}
	var err error
	if f.SLOs, err = a.src.SLOs(ctx); err != nil {
		return f, fmt.Errorf("objectives: %w", err)
	}
	if f.Traffic, err = a.src.Traffic(ctx, alert.Window); err != nil {
		return f, fmt.Errorf("traffic: %w", err)
	}
	return f, nil
}

var (
	descAlerts    = desc("seawall_alerts", "Alerts of the control plane by name and state.", "alertname", "severity", "state")
	descNotified  = desc("seawall_notifications_total", "Alerts that an Alertmanager or webhook took, and requests or messages that failed or were dropped.", "receiver", "target", "result")
	descLastBatch = desc("seawall_last_batch_timestamp_seconds", "When the newest telemetry batch arrived; absent before the first.")
)

// Describe sends nothing: the collector is unchecked.
func (a *alerts) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (a *alerts) Collect(out chan<- prometheus.Metric) {
	type kind struct{ name, severity, state string }
	counts := map[kind]int{}
	for _, alert := range a.Alerts() {
		counts[kind{alert.Name, string(alert.Severity), string(alert.State)}]++
	}
	for k, n := range counts {
		out <- prometheus.MustNewConstMetric(descAlerts, prometheus.GaugeValue, float64(n), k.name, k.severity, k.state)
	}
	for receiver, all := range map[string][]alert.Sent{"alertmanager": a.managers.Stats(), "webhook": a.webhooks.Stats()} {
		for n, s := range all {
			// Two webhooks may be at one host; its path may be a secret.
			target := fmt.Sprintf("%d %s", n, s.Target)
			for result, v := range map[string]uint64{"taken": s.Taken, "failed": s.Failed, "dropped": s.Dropped} {
				out <- prometheus.MustNewConstMetric(descNotified, prometheus.CounterValue, float64(v), receiver, target, result)
			}
		}
	}
	if last := a.src.ingest.Stats().LastBatch; !last.IsZero() {
		out <- prometheus.MustNewConstMetric(descLastBatch, prometheus.GaugeValue, float64(last.UnixMilli())/1000)
	}
}
