package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/app"
)

const editPolicy = benchPolicy + `  routes:
  - {name: here, match: {path: {exact: /edit-%d}}, breaker: {}}
`

// edit prints the time from saving a policy file to its effect in a running
// Envoy: a path that was 404 is served. It takes in the debounce of the watch,
// load and compile, the plan by ECDS, its acknowledgement, and then the routes.
func edit(ctx context.Context, e effort) error {
	edits := 100
	if e == quick {
		edits = 3
	}
	dir, err := os.MkdirTemp("", "seawall-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer upstream.Close()
	upstreamPort := port(strings.TrimPrefix(upstream.URL, "http://"))
	policies := filepath.Join(dir, "policies")
	if err := os.Mkdir(policies, 0o750); err != nil {
		return err
	}
	save := func(n int) error {
		tmp := filepath.Join(dir, "edit.yaml")
		if err := os.WriteFile(tmp, fmt.Appendf(nil, editPolicy, upstreamPort, n), 0o600); err != nil {
			return err
		}
		return os.Rename(tmp, filepath.Join(policies, "bench.yaml"))
	}
	if err := save(0); err != nil {
		return err
	}

	at, stop, err := up(ctx, policies, filepath.Join(dir, "data"), 2)
	if err != nil {
		return err
	}
	defer func() { _ = stop() }()
	var took []float64
	for n := 1; n <= edits; n++ {
		start := time.Now()
		if err := save(n); err != nil {
			return err
		}
		if err := awaitServed(ctx, at.Listen, fmt.Sprintf("/edit-%d", n)); err != nil {
			return err
		}
		took = append(took, float64(time.Since(start).Microseconds())/1000)
	}
	fmt.Printf("edit to effect, ms over %d edits (debounce of %s included): median %.1f, p95 %.1f, max %.1f\n",
		edits, app.Debounce, quantile(took, 0.5), quantile(took, 0.95), quantile(took, 1))
	return stop()
}

// up runs what `seawall up` runs, and returns once the policies are served.
// stop ends it, and returns what it ended with; a second stop does nothing.
func up(ctx context.Context, policies, data string, workers int) (at app.Addresses, stop func() error, err error) {
	running, cancel := context.WithCancel(ctx)
	ready := make(chan app.Addresses, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- app.RunNotify(running, app.Options{
			PolicyPaths: []string{policies}, DataPlane: "envoy", Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", XDS: "127.0.0.1:0", Telemetry: "127.0.0.1:0",
			DataDir: data, Workers: workers, Version: "bench", Stdout: io.Discard,
			Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		}, func(a app.Addresses) { ready <- a })
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	select {
	case at = <-ready:
		return at, stop, nil
	case err := <-ended:
		cancel()
		if err == nil {
			err = errors.New("ended before the policies were served")
		}
		return at, nil, err
	}
}

// awaitServed asks for path, on a connection of its own, until it is served.
func awaitServed(ctx context.Context, address, path string) error {
	client := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{}).DialContext}}
	defer client.CloseIdleConnections()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			return err
		}
		req.Host = "bench.local"
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusNoContent {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return errors.New(path + " was not served within 10 s")
}
