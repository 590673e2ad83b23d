package policy

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	good := map[string]struct {
		want     Duration
		spelling string
	}{
		"0":        {0, "0s"},
		"0s":       {0, "0s"},
		"250ms":    {250 * millisecond, "250ms"},
		"1.5s":     {1500 * millisecond, "1.5s"},
		"1500ms":   {1500 * millisecond, "1.5s"},
		"2m":       {2 * minute, "2m"},
		"90s":      {90 * second, "1m30s"},
		"1m30s":    {90 * second, "1m30s"},
		"1.5m":     {90 * second, "1m30s"},
		"30d":      {30 * day, "30d"},
		"36h":      {36 * hour, "1d12h"},
		"1h0.5s":   {hour + second/2, "1h500ms"},
		"1us":      {microsecond, "1us"},
		"0.001us":  {1, "0.001us"},
		"0.25h":    {15 * minute, "15m"},
		"3660d":    {3660 * day, "3660d"},
		"1d1h1m1s": {day + hour + minute + second, "1d1h1m1s"},
		"01.50s":   {1500 * millisecond, "1.5s"},
	}
	for text, c := range good {
		got, err := ParseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, c.want, got, text)
		require.Equal(t, c.spelling, got.String(), text)
	}
	for _, text := range []string{
		"", "5", "s", "-1s", "+1s", "1 s", "1S", "1sec", "1ns", "1w", "1e3s", "1,5s", ".5s", "1.s", "1..5s", "30s1m", "1s1s", "1s500",
		"0.0001us", "3661d", "3660d1s", "99999999999999999999d", "9223372036854775807d", "NaNs", "1\u00b5s", "00", "1ms1us1us",
	} {
		_, err := ParseDuration(text)
		require.Error(t, err, text)
	}
}

func TestParseRatio(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Ratio{"5%": 50_000, "0.01%": 100, "99.9999%": 999_999, "100%": 1_000_000, "0%": 0, "12.50%": 125_000, "0.00010%": 1} {
		got, err := ParseRatio(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "%", "5", "0.5", "-5%", "5 %", "0.00001%", "5%%", "1e1%", "99999999999999999%", "½%"} {
		_, err := ParseRatio(text)
		require.Error(t, err, text)
	}
}

func TestParseByteSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]ByteSize{"512B": 512, "64KiB": 64 << 10, "10MiB": 10 << 20, "1GiB": 1 << 30, "1.5KiB": 1536, "0B": 0, "1024GiB": 1 << 40} {
		got, err := ParseByteSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "B", "5", "10MB", "10kB", "-1B", "0.5B", "0.1KiB", "1025GiB", "1 MiB", "1mib"} {
		_, err := ParseByteSize(text)
		require.Error(t, err, text)
	}
}

func TestParseFactor(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Factor{"1": 1_000_000, "1.5": 1_500_000, "0.000001": 1, "100": 100_000_000} {
		got, err := ParseFactor(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "-1", "1.0000001", "1e2", "99999999999999", "0x1"} {
		_, err := ParseFactor(text)
		require.Error(t, err, text)
	}
}

// TestValuesSurviveJSON holds that what GET policy shows is what a file may say.
func TestValuesSurviveJSON(t *testing.T) {
	t.Parallel()
	type values struct {
		Duration Duration
		Ratio    Ratio
		Factor   Factor
		Size     ByteSize
	}
	rapid.Check(t, func(t *rapid.T) {
		in := values{
			Duration(rapid.Int64Range(0, int64(maxDuration)).Draw(t, "duration")),
			Ratio(rapid.Int64Range(0, 10_000_000).Draw(t, "ratio")),
			Factor(rapid.Int64Range(0, 100_000_000).Draw(t, "factor")),
			ByteSize(rapid.Int64Range(0, 1<<40).Draw(t, "size")),
		}
		text, err := json.Marshal(in)
		require.NoError(t, err)
		var out values
		require.NoError(t, json.Unmarshal(text, &out))
		require.Equal(t, in, out, string(text))
	})
}
