package codec_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/engine/breaker"
	"github.com/seawall-mesh/seawall/filter/engine/codec"
	"github.com/seawall-mesh/seawall/filter/engine/window"
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
		w := breaker.Windows{Failures: drawWindow(t, "failures"), Slow: drawWindow(t, "slow")}
		record := codec.Append([]byte("x"), id, &s, &w)[1:]
		require.LessOrEqual(t, len(record), codec.MaxLen)
		gotID, got, gotWindows, ok := codec.Parse(record)
		require.True(t, ok)
		require.Equal(t, id, gotID)
		require.Equal(t, s, got)
		require.Equal(t, w, gotWindows)
		_, _, _, ok = codec.Parse(record[:len(record)-1])
		require.False(t, ok, "cut short")
		_, _, _, ok = codec.Parse(append(record, 0))
		require.False(t, ok, "too long")
	})
}

func drawWindow(t *rapid.T, name string) (w window.Window) {
	if rapid.Bool().Draw(t, name+" off") {
		return w
	}
	w.Since = rapid.Int64().Draw(t, name+" since")
	for i := range w.Counts {
		w.Counts[i].Calls = rapid.Uint32().Draw(t, name)
		w.Counts[i].Hits = rapid.Uint32Range(0, w.Counts[i].Calls).Draw(t, name)
	}
	return w
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := codec.Append(nil, codec.Identity{}, &breaker.State{}, &breaker.Windows{})
	require.Len(t, good, 54)
	for name, edit := range map[string]func([]byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"another schema":    func(b []byte) []byte { b[0] = 3; return b },
		"the schema before": func(b []byte) []byte { return append([]byte{1}, b[1:53]...) },
		"no such window":    func(b []byte) []byte { b[53] = 4; return b },
		"no window":         func(b []byte) []byte { b[53] = 1; return b },
		"an empty window":   func(b []byte) []byte { b[53] = 2; return append(b, make([]byte, 88)...) },
		"more hits than calls": func(b []byte) []byte {
			b[53] = 1
			b = append(b, make([]byte, 88)...)
			b[len(b)-4] = 1
			return b
		},
		"no such kind":      func(b []byte) []byte { b[1] = 3; return b },
		"too many places":   func(b []byte) []byte { b[3] = 33; return append(b, make([]byte, 33*4)...) },
		"fewer places":      func(b []byte) []byte { b[3] = 1; return b },
		"empty last place":  func(b []byte) []byte { b[3] = 1; return append(b, 0, 0, 0, 0) },
		"negative recovery": func(b []byte) []byte { b[47] = 0x80; return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, s, w, ok := codec.Parse(edit(append([]byte(nil), good...)))
			require.False(t, ok)
			require.Equal(t, breaker.State{}, s)
			require.Equal(t, breaker.Windows{}, w)
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(codec.Append(nil, codec.Identity{1}, &breaker.State{Kind: breaker.HalfOpen, Probes: [breaker.MaxProbes]breaker.Probe{5, 0, 7}}, &breaker.Windows{}))
	f.Add(codec.Append(nil, codec.Identity{1}, &breaker.State{}, &breaker.Windows{Slow: window.Window{Since: 1, Counts: [window.Buckets]window.Count{{Calls: 3, Hits: 2}}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, s, w, ok := codec.Parse(data)
		if ok {
			require.Equal(t, data, codec.Append(nil, id, &s, &w), "one state, one record")
		}
	})
}
