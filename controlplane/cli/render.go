package cli

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seawall-mesh/seawall/controlplane/policy"
)

func newRender(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "render",
		GroupID: groupFiles,
		Short:   "Write the files that other programs need",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageErrorf("see: seawall render --help", "render what? bootstrap, envoy, prometheus or schema")
			}
			return usageErrorf("see: seawall render --help", "%q cannot be rendered; bootstrap, envoy, prometheus and schema can", args[0])
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
	cmd.AddCommand(newRenderPrometheus(env), newRenderSchema(env))
	return cmd
}

func newRenderSchema(env Env) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Write the JSON Schema of policy files, for editors",
		Long: `Write the JSON Schema of policy files, for completion and checks while you type.
With yaml-language-server, put at the head of each document:
  # yaml-language-server: $schema=./policy.schema.json`,
		Example: `  seawall render schema > policy.schema.json`,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := env.Stdout.Write(policy.JSONSchema())
			return err
		},
	}
}

func newRenderPrometheus(env Env) *cobra.Command {
	parts := []string{"rules", "tests", "alertmanager"}
	part := parts[0]
	cmd := &cobra.Command{
		Use:   "prometheus PATH…",
		Short: "Write recording and alerting rules, their tests, and Alertmanager's inhibition",
		Long: `Write what Prometheus and Alertmanager need, from the policies: the rules, tests
of the rules for promtool, or the inhibition that lets the fastest burn alert of
an objective speak alone. The control plane raises the same alerts by itself;
rules are for who has a Prometheus already, and also notice when the control
plane is gone. They need Prometheus 2.42 that scrapes each 15 s or more often.`,
		Example: `  seawall render prometheus policies/ > seawall-rules.yaml
  seawall render prometheus --part tests policies/ > seawall-rules_test.yaml
  promtool test rules seawall-rules_test.yaml
  seawall render prometheus --part alertmanager policies/   # merge into alertmanager.yml`,
		Args: somePaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(parts, part) {
				return usageErrorf("", "--part %q is none of %s", part, strings.Join(parts, ", "))
			}
			if env.Render == nil {
				return errors.New("render is not available yet in this binary")
			}
			return env.Render(cmd.Context(), RenderOptions{What: "prometheus", Part: part, Paths: args, Stdout: env.Stdout})
		},
	}
	cmd.Flags().StringVar(&part, "part", part, strings.Join(parts, ", "))
	return cmd
}
