package slo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSpan(t *testing.T) {
	for text, d := range map[string]time.Duration{
		"0s": 0, "30d": 720 * time.Hour, "1h": time.Hour, "2d4h": 52 * time.Hour, "1h1m1s": 3661 * time.Second, "-5m": -5 * time.Minute,
	} {
		require.Equal(t, text, Span(d).String())
		var back Span
		require.NoError(t, back.UnmarshalText([]byte(text)))
		require.Equal(t, Span(d), back)
	}
	require.Equal(t, "1s", Span(1999*time.Millisecond).String())
	for _, text := range []string{"", "-", "5", "d", "5w", "5m3", "1.5h", "2147483647d2147483647d", "--5m", "99999999999d"} {
		var s Span
		require.Error(t, s.UnmarshalText([]byte(text)), text)
	}
}

func FuzzSpan(f *testing.F) {
	for _, seed := range []string{"30d", "2d4h", "-5m", "106751d", "9999999d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, back Span
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		require.NoError(t, back.UnmarshalText([]byte(s.String())))
		require.Equal(t, s, back)
	})
}

func TestTexts(t *testing.T) {
	status := func(total, bad uint64) Status {
		return Evaluate(Objective{ObjectivePPM: 999_000, Window: time.Hour}, func(int64, int64) Counts { return Counts{Total: total, Bad: bad} }, noon, fresh)
	}
	for name, tc := range map[string]struct {
		total, bad                    uint64
		attained, consumed, remaining string
	}{
		"nothing":                    {0, 0, "-", "-", "-"},
		"all good":                   {1_234_567, 0, "100.000 %", "0.0 %", "1,234 left"},
		"one in a billion is no 100": {1_000_000_000, 1, "99.999 %", "0.0 %", "999,999 left"},
		"all bad":                    {50, 50, "0.000 %", "100000.0 %", "50 over"},
		"a little bad":               {2_000, 1, "99.950 %", "50.0 %", "1 left"},
		"huge":                       {1 << 62, 1 << 61, "50.000 %", "50000.0 %", "2,301,231,323,995,306,496 over"},
	} {
		s := status(tc.total, tc.bad)
		require.Equal(t, tc.attained, s.AttainedText(), name)
		require.Equal(t, tc.consumed, s.ConsumedText(), name)
		if name != "huge" { // beyond the exact range of a float64
			require.Equal(t, tc.remaining, s.RemainingText(), name)
		}
	}
}
