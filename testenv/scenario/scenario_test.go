package scenario_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/seawall-mesh/seawall/filter/module"
	"github.com/seawall-mesh/seawall/testenv/host"
	"github.com/seawall-mesh/seawall/testenv/native"
	"github.com/seawall-mesh/seawall/testenv/scenario"
)

var update = flag.Bool("update", false, "write the traces into testdata")

// filter is the real module. Without it nothing here may pass.
var filter *host.Module

func TestMain(m *testing.M) {
	ctx := context.Background()
	wasm, _, err := module.Load()
	if err == nil {
		filter, err = host.Compile(ctx, wasm, host.CompileConfig{})
	}
	if err != nil {
		panic(err)
	}
	defer filter.Close(ctx)
	m.Run()
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			s, err := scenario.Parse(data)
			require.NoError(t, err)
			plan, err := scenario.Fill(s.Files["plan.json"])
			require.NoError(t, err)
			for i, workers := range s.Workers {
				trace := play(t, s, inGo(t, s, plan, workers))
				if *update && i == 0 {
					s.Trace = trace
					rewrite(t, file, data, trace)
				}
				require.Equal(t, s.Trace, trace, "native, with %d workers", workers)
				require.Equal(t, s.Trace, withoutFallback(play(t, s, inGoWithoutMetrics(t, s, plan, workers))), "native without metrics, with %d workers", workers)
				require.Equal(t, s.Trace, play(t, s, inWazero(t, s, plan, workers)), "wazero, with %d workers", workers)
			}
		})
	}
}

func inGo(t *testing.T, s *scenario.Scenario, plan []byte, workers int) scenario.World {
	t.Helper()
	w, err := native.New(native.Config{Workers: workers, Plan: plan, Node: "edge-1", Attempts: s.Attempts})
	require.NoError(t, err)
	return w
}

// inGoWithoutMetrics is an Envoy whose stats_matcher hides our gauges: shared
// data has to serve as the epoch.
func inGoWithoutMetrics(t *testing.T, s *scenario.Scenario, plan []byte, workers int) scenario.World {
	t.Helper()
	w, err := native.New(native.Config{Workers: workers, Plan: plan, Node: "edge-1", Attempts: s.Attempts, HideMetrics: true})
	require.NoError(t, err)
	return w
}

var fallback = regexp.MustCompile(`(?m)^event  epoch-fallback .*\n`)

func withoutFallback(trace string) string { return fallback.ReplaceAllString(trace, "") }

func inWazero(t *testing.T, s *scenario.Scenario, plan []byte, workers int) scenario.World {
	t.Helper()
	w, err := scenario.NewHostWorld(t.Context(), scenario.HostConfig{Module: filter, Workers: workers, Plan: plan, Node: "edge-1", Attempts: s.Attempts})
	require.NoError(t, err)
	return w
}

func play(t *testing.T, s *scenario.Scenario, w scenario.World) string {
	t.Helper()
	defer func() { require.NoError(t, w.Close()) }()
	trace, err := scenario.Run(t.Context(), s, w)
	require.NotErrorIs(t, err, scenario.ErrUnsupported)
	require.NoError(t, err, "%T with %d workers\n%s", w, w.Workers(), trace)
	return trace
}

func rewrite(t *testing.T, file string, data []byte, trace string) {
	t.Helper()
	ar := txtar.Parse(data)
	files := ar.Files[:0]
	for _, f := range ar.Files {
		if f.Name != "trace" {
			files = append(files, f)
		}
	}
	ar.Files = append(files, txtar.File{Name: "trace", Data: []byte(trace)})
	require.NoError(t, os.WriteFile(file, txtar.Format(ar), 0o600))
}
