package render_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/render"
	"github.com/seawall-mesh/seawall/testenv/monitoring"
)

var update = flag.Bool("update", false, "rewrite golden files")

const folder = "testdata/prometheus"

func prometheus(t *testing.T, part, policies string) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, render.Prometheus(&out, part, policies))
	return out.Bytes()
}

func TestPrometheusGolden(t *testing.T) {
	for _, part := range []string{render.PartRules, render.PartTests, render.PartAlertmanager} {
		name := filepath.Join(folder, part+".golden")
		got := prometheus(t, part, filepath.Join(folder, "policies.yaml"))
		if *update {
			require.NoError(t, os.WriteFile(name, got, 0o644))
		}
		want, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "go test ./controlplane/render -update rewrites it")
	}
	require.ErrorContains(t, render.Prometheus(&bytes.Buffer{}, "tea", filepath.Join(folder, "policies.yaml")), `no such part: "tea"`)
}

// testRules runs promtool over rules and their tests.
func testRules(t *testing.T, rules, tests []byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, render.RuleFile), rules, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tests.yaml"), tests, 0o600))
	out, err := exec.CommandContext(t.Context(), monitoring.Program(t, "promtool"), "test", "rules", filepath.Join(dir, "tests.yaml")).CombinedOutput()
	return string(out), err
}

// The rules do what their tests say, and the tests notice where they do not.
func TestPromtoolPassesTheRules(t *testing.T) {
	t.Parallel()
	policies := filepath.Join(folder, "policies.yaml")
	rules, tests := prometheus(t, render.PartRules, policies), prometheus(t, render.PartTests, policies)
	out, err := testRules(t, rules, tests)
	require.NoError(t, err, out)

	changed := string(rules)
	changes := []struct{ what, old, new, notices string }{
		{"a threshold", "> 6 * 0.0005", "> 60000 * 0.0005", "shop-availability: 8 times what is allowed fails"},
		{"a severity", "burn_tier: slow\n          severity: ticket", "burn_tier: slow\n          severity: page", "shop-availability: 4 times what is allowed fails"},
		{"the guard", `increase1h{slo="shop-availability"} > 2.5`, `increase1h{slo="shop-availability"} > 0.5`, ""},
		{"the other guard", "* 14.4 * 0.0005 >= 1", "* 14.4 * 0.0005 >= 0", "shop-availability: the only two requests fail"},
		{"the time", "for: 5m", "for: 1m", "a tenth of the requests fails"},
		{"what is forced", " unless on (service, route, node) (seawall_breaker_forced == 1)", "", "a breaker is forced open"},
		{"what is hidden", "- (sum by", "- 0 * (sum by", "fallbacks hide what fails"},
		{"the outcomes", `outcome!~"aborted|injected"`, `outcome!="aborted"`, "an experiment hides nothing"},
		{"a name", "alert: NodeGone", "alert: NodeAway", "one of two Envoys goes"},
	}
	for _, c := range changes {
		require.Contains(t, changed, c.old, c.what)
		changed = strings.ReplaceAll(changed, c.old, c.new)
	}
	out, err = testRules(t, []byte(changed), tests)
	require.Error(t, err)
	for _, c := range changes {
		require.Contains(t, out, c.notices, "no test notices another %s", c.what)
	}
}

// A policy without breakers, fallbacks or objectives asks for less.
func TestRulesAreOfThePolicies(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(folder, "policies.yaml"))
	require.NoError(t, err)
	service, _, _ := strings.Cut(string(text), "---")
	bare := filepath.Join(t.TempDir(), "bare.yaml")
	require.NoError(t, os.WriteFile(bare, []byte(service), 0o600))
	names := func(rules []byte) (all []string) {
		for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllSubmatch(rules, -1) {
			all = append(all, string(m[1]))
		}
		return all
	}
	require.Equal(t, []string{alert.HighErrorRate, alert.NodeRejected, alert.NodeGone, alert.TelemetryStale, render.ControlPlaneDown},
		names(prometheus(t, render.PartRules, bare)))
	out, err := testRules(t, prometheus(t, render.PartRules, bare), prometheus(t, render.PartTests, bare))
	require.NoError(t, err, out)

	full := names(prometheus(t, render.PartRules, filepath.Join(folder, "policies.yaml")))
	for _, r := range alert.Rules() {
		require.Contains(t, full, r.Name, "an alert of the control plane without a rule")
	}
}

func TestRefusedPoliciesHaveNoRules(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("apiVersion: seawall.io/v1alpha1\nkind: Service\nmetadata: {name: x}\nspec: {}\n"), 0o600))
	var out bytes.Buffer
	err := render.Prometheus(&out, render.PartRules, bad)
	require.ErrorAs(t, err, new(*render.RefusedError))
	require.Empty(t, out.String())
}

// What is written into Alertmanager's configuration is one that it takes.
func TestAlertmanagerTakesTheInhibition(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "alertmanager.yml")
	text := "route: {receiver: none}\nreceivers: [{name: none}]\n" + string(prometheus(t, render.PartAlertmanager, filepath.Join(folder, "policies.yaml")))
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	out, err := exec.CommandContext(t.Context(), monitoring.Program(t, "amtool"), "check-config", name).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "3 inhibit rules")
}
