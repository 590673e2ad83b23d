package translate_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/xds/translate"
)

var update = flag.Bool("update", false, "rewrite golden files")

var onNode = translate.Module{
	Path:   "/var/lib/seawall/filters/filter-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.wasm",
	SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
}

// compiled are the models that package compile left as its golden files: this
// package goes on where that one ends, without importing it.
func compiled(t testing.TB) map[string]ir.Edge {
	t.Helper()
	const root = "../../compile/testdata"
	models, err := filepath.Glob(root + "/*/golden/model.json")
	require.NoError(t, err)
	require.NotEmpty(t, models)
	edges := map[string]ir.Edge{}
	for _, path := range models {
		var model ir.Model
		require.NoError(t, json.Unmarshal(read(t, path), &model))
		dir := filepath.Dir(path)
		for _, e := range model.Edges {
			e.Filter.PlanJSON = compact(t, read(t, filepath.Join(dir, e.Name+".plan.json")))
			e.Filter.SafeJSON = compact(t, read(t, filepath.Join(dir, e.Name+".safe.json")))
			edges[filepath.Base(filepath.Dir(dir))+"/"+e.Name] = e
		}
	}
	return edges
}

func TestGolden(t *testing.T) {
	edges := compiled(t)
	if *update {
		require.NoError(t, os.RemoveAll("testdata/golden"))
	}
	for name, edge := range edges {
		t.Run(name, func(t *testing.T) {
			r, err := translate.Build(edge, onNode)
			require.NoError(t, err)
			dir := filepath.Join("testdata/golden", name)
			for file, list := range map[string][]types.Resource{
				"listeners.json": r.Listeners, "routes.json": r.Routes, "clusters.json": r.Clusters,
				"endpoints.json": r.Endpoints, "extensions.json": r.Extensions, "secrets.json": r.Secrets,
			} {
				var got bytes.Buffer
				for _, m := range list {
					data, err := translate.JSON(m)
					require.NoError(t, err)
					got.Write(data)
				}
				if file == "secrets.json" && len(list) == 0 {
					require.NoFileExists(t, filepath.Join(dir, file))
					continue
				}
				if file == "listeners.json" && name != "payments/shop" && name != "two-edges/outer" && name != "wrapping/default" && name != "details/default" {
					continue // they differ in names and ports only
				}
				path := filepath.Join(dir, file)
				if *update {
					require.NoError(t, os.MkdirAll(dir, 0o755))
					require.NoError(t, os.WriteFile(path, got.Bytes(), 0o644))
				}
				require.Equal(t, string(read(t, path)), got.String(), file)
			}
		})
	}
	stale, err := filepath.Glob("testdata/golden/*/*")
	require.NoError(t, err)
	require.Len(t, stale, len(edges), "stale golden files; run with -update")
}

// TestConsistent: what is pushed refers only to what is pushed with it.
func TestConsistent(t *testing.T) {
	for name, edge := range compiled(t) {
		t.Run(name, func(t *testing.T) {
			r, err := translate.Build(edge, onNode)
			require.NoError(t, err)
			snapshot, err := cache.NewSnapshot("1", map[resource.Type][]types.Resource{
				resource.ListenerType: r.Listeners, resource.RouteType: r.Routes, resource.ClusterType: r.Clusters,
				resource.EndpointType: r.Endpoints, resource.SecretType: r.Secrets, resource.ExtensionConfigType: r.Extensions,
			})
			require.NoError(t, err)
			require.NoError(t, snapshot.Consistent())
			require.Len(t, r.Extensions, 1)
			require.Equal(t, translate.FilterName, cache.GetResourceName(r.Extensions[0]))
		})
	}
}

// TestDeterministic: equal input gives equal bytes; otherwise Envoy would
// rebuild listeners that have not changed.
func TestDeterministic(t *testing.T) {
	for name, edge := range compiled(t) {
		first := encode(t, edge, onNode)
		for range 20 {
			require.Equal(t, first, encode(t, edge, onNode), name)
		}
	}
}

// TestPlanEditTouchesTheFilterOnly: breakers keep their state over a push
// because nothing but the plugin's configuration changes.
func TestPlanEditTouchesTheFilterOnly(t *testing.T) {
	edge := shop(10000, 1, 2)
	before := encode(t, edge, onNode)
	edge.Filter.PlanJSON = []byte(`{"schema":1,"hash":"1111111111111111"}`)
	edge.Filter.PlanHash = "1111111111111111"
	after := encode(t, edge, onNode)
	require.NotEqual(t, before["extensions"], after["extensions"])
	delete(before, "extensions")
	delete(after, "extensions")
	require.Equal(t, before, after)

	t.Run("and so does healing", func(t *testing.T) {
		healed := onNode
		healed.VMID = "seawall-r2"
		again := encode(t, edge, healed)
		require.Contains(t, again["extensions"], "seawall-r2")
		delete(again, "extensions")
		require.Equal(t, after, again)
	})
}

func TestBuildNamesWhatIsWrong(t *testing.T) {
	edge := shop(10000, 1, 2)
	edge.VirtualHosts[0].Routes[0].Match.Path.Value = "/ends/with/slash/"
	_, err := translate.Build(edge, onNode)
	require.ErrorContains(t, err, "edge shop")
	require.ErrorContains(t, err, "PathSeparatedPrefix")

	_, err = translate.Build(shop(10000, 1, 2), translate.Module{})
	require.ErrorContains(t, err, "Filename")
}

// encode gives the marshalled resources by kind.
func encode(t testing.TB, edge ir.Edge, m translate.Module) map[string]string {
	t.Helper()
	r, err := translate.Build(edge, m)
	require.NoError(t, err)
	out := map[string]string{}
	for kind, list := range map[string][]types.Resource{
		"listeners": r.Listeners, "routes": r.Routes, "clusters": r.Clusters, "endpoints": r.Endpoints, "extensions": r.Extensions,
	} {
		for _, m := range list {
			data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			require.NoError(t, err)
			out[kind] += string(data)
		}
	}
	return out
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err, "run with -update")
	return data
}

func compact(t testing.TB, raw []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, json.Compact(&out, raw))
	return out.Bytes()
}
