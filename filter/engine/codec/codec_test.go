package codec_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/engine/breaker"
	"github.com/seawall-mesh/seawall/filter/engine/codec"
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var id codec.Identity
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "id"))
		s := breaker.State{
			Gen: rapid.Uint64().Draw(t, "gen"), Since: rapid.Int64().Draw(t, "since"), RetryAt: rapid.Int64().Draw(t, "retry"),
			Recovery: rapid.Int64Range(0, 1<<63-1).Draw(t, "recovery"), Failures: rapid.Uint32().Draw(t, "failures"),
			Successes: rapid.Uint32().Draw(t, "successes"), Kind: breaker.Kind(rapid.IntRange(0, 2).Draw(t, "kind")), Cause: rapid.Uint8().Draw(t, "cause"), Serial: rapid.Uint8().Draw(t, "serial"),
		}
		for i, p := range rapid.SliceOfN(rapid.Uint32Range(0, 3), 0, breaker.MaxProbes).Draw(t, "probes") {
			s.Probes[i] = breaker.Probe(p)
		}
		record := codec.Append([]byte("x"), id, &s)[1:]
		require.LessOrEqual(t, len(record), codec.MaxLen)
		gotID, got, ok := codec.Parse(record)
		require.True(t, ok)
		require.Equal(t, id, gotID)
		require.Equal(t, s, got)
		_, _, ok = codec.Parse(record[:len(record)-1])
		require.False(t, ok, "cut short")
		_, _, ok = codec.Parse(append(record, 0))
		require.False(t, ok, "too long")
	})
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := codec.Append(nil, codec.Identity{}, &breaker.State{})
	require.Len(t, good, 53)
	for name, edit := range map[string]func([]byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"another schema":    func(b []byte) []byte { b[0] = 2; return b },
		"no such kind":      func(b []byte) []byte { b[1] = 3; return b },
		"too many places":   func(b []byte) []byte { b[3] = 33; return append(b, make([]byte, 33*4)...) },
		"fewer places":      func(b []byte) []byte { b[3] = 1; return b },
		"empty last place":  func(b []byte) []byte { b[3] = 1; return append(b, 0, 0, 0, 0) },
		"negative recovery": func(b []byte) []byte { b[47] = 0x80; return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, s, ok := codec.Parse(edit(append([]byte(nil), good...)))
			require.False(t, ok)
			require.Equal(t, breaker.State{}, s)
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(codec.Append(nil, codec.Identity{1}, &breaker.State{Kind: breaker.HalfOpen, Probes: [breaker.MaxProbes]breaker.Probe{5, 0, 7}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, s, ok := codec.Parse(data)
		if ok {
			require.Equal(t, data, codec.Append(nil, id, &s), "one state, one record")
		}
	})
}
