package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func newDemo(env Env) *cobra.Command {
	var o DemoOptions
	var logs logFlags
	cmd := &cobra.Command{
		Use:     "demo",
		GroupID: groupRun,
		Short:   "Break the world of a payment service, act by act, and check",
		Long: `Run a payment service behind a real Envoy with the Seawall filter and break its
world, act by act. Each act says what should happen, makes it happen, shows what
the client and the service saw, and checks it. Exits 1 if an act did not go as
promised. Takes less than two minutes.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkDataPlane(o.DataPlane); err != nil {
				return err
			}
			if env.Demo == nil {
				return errors.New("this binary is built without the demo")
			}
			log, err := logs.logger(env)
			if err != nil {
				return err
			}
			o.Log, o.Stdout, o.Colour, o.Version = log, env.Stdout, env.style().on, env.Version
			return env.Demo(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.Keep, "keep", false, "go on serving after the last act, until interrupted")
	addDataPlane(cmd, &o.DataPlane)
	// The acts tell the story, alerts that fire included; the log is for when it
	// goes wrong.
	logs.level = "error"
	logs.add(cmd)
	return cmd
}
