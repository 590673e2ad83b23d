package cli_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/cli"
)

func TestJSONLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := cli.NewLogger(&out, slog.LevelInfo, false, false)
	log.Debug("below the level")
	require.Empty(t, out.String())

	for name, c := range map[string]struct {
		write func(*slog.Logger)
		want  map[string]any
	}{
		"plain":                {func(l *slog.Logger) { l.Info("m", "n", 1) }, map[string]any{"level": "info", "logger": "seawall", "message": "m", "n": 1.0}},
		"named":                {func(l *slog.Logger) { l.With("logger", "xds").Warn("m") }, map[string]any{"level": "warn", "logger": "xds", "message": "m"}},
		"renamed":              {func(l *slog.Logger) { l.With("logger", "a").With("logger", "b").Error("m") }, map[string]any{"level": "error", "logger": "b", "message": "m"}},
		"named by the record":  {func(l *slog.Logger) { l.Info("m", "logger", "envoy") }, map[string]any{"level": "info", "logger": "envoy", "message": "m"}},
		"named inside a group": {func(l *slog.Logger) { l.WithGroup("g").With("logger", "x").Info("m", "k", "v") }, map[string]any{"level": "info", "logger": "x", "message": "m", "g": map[string]any{"k": "v"}}},
		"duration":             {func(l *slog.Logger) { l.Info("m", "took", 1500*time.Millisecond) }, map[string]any{"level": "info", "logger": "seawall", "message": "m", "took": "1.5s"}},
		"clash": {func(l *slog.Logger) {
			l.With("timestamp", "x").Info("m", "message", "y", "level", "z", "msg", "w", "time", "v")
		}, map[string]any{
			"level": "info", "logger": "seawall", "message": "m", "attr.timestamp": "x", "attr.message": "y", "attr.level": "z", "attr.msg": "w", "attr.time": "v",
		}},
		"with attributes": {func(l *slog.Logger) { l.With("a", 1).WithGroup("g").With("b", 2).Info("m", "level", "mine") }, map[string]any{
			"level": "info", "logger": "seawall", "message": "m", "a": 1.0, "g": map[string]any{"b": 2.0, "level": "mine"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			c.write(cli.NewLogger(&out, slog.LevelInfo, false, false))
			require.Equal(t, 1, bytes.Count(out.Bytes(), []byte(`"logger"`)), out.String())
			var got map[string]any
			require.NoError(t, json.Unmarshal(out.Bytes(), &got), out.String())
			require.NotEmpty(t, got["timestamp"])
			delete(got, "timestamp")
			require.Equal(t, c.want, got)
		})
	}
}

func TestTextLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := cli.NewLogger(&out, slog.LevelInfo, true, false)
	log.With("logger", "xds", "node", "edge-1").Warn("pushed\x1b[2J\ntwice", "took", "3 ms")
	require.Regexp(t, `^\d\d:\d\d:\d\d WARN  xds       pushed \[2J twice  node=edge-1 took="3 ms"\n$`, out.String())
	log.Debug("below the level")
	require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("\n")))

	out.Reset()
	cli.NewLogger(&out, slog.LevelInfo, true, true).Error("m")
	require.Contains(t, out.String(), "\x1b[31mERROR\x1b[0m")
}
