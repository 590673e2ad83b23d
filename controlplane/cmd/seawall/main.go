// Command seawall is the control plane, the demo and the tools, in one binary.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/seawall-mesh/seawall/controlplane/cli"
	"github.com/seawall-mesh/seawall/filter/module"
)

// version is set by the linker (-X main.version=…) in releases.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly end; a second one gets its default
	// effect and ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Main(realEnv(ctx))) //nolint:forbidigo // the one place that exits
}

func realEnv(ctx context.Context) cli.Env {
	env := cli.Env{
		Context:   ctx,
		Args:      os.Args[1:],
		Stdin:     os.Stdin,
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
		Getenv:    os.Getenv,
		Now:       time.Now,
		StdoutTTY: isatty.IsTerminal(os.Stdout.Fd()),
		StderrTTY: isatty.IsTerminal(os.Stderr.Fd()),
		Columns:   columns(os.Stdout.Fd()),
		Version:   buildVersion(),
	}
	// A binary without the filter still validates and asks; what needs the
	// filter says so itself.
	if _, hash, err := module.Load(); err == nil {
		env.FilterHash = hash
	}
	wire(&env)
	return env
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
