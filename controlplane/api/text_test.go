package api_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/api"
)

func TestTimesForReaders(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		-time.Second: "0s ago", 0: "0s ago", 119 * time.Second: "119s ago", 2 * time.Minute: "2m ago", 3 * time.Hour: "3h ago", 49 * time.Hour: "2d ago",
	} {
		at := now.Add(-d)
		require.Equal(t, want, api.Age(now, &at))
	}
	require.Equal(t, "-", api.Age(now, nil))
	require.Equal(t, "-", api.Age(now, new(time.Time)))

	for d, want := range map[time.Duration]string{-time.Second: "now", 0: "now", time.Millisecond: "in 1s", 41*time.Second + 1: "in 42s", 5 * time.Minute: "in 5m"} {
		at := now.Add(d)
		require.Equal(t, want, api.Until(now, &at))
	}
	require.Equal(t, "-", api.Until(now, nil))
}

func TestFiguresForReaders(t *testing.T) {
	t.Parallel()
	for ms, want := range map[float64]string{0: "0.0ms", 4.23: "4.2ms", 38.4: "38ms", 12_500: "12.5s"} {
		require.Equal(t, want, api.Latency(&ms))
	}
	require.Equal(t, "-", api.Latency(nil))
	require.Equal(t, "-", api.Percent(0, 0))
	require.Equal(t, "3.64", api.Percent(379, 10412))
}

func FuzzParseWindow(f *testing.F) {
	for _, s := range []string{"5m", "90d", "1h30m", "-1d", "1e9d", "d", "", "256d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := api.ParseWindow(s)
		if err == nil && (w < time.Minute || w > 90*24*time.Hour) {
			t.Fatalf("%q gives %s", s, w)
		}
	})
}
