package app

import (
	"context"
	"fmt"
	"io"
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

// startEnvoy runs the local data plane, or adopts the one that an earlier run
// left behind.
func startEnvoy(ctx context.Context, o Options, a Addresses, m envoy.Module, in load, lock *envoy.DataLock) (*envoy.Launcher, error) {
	edge, err := localEdge(in.model)
	if err != nil {
		return nil, err
	}
	binary, err := envoy.Find(ctx, envoy.FindConfig{Log: o.Log})
	if err != nil {
		return nil, err
	}
	o.Log.Info("data plane: envoy", "path", binary.Path, "version", binary.Version)
	node, cluster := localIdentity(edge.Nodes)
	return envoy.Start(ctx, envoy.Config{
		Log: o.Log, Binary: binary, DataDir: o.DataDir, Module: m, Lock: lock, Listen: listenAddresses(edge),
		Bootstrap: envoy.BootstrapConfig{
			NodeID: node, Cluster: cluster, XDS: a.XDS, Telemetry: a.Telemetry, Workers: o.Workers, Version: o.Version,
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
	fmt.Fprintf(w, "Try: seawall status --admin %s\n", a.Admin)
}
