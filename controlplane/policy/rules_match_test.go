package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// TestShadowing says of two routes whether the first takes all that the second
// matches. "Do not know" counts as no: a warning is never wrong.
func TestShadowing(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		first, second string
		shadowed      bool
	}{
		"a wider prefix":             {"path: {prefix: /a}", "path: {prefix: /a/b}", true},
		"no whole segment":           {"path: {prefix: /a}", "path: {prefix: /ab}", false},
		"a narrower prefix":          {"path: {prefix: /a/b}", "path: {prefix: /a}", false},
		"a template below a prefix":  {"path: {prefix: /a}", "path: {template: '/a/{b}'}", true},
		"a placeholder is no prefix": {"path: {prefix: /a/b}", "path: {template: '/a/{b}/c'}", false},
		"a regex below a prefix":     {"path: {prefix: /a}", "path: {regex: '/a/.*'}", true},
		"a regex beside a prefix":    {"path: {prefix: /a}", "path: {regex: '/a.*'}", false},
		"a regex that is a text":     {"path: {prefix: /a}", "path: {regex: /a}", true},
		"exact in a template":        {"path: {template: '/a/{b}'}", "path: {exact: /a/x}", true},
		"exact, longer":              {"path: {template: '/a/{b}'}", "path: {exact: /a/x/y}", false},
		"an empty segment":           {"path: {template: '/a/{b}'}", "path: {exact: /a/}", false},
		"exact in a regex":           {"path: {regex: '/a[0-9]+'}", "path: {exact: /a77}", true},
		"exact, a part of it":        {"path: {regex: '/a[0-9]'}", "path: {exact: /a77}", false},
		"the same regex":             {"path: {regex: '/a[0-9]'}", "path: {regex: '/a[0-9]'}", true},
		"any regex":                  {"path: {regex: '/.*'}", "path: {regex: '/a|/b'}", true},
		"fewer methods":              {"methods: [GET, POST]", "methods: [POST]", true},
		"more methods":               {"methods: [POST]", "methods: [GET, POST]", false},
		"any method":                 {"methods: [POST]", "path: {prefix: /a}", false},
		"a header less":              {"path: {prefix: /a}", "path: {prefix: /a}, headers: [{name: x, exact: b}]", true},
		"a header more":              {"headers: [{name: x, exact: b}]", "headers: [{name: y, exact: b}]", false},
		"another value":              {"headers: [{name: x, exact: a}]", "headers: [{name: x, exact: b}]", false},
		"a value with the prefix":    {"headers: [{name: x, prefix: be}]", "headers: [{name: x, exact: beta}]", true},
		"a longer prefix":            {"headers: [{name: x, prefix: be}]", "headers: [{name: x, prefix: bet}]", true},
		"a shorter prefix":           {"headers: [{name: x, prefix: bet}]", "headers: [{name: x, prefix: be}]", false},
		"a value of the regex":       {"headers: [{name: x, regex: 'b.*'}]", "headers: [{name: x, exact: beta}]", true},
		"not of the regex":           {"headers: [{name: x, regex: 'b.'}]", "headers: [{name: x, exact: beta}]", false},
		"any value":                  {"headers: [{name: x, present: true}]", "headers: [{name: x, regex: '.'}]", true},
		"absent in both":             {"headers: [{name: x, present: false}]", "headers: [{name: x, present: false}]", true},
		"absent in the first":        {"headers: [{name: x, present: false}]", "headers: [{name: x, exact: a}]", false},
		"absent in the second":       {"headers: [{name: x, present: true}]", "headers: [{name: x, present: false}]", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, findings := parse("a.yaml", fmt.Sprintf(`apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: a}
spec: {hosts: [a.local], endpoints: [{address: 127.0.0.1, port: 9001}]}
---
apiVersion: seawall.io/v1alpha1
kind: ResiliencePolicy
metadata: {name: a}
spec:
  service: a
  routes:
  - {name: first, match: {%s}}
  - {name: second, match: {%s}}
`, c.first, c.second))
			require.False(t, findings.HasErrors(), "%v", findings)
			told := false
			for _, d := range findings {
				told = told || d.Code == diag.UnreachableRoute && strings.Contains(d.Message, `"second"`)
			}
			require.Equal(t, c.shadowed, told, "%v", findings)
		})
	}
}
