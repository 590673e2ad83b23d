package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// The load of a storm: the service answers 503 to everything, and three times
// as many clients as usual call it, each again shortly after it was answered.
const (
	stormClients = 90
	stormPause   = 20 * time.Millisecond
	stormWork    = 20 * time.Millisecond // until the 503
	stormLength  = 5 * time.Second
)

const stormPolicy = benchPolicy + `  retryBudget: {percent: 20%%, minConcurrency: 3}
  routes:
  - name: all
    match: {methods: [GET], path: {prefix: /}}
    timeout: {request: 15s}
    retry: {attempts: 3, backoff: {base: 25ms, max: 250ms}}
%s`

const stormBreaker = "    breaker: {consecutiveFailures: 5, recoveryTimeout: 1s}\n"

// storm prints how many calls a service that is down gets for each request of a
// client.
func storm(ctx context.Context, e effort) error {
	length, workers := stormLength, 2
	if e == quick {
		length = time.Second
	}
	envoyRetries := func(thresholds string) func(context.Context, *upstream.Server) (string, func() error, error) {
		return func(ctx context.Context, service *upstream.Server) (string, func() error, error) {
			return startRetries(ctx, service, workers, thresholds)
		}
	}
	seawall := func(breaker string) func(context.Context, *upstream.Server) (string, func() error, error) {
		return func(ctx context.Context, service *upstream.Server) (string, func() error, error) {
			return startPolicy(ctx, fmt.Sprintf(stormPolicy, port(service.Addr()), breaker), workers)
		}
	}
	fmt.Printf("%-44s %10s %10s %22s   (%d clients for %s)\n", "retries", "requests", "upstream", "calls per request", stormClients, length)
	for _, v := range []struct {
		name  string
		start func(context.Context, *upstream.Server) (address string, stop func() error, err error)
	}{
		{"envoy: 3 tries, its limit of 3 retries at once", envoyRetries("{}")},
		{"envoy: 3 tries, that limit raised", envoyRetries("{max_retries: 10000}")},
		{"envoy: 3 tries, a budget of 20 %", envoyRetries("{retry_budget: {budget_percent: {value: 20}, min_retry_concurrency: 3}}")},
		{"seawall: 3 tries, a budget of 20 %", seawall("")},
		{"seawall: 3 tries, the budget and a breaker", seawall(stormBreaker)},
	} {
		requests, calls, err := measureStorm(ctx, v.start, length)
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		fmt.Printf("%-44s %10d %10d %22.3f\n", v.name, requests, calls, float64(calls)/float64(requests))
	}
	return nil
}

func measureStorm(ctx context.Context, start func(context.Context, *upstream.Server) (string, func() error, error), length time.Duration) (requests int, calls uint64, err error) {
	service, err := upstream.New(upstream.Config{})
	if err != nil {
		return 0, 0, err
	}
	defer service.Close()
	address, stop, err := start(ctx, service)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	service.Set("/", upstream.Behaviour{Status: http.StatusServiceUnavailable, Latency: stormWork})
	service.Forget()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: stormClients}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	counts := make([]int, stormClients)
	end := time.Now().Add(length)
	group, ctx := errgroup.WithContext(ctx)
	for i := range stormClients {
		group.Go(func() error {
			for time.Now().Before(end) {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
				if err != nil {
					return err
				}
				req.Host = "bench.local"
				resp, err := client.Do(req)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if err != nil {
					return err
				}
				if resp.StatusCode != http.StatusServiceUnavailable {
					return fmt.Errorf("a client was answered %s by a service that is down", resp.Status)
				}
				counts[i]++
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(stormPause):
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	return sum(counts), service.Calls("/"), nil
}

// startRetries is Envoy alone, with retries and thresholds of its own.
func startRetries(ctx context.Context, service *upstream.Server, workers int, thresholds string) (address string, stop func() error, err error) {
	const retry = `, retry_policy: {retry_on: "5xx,reset,connect-failure", num_retries: 2, retry_back_off: {base_interval: 0.025s, max_interval: 0.25s}}`
	l, err := newBareLab(ctx)
	if err != nil {
		return "", nil, err
	}
	l.workers = workers
	limits := "\n    circuit_breakers: {thresholds: [" + thresholds + "]}"
	config := strings.NewReplacer("{accessLog}", "", "{routeHeaders}", "", "{cluster: upstream}", "{cluster: upstream"+retry+"}",
		"{filters}", "", "{limits}", limits, "{upstreamPort}", port(service.Addr()), "{sinkPort}", "9").Replace(edgeConfig)
	p, err := l.startConfig(ctx, "storm", config)
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
