package ir_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// TestNormalizePath pins some of what TestEnvoyNormalizesAsWeDo in package
// translate compares with a real Envoy.
func TestNormalizePath(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		path, want   string
		redirect, no bool
	}{
		"plain":                    {path: "/a/b?c=/d/..", want: "/a/b?c=/d/.."},
		"dot segments":             {path: "/a/./b/../c", want: "/a/c"},
		"at the end":               {path: "/a/..", want: "/"},
		"above the root":           {path: "/../../a", want: "/a"},
		"escaped dots":             {path: "/a/%2e%2E/c", want: "/c"},
		"dots that are no segment": {path: "/a/..b/.c/d./...", want: "/a/..b/.c/d./..."},
		"dots with parameters":     {path: "/a/..;x=1/c", want: "/c"},
		"one dot with parameters":  {path: "/a/.;x/c", want: "/a/c"},
		"parameters":               {path: "/a;x=1/c", want: "/a;x=1/c"},
		"slashes":                  {path: "//a///b//", want: "/a/b/"},
		"backslashes":              {path: `/a\..\b`, want: "/b"},
		"needless escapes":         {path: "/%61%7E", want: "/a~"},
		"needful escapes":          {path: "/%20%c3", want: "/%20%c3"},
		"signs":                    {path: `/a b|"`, want: "/a%20b%7C%22"},
		"half an escape":           {path: "/%4", want: "/%4"},
		"escaped slashes":          {path: "/a%2fb%5Cc", want: "/a/b/c", redirect: true},
		"a fragment":               {path: "/a#b", no: true},
		"a zero byte":              {path: "/a%00", no: true},
		"no path":                  {path: "*", no: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, redirect, ok := ir.NormalizePath(c.path)
			require.Equal(t, !c.no, ok)
			require.Equal(t, c.redirect, redirect)
			require.Equal(t, c.want, got)
		})
	}
}

// TestNormalizePathIsStable: what is normalised stays as it is, but for escapes
// that unescaping reveals, as in Envoy.
func TestNormalizePathIsStable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		path := "/" + rapid.StringOfN(rapid.RuneFrom([]rune(`abc./\;? |%eE`)), 0, 20, -1).Draw(t, "path")
		once, _, ok := ir.NormalizePath(path)
		require.True(t, ok)
		require.Equal(t, byte('/'), once[0])
		twice, _, ok := ir.NormalizePath(once)
		require.True(t, ok)
		require.Equal(t, once, twice)
	})
}
