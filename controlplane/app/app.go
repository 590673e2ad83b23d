package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/store/sqlite"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/controlplane/xds/server"
	"github.com/seawall-mesh/seawall/envoy"
	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/module"
)

// Debounce is how long the policy folder must be quiet before it is read
// again: long enough for an editor's several writes, short against the 100 ms
// from saving to effect that Seawall promises.
const Debounce = 25 * time.Millisecond

// Options say what to run. All but Workers are required; addresses are
// host:port, and port 0 takes a free one.
type Options struct {
	PolicyPaths []string
	DataPlane   string // auto | envoy
	Listen      string // data plane, where no Edge names an address
	Admin       string
	XDS         string
	Telemetry   string
	DataDir     string
	Workers     int // of Envoy; 0: one per CPU
	Log         *slog.Logger
	Stdout      io.Writer
	Version     string
}

// Run serves until ctx ends, then drains the data plane, stores what it has
// counted, and returns nil. An error is about what could not be started, or
// about a part that failed for good.
func Run(ctx context.Context, o Options) error {
	return run(ctx, o, func(Addresses) {})
}

// Addresses are where a running Run serves, with real ports.
type Addresses struct {
	Listen, Admin, XDS, Telemetry string
}

// RunNotify is Run that tells its addresses once the first accepted policy is
// served by the data plane.
func RunNotify(ctx context.Context, o Options, ready func(Addresses)) error {
	return run(ctx, o, ready)
}

func run(ctx context.Context, o Options, ready func(Addresses)) (err error) {
	for _, a := range []string{o.Admin, o.XDS, o.Telemetry} {
		if err := loopbackOnly(a); err != nil {
			return err
		}
	}
	wasm, sha, err := module.Load()
	if err != nil {
		return err
	}
	lock, err := envoy.LockData(o.DataDir)
	if err != nil {
		return err
	}
	defer lock.Release()

	// Addresses first: one in use is the commonest mistake, and nothing is
	// started yet.
	sockets, err := listen(o)
	if err != nil {
		return err
	}
	defer sockets.close()
	addresses := sockets.addresses()
	listenAt, release, err := freePort(o.Listen)
	if err != nil {
		return err
	}
	defer release()
	addresses.Listen = listenAt

	store, err := sqlite.Open(ctx, filepath.Join(o.DataDir, "telemetry.db"))
	if err != nil {
		return unlessAsked(ctx, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	nodes := fleet.New(time.Now)
	metrics := newMetrics(o.Version, sha)
	ingest := telemetry.New(telemetry.Config{
		Log: o.Log.With("logger", "telemetry"), Store: store, Now: time.Now,
		OnBatch: func(b contract.Batch, fresh bool) {
			nodes.Batch(fleet.WorkerReport{Node: b.Node, Boot: b.Boot, BootNS: b.BootNS, VM: b.VM, Plan: b.Plan, Filter: b.Filter, Served: b.Served, At: time.Now()})
			if fresh {
				metrics.count(b)
			}
		},
	})
	defer ingest.Close()
	xds := server.New(server.Config{Log: o.Log.With("logger", "xds"), Fleet: nodes, FilterSHA256: sha})

	loader := &loader{
		log: o.Log.With("logger", "policy"), paths: o.PolicyPaths, listen: addresses.Listen, accepted: filepath.Join(o.DataDir, acceptedFile),
		apply: func(l load) {
			ingest.SetPolicy(l.objectives, l.boundsUS, l.breakers)
			xds.SetModel(l.model)
		},
	}
	overrides, err := override.Load(ctx, override.Config{
		Log: o.Log.With("logger", "override"), Store: store, Now: time.Now, Known: loader.hasBreaker, Changed: loader.force,
	})
	if err != nil {
		return unlessAsked(ctx, err)
	}
	if err := loader.force(overrides.InForce()); err != nil {
		return err
	}
	if err := loader.first(); err != nil {
		return err
	}

	src := &source{version: o.Version, filterHash: sha, loader: loader, fleet: nodes, ingest: ingest, overrides: overrides}
	metrics.collect(src, xds, ingest, loader)
	admin, err := api.New(api.Config{
		Source: src, Overrides: overrides, Audit: store, Ready: src.ready.Load,
		Log: o.Log.With("logger", "api"), Now: time.Now, Metrics: metrics.handler(),
	})
	if err != nil {
		return err
	}

	// The servers outlive ctx: the data plane drains against them.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	group, failed := errgroup.WithContext(serving)
	group.Go(func() error { return xds.Serve(failed, sockets.xds) })
	group.Go(func() error { return serveTelemetry(failed, sockets.telemetry, ingest.Handler(), o.Log) })
	group.Go(func() error { return admin.Serve(failed, sockets.admin) })
	working, stopWorking := context.WithCancel(ctx)
	defer stopWorking()
	group.Go(func() error { return loader.watch(working) })
	group.Go(func() error { return overrides.Run(working) })

	launcher, err := startEnvoy(ctx, o, addresses, envoy.Module{Bytes: wasm, SHA256: sha}, loader.current(), lock)
	if err == nil {
		group.Go(func() error {
			if src.awaitServed(working) {
				banner(o.Stdout, o.Version, loader.current(), addresses)
				ready(addresses)
			}
			return nil
		})
		select {
		case <-ctx.Done():
			o.Log.Info("stopping: draining the data plane")
		case <-failed.Done():
		}
		// Its own time limit is shorter than what is left of the ten seconds
		// that a stop may take.
		err = launcher.Stop(context.WithoutCancel(ctx))
	}
	stopWorking()
	stopServing()
	return errors.Join(unlessAsked(ctx, err), ignoreCanceled(group.Wait()))
}

// unlessAsked is nil where a start was broken off because it was asked to:
// that is an orderly end like any other.
func unlessAsked(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func serveTelemetry(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); err != nil && ctx.Err() == nil {
		return fmt.Errorf("telemetry server on %s: %w", ln.Addr(), err)
	}
	return nil
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
