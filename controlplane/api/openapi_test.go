package api

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/budget"
	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/gate"
	"github.com/seawall-mesh/seawall/controlplane/override"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/problem"
)

// silent is a Source without anything; apitest cannot be used in here.
type silent struct{}

func (silent) Status() Status                { return Status{} }
func (silent) Policy() *policy.Set           { return nil }
func (silent) Diagnostics() *RefusedLoad     { return nil }
func (silent) Nodes() []fleet.Node           { return nil }
func (silent) Breakers() []telemetry.Breaker { return nil }
func (silent) Pools() []telemetry.Pool       { return nil }
func (silent) Alerts() []alert.Alert         { return nil }
func (silent) Traffic(context.Context, time.Duration) ([]telemetry.TrafficRow, error) {
	return nil, nil
}
func (silent) SLOs(context.Context) ([]slo.Status, error) { return nil, nil }

func (silent) Get(override.Key) (override.Override, bool) { return override.Override{}, false }
func (silent) Set(context.Context, override.Request, override.Precondition) (override.Override, error) {
	return override.Override{}, override.ErrUnknown
}
func (silent) Lift(context.Context, override.Key, string, string, override.Precondition) error {
	return override.ErrUnknown
}
func (silent) Audit(context.Context, int64, int) ([]audit.Entry, error) { return nil, nil }
func (silent) CanDeploy(context.Context, ReleaseQuery) (Release, error) { return Release{}, nil }
func (silent) Deploy(context.Context, string, string, string) (gate.Deployment, error) {
	return gate.Deployment{}, override.ErrUnknown
}
func (silent) Deployments(context.Context, string, int64, int) ([]gate.Deployment, error) {
	return nil, nil
}
func (silent) Postmortems() []budget.Postmortem { return nil }
func (silent) Close(context.Context, string, string, string, override.Precondition) error {
	return budget.ErrNone
}

func silentServer(t *testing.T) *Server {
	t.Helper()
	s, err := New(Config{Source: silent{}, Overrides: silent{}, Postmortems: silent{}, Audit: silent{}, Ready: func() bool { return true }, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	require.NoError(t, err)
	return s
}

func openAPIDocument(t *testing.T, s *Server) map[string]any {
	t.Helper()
	r := httptest.NewRequest("GET", "/api/v1/openapi.json", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	require.Equal(t, 200, w.Code)
	var doc map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &doc))
	return doc
}

func TestOpenAPIListsEveryEndpoint(t *testing.T) {
	t.Parallel()
	s := silentServer(t)
	doc := openAPIDocument(t, s)
	require.Equal(t, "3.1.0", doc["openapi"])
	var want, got []string
	for _, e := range s.endpoints() {
		want = append(want, cmp.Or(e.method, "GET")+" /api/v1"+e.path)
	}
	for path, operations := range doc["paths"].(map[string]any) {
		for method := range operations.(map[string]any) {
			got = append(got, strings.ToUpper(method)+" "+path)
		}
	}
	require.ElementsMatch(t, want, got)
}

// TestOpenAPIRefersOnlyToWhatIsThere follows every $ref.
func TestOpenAPIRefersOnlyToWhatIsThere(t *testing.T) {
	t.Parallel()
	doc := openAPIDocument(t, silentServer(t))
	raw, err := json.Marshal(doc)
	require.NoError(t, err)
	refs := regexp.MustCompile(`"\$ref":"#/([^"]+)"`).FindAllStringSubmatch(string(raw), -1)
	require.NotEmpty(t, refs)
	for _, ref := range refs {
		var at any = doc
		for part := range strings.SplitSeq(ref[1], "/") {
			next, ok := at.(map[string]any)[part]
			require.True(t, ok, ref[1])
			at = next
		}
		require.NotNil(t, at, ref[1])
	}
}

// TestEveryMemberIsDescribed fails when another package adds a member and
// nobody says here what it means, and when a description outlives its member.
func TestEveryMemberIsDescribed(t *testing.T) {
	t.Parallel()
	doc := openAPIDocument(t, silentServer(t))
	used := map[string]bool{}
	for name, schema := range doc["components"].(map[string]any)["schemas"].(map[string]any) {
		for member, property := range schema.(map[string]any)["properties"].(map[string]any) {
			require.NotEmpty(t, property.(map[string]any)["description"], "%s.%s: add it to memberDocs", name, member)
			used[name+"."+member] = true
		}
	}
	for key := range memberDocs {
		require.True(t, used[key], "%s: no such member any more", key)
	}
}

func TestFindingHasTheMembersOfADiagnostic(t *testing.T) {
	t.Parallel()
	d := diag.Diagnostic{
		Code: "SW0102", Severity: diag.Error, Pos: diag.Pos{File: "a.yaml", Line: 1, Column: 2},
		Path: "spec", Message: "m", Hint: "h", Excerpt: "e",
	}
	want, err := json.Marshal(d)
	require.NoError(t, err)
	got, err := json.Marshal(findings(&RefusedLoad{Findings: diag.List{d}})[0])
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got))
}

func TestEveryKindOfPolicyIsListed(t *testing.T) {
	t.Parallel()
	set := &policy.Set{
		Edges: make([]policy.Edge, 1), Services: make([]policy.Service, 1), Policies: make([]policy.ResiliencePolicy, 1),
		SLOs: make([]policy.ServiceLevelObjective, 1), Experiments: make([]policy.ChaosExperiment, 1), Flags: make([]policy.FeatureFlag, 1),
	}
	slicesInSet := 0
	for f := range reflect.TypeFor[policy.Set]().Fields() {
		if f.Type.Kind() == reflect.Slice {
			slicesInSet++
		}
	}
	require.Len(t, policyObjects(set), slicesInSet)
}

func TestProblemSlugsAreUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range problemTypes() {
		require.False(t, seen[p.Slug], p.Slug)
		seen[p.Slug] = true
		require.NotEmpty(t, p.Title)
		require.NotEmpty(t, p.Meaning)
		require.NotEmpty(t, p.Action)
	}
	require.True(t, seen[problem.BreakerOpen])
	require.True(t, seen[typeBadQuery.Slug])
}
