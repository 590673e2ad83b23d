package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Main runs the command that env.Args names and returns its exit code.
func Main(env Env) int {
	root := newRoot(env)
	root.SetArgs(env.Args)
	return report(env, root.ExecuteContext(env.Context))
}

// The groups of the help page.
const (
	groupRun   = "run"
	groupFiles = "files"
	groupAsk   = "ask"
)

func newRoot(env Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "seawall",
		Short: "Resilience patterns at the mesh edge, from one set of policy files",
		Long: `Seawall puts circuit breakers, retries, timeouts, error budgets and more at the
mesh edge, from one set of policy files: a Go/Wasm filter decides in Envoy, this
control plane compiles the policies, pushes them and counts what happens.

Start with:  seawall demo        see it protect a payment service
             seawall up -p DIR   serve your own policies; edits are pushed live`,
		SilenceErrors: true, // report prints them
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs, // so that RunE can name the unknown command
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := "seawall --help lists the commands"
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = "did you mean: seawall " + strings.Join(near, ", seawall ")
			}
			return usageErrorf(hint, "unknown command %q", args[0])
		},
		SuggestionsMinimumDistance: 2,
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageErrorf("see: "+cmd.CommandPath()+" --help", "%w", err)
	})
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run:"},
		&cobra.Group{ID: groupFiles, Title: "Policy files, offline:"},
		&cobra.Group{ID: groupAsk, Title: "Ask a running control plane:"},
	)
	root.AddCommand(
		newUp(env), newServe(env), newEdge(env), newDemo(env),
		newValidate(env), newExplain(env), newMatch(env), newDiff(env), newRender(env),
		newStatus(env), newNodes(env), newBreakers(env), newPools(env), newAlerts(env), newTraffic(env), newSLO(env), newCanDeploy(env), newDeployments(env), newAudit(env),
		newVersion(env),
	)
	return root
}

// noArgs refuses arguments as a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageErrorf("see: "+cmd.CommandPath()+" --help", "%s takes no arguments, got %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// somePaths wants at least one path.
func somePaths(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageErrorf("for example: "+cmd.CommandPath()+" policies/", "%s needs at least one file or directory", cmd.CommandPath())
	}
	return nil
}

// outputFlag is -o.
type outputFlag string

const (
	outputTable outputFlag = "table"
	outputJSON  outputFlag = "json"
)

// String, Set and Type make it a flag.
func (o *outputFlag) String() string { return string(*o) }

// Set takes table or json.
func (o *outputFlag) Set(s string) error {
	switch outputFlag(s) {
	case outputTable, outputJSON:
		*o = outputFlag(s)
		return nil
	}
	return fmt.Errorf("%q is neither table nor json", s)
}

// Type is the word for its value in the help.
func (o *outputFlag) Type() string { return "table|json" }

// choice is a flag whose value is one of a few words.
type choice struct {
	value string
	of    []string
}

// String, Set and Type make it a flag.
func (c *choice) String() string { return c.value }

// Set takes one of the words.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		return fmt.Errorf("%q is none of %s", s, strings.Join(c.of, ", "))
	}
	c.value = s
	return nil
}

// Type is the word for its value in the help.
func (c *choice) Type() string { return strings.Join(c.of, "|") }

func addOutput(cmd *cobra.Command) *outputFlag {
	o := outputTable
	cmd.Flags().VarP(&o, "output", "o", "how to print the result")
	return &o
}
