package translate_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/xds/translate"
	"github.com/seawall-mesh/seawall/filter/module"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

// filterModule writes the real filter where an Envoy finds it.
func filterModule(t *testing.T) translate.Module {
	t.Helper()
	code, sha, err := module.Load()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "filter-"+sha+".wasm")
	require.NoError(t, os.WriteFile(path, code, 0o600))
	return translate.Module{Path: path, SHA256: sha}
}

func staticConfig(t *testing.T, edge ir.Edge, c translate.StaticConfig, m translate.Module) string {
	t.Helper()
	c.AdminAddress, c.TelemetryAddress, c.TelemetryPort = "127.0.0.1", "127.0.0.1", 1
	bootstrap, err := translate.Static(edge, m, c)
	require.NoError(t, err)
	config, err := translate.JSON(bootstrap)
	require.NoError(t, err)
	return string(config)
}

// TestEnvoyValidates runs Envoy's own check over each golden edge. One of them
// carries the filter, which makes Envoy start the plugin with its plan; compile
// has had the others read by the filter's own parser.
func TestEnvoyValidates(t *testing.T) {
	envoy := realenvoy.Binary(t)
	m := filterModule(t)
	for name, edge := range compiled(t) {
		t.Run(name, func(t *testing.T) {
			config := staticConfig(t, edge, translate.StaticConfig{WithoutFilter: name != "payments/shop"}, m)
			path := filepath.Join(t.TempDir(), "envoy.json")
			require.NoError(t, os.WriteFile(path, []byte(config), 0o600))
			out, err := exec.CommandContext(t.Context(), envoy.Path, "--mode", "validate", "-c", path, "-l", "warning").CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.NotContains(t, string(out), "deprecated")
		})
	}
}

// TestFilterRepliesPassThrough: a refusal of the filter keeps its body, its
// content type and its headers, beside Envoy's replies that are rewritten.
func TestFilterRepliesPassThrough(t *testing.T) {
	edge := shop(0, closedPort(t), closedPort(t))
	edge.Filter.PlanJSON = []byte(fmt.Sprintf(`{"schema":1,"hash":"0123456789abcdef","edge":"shop","failureMode":"open",`+
		`"problemTypeBase":%q,"latencyBoundsUs":[1000],"telemetry":{"cluster":"seawall-telemetry","authority":"seawall-telemetry","path":"/v1/batches"},`+
		`"routes":[{"name":"down/all","service":"down","route":"all","priority":"medium","breaker":{"identity":"0123456789abcdef",`+
		`"consecutiveFailures":1,"recoveryNs":60000000000,"recoveryMaxNs":60000000000,"multiplierPpm":1000000,"probes":1,"successes":1,`+
		`"probeExpiryNs":60000000000,"failures":["connect-failure"]}}]}`, edge.ProblemTypeBase))
	g := serve(t, edge, staticConfig(t, edge, translate.StaticConfig{}, filterModule(t)))

	first := g.do(t, "GET", "payments.local", "/down", nil)
	require.Equal(t, 503, first.status)
	require.Contains(t, first.body, "problems/connect-failure")
	require.Empty(t, first.header.Get("X-Seawall-Decision"))

	second := g.do(t, "GET", "payments.local", "/down", nil)
	require.Equal(t, 503, second.status)
	require.Equal(t, "breaker-open", second.header.Get("X-Seawall-Decision"))
	require.Equal(t, "application/problem+json", second.header.Get("Content-Type"))
	require.Equal(t, []string{"60"}, second.header.Values("Retry-After"))
	require.Len(t, second.header.Values("X-Request-Id"), 1)
	var doc map[string]any
	require.NoError(t, json.Unmarshal([]byte(second.body), &doc), second.body)
	require.Equal(t, edge.ProblemTypeBase+"breaker-open", doc["type"])
	require.Equal(t, "the circuit breaker of down/all is open", doc["detail"])
	require.Equal(t, second.header.Get("X-Request-Id"), doc["instance"])

	grpc := g.do(t, "POST", "payments.local", "/down", map[string]string{"content-type": "application/grpc"})
	require.Equal(t, "14", grpc.header.Get("Grpc-Status"))
	require.Equal(t, "the circuit breaker of down/all is open", grpc.header.Get("Grpc-Message"))
}
