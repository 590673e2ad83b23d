//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/capture"
	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// edge is a running `seawall edge`.
type edge struct {
	t    testing.TB
	name string
	data string
	args []string

	cmd            *exec.Cmd
	stdout, stderr *capture.Output
	exited         chan struct{}
}

// startEdge runs `seawall edge` for a control plane, as node NAME-1 of a cluster
// of that name, and does not wait. Whatever happens, it and its Envoy are gone
// when the test ends.
func startEdge(t testing.TB, u *up, name string) *edge {
	t.Helper()
	e := &edge{t: t, name: name, data: filepath.Join(t.TempDir(), "edge")}
	e.args = []string{
		"edge", "--xds", u.xds, "--telemetry", u.telemetry, "--node-id", name + "-1", "--node-cluster", name, "--data", e.data, "--workers", "2",
	}
	t.Cleanup(func() {
		_ = e.cmd.Process.Kill()
		<-e.exited
		for _, pid := range processesBelow(e.data) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if t.Failed() {
			t.Logf("the end of the edge's log:\n%s", lastLines(e.stderr.String(), 30))
		}
	})
	e.launch()
	return e
}

func (e *edge) launch() {
	e.t.Helper()
	e.stdout, e.stderr = &capture.Output{}, &capture.Output{}
	e.cmd, e.exited = startSeawall(e.t, "", seawallEnv(e.t), e.stdout, e.stderr, e.args...)
}

func (e *edge) envoyPID() int { return (&up{cfg: upConfig{data: e.data}}).envoyPID() }

// awaitServed waits until the edge says that it serves.
func (e *edge) awaitServed() {
	e.t.Helper()
	eventually(e.t, startLimit, func() (bool, string) {
		return strings.Contains(e.stdout.String(), "node "+e.name+"-1 of cluster "+e.name+" serves"), "the edge does not serve: " + lastLines(e.stderr.String(), 5)
	})
}

// stop asks the edge to end, and requires that it does so in time and well.
func (e *edge) stop() {
	e.t.Helper()
	envoy, started := e.envoyPID(), time.Now()
	require.NoError(e.t, e.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-e.exited:
	case <-time.After(3 * stopLimit):
		e.t.Fatal("edge does not end")
	}
	require.Less(e.t, time.Since(started), stopLimit, "edge takes too long to end")
	require.Equal(e.t, 0, e.cmd.ProcessState.ExitCode())
	require.False(e.t, alive(envoy), "envoy outlives an orderly end")
	require.Empty(e.t, processesBelow(e.data))
}

func (u *up) awaitSynced() {
	u.t.Helper()
	eventually(u.t, startLimit, func() (bool, string) {
		st := get[status](u, "status")
		return st.Nodes.Synced == 1, fmt.Sprintf("%+v", st.Nodes)
	})
}

// A control plane and a data plane as processes of their own. The data plane
// comes first, and waits; the control plane is killed under load, and nothing is
// missing but itself: requests go on, the open breaker stays open, and what was
// counted meanwhile is counted once when it is back. Then the supervisor of the
// data plane is killed, and finds its Envoy again.
func TestADataPlaneOutlivesItsControlPlane(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/broken", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	policy := shop{endpoints: []string{service.Addr()}, slo: true, routes: []route{
		{name: "steady", breaker: breaker(5, "1h")}, {name: "broken", breaker: breaker(5, "1h")},
	}}
	u := startUp(t, upConfig{alone: true, policy: policy.yaml()})
	require.Equal(t, http.StatusOK, u.ready(), "it is ready before any node comes")
	require.Empty(t, list[node](u, "nodes"))
	out, code := u.seawall("can-deploy", "shop")
	require.Equal(t, 20, code, out)
	require.Contains(t, out, "telemetry-stale")

	u.kill()
	e := startEdge(t, u, "edge")
	eventually(t, startLimit, func() (bool, string) { return e.envoyPID() != 0, "no Envoy: " + lastLines(e.stderr.String(), 5) })
	u.again()
	e.awaitServed()
	u.awaitSynced()
	require.Equal(t, "edge-1", u.node().ID)
	require.Equal(t, "edge", u.node().Cluster)
	envoy := e.envoyPID()

	opener := newCaller(t, u.listen)
	for range 5 {
		require.False(t, opener.call(t, "/broken").refused())
	}
	u.awaitBreaker("broken", "open")
	l := startLoad(t, u.listen, 8, "/steady/1", "/broken/1")
	l.awaitMore(t, 200)
	u.kill()
	l.awaitMore(t, 500)
	require.Empty(t, l.failures())
	require.EqualValues(t, 5, service.Calls("/broken"), "calls through the open breaker while nobody controls it")

	u.again()
	u.awaitSynced()
	l.awaitMore(t, 200)

	require.NoError(t, e.cmd.Process.Kill())
	<-e.exited
	l.awaitMore(t, 200)
	e.launch()
	e.awaitServed()
	require.Equal(t, envoy, e.envoyPID(), "another Envoy")
	require.Len(t, processesBelow(filepath.Join(e.data, "envoy")), 1, "data planes over one folder")
	l.awaitMore(t, 200)

	policy.routes = append(policy.routes, route{name: "new"})
	u.edit(policy.yaml())
	require.Equal(t, http.StatusOK, opener.call(t, "/new").status)
	require.Empty(t, l.failures(), "requests that were lost")
	calls := l.stop()
	require.Equal(t, []string{"broken breaker-open", "steady ok"}, calls.names())
	want := calls.plus(tally{"broken 5xx": 5, "new ok": 1})
	u.awaitOutcomes(want)

	// What the data plane counted last arrives while it is drained.
	for range 20 {
		require.Equal(t, http.StatusOK, opener.call(t, "/new").status)
	}
	e.stop()
	now := time.Now().Unix() / 60
	u.stop()
	require.Equal(t, want.plus(tally{"new ok": 20}), u.stored(now-15, now+1))
}

// release is the gate's answer as pipelines rely on it.
type release struct {
	Decision string `json:"decision"`
	ID       string `json:"id"`
	Reasons  []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"reasons"`
}

const gateObjective = `---
apiVersion: seawall.io/v1alpha1
kind: ServiceLevelObjective
metadata: {name: shop}
spec:
  service: shop
  objective: 99%
  window: 1h
  indicator: {availability: {}}
  budgetPolicy:
  - {consumed: 50%, actions: [increase-alerting]}
  - {consumed: 75%, actions: [limit-releases, halt-chaos]}
  - {consumed: 100%, actions: [freeze-releases, mandatory-postmortem]}
`

// The error budget of real traffic closes the gate and opens it again; people
// may decide otherwise, and all of it is in the audit log once, also when the
// control plane is killed meanwhile.
func TestTheReleaseGateFollowsTheBudget(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/broken", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	u := startUp(t, upConfig{policy: shop{
		endpoints: []string{service.Addr()}, routes: []route{{name: "steady"}, {name: "broken"}}, extra: gateObjective,
	}.yaml()})
	require.NotContains(t, u.stderr.String(), "not enforced yet")
	gate := func(code int, args ...string) release {
		t.Helper()
		var r release
		eventually(t, soon, func() (bool, string) {
			out, got := u.seawall(append([]string{"can-deploy", "shop", "-o", "json"}, args...)...)
			r = release{}
			return got == code && json.Unmarshal([]byte(out), &r) == nil, fmt.Sprintf("exit code %d, not %d: %s", got, code, out)
		})
		require.NotEmpty(t, r.ID)
		return r
	}
	codes := func(r release) (all []string) {
		for _, reason := range r.Reasons {
			all = append(all, reason.Code)
		}
		return all
	}
	actions := func() string {
		list := list[struct {
			Actions []string `json:"actions"`
		}](u, "slos")
		return strings.Join(list[0].Actions, " ")
	}
	c := newCaller(t, u.listen)
	calls := func(n int, path string, status int) {
		t.Helper()
		for range n {
			require.Equal(t, status, c.call(t, path).status)
		}
	}
	require.Equal(t, []string{"insufficient-data"}, codes(gate(20)))
	require.Equal(t, "deny", gate(10, "--on-unknown", "deny").Decision)
	calls(300, "/steady", http.StatusOK)
	require.Empty(t, gate(0).Reasons)

	calls(4, "/broken", http.StatusServiceUnavailable)
	require.Equal(t, []string{"freeze-releases"}, codes(gate(10)))
	require.Contains(t, gate(10, "--change-class", "canary").Reasons[0].Message, "shop has consumed 131.6 % of its error budget (1 over)")
	require.Equal(t, []string{"freeze-releases"}, codes(gate(0, "--change-class", "rollback")))
	require.Equal(t, "increase-alerting limit-releases halt-chaos freeze-releases mandatory-postmortem", actions())

	u.kill()
	u.again()
	require.Equal(t, []string{"freeze-releases"}, codes(gate(10)))
	run := func(args ...string) string {
		t.Helper()
		out, code := u.seawall(args...)
		require.Zero(t, code, out)
		return out
	}
	run("can-deploy", "allow", "shop", "--reason", "agreed in the call", "--for", "1h")
	require.Equal(t, []string{"override"}, codes(gate(0)))
	u.kill()
	u.again()
	require.Equal(t, []string{"override"}, codes(gate(0)))
	run("can-deploy", "reset", "shop", "--reason", "over")
	gate(10)

	run("deployments", "mark", "shop", "v2")
	require.Contains(t, run("deployments"), "v2")
	metrics := u.metrics()
	require.Contains(t, metrics, `seawall_deployment_timestamp_seconds{service="shop",version="v2"}`)
	require.Contains(t, metrics, `seawall_slo_action{action="freeze-releases",service="shop",slo="shop"} 1`)
	waited := make(chan int, 1)
	go func() {
		_, code := u.seawall("can-deploy", "shop", "--wait", "1m")
		waited <- code
	}()
	calls(900, "/steady", http.StatusOK)
	require.Equal(t, 0, <-waited, "4 of 1,204 is a third of the budget")
	require.Equal(t, "mandatory-postmortem", actions())
	run("slo", "postmortems", "close", "shop", "--reason", "wiki/412")
	require.Empty(t, actions())

	var log []string
	for _, entry := range list[struct {
		Action  string `json:"action"`
		Subject string `json:"subject"`
	}](u, "audit") {
		log = append(log, entry.Action+" "+entry.Subject)
	}
	require.ElementsMatch(t, []string{
		"increase-alerting slos/shop", "limit-releases slos/shop", "halt-chaos slos/shop", "freeze-releases slos/shop", "mandatory-postmortem slos/shop",
		"release-exempted can-deploy/shop", "release-allow can-deploy/shop", "release-reset can-deploy/shop", "deployment deployments/shop",
		"increase-alerting-lifted slos/shop", "limit-releases-lifted slos/shop", "halt-chaos-lifted slos/shop", "freeze-releases-lifted slos/shop",
		"postmortem-closed postmortems/shop",
	}, log)
	u.stop()
}

// One control plane for two edges: each node gets the one that its cluster
// selects, what is forced by hand holds on both, and one that is stopped takes
// nothing from the other.
func TestOneControlPlaneForTwoEdges(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	at := map[string]string{"inner": freeAddress(t), "outer": freeAddress(t)}
	policy := shop{endpoints: []string{service.Addr()}, routes: []route{{name: "steady", breaker: breaker(5, "1h")}}}
	for name, address := range at {
		_, port, err := net.SplitHostPort(address)
		require.NoError(t, err)
		policy.extra += fmt.Sprintf("---\napiVersion: seawall.io/v1alpha1\nkind: Edge\nmetadata: {name: %s}\nspec: {listeners: [{address: 127.0.0.1, port: %s}], nodes: {cluster: %s}}\n", name, port, name)
	}
	u := launchUp(t, upConfig{alone: true, policy: policy.yaml()})
	eventually(t, startLimit, func() (bool, string) {
		m := regexp.MustCompile(`admin +http://(\S+)/ .*\n +xDS +(\S+)\n +telemetry +(\S+)\n`).FindStringSubmatch(u.stdout.String())
		if m != nil {
			u.admin, u.xds, u.telemetry = m[1], m[2], m[3]
		}
		return m != nil, "serve does not serve"
	})
	edges := map[string]*edge{}
	for name := range at {
		edges[name] = startEdge(t, u, name)
	}
	for _, e := range edges {
		e.awaitServed()
	}
	eventually(t, startLimit, func() (bool, string) {
		st := get[status](u, "status")
		return st.Nodes.Synced == 2, fmt.Sprintf("%+v", st.Nodes)
	})
	served := uint64(0)
	refused := func(c *caller) bool {
		a := c.call(t, "/steady")
		if a.status == http.StatusOK {
			served++
		}
		return a.refused()
	}
	for name, address := range at {
		require.False(t, refused(newCaller(t, address)), name)
	}
	out, code := u.seawall("breakers", "open", "shop/steady", "--reason", "drill", "--for", "1h")
	require.Zero(t, code, out)
	for name, address := range at {
		c := newCaller(t, address)
		eventually(t, soon, func() (bool, string) { return refused(c), name + " is not forced open" })
	}
	edges["outer"].stop()
	require.True(t, refused(newCaller(t, at["inner"])))
	eventually(t, soon, func() (bool, string) {
		rows, n := list[trafficRow](u, "traffic?window=15m"), uint64(0)
		for _, row := range rows {
			n += row.Outcomes["ok"]
		}
		return n == served, fmt.Sprintf("%d counted, %d served", n, served)
	})
	u.stop()
	require.True(t, refused(newCaller(t, at["inner"])))
	edges["inner"].stop() // in time, though nobody takes what it has counted
}
