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
			o.Log, o.Stdout, o.Version = log, env.Stdout, env.Version
			return env.Up(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.PolicyPaths, "policies", "p", nil, "policy file or directory; may be repeated")
	addDataPlane(cmd, &o.DataPlane)
	f.StringVar(&o.Listen, "listen", "127.0.0.1:10000", "data plane address, where no Edge policy names one")
	f.StringVar(&o.Admin, "admin", defaultAdmin, "admin address: pages, API, metrics")
	f.StringVar(&o.XDS, "xds", "127.0.0.1:9901", "xDS address, for Envoys")
	f.StringVar(&o.Telemetry, "telemetry", "127.0.0.1:9902", "telemetry address, for filters")
	f.StringVar(&o.DataDir, "data", ".seawall", "folder for everything that this run keeps")
	f.IntVar(&o.Workers, "workers", 0, "worker threads of Envoy; 0: one per CPU")
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

// checkUp refuses what cannot work before anything is started, and what would
// be unsafe.
func checkUp(o *UpOptions) error {
	if len(o.PolicyPaths) == 0 {
		return usageErrorf("for example: seawall up -p policies/", "no policies: -p is required")
	}
	if err := checkDataPlane(o.DataPlane); err != nil {
		return err
	}
	if o.Workers < 0 || o.Workers > maxWorkers {
		return usageErrorf("", "--workers %d is not in 0 to %d", o.Workers, maxWorkers)
	}
	if o.DataDir == "" {
		return usageErrorf("for example: --data .seawall", "--data is empty")
	}
	seen := map[string]string{}
	for _, a := range []struct{ flag, value string }{
		{"--listen", o.Listen}, {"--admin", o.Admin}, {"--xds", o.XDS}, {"--telemetry", o.Telemetry},
	} {
		port, err := splitAddress(a.value)
		if err != nil {
			return usageErrorf("for example: "+a.flag+" 127.0.0.1:9900; port 0 takes a free one", "%s %q: %w", a.flag, a.value, err)
		}
		if other, taken := seen[a.value]; taken && port != 0 {
			return usageErrorf("", "%s and %s are both %s", other, a.flag, a.value)
		}
		seen[a.value] = a.flag
	}
	// Tokens and TLS guard the admin address elsewhere (DESIGN section 5); until
	// they exist, nobody outside this machine may reach it.
	if host, _, _ := net.SplitHostPort(o.Admin); !isLoopback(host) {
		return usageErrorf("use 127.0.0.1, and an SSH tunnel or a proxy with authentication in front",
			"--admin %s is not a loopback address; TLS and tokens for others are not available yet", o.Admin)
	}
	return nil
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
