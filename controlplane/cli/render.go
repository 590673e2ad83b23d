package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func newRender(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "render",
		GroupID: groupFiles,
		Short:   "Write the files that other programs need",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageErrorf("see: seawall render --help", "render what? bootstrap or envoy")
			}
			return usageErrorf("see: seawall render --help", "%q cannot be rendered; bootstrap and envoy can", args[0])
		},
	}
	for _, r := range []struct{ what, short string }{
		{"bootstrap", "Write the Envoy bootstrap of a node that Seawall manages"},
		{"envoy", "Write what the policies become in Envoy: listeners, routes, clusters, plan"},
	} {
		cmd.AddCommand(&cobra.Command{
			Use:   r.what + " PATH…",
			Short: r.short,
			Args:  somePaths,
			RunE: func(cmd *cobra.Command, args []string) error {
				if env.Render == nil {
					return errors.New("render is not available yet in this binary")
				}
				return env.Render(cmd.Context(), RenderOptions{What: r.what, Paths: args, Stdout: env.Stdout})
			},
		})
	}
	return cmd
}
