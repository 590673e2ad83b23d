//go:build linux

package e2e

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

const typeBase = "https://seawall-mesh.github.io/problems/"

// What goes nowhere is a 404 that says so, and is counted as DESIGN section 5
// has it.
func TestUnknownHostsAndPaths(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	u := startUp(t, upConfig{policy: shop{
		endpoints: []string{service.Addr()}, routes: []route{{name: "charge"}}, slo: true,
	}.yaml()})
	c := newCaller(t, u.listen)

	for _, tc := range []struct{ name, host, path string }{
		{"unknown host", "nobody.local", "/charge"},
		{"no host that could be known", "127.0.0.1", "/charge"},
		{"known host, unknown path", shopHost, "/nothing"},
		{"a route's name is a whole segment", shopHost, "/charger"},
		{"known host, root", shopHost, "/"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c.host = tc.host
			a := c.call(t, tc.path)
			require.Equal(t, http.StatusNotFound, a.status)
			require.Equal(t, "application/problem+json", a.header.Get("content-type"))
			require.Equal(t, typeBase+"no-route", a.problem.Type)
			require.NotEmpty(t, a.problem.Title)
			require.Equal(t, http.StatusNotFound, a.problem.Status)
			require.NotEmpty(t, a.header.Get("x-request-id"))
			require.Equal(t, a.header.Get("x-request-id"), a.problem.Instance)
			require.Empty(t, a.header.Get("x-seawall-decision"))
			require.NotContains(t, strings.ToLower(a.body+a.header.Get("server")), "envoy")
		})
	}
	c.host = shopHost + ":8080" // a port is no part of the name
	require.Equal(t, http.StatusOK, c.call(t, "/charge/1").status)

	require.EqualValues(t, 1, service.Calls("/"), "calls of the upstream")
	// An unknown host belongs to no service; a known one without a route is a
	// row, and in no objective.
	u.awaitOutcomes(tally{" 4xx": 3, "charge ok": 1})
	all := list[objective](u, "slos")
	require.Len(t, all, 1)
	require.EqualValues(t, 1, all[0].Total, "requests of the objective")
	require.Zero(t, all[0].Bad)
}

// Headers that only Envoy and the filter may set are taken from a client's
// request before anything reads them.
func TestClientHeadersAreStripped(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/slow", upstream.Behaviour{Latency: 400e6})
	service.Set("/bad", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	u := startUp(t, upConfig{policy: shop{
		endpoints: []string{service.Addr()}, routes: []route{{name: "slow"}, {name: "bad", breaker: breaker(3, "1m")}},
	}.yaml()})
	c := newCaller(t, u.listen)

	hostile := func() http.Header {
		return http.Header{
			"X-Envoy-Upstream-Rq-Timeout-Ms":         {"1"},
			"X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms": {"1"},
			"X-Envoy-Max-Retries":                    {"5"},
			"X-Envoy-Retry-On":                       {"5xx,reset,retriable-status-codes"},
			"X-Envoy-Retriable-Status-Codes":         {"503"},
			"X-Envoy-Hedge-On-Per-Try-Timeout":       {"true"},
			"X-Envoy-Original-Path":                  {"/bad"},
			"X-Envoy-Decorator-Operation":            {"other"},
			"X-Envoy-Force-Trace":                    {"true"},
			"X-Envoy-Attempt-Count":                  {"9"},
			"X-Envoy-Expected-Rq-Timeout-Ms":         {"1"},
			"X-Seawall-Decision":                     {"shed"},
			"X-Seawall-Deadline-Ms":                  {"1"},
			"X-Seawall-Flags":                        {"offers-v2=false"},
			"X-Seawall-Priority":                     {"critical"},
			"X-Request-Id":                           {"chosen-by-the-client"},
			"X-Kept":                                 {"yes"},
		}
	}
	a, err := c.try("/slow", hostile())
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, a.status, "a client has cut its own timeout")
	for range 3 {
		a, err = c.try("/bad", hostile())
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, a.status)
		require.False(t, a.refused())
	}
	require.EqualValues(t, 3, service.Calls("/bad"), "a client has made Envoy retry")
	a, err = c.try("/bad", hostile())
	require.NoError(t, err)
	require.True(t, a.refused(), "the breaker opens all the same")
	require.EqualValues(t, 3, service.Calls("/bad"))

	uuid := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	require.Regexp(t, uuid, a.header.Get("x-request-id"))
	require.Len(t, service.Records(), 4)
	for _, r := range service.Records() {
		require.Equal(t, "yes", r.Headers.Get("X-Kept"))
		require.Regexp(t, uuid, r.Headers.Get("X-Request-Id"))
		for name, values := range r.Headers {
			lower := strings.ToLower(name)
			if ours := hostile()[name]; len(ours) > 0 && lower != "x-kept" {
				require.NotEqual(t, ours, values, "%s reached the upstream", name)
			}
			if strings.HasPrefix(lower, "x-seawall-") { // the route's time, by the policy
				require.Equal(t, headerLeft, lower, "%s reached the upstream", name)
			}
			// Envoy's own words to the service: which try this is, and the time it has.
			if strings.HasPrefix(lower, "x-envoy-") {
				require.Contains(t, []string{"x-envoy-attempt-count", "x-envoy-expected-rq-timeout-ms", "x-envoy-external-address"}, lower)
			}
		}
	}
}

// What `up` says of itself once it serves.
func TestNodesAndStatusAfterStart(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	u := startUp(t, upConfig{workers: 3, policy: shop{endpoints: []string{service.Addr()}, routes: []route{{name: "charge"}}}.yaml()})
	require.Equal(t, http.StatusOK, u.ready())
	n := u.node()
	require.NotEmpty(t, n.ID)
	require.NotEmpty(t, n.Cluster)
	require.True(t, n.Connected)
	require.NotEmpty(t, n.PlanHash)
	require.Len(t, n.Workers, 3)
	for _, w := range n.Workers {
		require.Equal(t, n.PlanHash, w.PlanHash)
		require.Regexp(t, "^[0-9a-f]{32}$", w.VM)
		require.False(t, w.LastSeen.IsZero())
	}
	require.Len(t, n.Resources, 6)
	require.Equal(t, "synced", n.Resources["SDS"].State, "of no secrets")
	for _, kind := range []string{"LDS", "RDS", "CDS", "EDS", "ECDS"} {
		require.Equal(t, "synced", n.Resources[kind].State, kind)
		require.NotEmpty(t, n.Resources[kind].Version, kind)
	}
	st := get[status](u, "status")
	require.NotEmpty(t, st.Version)
	require.NotEmpty(t, st.PolicyHash)
	require.Equal(t, n.FilterHash, st.FilterHash)
	require.Equal(t, 1, st.Services)
	require.Equal(t, 1, st.Nodes.Connected)
	require.Equal(t, 1, st.Nodes.Synced)
	require.Zero(t, st.Nodes.Rejected)
	for _, member := range []string{"version", "policyHash", "filterHash", "services", "nodes"} {
		require.Contains(t, get[map[string]any](u, "status"), member)
	}

	out, code := u.seawall("status")
	require.Zero(t, code, out)
	require.Contains(t, out, st.PolicyHash[:8])
	require.Contains(t, out, "1 synced")
	u.stop()
	out, code = u.seawall("status")
	require.Equal(t, 4, code, "no control plane there: %s", out)
}
