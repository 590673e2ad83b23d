package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/store/sqlite"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// sloBoundsUS are the plan's default latency bounds.
var sloBoundsUS = []int64{1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000}

// sloWorld is a store with a clock of its own, as after a year in which every
// route was busy in every minute.
type sloWorld struct {
	path     string
	services int // of five routes with two objectives each
	store    *sqlite.Store
	ingest   *telemetry.Ingest
	now      atomic.Int64 // Unix s
	seq      uint64
}

const sloRoutes = 5

// sloBench prints what the telemetry store costs: ingestion, the answer to
// GET slos with a thousand objectives, space, and the start with a year of data.
func sloBench(ctx context.Context, e effort) error {
	services, sending := 100, 10*time.Second
	if e == quick {
		services, sending = 10, time.Second
	}
	dir, err := os.MkdirTemp("", "seawall-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, rows := range []int{2, 100} {
		if err := ingestion(ctx, filepath.Join(dir, fmt.Sprintf("ingest-%d.db", rows)), rows, sending); err != nil {
			return err
		}
	}

	w := &sloWorld{path: filepath.Join(dir, "year.db"), services: services}
	if w.store, err = sqlite.Open(ctx, w.path); err != nil {
		return err
	}
	filled := time.Now()
	if err := w.year(ctx); err != nil {
		return err
	}
	if err := w.store.Close(); err != nil {
		return err
	}
	info, err := os.Stat(w.path)
	if err != nil {
		return err
	}
	objectives := w.objectives()
	fmt.Printf("a year of %d objectives on %d routes, all busy in every minute: %.1f MiB, %.0f KiB per objective (filled in %s)\n",
		len(objectives), services*sloRoutes, float64(info.Size())/(1<<20), float64(info.Size())/1024/float64(len(objectives)), time.Since(filled).Round(time.Second))

	began := time.Now()
	if w.store, err = sqlite.Open(ctx, w.path); err != nil {
		return err
	}
	defer w.store.Close()
	w.ingest = telemetry.New(telemetry.Config{Log: slog.New(slog.DiscardHandler), Store: w.store, Now: func() time.Time { return time.Unix(w.now.Load(), 0) }})
	defer w.ingest.Close()
	started := time.Since(began)
	w.ingest.SetPolicy(objectives, sloBoundsUS, nil)
	if err := w.answers(ctx, objectives, started); err != nil {
		return err
	}
	return nil
}

func (w *sloWorld) objectives() []slo.Objective {
	var all []slo.Objective
	for s := range w.services {
		for r := range sloRoutes {
			o := slo.Objective{Service: fmt.Sprintf("service-%d", s), Routes: []string{fmt.Sprintf("route-%d", r)}, Window: 30 * 24 * time.Hour}
			o.Name, o.ObjectivePPM = fmt.Sprintf("availability-%d-%d", s, r), 999_000
			all = append(all, o)
			o.Name, o.ObjectivePPM, o.LatencyThreshold = fmt.Sprintf("latency-%d-%d", s, r), 950_000, 500*time.Millisecond
			all = append(all, o)
		}
	}
	return all
}

// batch is what one worker counted on all routes in a minute.
func (w *sloWorld) batch(minute int64) contract.Batch {
	w.seq++
	return sloBatch(0, w.seq, minute, w.services*sloRoutes)
}

func sloBatch(vm int, seq uint64, minute int64, rows int) contract.Batch {
	b := contract.Batch{
		Schema: contract.BatchSchema, Node: fmt.Sprintf("edge-%d", vm), Boot: fmt.Sprintf("%032x", vm), VM: fmt.Sprintf("%032x", vm+1<<20), Seq: seq,
		AtNS: minute * 60_000_000_000, BootNS: 1, Plan: strings.Repeat("0", 16), Filter: strings.Repeat("0", 64), Served: true,
	}
	for r := range rows {
		b.Rows = append(b.Rows, contract.Row{
			Minute: minute, Service: fmt.Sprintf("service-%d", r/sloRoutes), Route: fmt.Sprintf("route-%d", r%sloRoutes), Priority: "high", Attempts: 1100,
			Counts: []contract.Count{{Outcome: "ok", N: 1000}, {Outcome: "4xx", Status: 404, N: 30}, {Outcome: "5xx", Status: 503, N: 1}},
			Good: []contract.Bucket{{LeUS: 1000, N: 100}, {LeUS: 2500, N: 500}, {LeUS: 5000, N: 300}, {LeUS: 10_000, N: 100}, {LeUS: 25_000, N: 29},
				{LeUS: 1_000_000, N: 1}},
			Bad: []contract.Bucket{{LeUS: 5000, N: 1}},
		})
	}
	return b
}

// year fills the store with what is left of 400 days: days, then hours, then
// tens of minutes, then minutes. Applying one batch per kept stretch, and
// pruning what an every-minute sender would have had pruned, leaves the same
// rows.
func (w *sloWorld) year(ctx context.Context) error {
	keep := telemetry.DefaultRetention()
	end := time.Unix(1_800_000_000, 0)
	pruned := time.Time{}
	for at := end.Add(-keep.Days); at.Before(end); {
		if _, err := w.store.Apply(ctx, at, []contract.Batch{w.batch(at.Unix() / 60)}); err != nil {
			return err
		}
		if at.Sub(pruned) > 24*time.Hour {
			if _, err := w.store.Prune(ctx, at, keep, time.Time{}); err != nil {
				return err
			}
			pruned = at
		}
		switch age := end.Sub(at); {
		case age > keep.Hours:
			at = at.Add(24 * time.Hour)
		case age > keep.Tens:
			at = at.Add(time.Hour)
		case age > keep.Minutes:
			at = at.Add(10 * time.Minute)
		default:
			at = at.Add(time.Minute)
		}
	}
	w.now.Store(end.Unix())
	_, err := w.store.Prune(ctx, end, keep, time.Time{})
	return err
}

// answers asks for all objectives, once when nothing has been read yet, and
// then ten times in each of 65 minutes, so that every kind of edge is crossed.
func (w *sloWorld) answers(ctx context.Context, objectives []slo.Objective, started time.Duration) error {
	ask := func() (float64, error) {
		began := time.Now()
		all, err := w.ingest.SLOs(ctx)
		if err == nil && (len(all) != len(objectives) || all[0].Total == 0) {
			err = fmt.Errorf("%d of %d objectives are answered", len(all), len(objectives))
		}
		return float64(time.Since(began).Microseconds()) / 1000, err
	}
	first, err := ask()
	if err != nil {
		return err
	}
	var turn, again []float64
	for range 65 {
		now := time.Unix(w.now.Add(60), 0)
		if _, err := w.store.Apply(ctx, now, []contract.Batch{w.batch(now.Unix() / 60)}); err != nil {
			return err
		}
		for n := range 10 {
			took, err := ask()
			if err != nil {
				return err
			}
			if n == 0 {
				turn = append(turn, took)
			} else {
				again = append(again, took)
			}
		}
	}
	fmt.Printf("start with it: open %.0f ms, the first answer of all objectives %.0f ms\n", float64(started.Microseconds())/1000, first)
	fmt.Printf("all %d objectives over 30 days, ms: first in a minute median %.1f, p95 %.1f, max %.1f; later in it median %.1f, max %.1f\n", len(objectives),
		quantile(turn, 0.5), quantile(turn, 0.95), quantile(turn, 1), quantile(again, 0.5), quantile(again, 1))
	return nil
}

// ingestion prints how many batches a second go over HTTP into a durable store,
// from many workers at once, each of which waits for its acknowledgement.
func ingestion(ctx context.Context, path string, rows int, d time.Duration) error {
	const senders = 64
	store, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	defer store.Close()
	ingest := telemetry.New(telemetry.Config{Log: slog.New(slog.DiscardHandler), Store: store, Now: time.Now})
	defer ingest.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: ingest.Handler(), ReadHeaderTimeout: time.Second}
	served := make(chan struct{})
	go func() {
		_ = server.Serve(listener) // until it is closed
		close(served)
	}()
	defer func() {
		_ = server.Close()
		<-served
	}()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
	defer client.CloseIdleConnections()

	sending, stop := context.WithTimeout(ctx, d)
	defer stop()
	var done atomic.Int64
	var wg sync.WaitGroup
	failures := make(chan error, senders)
	for vm := range senders {
		wg.Go(func() {
			for seq := uint64(1); sending.Err() == nil; seq++ {
				body, err := json.Marshal(sloBatch(vm, seq, time.Now().Unix()/60, rows))
				if err == nil {
					err = postBatch(sending, client, "http://"+listener.Addr().String()+"/v1/batches", body)
				}
				switch {
				case err == nil:
					done.Add(1)
				case sending.Err() == nil:
					failures <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failures:
		return err
	default:
	}
	perSecond := float64(done.Load()) / d.Seconds()
	fmt.Printf("ingestion of batches with %3d rows, %d senders on %d cores: %.0f batches/s, %.0f rows/s, %.0f commits/s\n",
		rows, senders, runtime.NumCPU(), perSecond, perSecond*float64(rows), float64(ingest.Stats().Commits)/d.Seconds())
	return ctx.Err()
}

func postBatch(ctx context.Context, client *http.Client, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusNoContent {
		err = fmt.Errorf("batch answered %d: %s", resp.StatusCode, text)
	}
	return err
}
