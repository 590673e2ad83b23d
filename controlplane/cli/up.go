package cli

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/cobra"
)

const maxWorkers = 256

func newUp(env Env) *cobra.Command {
	var o UpOptions
	var logs logFlags
	cmd := &cobra.Command{
		Use:     "up -p DIR",
		GroupID: groupRun,
		Short:   "Run a control plane and a data plane on this machine",
		Long: `Run a control plane and a data plane (Envoy with the Seawall filter) on this
machine. Edits to the policies are pushed live. SIGINT or SIGTERM drains the data
plane, stores what it has counted and ends within ten seconds.

A data plane that a killed run left over the same data folder is adopted or
drained, never doubled.`,
		Example: `  seawall up -p policies/
  seawall up -p policies/payments --listen 127.0.0.1:8080 --data /var/lib/seawall`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkUp(&o); err != nil {
				return err
			}
			if env.Up == nil {
				return errors.New("this binary is built without a control plane")
			}
			log, err := logs.logger(env)
			if err != nil {
				return err
			}
			o.Log, o.Stdout, o.Version, o.ListenAsked = log, env.Stdout, env.Version, cmd.Flags().Changed("listen")
			return env.Up(cmd.Context(), o)
		},
	}
	addServe(cmd, &o.PolicyPaths, &o.Listen, &o.Admin, &o.XDS, &o.Telemetry, &o.DataDir)
	addConfig(cmd, &o.ConfigFile)
	addDataPlane(cmd, &o.DataPlane)
	addWorkers(cmd, &o.Workers)
	logs.add(cmd)
	return cmd
}

func addDataPlane(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "dataplane", "auto", "auto, envoy or embedded")
}

func checkDataPlane(s string) error {
	switch s {
	case "auto", "envoy":
		return nil
	case "embedded":
		return usageErrorf("use --dataplane envoy; a real Envoy is found or installed", "--dataplane embedded is not available yet")
	}
	return usageErrorf("", "--dataplane %q is none of auto, envoy, embedded", s)
}

func checkUp(o *UpOptions) error {
	if err := checkServe(o.PolicyPaths, o.DataDir, o.Listen, o.Admin, o.XDS, o.Telemetry); err != nil {
		return err
	}
	if err := checkDataPlane(o.DataPlane); err != nil {
		return err
	}
	return checkWorkers(o.Workers)
}

// splitAddress checks host:port and returns the port.
func splitAddress(s string) (port uint16, err error) {
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return 0, errors.New("not host:port")
	}
	if host == "" {
		return 0, errors.New("the host is missing")
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %q is not a number from 0 to 65535", text)
	}
	return uint16(n), nil
}
