// Package render writes the files that other programs need, from policies
// alone: no control plane need run. It imports what makes those files (compile,
// xds/translate, envoy) and is imported by cmd/seawall.
package render

import (
	"fmt"
	"io"

	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/xds/translate"
	"github.com/seawall-mesh/seawall/envoy"
	"github.com/seawall-mesh/seawall/filter/module"
)

// Defaults of DESIGN section 5: what is rendered fits a control plane that was
// started without flags.
const (
	listen        = "127.0.0.1:10000"
	xdsAddress    = "127.0.0.1:9901"
	telemetryHost = "127.0.0.1"
	telemetryPort = 9902
	filterDir     = "/var/lib/seawall/filters"
)

// RefusedError is a policy set with errors.
type RefusedError struct{ findings diag.List }

// Error is one line; the findings say the rest.
func (e *RefusedError) Error() string { return "the policies have errors" }

// Diagnostics are the findings.
func (e *RefusedError) Diagnostics() diag.List { return e.findings }

// Envoy writes, for each Edge of the policies, a bootstrap that serves it
// without a control plane: listeners, routes, clusters and the plan.
func Envoy(w io.Writer, paths ...string) error {
	model, err := load(paths)
	if err != nil {
		return err
	}
	_, sha, err := module.Load()
	if err != nil {
		return err
	}
	for _, edge := range model.Edges {
		bootstrap, err := translate.Static(edge, translate.Module{Path: filterDir + "/" + envoy.ModuleFile(sha), SHA256: sha, VMID: "seawall"},
			translate.StaticConfig{TelemetryAddress: telemetryHost, TelemetryPort: telemetryPort})
		if err != nil {
			return fmt.Errorf("edge %s: %w", edge.Name, err)
		}
		text, err := translate.JSON(bootstrap)
		if err != nil {
			return fmt.Errorf("edge %s: %w", edge.Name, err)
		}
		if _, err := fmt.Fprintf(w, "%s\n", text); err != nil {
			return err
		}
	}
	return nil
}

// Bootstrap writes, for each Edge, the bootstrap of a node that a control plane
// manages.
func Bootstrap(w io.Writer, version string, paths ...string) error {
	model, err := load(paths)
	if err != nil {
		return err
	}
	_, sha, err := module.Load()
	if err != nil {
		return err
	}
	for _, edge := range model.Edges {
		cluster := edge.Nodes.Cluster
		if cluster == "" {
			cluster = "seawall"
		}
		text, err := envoy.Bootstrap(envoy.BootstrapConfig{
			NodeID: edge.Name + "-1", Cluster: cluster, XDS: xdsAddress, Telemetry: fmt.Sprintf("%s:%d", telemetryHost, telemetryPort),
			Workers: 1, FilterDir: filterDir, Filters: []string{sha}, Version: version,
		})
		if err != nil {
			return fmt.Errorf("edge %s: %w", edge.Name, err)
		}
		if _, err := fmt.Fprintf(w, "%s\n", text); err != nil {
			return err
		}
	}
	return nil
}

func loadSet(paths []string) (*policy.Set, error) {
	set, findings, err := policy.Load(paths...)
	if err != nil {
		return nil, err
	}
	if set == nil {
		return nil, &RefusedError{findings}
	}
	return set, nil
}

func load(paths []string) (*ir.Model, error) {
	set, err := loadSet(paths)
	if err != nil {
		return nil, err
	}
	return compile.Compile(set, compile.Options{Listen: listen})
}
