package deadline_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/engine/deadline"
)

func TestLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy, caller, left int64
		byCaller             bool
	}{
		"no limit at all":       {0, deadline.None, deadline.None, false},
		"the policy alone":      {5e9, deadline.None, 5e9, false},
		"the caller alone":      {0, 3e9, 3e9, true},
		"the caller's is less":  {5e9, 3e9, 3e9, true},
		"the policy's is less":  {5e9, 9e9, 5e9, false},
		"as much":               {5e9, 5e9, 5e9, false},
		"spent":                 {5e9, 0, 0, true},
		"a policy of nonsense":  {-5, 3e9, 3e9, true},
		"spent, without policy": {0, -1, -1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left, byCaller := deadline.Left(c.policy, c.caller)
			require.Equal(t, c.left, left)
			require.Equal(t, c.byCaller, byCaller)
		})
	}
}

func TestParseMillis(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"250": 250e6, "0": 0, "-1": 0, "-99999999999999999999": 0, " 7\t": 7e6, "007": 7e6,
		"9223372036854": 9223372036854e6, "9223372036855": deadline.None, "99999999999999999999999999": deadline.None, "18446744073709551616": deadline.None,
	} {
		ns, ok := deadline.ParseMillis([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want, ns, text)
	}
	for _, text := range []string{"", " ", "-", "--1", "+1", "1.5", "1e3", "0x10", "5s", "1,2", "١", "1 2", "\x00", strings.Repeat("9", 70000) + "x"} {
		ns, ok := deadline.ParseMillis([]byte(text))
		require.False(t, ok, "%.20q", text)
		require.EqualValues(t, deadline.None, ns)
	}
}

func TestParseGRPC(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"1H": 3600e9, "2M": 120e9, "3S": 3e9, "4m": 4e6, "5u": 5e3, "6n": 6, "0S": 0, "99999999n": 99999999, "00000001S": 1e9, "99999999H": deadline.None,
	} {
		ns, ok := deadline.ParseGRPC([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want, ns, text)
	}
	for _, text := range []string{"", "S", "1", "1s", "100000000n", "-1S", "1.5S", "1 S", " 1S", "1SS", "\xff\xff"} {
		ns, ok := deadline.ParseGRPC([]byte(text))
		require.False(t, ok, text)
		require.EqualValues(t, deadline.None, ns)
	}
}

// What is handed on is never less than what is left, and hardly more.
func TestWhatIsWrittenReadsBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Int64Range(1, 1<<62).Draw(t, "ns")
		got, ok := deadline.ParseMillis(deadline.AppendMillis(nil, ns))
		require.True(t, ok)
		require.GreaterOrEqual(t, got, ns)
		require.Less(t, got-ns, int64(1e6))

		text := deadline.AppendGRPC([]byte("x"), ns)[1:]
		got, ok = deadline.ParseGRPC(text)
		require.True(t, ok, string(text))
		require.GreaterOrEqual(t, got, ns)
		require.LessOrEqual(t, got-ns, ns/100_000+1e6, string(text))
	})
	require.Equal(t, "0", string(deadline.AppendMillis(nil, 0)))
	require.Equal(t, "0m", string(deadline.AppendGRPC(nil, -5)))
	require.Equal(t, "1", string(deadline.AppendMillis(nil, 1)))
	require.Equal(t, "100000S", string(deadline.AppendGRPC(nil, 100_000e9)))
}

func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{"250", "-1", "99999999S", "1H", "18446744073709551616", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		if ns, ok := deadline.ParseMillis(header); ok {
			require.GreaterOrEqual(t, ns, int64(0))
			if n, err := strconv.ParseInt(strings.Trim(string(header), " \t"), 10, 64); err == nil && n >= 0 && n < 1<<43 {
				require.Equal(t, n*1e6, ns)
			}
		} else {
			require.EqualValues(t, deadline.None, ns)
		}
		ns, ok := deadline.ParseGRPC(header)
		require.GreaterOrEqual(t, ns, int64(0))
		require.True(t, ok || ns == deadline.None)
	})
}

func BenchmarkHandOn(b *testing.B) {
	buf := make([]byte, 0, 32)
	header := []byte("1500")
	b.ReportAllocs()
	for range b.N {
		caller, _ := deadline.ParseMillis(header)
		left, _ := deadline.Left(2e9, caller)
		buf = deadline.AppendMillis(buf[:0], left)
	}
}
