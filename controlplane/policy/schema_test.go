package policy

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// walkSchema visits every key of every kind, with its path as the enforcement
// table spells it.
func walkSchema(visit func(schema string, t reflect.Type, r rules)) {
	var walk func(schema string, t reflect.Type)
	walk = func(schema string, t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if !isMapping(t) {
			return
		}
		for _, f := range fieldsOf(t) {
			ft := t.FieldByIndex(f.index).Type
			visit(schema+"."+f.name, ft, f.rules)
			walk(schema+"."+f.name, ft)
		}
	}
	for _, kind := range kindNames() {
		walk(kind, kinds[kind])
	}
}

// TestTags holds that the decoder knows every type and that every tag means
// something: bounds parse, formats exist, and no rule is on a type that it
// does not apply to.
func TestTags(t *testing.T) {
	t.Parallel()
	visited := 0
	walkSchema(func(schema string, ft reflect.Type, r rules) {
		visited++
		item := ft
		for item.Kind() == reflect.Pointer || item.Kind() == reflect.Slice || item.Kind() == reflect.Map {
			item = item.Elem()
		}
		var parses func(string) error
		switch reflect.New(item).Interface().(type) {
		case *Duration:
			parses = func(s string) error { _, err := ParseDuration(s); return err }
		case *Ratio:
			parses = func(s string) error { _, err := ParseRatio(s); return err }
		case *Factor:
			parses = func(s string) error { _, err := ParseFactor(s); return err }
		case *ByteSize:
			parses = func(s string) error { _, err := ParseByteSize(s); return err }
		case *int:
			parses = func(s string) error { _, err := parseInt(s); return err }
		case *string, *bool, *Outcomes:
		default:
			require.True(t, isMapping(item), "%s: the decoder has no case for %s", schema, item)
		}
		if parses != nil {
			require.NotEmpty(t, r.min+r.max, "%s has no bounds", schema)
		}
		for _, b := range []string{r.min, r.max} {
			if b != "" {
				require.NotNil(t, parses, "%s has bounds, but no number", schema)
				require.NoError(t, parses(b), schema)
			}
		}
		for _, f := range []string{r.format, r.keys} {
			if f != "" {
				require.Contains(t, formats, f, schema)
				require.Equal(t, reflect.String, item.Kind(), schema)
			}
		}
		if ft == reflect.TypeFor[Outcomes]() {
			require.Contains(t, outcomeUses, r.outcomes, schema)
		}
		if r.toggle {
			require.Equal(t, reflect.Pointer, ft.Kind(), schema)
		}
		if r.enum != nil {
			require.Equal(t, reflect.String, item.Kind(), schema)
			require.False(t, slices.Contains(r.enum, ""), schema)
		}
		require.True(t, !r.oneof || isMapping(item), schema)
		require.True(t, r.maxLen > 0 || !strings.Contains(schema, "static.body"), schema)
	})
	require.Greater(t, visited, 100)
}

// TestStringsAreBounded holds that no text of a policy can be of any length or
// hold any byte: each has a format, a vocabulary or a limit.
func TestStringsAreBounded(t *testing.T) {
	t.Parallel()
	files := []string{ // names of files and nodes are the operator's own
		"Edge.spec.listeners.tls.certFile", "Edge.spec.listeners.tls.keyFile", "Service.spec.tls.ca",
		"Edge.spec.nodes.cluster", "Edge.spec.nodes.id",
	}
	walkSchema(func(schema string, ft reflect.Type, r rules) {
		if ft == reflect.TypeFor[Outcomes]() {
			return // words of a vocabulary
		}
		for ft.Kind() == reflect.Slice || ft.Kind() == reflect.Map {
			ft = ft.Elem()
		}
		if ft.Kind() != reflect.String || slices.Contains(files, schema) || strings.HasSuffix(schema, ".apiVersion") || strings.HasSuffix(schema, ".kind") {
			return
		}
		require.True(t, r.format != "" || r.enum != nil || r.maxLen > 0, schema)
	})
}

// TestEnforcementIsComplete holds that every field says whether it does
// something today, and that the table has no field that is gone.
func TestEnforcementIsComplete(t *testing.T) {
	t.Parallel()
	fields := map[string]bool{}
	walkSchema(func(schema string, _ reflect.Type, _ rules) {
		fields[schema] = true
		_, ok := stateOf(schema)
		require.True(t, ok, "%s is in enforced.go neither itself nor below a field that is not enforced: classify it", schema)
	})
	for schema := range enforcement {
		require.True(t, fields[schema], "%s is in enforced.go, but no field", schema)
	}
}

// TestDefaultsAreComplete holds that a default lies within the bounds of its
// field, and that words in it belong to the vocabulary.
func TestDefaultsAreComplete(t *testing.T) {
	t.Parallel()
	// Every optional section, empty: what then stands there is the default.
	set, findings := parse("defaults.yaml", `
apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: a}
spec: {hosts: [a], endpoints: [{address: 127.0.0.1, port: 1}], connections: {}, outlierEjection: {}, healthCheck: {path: /}}
---
apiVersion: seawall.io/v1alpha1
kind: ResiliencePolicy
metadata: {name: a}
spec:
  service: a
  pools: {p: {maxConcurrency: 1}}
  shedding: {}
  retryBudget: {}
  routes:
  - name: r
    timeout: {}
    retry: {backoff: {}, honorRetryAfter: {}, idempotency: {}}
    breaker: {failureRate: {}, slowCalls: {threshold: 1s}, backoff: {}, halfOpen: {}}
    deadLetter: {queue: q, backoff: {}}
    fallback: {cached: {}, static: {}}
---
apiVersion: seawall.io/v1alpha1
kind: ServiceLevelObjective
metadata: {name: a}
spec: {service: a, objective: 99%, indicator: {availability: {}}}
---
apiVersion: seawall.io/v1alpha1
kind: ChaosExperiment
metadata: {name: a}
spec: {service: a, fault: {latency: {max: 1s}}, guardrails: {window: {}, abortWhen: {}}, notify: {webhooks: [http://127.0.0.1/]}}
---
apiVersion: seawall.io/v1alpha1
kind: FeatureFlag
metadata: {name: a}
spec: {autoDisable: {when: {service: a, route: r}}}
`)
	require.False(t, findings.HasErrors(), "%v", findings)
	var text strings.Builder
	require.NoError(t, set.Encode(&text))
	// Encode spells every default out, so reading it back checks each as if a
	// user had written it.
	again, findings := parse("encoded.yaml", text.String())
	require.NotNil(t, again, "%v\n%s", findings, text.String())
	require.Equal(t, set.Hash, again.Hash)
}
