package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/seawall-mesh/seawall/envoy"
	"github.com/seawall-mesh/seawall/filter/module"
)

// Debounce is how long the policy folder must be quiet before it is read
// again: long enough for an editor's several writes, short against the 100 ms
// from saving to effect that Seawall promises.
const Debounce = 25 * time.Millisecond

// Options say what to run. All but ConfigFile and Workers are required; addresses are
// host:port, and port 0 takes a free one.
type Options struct {
	PolicyPaths []string
	DataPlane   string // auto | envoy
	Listen      string // data plane, where no Edge names an address
	ListenAsked bool   // the user named it: an Edge that makes it void is told
	Admin       string
	XDS         string
	Telemetry   string
	DataDir     string
	ConfigFile  string // "" = none
	Workers     int    // of Envoy; 0: one per CPU
	Log         *slog.Logger
	Stdout      io.Writer
	Version     string
}

// Run runs a control plane and a data plane until ctx ends, then drains the data
// plane, stores what it has counted, and returns nil. An error is about what
// could not be started, or about a part that failed for good.
func Run(ctx context.Context, o Options) error {
	return RunNotify(ctx, o, func(Addresses) {})
}

// Addresses are where a running control plane serves, with real ports, and its
// data plane, where no Edge names an address.
type Addresses struct {
	Listen, Admin, XDS, Telemetry string
}

// RunNotify is Run that tells its addresses once the first accepted policy is
// served by the data plane.
func RunNotify(ctx context.Context, o Options, ready func(Addresses)) error {
	if err := loopbackOnly(o.Admin, o.XDS, o.Telemetry); err != nil {
		return err
	}
	m, lock, err := hold(o.DataDir)
	if err != nil {
		return err
	}
	defer lock.Release()
	c, err := openControlPlane(ctx, controlOptions{o.PolicyPaths, o.Listen, o.Admin, o.XDS, o.Telemetry, o.ListenAsked, o.DataDir, o.ConfigFile, o.Log, o.Version}, m.SHA256)
	if err != nil {
		return unlessAsked(ctx, err)
	}
	c.start(ctx)
	launcher, err := startLocal(ctx, o, c, m, lock)
	if err == nil {
		c.group.Go(func() error {
			if c.src.awaitServed(c.working) {
				banner(o.Stdout, o.Version, c.loader.current(), c.addresses)
				ready(c.addresses)
			}
			return nil
		})
		if c.await(ctx) {
			o.Log.Info("stopping: draining the data plane")
		}
		// Its own time limit is shorter than what is left of the ten seconds
		// that a stop may take.
		err = launcher.Stop(context.WithoutCancel(ctx))
	}
	return errors.Join(unlessAsked(ctx, err), c.stop())
}

// ServeOptions say what control plane to run. All but ConfigFile are required.
type ServeOptions struct {
	PolicyPaths []string
	Listen      string // of the data planes, where no Edge names an address
	ListenAsked bool   // as in Options
	Admin       string
	XDS         string
	Telemetry   string
	DataDir     string
	ConfigFile  string // "" = none
	Log         *slog.Logger
	Stdout      io.Writer
	Version     string
}

// Serve runs a control plane alone until ctx ends, stores what has arrived, and
// returns nil. Data planes go on without it.
func Serve(ctx context.Context, o ServeOptions) error {
	if err := loopbackOnly(o.Admin, o.XDS, o.Telemetry); err != nil {
		return err
	}
	m, lock, err := hold(o.DataDir)
	if err != nil {
		return err
	}
	defer lock.Release()
	c, err := openControlPlane(ctx, controlOptions{o.PolicyPaths, o.Listen, o.Admin, o.XDS, o.Telemetry, o.ListenAsked, o.DataDir, o.ConfigFile, o.Log, o.Version}, m.SHA256)
	if err != nil {
		return unlessAsked(ctx, err)
	}
	c.start(ctx)
	// A node comes when it is ready, not before.
	c.src.ready.Store(true)
	serveBanner(o.Stdout, o.Version, c.loader.current(), c.addresses)
	if c.await(ctx) {
		o.Log.Info("stopping: the data planes go on with what they have")
	}
	return c.stop()
}

// hold takes the data folder and the filter that this binary has.
func hold(dataDir string) (envoy.Module, *envoy.DataLock, error) {
	wasm, sha, err := module.Load()
	if err != nil {
		return envoy.Module{}, nil, err
	}
	lock, err := envoy.LockData(dataDir)
	return envoy.Module{Bytes: wasm, SHA256: sha}, lock, err
}

// unlessAsked is nil where a start was broken off because it was asked to:
// that is an orderly end like any other.
func unlessAsked(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
