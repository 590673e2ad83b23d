//go:build linux

package translate_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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
