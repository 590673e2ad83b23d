package codec_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/engine/codec"
	"github.com/seawall-mesh/seawall/filter/engine/shed"
)

// service is a State that steps have made.
func service(t *rapid.T) *shed.State {
	var s shed.State
	p := shed.Params{Signal: shed.Signal(rapid.IntRange(0, 2).Draw(t, "signal")), Min: 10, Max: 1000, ThresholdPPM: [shed.Classes]uint32{0, 0, 900_000, 700_000}}
	now := int64(1e18)
	for range rapid.IntRange(0, 20).Draw(t, "merges") {
		now += rapid.Int64Range(0, 1e9).Draw(t, "wait")
		var in shed.Samples
		slot, took := rapid.Uint8().Draw(t, "slot"), rapid.Int64Range(0, 2e9).Draw(t, "took")
		for range rapid.IntRange(0, 60).Draw(t, "calls") {
			in.Answered(slot, took)
			in.Load(uint32(took / 1000))
		}
		if took%2 == 0 {
			in.Dropped()
			in.TimedOut(took)
		}
		s.Merge(&p, now, &in, rapid.Uint32Range(0, 2000).Draw(t, "in flight"))
	}
	return &s
}

func TestShedRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := service(t)
		record := codec.AppendShed([]byte("x"), s)[1:]
		require.LessOrEqual(t, len(record), codec.MaxShedLen)
		got := shed.State{Limit: 1}
		require.True(t, codec.ParseShed(record, &got))
		require.Equal(t, *s, got)
		require.False(t, codec.ParseShed(record[:len(record)-1], &got), "cut short")
		require.Equal(t, shed.State{}, got)
		require.False(t, codec.ParseShed(append(record, 0), &got), "too long")
	})
}

func TestParseShedRefuses(t *testing.T) {
	t.Parallel()
	full := shed.State{Since: 1, Limit: 10_000}
	for i := range full.BaseNS {
		full.BaseNS[i], full.Seen[i] = 20e6, 128
	}
	require.Len(t, codec.AppendShed(nil, &full), codec.MaxShedLen)
	require.Len(t, codec.AppendShed(nil, &shed.State{}), 96)
	for name, edit := range map[string]func([]byte) []byte{
		"empty":                    func([]byte) []byte { return nil },
		"another schema":           func(b []byte) []byte { b[0] = 2; return b },
		"too many slots":           func(b []byte) []byte { b[4] = 17; return append(b, make([]byte, 21)...) },
		"fewer slots":              func(b []byte) []byte { b[4] = 15; return b },
		"empty last slot":          func(b []byte) []byte { clear(b[len(b)-21:]); return b },
		"something reserved":       func(b []byte) []byte { b[7] = 1; return b },
		"a limit beyond all":       func(b []byte) []byte { b[19] = 0xFF; return b },
		"more than all is dropped": func(b []byte) []byte { b[39] = 0xFF; return b },
		"a load beyond all":        func(b []byte) []byte { b[35] = 0xFF; return b },
		"time-outs without calls":  func(b []byte) []byte { b[72] = 1; return b },
		"loads without reports":    func(b []byte) []byte { b[80] = 1; return b },
		"a base of years":          func(b []byte) []byte { b[96+7] = 1; return b },
		"more seen than counted":   func(b []byte) []byte { b[96+8] = 129; return b },
		"time without calls":       func(b []byte) []byte { b[96+13] = 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := shed.State{Limit: 1}
			require.False(t, codec.ParseShed(edit(codec.AppendShed(nil, &full)), &got))
			require.Equal(t, shed.State{}, got)
		})
	}
}

func FuzzParseShed(f *testing.F) {
	f.Add(codec.AppendShed(nil, &shed.State{Since: 1, Limit: 10_000, DropPPM: [shed.Classes]uint32{0, 1, 2, 3}}))
	f.Add(codec.AppendShed(nil, &shed.State{BaseNS: [shed.Slots]uint64{3: 20e6}, Seen: [shed.Slots]uint8{3: 7}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s shed.State
		if !codec.ParseShed(data, &s) {
			return
		}
		require.Equal(t, data, codec.AppendShed(nil, &s), "one state, one record")
		// Whatever was read can be used.
		p := shed.Params{Signal: shed.Adaptive, Min: 10, Max: 1000, ThresholdPPM: [shed.Classes]uint32{0, 0, 900_000, 700_000}}
		in := shed.Samples{Done: [shed.Slots]uint32{40}, DoneNS: [shed.Slots]uint64{8e8}}
		s.Merge(&p, s.Since+shed.WindowNS, &in, 5)
		require.True(t, s.Valid())
		require.False(t, s.Admit(&p, s.Since, shed.Request{Class: shed.Critical, Inflight: 1 << 31}).Shed)
	})
}
