package scenario

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// TelemetryCluster is the cluster that filled plans send batches to.
const TelemetryCluster = "seawall-telemetry"

// StartNS is when virtual worlds start, Unix ns: Monday, 2026-01-05 10:00 UTC.
const StartNS = 1_767_607_200_000_000_000

// Fill is FillAt for a world that starts at StartNS.
func Fill(data []byte) ([]byte, error) { return FillAt(data, StartNS) }

// FillAt completes a plan that leaves out what a scenario is not about. What is
// there stays, be it wrong. Hash and identities are hashes of the content, so
// that a changed plan has another hash and a changed breaker starts fresh. An
// override may say {"until": "90s"}: the time since epoch, which is Unix ns.
func FillAt(data []byte, epoch int64) ([]byte, error) {
	var plan map[string]any
	if err := json.Unmarshal(data, &plan); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	def(plan, "schema", contract.PlanSchema)
	def(plan, "edge", "test")
	def(plan, "failureMode", "open")
	def(plan, "endSignal", true)
	def(plan, "problemTypeBase", "https://seawall-mesh.github.io/problems/")
	def(plan, "latencyBoundsUs", []int64{1000, 5000, 10000, 50000, 100000, 500000, 1000000, 5000000})
	def(plan, "telemetry", contract.Telemetry{Cluster: TelemetryCluster, Authority: "telemetry.test", Path: "/v1/batches"})
	routes, _ := plan["routes"].([]any)
	for _, r := range routes {
		if route, ok := r.(map[string]any); ok {
			if err := fillRoute(route, epoch); err != nil {
				return nil, err
			}
		}
	}
	hash, err := digest(plan)
	if err != nil {
		return nil, err
	}
	def(plan, "hash", hash)
	return json.Marshal(plan)
}

func fillRoute(route map[string]any, epoch int64) error {
	name, _ := route["name"].(string)
	service, short, _ := strings.Cut(name, "/")
	def(route, "service", service)
	def(route, "route", short)
	def(route, "priority", contract.Medium.String())
	breaker, ok := route["breaker"].(map[string]any)
	if !ok {
		return nil
	}
	inARow := 5
	for _, condition := range []string{"failureRate", "slowCalls"} {
		rate, ok := breaker[condition].(map[string]any)
		if !ok {
			continue
		}
		inARow = 0
		def(rate, "ppm", 500_000)
		def(rate, "windowNs", int64(10e9))
		def(rate, "minRequests", 10)
		if condition == "slowCalls" {
			def(rate, "thresholdNs", int64(1e9))
		}
	}
	def(breaker, "consecutiveFailures", inARow)
	def(breaker, "recoveryNs", int64(60e9))
	def(breaker, "recoveryMaxNs", int64(300e9))
	def(breaker, "multiplierPpm", 1_500_000)
	def(breaker, "probes", 3)
	def(breaker, "successes", 3)
	def(breaker, "probeExpiryNs", int64(30e9))
	def(breaker, "failures", []string{"5xx", "reset", "timeout", "connect-failure"})
	override := breaker["override"]
	delete(breaker, "override") // its own identity is none
	id, err := digest(breaker)
	if err != nil {
		return err
	}
	def(breaker, "identity", id)
	if o, ok := override.(map[string]any); ok {
		if until, ok := o["until"].(string); ok {
			d, err := time.ParseDuration(until)
			if err != nil {
				return fmt.Errorf("plan: override: %w", err)
			}
			delete(o, "until")
			def(o, "notAfterNs", epoch+int64(d))
		}
		breaker["override"] = o
	}
	return nil
}

// Faster divides all times of a filled plan, so that what the filter does
// after them it does so many times sooner, or later if by is less than 1. Names,
// hash and identities stay; the end of an override comes nearer to epoch.
func Faster(plan []byte, epoch int64, by float64) ([]byte, error) {
	if by == 1 {
		return plan, nil
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(plan))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	divide(v, epoch, by)
	return json.Marshal(v)
}

func divide(v any, epoch int64, by float64) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			divide(item, epoch, by)
		}
	case map[string]any:
		for key, item := range v {
			ns, err := asInt(item)
			switch {
			case err != nil:
				divide(item, epoch, by)
			case key == "notAfterNs":
				v[key] = epoch + int64(float64(ns-epoch)/by)
			case strings.HasSuffix(key, "Ns"):
				v[key] = int64(float64(ns) / by)
			}
		}
	}
}

func asInt(v any) (int64, error) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, fmt.Errorf("%v is no number", v)
	}
	return n.Int64()
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
