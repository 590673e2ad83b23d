//go:build linux

package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/monitoring"
	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// shopSLO may be missed by one request in a hundred.
const shopSLO = `
---
apiVersion: seawall.io/v1alpha1
kind: ServiceLevelObjective
metadata: {name: shop}
spec: {service: shop, objective: 99%, window: 30d, indicator: {availability: {}}}
`

type alertState struct {
	Name     string            `json:"name"`
	State    string            `json:"state"`
	Severity string            `json:"severity"`
	Since    time.Time         `json:"since"`
	Labels   map[string]string `json:"labels"`
}

// hook is a webhook that checks signatures, and counts messages by type and
// subject and by id.
type hook struct {
	*httptest.Server

	mu    sync.Mutex
	got   []string
	ids   map[string]int
	wrong []string
}

func newHook(t testing.TB, secret []byte) *hook {
	t.Helper()
	h := &hook{ids: map[string]int{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := r.Header.Get("webhook-id")
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.%s", id, r.Header.Get("webhook-timestamp"), body)
		h.mu.Lock()
		defer h.mu.Unlock()
		if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); secret != nil && r.Header.Get("webhook-signature") != want {
			h.wrong = append(h.wrong, r.Header.Get("webhook-signature"))
		}
		h.got = append(h.got, string(body))
		h.ids[id]++
	}))
	t.Cleanup(h.Close)
	return h
}

// has counts the messages that contain all of these.
func (h *hook) has(parts ...string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
next:
	for _, m := range h.got {
		for _, p := range parts {
			if !strings.Contains(m, p) {
				continue next
			}
		}
		n++
	}
	return n
}

// resolved reports whether an Alertmanager told that a burn alert of that source
// ended.
func (h *hook) resolved(tier, source string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.got {
		var message struct {
			Alerts []struct {
				Status string
				Labels map[string]string
			}
		}
		_ = json.Unmarshal([]byte(m), &message)
		for _, a := range message.Alerts {
			if a.Status == "resolved" && a.Labels["burn_tier"] == tier && a.Labels["source"] == source {
				return true
			}
		}
	}
	return false
}

// burning is the burn alerts that an Alertmanager has, as tier, source and "!"
// where it is inhibited.
func burning(t testing.TB, am *monitoring.Server) map[string]bool {
	t.Helper()
	all, err := am.Alerts()
	require.NoError(t, err)
	found := map[string]bool{}
	for _, a := range all {
		if a.Labels["alertname"] != "ErrorBudgetBurn" {
			continue
		}
		s := a.Labels["burn_tier"] + " " + a.Labels["source"]
		if len(a.Status.InhibitedBy) > 0 {
			s += "!"
		}
		found[s] = true
	}
	return found
}

// A budget burns. The control plane tells a real Alertmanager and a webhook,
// once, over a kill -9; a real Prometheus that scrapes it comes to the same by
// the rules that are rendered from the policies. The slower tiers are inhibited,
// and what Prometheus raised ends when the service is well again.
func TestABurningBudgetIsAlerted(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/broken", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	policy := shop{endpoints: []string{service.Addr()}, routes: []route{{name: "steady", breaker: breaker(5, "1h")}, {name: "broken"}}, extra: shopSLO}
	policies := t.TempDir()
	writePolicy(t, policies, policy.yaml())
	rendered := func(part string) []byte {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), seawallBinary, "render", "prometheus", "--part", part, policies).Output()
		require.NoError(t, err)
		return out
	}

	people, secret := newHook(t, nil), []byte("0123456789abcdef0123456789abcdef")
	signed := newHook(t, secret)
	am := monitoring.StartAlertmanager(t, `
route: {receiver: people, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: people, webhook_configs: [{url: "`+people.URL+`", send_resolved: true}]}]
`+string(rendered("alertmanager")))
	config := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(config, "secret"), []byte("whsec_"+base64.StdEncoding.EncodeToString(secret)), 0o600))
	file := filepath.Join(config, "seawall.yaml")
	require.NoError(t, os.WriteFile(file, []byte("alertmanager: {urls: ["+am.URL+"]}\nwebhooks: [{url: "+signed.URL+", secretFile: secret}]\nproblemTypeBase: https://example.com/problems\n"), 0o600))
	u := startUp(t, upConfig{policies: policies, config: file})

	// Five minutes of quiet are more than this test has.
	rules := regexp.MustCompile(`keep_firing_for: \w+`).ReplaceAll(rendered("rules"), []byte("keep_firing_for: 1s"))
	prom := monitoring.StartPrometheus(t, `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs: [{job_name: seawall, static_configs: [{targets: ["`+u.admin+`"]}]}]
alerting: {alertmanagers: [{static_configs: [{targets: ["`+strings.TrimPrefix(am.URL, "http://")+`"]}]}]}
`, map[string][]byte{"rules.yml": rules})
	var scraped struct {
		Data struct{ Result []any }
	}
	eventually(t, soon, func() (bool, string) {
		err := prom.Get("/api/v1/query?query=seawall_slo_requests_total", &scraped)
		return err == nil && len(scraped.Data.Result) == 1, fmt.Sprint(scraped, err)
	})
	requireExposed(t, u, rules)

	c := newCaller(t, u.listen)
	require.Contains(t, c.call(t, "/nosuch").problem.Type, "https://example.com/problems/", "problemTypeBase")
	for range 40 {
		c.call(t, "/broken")
	}
	eventually(t, soon, func() (bool, string) {
		found := burning(t, am)
		for _, want := range []string{"fast seawall", "fast ", "medium seawall!", "medium !", "slow seawall!", "slow !"} {
			if !found[want] {
				return false, fmt.Sprintf("no %q in %v", want, found)
			}
		}
		return true, ""
	})
	eventually(t, soon, func() (bool, string) {
		return people.has(`"status":"firing"`, `"burn_tier":"fast"`) > 0 && signed.has(`"type":"alert.firing"`, `"burn_tier":"fast"`) == 1, "nobody is told"
	})
	require.Zero(t, signed.has(`"burn_tier":"slow"`), "told of what is inhibited")
	fast := func() (found []alertState) {
		for _, a := range list[alertState](u, "alerts") {
			if a.Name == "ErrorBudgetBurn" && a.Labels["burn_tier"] == "fast" {
				found = append(found, a)
			}
		}
		return found
	}
	before := fast()
	require.Len(t, before, 1)
	require.Equal(t, "firing", before[0].State)
	require.Equal(t, "page", before[0].Severity)
	out, code := u.seawall("status")
	require.Zero(t, code)
	require.Contains(t, out, "ErrorBudgetBurn shop/fast page")

	u.kill()
	u.again()
	require.Equal(t, before, fast(), "a restart changes nothing")

	// Well again: far more than a hundred good ones for each bad one.
	l := startLoad(t, u.listen, 8, "/steady/1")
	l.awaitMore(t, 6_000)
	l.stop()
	eventually(t, soon, func() (bool, string) {
		found := burning(t, am)
		for _, tier := range []string{"fast", "medium", "slow", "chronic"} {
			if found[tier+" "] || found[tier+" !"] {
				return false, fmt.Sprint(found)
			}
		}
		return true, ""
	})
	require.True(t, burning(t, am)["fast seawall"], "Prometheus must not resolve the control plane's own")
	eventually(t, soon, func() (bool, string) { return people.resolved("fast", ""), "nobody is told that it is over" })
	require.Equal(t, before, fast(), "the control plane's own waits until it has been quiet for minutes")
	signed.mu.Lock()
	defer signed.mu.Unlock()
	require.Empty(t, signed.wrong, "signatures")
	for id, n := range signed.ids {
		require.Equal(t, 1, n, "%s was told more than once", id)
	}
	requireHealthy(t, prom)
}

// requireExposed requires that what rules ask for is there.
func requireExposed(t testing.TB, u *up, rules []byte) {
	t.Helper()
	resp, err := http.Get("http://" + u.admin + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	exposed, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	asked := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?:^|[^:\w])(seawall_\w+)`).FindAllStringSubmatch(string(rules), -1) {
		asked[m[1]] = true
	}
	require.Greater(t, len(asked), 8, "%v", asked)
	for name := range asked {
		switch name {
		case "seawall_degraded_total", "seawall_requests_total": // from the first on
		case "seawall_slo_budget_consumed_ratio": // with the first request
		default:
			require.Contains(t, string(exposed), "\n"+name, "not exposed")
		}
	}
}

// requireHealthy requires that Prometheus could evaluate every rule.
func requireHealthy(t testing.TB, prom *monitoring.Server) {
	t.Helper()
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	require.NoError(t, prom.Get("/api/v1/rules", &answer))
	n := 0
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			n++
			require.Equal(t, "ok", r.Health, "%s: %s", r.Name, r.LastError)
		}
	}
	require.Greater(t, n, 10)
}
