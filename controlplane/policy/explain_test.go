package policy

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryFieldIsExplained holds that every field says where it acts and as
// what, and that the table has no field that is gone.
func TestEveryFieldIsExplained(t *testing.T) {
	t.Parallel()
	fields := map[string]bool{}
	walkSchema(func(schema string, _ reflect.Type, _ rules) {
		fields[schema] = true
		e, _, ok := Explain(schema)
		require.True(t, ok, schema)
		require.Equal(t, schema, e.Field)
		require.NotEmpty(t, e.Type, schema)
		require.Equal(t, e.Enforced, len(e.Places) > 0, "%s: say in runsas.go where it acts", schema)
		for _, p := range e.Places {
			require.Contains(t, []string{PlaceEnvoy, PlaceFilter, PlaceControlPlane}, p.Where, schema)
			require.NotEmpty(t, p.As, schema)
		}
		for _, f := range e.Fields {
			_, _, ok := Explain(schema + "." + f)
			require.True(t, ok, schema+"."+f)
		}
	})
	for schema := range places {
		require.True(t, fields[schema], "%s is in runsas.go, but no field", schema)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		path string
		want Explanation
		hint string // of what is no field
	}{
		"a duration with its default": {path: "ResiliencePolicy.spec.routes.timeout.request", want: Explanation{
			Field: "ResiliencePolicy.spec.routes.timeout.request", Type: "duration", Default: "15s", Min: "0s", Max: "24h", Enforced: true,
			Places: placesOf("ResiliencePolicy.spec.routes.timeout.request"),
		}},
		"a vocabulary": {path: "Service.spec.protocol", want: Explanation{
			Field: "Service.spec.protocol", Type: "text", Default: "http1", Values: []string{"http1", "http2", "grpc"}, Enforced: true,
			Places: placesOf("Service.spec.protocol"),
		}},
		"not built": {path: "ResiliencePolicy.spec.routes.deadLetter.queue", want: Explanation{
			Field: "ResiliencePolicy.spec.routes.deadLetter.queue", Type: "text", Required: true,
		}},
		"a mapping": {path: "Service.spec.tls", want: Explanation{
			Field: "Service.spec.tls", Type: "mapping", Enforced: true, Fields: []string{"ca", "serverName"},
			Places: []Place{{PlaceEnvoy, "UpstreamTlsContext of the Cluster"}},
		}},
		"without a line of its own": {path: "ResiliencePolicy.spec.routes.breaker.halfOpen.probes", want: Explanation{
			Field: "ResiliencePolicy.spec.routes.breaker.halfOpen.probes", Type: "whole number", Default: "3", Min: "1", Max: "32", Enforced: true,
			Places: placesOf("ResiliencePolicy.spec.routes.breaker"),
		}},
		"no such kind":        {path: "Servce.spec", hint: `did you mean "Service"?`},
		"no such field":       {path: "Service.spec.host", hint: `did you mean "hosts"?`},
		"below what is plain": {path: "Service.spec.protocol.x", hint: "Service.spec.protocol has no fields"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, hint, ok := Explain(c.path)
			require.Equal(t, c.hint == "", ok)
			require.Equal(t, c.hint, hint)
			require.Equal(t, ok, e.About != "")
			e.About = "" // TestDescriptions has it
			require.Equal(t, c.want, e)
		})
	}
	e, _, ok := Explain("Edge")
	require.True(t, ok)
	require.Equal(t, "apiVersion kind metadata spec", strings.Join(e.Fields, " "))
}
