//go:build linux

package translate_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// TestEnvoyNormalizesAsWeDo: the path that an upstream of a real Envoy sees is
// the one that ir.NormalizePath gives.
func TestEnvoyNormalizesAsWeDo(t *testing.T) {
	up := startUpstream(t)
	edge := shop(0, up.port, closedPort(t))
	for i := range edge.VirtualHosts {
		for j := range edge.VirtualHosts[i].Routes {
			r := &edge.VirtualHosts[i].Routes[j]
			r.Retry, r.Match.Headers, r.Match.Methods = nil, nil, nil
			r.Match.Path = ir.Path{Kind: ir.PathPrefix, Value: "/"}
		}
	}
	g := startEnvoy(t, edge)
	for _, path := range []string{
		"/", "/a", "/a/", "/a/.", "/a/./", "/a/..", "/a/../", "/..", "/../..", "/a/b/../c", "/a/%2e%2E/c", "/a/%2e/c", "/a/.%2e",
		"/a.b", "/a/.b", "/a/..b", "/a/...", "/a/b.", "/a/b..", "/%41%7e%2D", "/%20", "/%C3%bc", "/a;b=c/..;/d", "/a/..;x=1/d", "/a/..;", "/a/.;x/d", "/a/b;/d", "/a/..x;/d", "/a/%2e%2e;/d", "/a/..%3b/d", `/a/.;x\d`, "/a/..;p%2fq/d",
		"/a//b///c//", "//a", "//..//a",
		"/a/b//../c", `/a\b`, `/a\..\c`, "/a%2fb", "/a%5Cb", "/a/..%2fb", "/{x}", "/a|b^c", `/"<>`, "/a`b", "/a'()*!$&,:@+=", "/a?b//c/../d%41", "/a?", "/?/..", "/%00", "/a%2f?x=%2f", "/%25%32%65",
	} {
		got := g.raw(t, "GET "+path+" HTTP/1.1\r\nhost: payments.local\r\nconnection: close\r\n\r\n")
		seen := up.take()
		want, redirect, ok := ir.NormalizePath(path)
		switch {
		case !ok:
			require.True(t, strings.HasPrefix(got, "HTTP/1.1 400"), "%s: %s", path, got)
		case redirect:
			require.True(t, strings.HasPrefix(got, "HTTP/1.1 307"), "%s: %s", path, got)
			require.Contains(t, got, fmt.Sprintf("location: %s\r\n", want), path)
		default:
			require.Len(t, seen, 1, "%s: %s", path, got)
			require.Equal(t, want, seen[0].RequestURI, path)
		}
	}
}

// TestEnvoyMatchesRandomRequests: for random requests to a compiled edge, in
// whatever spelling of the path, a real Envoy takes the route that
// ir.NormalizePath and ir.MatchRoute give, which is what `seawall match` says.
func TestEnvoyMatchesRandomRequests(t *testing.T) {
	edge := compiled(t)["shared-host/default"]
	edge.Listeners = edge.Listeners[:1]
	edge.Listeners[0].Port = 0
	status, names := uint32(410), map[int]string{}
	for i := range edge.VirtualHosts {
		for j := range edge.VirtualHosts[i].Routes {
			r := &edge.VirtualHosts[i].Routes[j]
			r.Cluster, r.Retry, r.Rewrite, r.DirectStatus = "", nil, nil, status
			status++
		}
	}
	require.Less(t, status, uint32(599))
	g := startEnvoy(t, edge)
	rapid.Check(t, func(rt *rapid.T) {
		path := rapid.SampledFrom([]string{"/", "/v1/", "/v1/admin/", "/v1/admin/public/", "/v1/ping", "/only/", "/v1/x/y"}).Draw(rt, "begin")
		path += strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"v1", "admin", "public", "x", "z", "", ".", "..", "%76%31", "..;a", "%2e%2e", "admin%2fpublic"}), 0, 3).Draw(rt, "path"), "/")
		path = "/" + strings.TrimLeft(path, "/") // a client takes //x for a host
		host := rapid.SampledFrom([]string{"shop.local", "SHOP.local:80", "lone.local", "x"}).Draw(rt, "host")
		method := rapid.SampledFrom([]string{"GET", "POST"}).Draw(rt, "method")
		var header map[string]string
		if rapid.Bool().Draw(rt, "beta") {
			header = map[string]string{"x-ring": "beta"}
		}
		got := g.do(t, method, host, path, header)
		normalized, redirect, ok := ir.NormalizePath(path)
		require.True(rt, ok)
		want := 307
		if !redirect {
			route := ir.MatchRoute(edge, method, host, normalized, header)
			want = int(route.DirectStatus)
			names[want] = route.Name
		}
		require.Equal(rt, want, got.status, "%s %s%s: route %s", method, host, path, names[want])
	})
	require.Greater(t, len(names), 6, "routes that were asked for: %v", names)
}
