package main

import (
	"context"

	"github.com/seawall-mesh/seawall/controlplane/app"
	"github.com/seawall-mesh/seawall/controlplane/cli"
	"github.com/seawall-mesh/seawall/controlplane/demo"
	"github.com/seawall-mesh/seawall/controlplane/render"
)

// wire gives the commands the parts that they run. They are named here and not
// in package cli, so that its tests need no Envoy.
func wire(env *cli.Env) {
	env.Up = func(ctx context.Context, o cli.UpOptions) error { return app.Run(ctx, app.Options(o)) }
	env.Serve = func(ctx context.Context, o cli.ServeOptions) error { return app.Serve(ctx, app.ServeOptions(o)) }
	env.Edge = func(ctx context.Context, o cli.EdgeOptions) error { return app.Edge(ctx, app.EdgeOptions(o)) }
	env.Demo = func(ctx context.Context, o cli.DemoOptions) error { return demo.Run(ctx, demo.Options(o)) }
	env.Render = func(_ context.Context, o cli.RenderOptions) error {
		switch o.What {
		case "bootstrap":
			return render.Bootstrap(o.Stdout, env.Version, o.Paths...)
		case "prometheus":
			return render.Prometheus(o.Stdout, o.Part, o.Paths...)
		}
		return render.Envoy(o.Stdout, o.Paths...)
	}
}
