package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/envoy"
)

// The names of the Envoy that `up` runs, where its Edge asks for none.
const (
	localNode    = "local"
	localCluster = "seawall"
)

// EdgeOptions say what data plane to run. All but Workers are required.
type EdgeOptions struct {
	XDS         string // host:port of the control plane
	Telemetry   string // and of its telemetry address
	NodeID      string // unique in the fleet
	NodeCluster string // by which an Edge selects it
	DataDir     string
	Workers     int // of Envoy; 0: one per CPU
	Log         *slog.Logger
	Stdout      io.Writer
	Version     string
}

// Edge runs a data plane alone until ctx ends, then drains it and returns nil.
// The control plane may come later, and may go. A data plane that a killed run
// left over the same data folder is adopted.
func Edge(ctx context.Context, o EdgeOptions) error {
	if err := loopbackOnly(o.XDS, o.Telemetry); err != nil {
		return err
	}
	m, lock, err := hold(o.DataDir)
	if err != nil {
		return err
	}
	defer lock.Release()
	// Where it listens is not known yet: that comes by xDS.
	launcher, err := startEnvoy(ctx, o, m, nil, lock)
	if err != nil {
		return unlessAsked(ctx, err)
	}
	o.Log.Info("the data plane runs, and takes its configuration from the control plane", "node", o.NodeID, "cluster", o.NodeCluster, "xds", o.XDS)
	if launcher.Ready(ctx) == nil {
		fmt.Fprintf(o.Stdout, "Seawall %s: node %s of cluster %s serves what %s tells it; Ctrl-C drains it and stops\n", o.Version, o.NodeID, o.NodeCluster, o.XDS)
	}
	<-ctx.Done()
	o.Log.Info("stopping: draining the data plane")
	return launcher.Stop(context.WithoutCancel(ctx))
}

// startLocal runs the data plane of `up`, or adopts the one that an earlier run
// left behind.
func startLocal(ctx context.Context, o Options, c *controlPlane, m envoy.Module, lock *envoy.DataLock) (*envoy.Launcher, error) {
	edge, err := localEdge(c.loader.current().model)
	if err != nil {
		return nil, err
	}
	node, cluster := localIdentity(edge.Nodes)
	if !envoy.LeftBehind(o.DataDir) {
		c.ingest.Drained(node)
	}
	return startEnvoy(ctx, EdgeOptions{
		XDS: c.addresses.XDS, Telemetry: c.addresses.Telemetry, NodeID: node, NodeCluster: cluster,
		DataDir: o.DataDir, Workers: o.Workers, Log: o.Log, Stdout: o.Stdout, Version: o.Version,
	}, m, listenAddresses(edge), lock)
}

func startEnvoy(ctx context.Context, o EdgeOptions, m envoy.Module, listen []string, lock *envoy.DataLock) (*envoy.Launcher, error) {
	binary, err := envoy.Find(ctx, envoy.FindConfig{Log: o.Log})
	if err != nil {
		return nil, err
	}
	o.Log.Info("data plane: envoy", "path", binary.Path, "version", binary.Version)
	return envoy.Start(ctx, envoy.Config{
		Log: o.Log, Binary: binary, DataDir: o.DataDir, Module: m, Lock: lock, Listen: listen,
		Bootstrap: envoy.BootstrapConfig{
			NodeID: o.NodeID, Cluster: o.NodeCluster, XDS: o.XDS, Telemetry: o.Telemetry, Workers: o.Workers, Version: o.Version,
		},
	})
}

// localEdge is the Edge that the Envoy of this machine is for. Of several it
// would be a guess.
func localEdge(m *ir.Model) (ir.Edge, error) {
	switch len(m.Edges) {
	case 0:
		return ir.Edge{}, errNoEdge
	case 1:
		return m.Edges[0], nil
	}
	names := make([]string, len(m.Edges))
	for i, e := range m.Edges {
		names[i] = e.Name
	}
	return ir.Edge{}, fmt.Errorf("the policies have %d edges (%s), and `seawall up` runs one Envoy: give it a folder with one of them", len(names), strings.Join(names, ", "))
}

// localIdentity is a node.id and node.cluster that the selector takes.
func localIdentity(s ir.NodeSelector) (id, cluster string) {
	id, cluster = localNode, localCluster
	if s.ID != "" {
		id = strings.ReplaceAll(s.ID, "*", localNode)
	}
	if s.Cluster != "" {
		cluster = strings.ReplaceAll(s.Cluster, "*", localCluster)
	}
	return id, cluster
}

func listenAddresses(e ir.Edge) []string {
	out := make([]string, len(e.Listeners))
	for i, l := range e.Listeners {
		out[i] = net.JoinHostPort(l.Address, strconv.FormatUint(uint64(l.Port), 10))
	}
	return out
}

// banner tells a person where everything is.
func banner(w io.Writer, version string, in load, a Addresses) {
	var hosts []string
	for _, s := range in.set.Services {
		hosts = append(hosts, s.Spec.Hosts...)
	}
	slices.Sort(hosts)
	fmt.Fprintf(w, "Seawall %s serves %s\n", version, strings.Join(slices.Compact(hosts), ", "))
	addressLines(w, in, a)
	fmt.Fprintf(w, "Try: seawall status --admin %s\n", a.Admin)
}

// serveBanner tells a person where everything is and will be, and how the data
// planes are run.
func serveBanner(w io.Writer, version string, in load, a Addresses) {
	fmt.Fprintf(w, "Seawall %s: a control plane alone\n", version)
	addressLines(w, in, a)
	for _, e := range in.model.Edges {
		_, cluster := localIdentity(e.Nodes)
		fmt.Fprintf(w, "Run edge %s by: seawall edge --xds %s --telemetry %s --node-id NAME --node-cluster %s\n", e.Name, a.XDS, a.Telemetry, cluster)
	}
}

func addressLines(w io.Writer, in load, a Addresses) {
	for _, e := range in.model.Edges {
		for i, l := range listenAddresses(e) {
			scheme := "http"
			if e.Listeners[i].TLS != nil {
				scheme = "https"
			}
			fmt.Fprintf(w, "  data plane  %s://%s/\n", scheme, l)
		}
	}
	fmt.Fprintf(w, "  admin       http://%s/  (pages, /api/v1/, /metrics)\n  xDS         %s\n  telemetry   %s\n", a.Admin, a.XDS, a.Telemetry)
}
