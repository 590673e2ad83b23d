package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/budget"
	"github.com/seawall-mesh/seawall/controlplane/config"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/store/sqlite"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/controlplane/xds/server"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// controlOptions is what a control plane needs of the options of its command.
type controlOptions struct {
	policyPaths                   []string
	listen, admin, xds, telemetry string // host:port; port 0 takes a free one
	listenAsked                   bool
	dataDir                       string
	config                        string // file of --config; "" = none
	log                           *slog.Logger
	version                       string
}

// controlPlane is a control plane: open, start, await, stop.
type controlPlane struct {
	log       *slog.Logger
	addresses Addresses
	sockets   sockets
	ingest    *telemetry.Ingest
	loader    *loader
	overrides *override.Table
	budgets   *budget.Keeper
	alerts    *alerts
	src       *source
	xds       *server.Server
	admin     *api.Server
	closers   []func() error // of what is open, in the order of opening

	group       *errgroup.Group
	failed      context.Context //nolint:containedctx // ends when a part fails for good; stop ends it
	working     context.Context //nolint:containedctx // ends when the command is asked to stop
	stopServing context.CancelFunc
	stopWorking context.CancelFunc
}

// openControlPlane opens everything that a control plane holds, loads the
// policies, and runs nothing yet. The caller holds the lock on the data folder.
func openControlPlane(ctx context.Context, o controlOptions, filterHash string) (_ *controlPlane, err error) {
	c := &controlPlane{log: o.log}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	cfg, err := config.Load(o.config)
	if err != nil {
		return nil, err
	}
	// Addresses next: one in use is the commonest mistake, and nothing is
	// started yet.
	if c.sockets, err = listen(o); err != nil {
		return nil, err
	}
	c.onClose(func() error { c.sockets.close(); return nil })
	c.addresses = c.sockets.addresses()
	var release func()
	if c.addresses.Listen, release, err = freePort(o.listen); err != nil {
		return nil, err
	}
	c.onClose(func() error { release(); return nil })
	store, err := sqlite.Open(ctx, filepath.Join(o.dataDir, "telemetry.db"))
	if err != nil {
		return nil, err
	}
	c.onClose(store.Close)

	nodes := fleet.New(time.Now)
	metrics := newMetrics(o.version, filterHash)
	c.ingest = telemetry.New(telemetry.Config{
		Log: o.log.With("logger", "telemetry"), Store: store, Now: time.Now,
		OnBatch: func(b contract.Batch, fresh bool) {
			nodes.Batch(fleet.WorkerReport{Node: b.Node, Boot: b.Boot, BootNS: b.BootNS, VM: b.VM, Plan: b.Plan, Filter: b.Filter, Served: b.Served, At: time.Now()})
			if fresh {
				metrics.count(b)
			}
		},
	})
	c.onClose(func() error { c.ingest.Close(); return nil })
	c.xds = server.New(server.Config{Log: o.log.With("logger", "xds"), Fleet: nodes, FilterSHA256: filterHash})
	c.loader = &loader{
		log: o.log.With("logger", "policy"), paths: o.policyPaths, listen: c.addresses.Listen, listenAsked: o.listenAsked, problems: cfg.ProblemTypeBase, accepted: filepath.Join(o.dataDir, acceptedFile),
		apply: func(l load) {
			metrics.slos.set(l.objectives, l.breakers)
			c.ingest.SetRoutes(l.routes)
			c.ingest.SetPolicy(l.objectives, l.boundsUS, l.breakers)
			c.xds.SetModel(l.model)
		},
		remember: func(routes []telemetry.Route) error {
			return store.KnowRoutes(context.WithoutCancel(ctx), time.Now(), routes)
		},
	}
	c.overrides, err = override.Load(ctx, override.Config{
		Log: o.log.With("logger", "override"), Store: store, Now: time.Now, Known: c.loader.known, Changed: c.loader.force,
	})
	if err != nil {
		return nil, err
	}
	if err := c.loader.force(c.overrides.InForce()); err != nil {
		return nil, err
	}
	if err := c.loader.first(); err != nil {
		return nil, err
	}
	c.budgets, err = budget.Load(ctx, budget.Config{
		Log: o.log.With("logger", "budget"), Store: store, Now: time.Now,
		Look: func(ctx context.Context) ([]slo.Objective, []slo.Status, error) {
			statuses, err := c.ingest.SLOs(ctx)
			return c.loader.current().objectives, statuses, err
		},
	})
	if err != nil {
		return nil, err
	}
	c.src = &source{
		version: o.version, filterHash: filterHash, loader: c.loader, fleet: nodes, ingest: c.ingest, overrides: c.overrides,
		budgets: c.budgets, store: store, log: o.log.With("logger", "gate"),
	}
	metrics.collect(c.src, c.xds, c.ingest, c.loader)
	if c.alerts, err = openAlerts(ctx, cfg, c.src, store, c.addresses.Admin, o.log.With("logger", "alert")); err != nil {
		return nil, err
	}
	c.onClose(func() error { c.alerts.close(); return nil })
	c.src.alerts = c.alerts
	metrics.registry.MustRegister(c.alerts)
	c.admin, err = api.New(api.Config{
		Source: c.src, Overrides: c.overrides, Postmortems: c.budgets, Audit: store, Ready: c.src.ready.Load,
		Log: o.log.With("logger", "api"), Now: time.Now, Metrics: metrics.handler(), ProblemTypeBase: cfg.ProblemTypeBase,
	})
	return c, err
}

// start serves and works. What serves outlives ctx until stop: the data plane
// drains against it.
func (c *controlPlane) start(ctx context.Context) {
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	c.stopServing = stopServing
	c.group, c.failed = errgroup.WithContext(serving)
	c.working, c.stopWorking = context.WithCancel(ctx)
	c.group.Go(func() error { return c.xds.Serve(c.failed, c.sockets.xds) })
	c.group.Go(func() error { return serveTelemetry(c.failed, c.sockets.telemetry, c.ingest.Handler(), c.log) })
	c.group.Go(func() error { return c.admin.Serve(c.failed, c.sockets.admin) })
	c.group.Go(func() error { return c.loader.watch(c.working) })
	c.group.Go(func() error { return c.overrides.Run(c.working) })
	c.group.Go(func() error { return c.budgets.Run(c.working) })
	c.group.Go(func() error { return c.alerts.Run(c.working) })
	c.group.Go(func() error { return c.alerts.managers.Run(c.working) })
	c.group.Go(func() error { return c.alerts.webhooks.Run(c.working) })
}

// await returns true when ctx ends, and false when a part has failed for good.
func (c *controlPlane) await(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	case <-c.failed.Done():
		return false
	}
}

// stop ends everything and closes it. The error is what has failed.
func (c *controlPlane) stop() error {
	c.stopWorking()
	c.stopServing()
	err := c.group.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, c.close())
}

func (c *controlPlane) onClose(f func() error) { c.closers = append(c.closers, f) }

func (c *controlPlane) close() error {
	var errs []error
	for _, f := range slices.Backward(c.closers) {
		errs = append(errs, f())
	}
	c.closers = nil
	return errors.Join(errs...)
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
