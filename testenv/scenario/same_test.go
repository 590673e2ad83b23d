package scenario_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/testenv/native"
	"github.com/seawall-mesh/seawall/testenv/scenario"
)

// Any script leaves the same trace in native Go with one worker as in wazero
// with several. Steps come every ten seconds and recovery times are of seven,
// so that the jitter of a re-opening, which is random, does not show.
func TestAnyScriptIsTheSameEverywhere(t *testing.T) {
	conditions := []string{
		`"consecutiveFailures":3`,
		`"failureRate":{"minRequests":4,"windowNs":25000000000}`,
		`"slowCalls":{"minRequests":3,"windowNs":60000000000,"thresholdNs":400000000}`,
		`"consecutiveFailures":4,"failureRate":{"minRequests":5,"ppm":700000},"slowCalls":{"minRequests":4,"ppm":900000,"thresholdNs":400000000}`,
	}
	rapid.Check(t, func(rt *rapid.T) {
		plan := func(name string) string {
			override := ""
			if rapid.IntRange(0, 3).Draw(rt, "overridden") == 0 {
				override = fmt.Sprintf(`,"override":{"state":%q,"until":"%ds"}`,
					rapid.SampledFrom([]string{"open", "closed"}).Draw(rt, "forced"), rapid.IntRange(1, 150).Draw(rt, "until"))
			}
			return fmt.Sprintf("-- %s --\n{\"routes\":[{\"name\":\"a/b\",\"breaker\":{%s,\"recoveryNs\":7000000000,\"multiplierPpm\":1000000,\"probes\":%d,\"successes\":%d%s}}]}\n",
				name, rapid.SampledFrom(conditions).Draw(rt, "condition"), rapid.IntRange(1, 3).Draw(rt, "probes"), rapid.IntRange(1, 3).Draw(rt, "successes"), override)
		}
		var script strings.Builder
		script.WriteString("any\n" + plan("plan.json") + plan("p0.json") + plan("p1.json") + "-- script --\nmask retry-after\n")
		held := 0
		for i := range rapid.IntRange(1, 14).Draw(rt, "steps") {
			step := rapid.SampledFrom([]string{"send", "send", "send", "send", "slow", "hold", "release", "push", "telemetry", "clock"}).Draw(rt, "step")
			answer := rapid.SampledFrom([]string{"200", "503", "503", "reset", "404", "abort"}).Draw(rt, "answer")
			switch step {
			case "send":
				step = fmt.Sprintf("%dx GET a/b upstream=%s", rapid.IntRange(1, 6).Draw(rt, "n"), answer)
			case "slow":
				step = "GET a/b latency=500ms upstream=" + answer
			case "hold":
				step = fmt.Sprintf("hold=h%d GET a/b", held)
				held++
			case "release":
				if held == 0 {
					continue
				}
				held--
				step = fmt.Sprintf("release h%d upstream=%s", held, answer)
			case "push":
				step = rapid.SampledFrom([]string{"push p0.json", "push p1.json", "push plan.json"}).Draw(rt, "plan")
			case "telemetry":
				step = "telemetry " + rapid.SampledFrom([]string{"up", "down", "503", "lost"}).Draw(rt, "mode")
			case "clock":
				step = "clock " + rapid.SampledFrom([]string{"-20s", "-1h", "30s"}).Draw(rt, "by")
			}
			fmt.Fprintf(&script, "at %ds: %s\n", 10*i, step)
		}
		script.WriteString("at 140s: telemetry up\nat 180s: GET a/b\n")
		s, err := scenario.Parse([]byte(script.String()))
		require.NoError(rt, err)
		first, err := scenario.Fill(s.Files["plan.json"])
		require.NoError(rt, err)
		run := func(w scenario.World, err error) string {
			require.NoError(rt, err)
			trace, err := scenario.Run(t.Context(), s, w)
			require.NoError(rt, err, script.String())
			require.NoError(rt, w.Close())
			return trace
		}
		inGo, err := native.New(native.Config{Workers: 1, Plan: first, Node: "edge-1", Seed: rapid.Uint64().Draw(rt, "seed")})
		want := run(inGo, err)
		inWasm, err := scenario.NewHostWorld(t.Context(), scenario.HostConfig{Module: filter, Workers: rapid.SampledFrom([]int{1, 2, 4}).Draw(rt, "workers"), Plan: first, Node: "edge-1"})
		require.Equal(rt, want, run(inWasm, err), script.String())
	})
}
