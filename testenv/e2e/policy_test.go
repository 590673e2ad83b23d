//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

const (
	policyFile = "seawall.yaml"
	shopHost   = "shop.local"
)

// shop is the policy of the tests: one service, and routes as they come.
type shop struct {
	endpoints []string // host:port
	routes    []route
	pools     string // "" = none
	protocol  string // "" = http1
	budget    string // of retries; "" = the default
	slo       bool   // an availability objective of 99.9 % over all routes
	extra     string // more documents
}

// route is one route of the shop; its path is /NAME and what is below it.
type route struct {
	name    string
	path    string // "" = /NAME
	breaker string // "" = none
	timeout string // "" = 10s
	more    string // lines
}

// yaml is the policy's text.
func (s shop) yaml() string {
	var b strings.Builder
	b.WriteString("apiVersion: seawall.io/v1alpha1\nkind: Service\nmetadata: {name: shop}\nspec:\n  hosts: [" + shopHost + "]\n  endpoints:\n")
	for _, e := range s.endpoints {
		host, port, err := net.SplitHostPort(e)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "  - {address: %s, port: %s}\n", host, port)
	}
	if s.protocol != "" {
		fmt.Fprintf(&b, "  protocol: %s\n", s.protocol)
	}
	b.WriteString("---\napiVersion: seawall.io/v1alpha1\nkind: ResiliencePolicy\nmetadata: {name: shop}\nspec:\n  service: shop\n")
	if s.pools != "" {
		fmt.Fprintf(&b, "  pools: %s\n", s.pools)
	}
	if s.budget != "" {
		fmt.Fprintf(&b, "  retryBudget: %s\n", s.budget)
	}
	b.WriteString("  routes:\n")
	for _, r := range s.routes {
		if r.path == "" {
			r.path = "/" + r.name
		}
		if r.timeout == "" {
			r.timeout = "10s"
		}
		fmt.Fprintf(&b, "  - name: %s\n    match: {path: {prefix: %s}}\n    timeout: {request: %s}\n", r.name, r.path, r.timeout)
		if r.breaker != "" {
			fmt.Fprintf(&b, "    breaker: %s\n", r.breaker)
		}
		for line := range strings.Lines(r.more) {
			fmt.Fprintf(&b, "    %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	if s.slo {
		b.WriteString("---\napiVersion: seawall.io/v1alpha1\nkind: ServiceLevelObjective\nmetadata: {name: shop}\nspec: {service: shop, objective: 99.9%, window: 30d, indicator: {availability: {}}}\n")
	}
	return b.String() + s.extra
}

func breaker(threshold int, recovery string) string {
	return fmt.Sprintf("{consecutiveFailures: %d, recoveryTimeout: %s, halfOpen: {probes: 3, successes: 3}}", threshold, recovery)
}

// writePolicy replaces the policy file as editors do: beside it, then by
// rename.
func writePolicy(t testing.TB, dir, text string) {
	t.Helper()
	tmp := filepath.Join(dir, ".tmp")
	require.NoError(t, os.WriteFile(tmp, []byte(text), 0o644))
	require.NoError(t, os.Rename(tmp, filepath.Join(dir, policyFile)))
}

func removePolicy(t testing.TB, dir string) {
	t.Helper()
	require.NoError(t, os.Remove(filepath.Join(dir, policyFile)))
}

func move(t testing.TB, from, to string) {
	t.Helper()
	require.NoError(t, os.Rename(from, to))
}

// newUpstream is a service that answers 200 to everything.
func newUpstream(t testing.TB) *upstream.Server {
	t.Helper()
	s, err := upstream.New(upstream.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}
