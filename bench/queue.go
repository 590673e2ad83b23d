package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// The load of a queue: so many callers at the same moment, each on a connection
// of its own, ask for so much work. 5 at once and 10 waiting are in the
// configurations.
const (
	queueCallers = 60
	queueWork    = 500 * time.Millisecond
)

const queuePolicy = benchPolicy + `  pools: {five: {maxConcurrency: 5, maxQueue: 10, maxWait: 10s, timeout: 14s}}
  routes:
  - {name: all, match: {path: {prefix: /}}, timeout: {request: 15s}, pool: five}
`

// queue prints what a limit of 5 at once with room for 10 to wait does to 60
// callers at once, with 1 and with 4 workers: Seawall's pool as ` + "`seawall up`" + `
// runs it, and Envoy's own limits on connections and pending requests.
func queue(ctx context.Context, e effort) error {
	bursts := 8
	if e == quick {
		bursts = 1
	}
	fmt.Printf("%-34s %8s %13s %9s %9s %16s %14s   (%d bursts of %d callers, %s of work)\n",
		"limit", "workers", "most at once", "served", "refused", "slowest answer", "median of them", bursts, queueCallers, queueWork)
	for _, limit := range []struct {
		name  string
		start func(context.Context, *upstream.Server, int) (address string, stop func() error, err error)
	}{
		{"seawall pool 5, queue 10", startPool},
		{"envoy 5 connections, 10 pending", startConnectionQueue},
	} {
		for _, workers := range []int{1, 4} {
			b, err := measureQueue(ctx, limit.start, workers, bursts)
			if err != nil {
				return fmt.Errorf("%s, %d workers: %w", limit.name, workers, err)
			}
			fmt.Printf("%-34s %8d %13d %9s %9s %14.2f s %12.2f s\n", limit.name, workers, b.mostAtOnce,
				span(b.served), span(b.refused), quantile(b.slowest, 1), quantile(b.slowest, 0.5))
		}
	}
	return nil
}

// burstFigures are those of several bursts, one entry each.
type burstFigures struct {
	mostAtOnce      int // of all
	served, refused []int
	slowest         []float64 // s, of those that were served, their own work included
}

func measureQueue(ctx context.Context, start func(context.Context, *upstream.Server, int) (string, func() error, error), workers, bursts int) (f burstFigures, err error) {
	up, err := upstream.New(upstream.Config{})
	if err != nil {
		return f, err
	}
	defer up.Close()
	address, stop, err := start(ctx, up, workers)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	up.Set("/", upstream.Behaviour{Latency: queueWork})
	up.Forget()
	for range bursts {
		served, refused, slowest, err := burst(ctx, address)
		if err != nil {
			return f, err
		}
		if served == 0 {
			return f, errors.New("nobody was served")
		}
		f.served, f.refused, f.slowest = append(f.served, served), append(f.refused, refused), append(f.slowest, slowest.Seconds())
	}
	if got, want := up.Calls("/"), sum(f.served); got != uint64(want) {
		return f, fmt.Errorf("the upstream saw %d calls, and %d callers were served", got, want)
	}
	_, f.mostAtOnce = up.InFlight()
	return f, nil
}

// burst is one request of each caller, all at the same moment.
func burst(ctx context.Context, address string) (served, refused int, slowest time.Duration, err error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	statuses, took := make([]int, queueCallers), make([]time.Duration, queueCallers)
	group, ctx := errgroup.WithContext(ctx)
	gate := make(chan struct{})
	for i := range queueCallers {
		group.Go(func() error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
			if err != nil {
				return err
			}
			req.Host = "bench.local"
			<-gate
			start := time.Now()
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			statuses[i], took[i] = resp.StatusCode, time.Since(start)
			return err
		})
	}
	close(gate)
	if err := group.Wait(); err != nil {
		return 0, 0, 0, err
	}
	for i, status := range statuses {
		switch status {
		case http.StatusOK:
			served++
			slowest = max(slowest, took[i])
		case http.StatusServiceUnavailable:
			refused++
		default:
			return 0, 0, 0, fmt.Errorf("a caller was answered %d", status)
		}
	}
	return served, refused, slowest, nil
}

// startPool is Seawall with a pool, as ` + "`seawall up`" + ` runs it.
func startPool(ctx context.Context, service *upstream.Server, workers int) (address string, stop func() error, err error) {
	return startPolicy(ctx, fmt.Sprintf(queuePolicy, port(service.Addr())), workers)
}

// startPolicy runs `seawall up` with one policy file.
func startPolicy(ctx context.Context, policy string, workers int) (address string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "seawall-bench-")
	if err != nil {
		return "", nil, err
	}
	policies := filepath.Join(dir, "policies")
	if err = os.Mkdir(policies, 0o750); err == nil {
		err = os.WriteFile(filepath.Join(policies, "bench.yaml"), []byte(policy), 0o600)
	}
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	at, stopApp, err := up(ctx, policies, filepath.Join(dir, "data"), workers)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return at.Listen, func() error { return errors.Join(stopApp(), os.RemoveAll(dir)) }, nil
}

// startConnectionQueue is Envoy alone, with limits of its own.
func startConnectionQueue(ctx context.Context, service *upstream.Server, workers int) (address string, stop func() error, err error) {
	l, err := newBareLab(ctx)
	if err != nil {
		return "", nil, err
	}
	l.workers = workers
	config := strings.NewReplacer("{accessLog}", "", "{routeHeaders}", "", "{filters}", "", "{limits}", queueLimits, "{upstreamPort}", port(service.Addr()), "{sinkPort}", "9").Replace(edgeConfig)
	p, err := l.startConfig(ctx, fmt.Sprintf("queue-%d", workers), config)
	if err != nil {
		l.close()
		return "", nil, err
	}
	return p.listen, func() error {
		p.stop()
		l.close()
		return nil
	}, nil
}

func sum(xs []int) (n int) {
	for _, x := range xs {
		n += x
	}
	return n
}

// span is the least and the greatest of xs, or both where they are one.
func span(xs []int) string {
	least, most := slices.Min(xs), slices.Max(xs)
	if least == most {
		return fmt.Sprint(least)
	}
	return fmt.Sprintf("%d to %d", least, most)
}
