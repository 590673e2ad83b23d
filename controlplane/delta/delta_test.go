package delta

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/policy"
)

const base = `apiVersion: seawall.io/v1alpha1
kind: Edge
metadata: {name: e}
spec: {listeners: [{port: 10000}], maxBody: 1MiB}
---
apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: a}
spec: {hosts: [a.local], endpoints: [{address: 127.0.0.1, port: 9001}], tls: {ca: ca.pem, serverName: a.prod}}
---
apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: bare}
spec: {hosts: [bare.local], endpoints: [{address: 127.0.0.1, port: 9002}]}
---
apiVersion: seawall.io/v1alpha1
kind: ResiliencePolicy
metadata: {name: guards}
spec:
  service: a
  mode: enforce
  pools: {p: {maxConcurrency: 5, timeout: 9s}, q: {maxConcurrency: 5}}
  routes:
  - {name: one, match: {path: {prefix: /1}}, pool: p, timeout: {request: 10s, perTry: 1s}}
  - {name: two, match: {path: {prefix: /2}}, pool: p, retry: {retryOn: [503]}, flags: [f]}
  - {name: three, match: {path: {prefix: /3}}, breaker: {failures: [5xx, reset]}}
---
apiVersion: seawall.io/v1alpha1
kind: ServiceLevelObjective
metadata: {name: o}
spec: {service: a, routes: [two, three], objective: 99%, indicator: {availability: {}}}
---
apiVersion: seawall.io/v1alpha1
kind: FeatureFlag
metadata: {name: f}
spec: {default: true}
`

func load(t testing.TB, text string) Side {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o600))
	set, findings, err := policy.Load(dir)
	require.NoError(t, err)
	require.NotNil(t, set, "%v", findings)
	return Side{Set: set, Root: dir}
}

// lines is a report as short as it can be read.
func lines(r Report) []string {
	out := []string{}
	for _, c := range r.Changes {
		words := []string{string(c.Effect), c.Kind, c.Name, c.Route, c.Field, c.What, c.Old, c.New, "[" + strings.Join(c.Routes, " ") + "]"}
		out = append(out, strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " "))
	}
	return out
}

// edits are one edit each, with what they mean.
var edits = map[string]struct {
	old, new string
	want     string
}{
	"a longer time":               {"request: 10s", "request: 20s", "loosens ResiliencePolicy guards one timeout.request changed 10s 20s [a/one]"},
	"another spelling":            {"request: 10s", "request: 10000ms", ""},
	"no limit":                    {"perTry: 1s", "perTry: 0", "loosens ResiliencePolicy guards one timeout.perTry changed 1s 0s [a/one]"},
	"a pool's own limit goes":     {", timeout: 9s", "", "loosens ResiliencePolicy guards pools.p.timeout removed 9s [a/one a/two]"},
	"a pool grows":                {"p: {maxConcurrency: 5", "p: {maxConcurrency: 6", "loosens ResiliencePolicy guards pools.p.maxConcurrency changed 5 6 [a/one a/two]"},
	"another pool":                {"{prefix: /2}}, pool: p", "{prefix: /2}}, pool: q", "changes ResiliencePolicy guards two pool changed p q [a/two]"},
	"no pool":                     {"{prefix: /2}}, pool: p", "{prefix: /2}}", "loosens ResiliencePolicy guards two pool removed p [a/two]"},
	"more to retry":               {"[503]", "[503, 429]", "loosens ResiliencePolicy guards two retry.retryOn changed [503] [503, 429] [a/two]"},
	"fewer failures":              {"[5xx, reset]", "[5xx]", "loosens ResiliencePolicy guards three breaker.failures changed [5xx, reset] [5xx] [a/three]"},
	"other failures":              {"[5xx, reset]", "[5xx, timeout]", "changes ResiliencePolicy guards three breaker.failures changed [5xx, reset] [5xx, timeout] [a/three]"},
	"guards off":                  {"mode: enforce", "mode: disabled", "loosens ResiliencePolicy guards mode changed enforce disabled [a/one a/three a/two]"},
	"another path":                {"/3", "/4", "changes ResiliencePolicy guards three match.path.prefix changed /3 /4 [a/three]"},
	"a stricter objective":        {"99%", "99.9%", "tightens ServiceLevelObjective o objective changed 99% 99.9% [a/three a/two]"},
	"a larger body":               {"1MiB", "2MiB", "loosens Edge e maxBody changed 1MiB 2MiB [a/one a/three a/two bare/default]"},
	"no bound on bodies":          {", maxBody: 1MiB", "", "loosens Edge e maxBody removed 1MiB [a/one a/three a/two bare/default]"},
	"another CA in the same root": {"ca: ca.pem", "ca: other.pem", "changes Service a tls.ca changed ca.pem other.pem [a/one a/three a/two]"},
	"plain text":                  {", tls: {ca: ca.pem, serverName: a.prod}", "", "loosens Service a tls removed {ca: ca.pem, serverName: a.prod} [a/one a/three a/two]"},
	"another port":                {"9002", "9003", "changes Service bare endpoints changed [{address: 127.0.0.1, port: 9002}] [{address: 127.0.0.1, port: 9003}] [bare/default]"},
	"a flag":                      {"default: true", "default: false", "changes FeatureFlag f default changed true false [a/two]"},
	"a route is renamed":          {"- {name: one", "- {name: uno", "changes ResiliencePolicy guards one removed [a/one]\nchanges ResiliencePolicy guards uno added [a/uno]"},
	"a service goes":              {"---\napiVersion: seawall.io/v1alpha1\nkind: Service\nmetadata: {name: bare}\nspec: {hosts: [bare.local], endpoints: [{address: 127.0.0.1, port: 9002}]}\n", "", "changes Service bare removed [bare/default]"},
	"an objective goes":           {"---\napiVersion: seawall.io/v1alpha1\nkind: ServiceLevelObjective\nmetadata: {name: o}\nspec: {service: a, routes: [two, three], objective: 99%, indicator: {availability: {}}}\n", "", "loosens ServiceLevelObjective o removed [a/three a/two]"},
	"routes change places": {
		"  - {name: one, match: {path: {prefix: /1}}, pool: p, timeout: {request: 10s, perTry: 1s}}\n  - {name: two, match: {path: {prefix: /2}}, pool: p, retry: {retryOn: [503]}, flags: [f]}\n",
		"  - {name: two, match: {path: {prefix: /2}}, pool: p, retry: {retryOn: [503]}, flags: [f]}\n  - {name: one, match: {path: {prefix: /1}}, pool: p, timeout: {request: 10s, perTry: 1s}}\n",
		"changes ResiliencePolicy guards one moved 1 of 3 2 of 3 [a/one]",
	},
}

func TestCompare(t *testing.T) {
	t.Parallel()
	for name, c := range edits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, 1, strings.Count(base, c.old))
			r := Compare(load(t, base), load(t, strings.Replace(base, c.old, c.new, 1)))
			require.Equal(t, c.want, strings.Join(lines(r), "\n"))
			require.Equal(t, c.want == "", r.Same)
		})
	}
}

// TestCompareIsSymmetric: what one direction loosens, the other tightens, and
// several edits are told as each of them is.
func TestCompareIsSymmetric(t *testing.T) {
	t.Parallel()
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range edits {
			if !yield(name) {
				return
			}
		}
	})
	reversed := map[Effect]Effect{Loosens: Tightens, Tightens: Loosens, Changes: Changes}
	before, dir := load(t, base), t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		text := base
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 4, rapid.ID).Draw(rt, "edits") {
			if strings.Count(text, edits[name].old) == 1 {
				text = strings.Replace(text, edits[name].old, edits[name].new, 1)
			}
		}
		require.NoError(rt, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o600))
		set, _, err := policy.Load(dir)
		require.NoError(rt, err)
		if set == nil {
			rt.Skip("together they are no policy")
		}
		after := Side{Set: set, Root: dir}
		there, back := Compare(before, after), Compare(after, before)
		require.Empty(rt, Compare(after, after).Changes)
		key := func(c Change, e Effect, old, now string) string {
			return fmt.Sprint(e, c.Kind, c.Name, c.Route, c.Field, old, now, c.Routes)
		}
		moved := func(c Change) bool { return c.What == "moved" } // of two that change places, either
		var a, b []string
		for _, c := range slices.DeleteFunc(there.Changes, moved) {
			a = append(a, key(c, c.Effect, c.Old, c.New))
		}
		for _, c := range slices.DeleteFunc(back.Changes, moved) {
			b = append(b, key(c, reversed[c.Effect], c.New, c.Old))
		}
		require.ElementsMatch(rt, a, b)
	})
}

// TestEveryFieldHasADirection: whoever adds a field to the schema says whether
// it loosens or tightens.
func TestEveryFieldHasADirection(t *testing.T) {
	t.Parallel()
	fields := map[string]bool{}
	var walk func(schema string)
	walk = func(schema string) {
		fields[schema] = true
		e, hint, ok := policy.Explain(schema)
		require.True(t, ok, hint)
		for _, f := range e.Fields {
			walk(schema + "." + f)
		}
		if len(e.Fields) == 0 {
			_, ok := directionOf(schema)
			require.True(t, ok, "%s is in direction.go neither itself nor below a neutral field", schema)
		}
	}
	for _, kind := range []string{policy.KindEdge, policy.KindService, policy.KindResiliencePolicy, policy.KindServiceLevelObjective, policy.KindChaosExperiment, policy.KindFeatureFlag} {
		walk(kind)
	}
	for schema, d := range directions {
		require.True(t, fields[schema], "%s is in direction.go, but no field", schema)
		if d == ranked {
			e, _, _ := policy.Explain(schema)
			require.ElementsMatch(t, e.Values, ranks[schema])
		}
	}
}
