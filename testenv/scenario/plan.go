package scenario

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// TelemetryCluster is the cluster that filled plans send batches to.
const TelemetryCluster = "seawall-telemetry"

// Fill completes a plan that leaves out what a scenario is not about. What is
// there stays, be it wrong. Hash and identities are hashes of the content, so
// that a changed plan has another hash and a changed breaker starts fresh.
func Fill(data []byte) ([]byte, error) {
	var plan map[string]any
	if err := json.Unmarshal(data, &plan); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	def(plan, "schema", contract.PlanSchema)
	def(plan, "edge", "test")
	def(plan, "failureMode", "open")
	def(plan, "problemTypeBase", "https://seawall-mesh.github.io/problems/")
	def(plan, "latencyBoundsUs", []int64{1000, 5000, 10000, 50000, 100000, 500000, 1000000, 5000000})
	def(plan, "telemetry", contract.Telemetry{Cluster: TelemetryCluster, Authority: "telemetry.test", Path: "/v1/batches"})
	routes, _ := plan["routes"].([]any)
	for _, r := range routes {
		if route, ok := r.(map[string]any); ok {
			fillRoute(route)
		}
	}
	hash, err := digest(plan)
	if err != nil {
		return nil, err
	}
	def(plan, "hash", hash)
	return json.Marshal(plan)
}

func fillRoute(route map[string]any) {
	name, _ := route["name"].(string)
	service, short, _ := strings.Cut(name, "/")
	def(route, "service", service)
	def(route, "route", short)
	def(route, "priority", contract.Medium.String())
	breaker, ok := route["breaker"].(map[string]any)
	if !ok {
		return
	}
	def(breaker, "consecutiveFailures", 5)
	def(breaker, "recoveryNs", int64(60e9))
	def(breaker, "recoveryMaxNs", int64(300e9))
	def(breaker, "multiplierPpm", 1_500_000)
	def(breaker, "probes", 3)
	def(breaker, "successes", 3)
	def(breaker, "probeExpiryNs", int64(30e9))
	def(breaker, "failures", []string{"5xx", "reset", "timeout", "connect-failure"})
	if id, err := digest(breaker); err == nil {
		def(breaker, "identity", id)
	}
}

func def(m map[string]any, key string, value any) {
	if _, there := m[key]; !there {
		m[key] = value
	}
}

func digest(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("plan: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8]), nil
}
