package translate

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"

	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/filter/module"
)

// A name that is missing makes the module trap or go deaf, one too many is a
// door left open.
func TestCapabilitiesAreTheModules(t *testing.T) {
	code, _, err := module.Load()
	require.NoError(t, err)
	runtime := wazero.NewRuntime(t.Context())
	defer func() { _ = runtime.Close(t.Context()) }()
	m, err := runtime.CompileModule(t.Context(), code)
	require.NoError(t, err)
	var uses []string
	for _, f := range m.ImportedFunctions() {
		_, name, _ := f.Import()
		uses = append(uses, name)
	}
	for name := range m.ExportedFunctions() {
		if strings.HasPrefix(name, "proxy_on_") && name != "proxy_on_memory_allocate" { // which Envoy does not restrict
			uses = append(uses, name)
		}
	}
	slices.Sort(uses)
	allowed := Capabilities(true, true)
	slices.Sort(allowed)
	require.Equal(t, slices.Compact(uses), allowed)
}

func TestOnlyAnEdgeWithAnAttemptRoleHearsOfResponseHeaders(t *testing.T) {
	for _, attempts := range []bool{false, true} {
		b := builder{edge: ir.Edge{Clusters: []ir.Cluster{{Name: "a"}, {Name: "b", Attempts: attempts}}}}
		_, heard := b.restriction().AllowedCapabilities[responseHeaders]
		require.Equal(t, attempts, heard)
	}
}
