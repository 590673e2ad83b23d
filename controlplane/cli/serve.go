package cli

import (
	"errors"
	"net"
	"strings"

	"github.com/spf13/cobra"
)

func newServe(env Env) *cobra.Command {
	var o ServeOptions
	var logs logFlags
	cmd := &cobra.Command{
		Use:     "serve -p DIR",
		GroupID: groupRun,
		Short:   "Run a control plane alone, for the data planes of a fleet",
		Long: `Run a control plane alone. Data planes that ` + "`seawall edge`" + ` runs connect to it;
edits to the policies are pushed live. They go on with what they have when it
ends or is killed, keep what they count, and come back to the next one that
serves the same addresses over the same data folder.`,
		Example: `  seawall serve -p policies/ --data /var/lib/seawall`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkServe(o.PolicyPaths, o.DataDir, o.Listen, o.Admin, o.XDS, o.Telemetry); err != nil {
				return err
			}
			if env.Serve == nil {
				return errors.New("this binary is built without a control plane")
			}
			log, err := logs.logger(env)
			if err != nil {
				return err
			}
			o.Log, o.Stdout, o.Version, o.ListenAsked = log, env.Stdout, env.Version, cmd.Flags().Changed("listen")
			return env.Serve(cmd.Context(), o)
		},
	}
	addServe(cmd, &o.PolicyPaths, &o.Listen, &o.Admin, &o.XDS, &o.Telemetry, &o.DataDir)
	addConfig(cmd, &o.ConfigFile)
	logs.add(cmd)
	return cmd
}

func addConfig(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "config", "", "file with what is no policy: Alertmanager, webhooks, problem types")
}

// addServe adds the flags of every command that is a control plane.
func addServe(cmd *cobra.Command, policies *[]string, listen, admin, xds, telemetry, data *string) {
	f := cmd.Flags()
	f.StringArrayVarP(policies, "policies", "p", nil, "policy file or directory; may be repeated")
	f.StringVar(listen, "listen", "127.0.0.1:10000", "data plane address, where no Edge policy names one")
	f.StringVar(admin, "admin", defaultAdmin, "admin address: pages, API, metrics")
	f.StringVar(xds, "xds", defaultXDS, "xDS address, for Envoys")
	f.StringVar(telemetry, "telemetry", defaultTelemetry, "telemetry address, for filters")
	f.StringVar(data, "data", ".seawall", "folder for everything that this run keeps")
}

// checkServe refuses what cannot work before anything is started, and what
// would be unsafe.
func checkServe(policies []string, data, listen, admin, xds, telemetry string) error {
	if len(policies) == 0 {
		return usageErrorf("for example: -p policies/", "no policies: -p is required")
	}
	if data == "" {
		return usageErrorf("for example: --data .seawall", "--data is empty")
	}
	seen := map[string]string{}
	for _, a := range []struct{ flag, value string }{
		{"--listen", listen}, {"--admin", admin}, {"--xds", xds}, {"--telemetry", telemetry},
	} {
		port, err := checkAddress(a.flag, a.value)
		if err != nil {
			return err
		}
		if other, taken := seen[a.value]; taken && port != 0 {
			return usageErrorf("", "%s and %s are both %s", other, a.flag, a.value)
		}
		seen[a.value] = a.flag
	}
	return ownMachine("--admin", admin, "--xds", xds, "--telemetry", telemetry)
}

func checkAddress(flag, value string) (port uint16, err error) {
	if port, err = splitAddress(value); err != nil {
		return 0, usageErrorf("for example: "+flag+" 127.0.0.1:9900; port 0 takes a free one", "%s %q: %w", flag, value, err)
	}
	return port, nil
}

// ownMachine refuses addresses off this machine, given as flag and value: tokens
// and TLS guard them (DESIGN section 5), and until they exist nobody outside may
// reach them, nor may what they carry leave in plain text.
func ownMachine(flagsAndValues ...string) error {
	for i := 0; i < len(flagsAndValues); i += 2 {
		if host, _, _ := net.SplitHostPort(flagsAndValues[i+1]); !isLoopback(host) {
			return usageErrorf("use 127.0.0.1, and an SSH tunnel or a proxy with authentication in front",
				"%s %s is not a loopback address; TLS and tokens for others are not available yet", flagsAndValues[i], flagsAndValues[i+1])
		}
	}
	return nil
}

// maxNodeName bounds a node's id and cluster, in bytes.
const maxNodeName = 100

func newEdge(env Env) *cobra.Command {
	var o EdgeOptions
	var logs logFlags
	cmd := &cobra.Command{
		Use:     "edge --node-id I --node-cluster C",
		GroupID: groupRun,
		Short:   "Run a supervised data plane alone, for a control plane elsewhere",
		Long: `Run a data plane alone: Envoy with the Seawall filter, started again when it
ends by itself. It takes its configuration from ` + "`seawall serve`" + `, which may start
later and may be away. SIGINT or SIGTERM drains it and ends within ten seconds.

A data plane that a killed run left over the same data folder is adopted or
drained, never doubled.`,
		Example: `  seawall edge --xds 127.0.0.1:9901 --telemetry 127.0.0.1:9902 --node-id edge-1 --node-cluster edge`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkEdge(&o); err != nil {
				return err
			}
			if env.Edge == nil {
				return errors.New("this binary is built without a data plane")
			}
			log, err := logs.logger(env)
			if err != nil {
				return err
			}
			o.Log, o.Stdout, o.Version = log, env.Stdout, env.Version
			return env.Edge(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.XDS, "xds", defaultXDS, "xDS address of the control plane")
	f.StringVar(&o.Telemetry, "telemetry", defaultTelemetry, "telemetry address of the control plane")
	f.StringVar(&o.NodeID, "node-id", "", "name of this node, unique in the fleet")
	f.StringVar(&o.NodeCluster, "node-cluster", "", "the group by which an Edge policy selects its nodes")
	f.StringVar(&o.DataDir, "data", ".seawall-edge", "folder for everything that this run keeps")
	addWorkers(cmd, &o.Workers)
	logs.add(cmd)
	return cmd
}

func addWorkers(cmd *cobra.Command, to *int) {
	cmd.Flags().IntVar(to, "workers", 0, "worker threads of Envoy; 0: one per CPU")
}

func checkWorkers(n int) error {
	if n < 0 || n > maxWorkers {
		return usageErrorf("", "--workers %d is not in 0 to %d", n, maxWorkers)
	}
	return nil
}

func checkEdge(o *EdgeOptions) error {
	for _, name := range []struct{ flag, value, example string }{{"--node-id", o.NodeID, "edge-1"}, {"--node-cluster", o.NodeCluster, "edge"}} {
		if name.value == "" {
			return usageErrorf("for example: "+name.flag+" "+name.example, "%s is required", name.flag)
		}
		if len(name.value) > maxNodeName || strings.ContainsFunc(name.value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return usageErrorf("for example: "+name.flag+" "+name.example, "%s is not one word of at most %d ASCII characters", name.flag, maxNodeName)
		}
	}
	for _, a := range []struct{ flag, value string }{{"--xds", o.XDS}, {"--telemetry", o.Telemetry}} {
		port, err := checkAddress(a.flag, a.value)
		if err != nil {
			return err
		}
		if port == 0 {
			return usageErrorf("name the port that `seawall serve` listens on", "%s %s has no port to connect to", a.flag, a.value)
		}
	}
	if o.DataDir == "" {
		return usageErrorf("for example: --data .seawall-edge", "--data is empty")
	}
	if err := ownMachine("--xds", o.XDS, "--telemetry", o.Telemetry); err != nil {
		return err
	}
	return checkWorkers(o.Workers)
}
