package telemetry_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

func TestDecodeRefuses(t *testing.T) {
	full := func() contract.Batch {
		b := batch('a', 1, row(30_000_000, ok(1)))
		b.Rows[0].Good = []contract.Bucket{{LeUS: 5, N: 1}, {LeUS: -1, N: 1}}
		b.Events = []contract.Event{event("closed", "open", 1, "5xx")}
		b.Rows[0].Aborted = []contract.Bucket{{LeUS: 5, N: 1}}
		b.Breakers = []contract.BreakerState{state("open", 1, "5xx")}
		b.Pools = []contract.PoolState{reads(1, 2, 3, 4, 5)}
		return b
	}
	whole, err := telemetry.Decode(encode(t, full()))
	require.NoError(t, err)
	require.Equal(t, full(), whole)

	for name, change := range map[string]func(*contract.Batch){
		"schema":                 func(b *contract.Batch) { b.Schema = 0 },
		"seq 0":                  func(b *contract.Batch) { b.Seq = 0 },
		"seq beyond the store":   func(b *contract.Batch) { b.Seq = 1 << 63 },
		"no node":                func(b *contract.Batch) { b.Node = "" },
		"long node":              func(b *contract.Batch) { b.Node = strings.Repeat("n", 254) },
		"control characters":     func(b *contract.Batch) { b.Node = "a\nb" },
		"short vm":               func(b *contract.Batch) { b.VM = "abc" },
		"vm not hex":             func(b *contract.Batch) { b.VM = strings.Repeat("z", 32) },
		"no boot":                func(b *contract.Batch) { b.Boot = "" },
		"long plan":              func(b *contract.Batch) { b.Plan = strings.Repeat("0", 65) },
		"negative time":          func(b *contract.Batch) { b.AtNS = -1 },
		"minute 0":               func(b *contract.Batch) { b.Rows[0].Minute = 0 },
		"negative minute":        func(b *contract.Batch) { b.Rows[0].Minute = -1 },
		"seconds for minutes":    func(b *contract.Batch) { b.Rows[0].Minute = 1_800_000_000 },
		"unknown priority":       func(b *contract.Batch) { b.Rows[0].Priority = "urgent" },
		"unknown outcome":        func(b *contract.Batch) { b.Rows[0].Counts[0].Outcome = "fine" },
		"status":                 func(b *contract.Batch) { b.Rows[0].Counts[0].Status = 1000 },
		"too many requests":      func(b *contract.Batch) { b.Rows[0].Counts[0].N = 1 << 62 },
		"bucket 0":               func(b *contract.Batch) { b.Rows[0].Good[0].LeUS = 0 },
		"bucket -2":              func(b *contract.Batch) { b.Rows[0].Bad = []contract.Bucket{{LeUS: -2}} },
		"too many in a bucket":   func(b *contract.Batch) { b.Rows[0].Good[0].N = 1 << 62 },
		"aborted bucket":         func(b *contract.Batch) { b.Rows[0].Aborted[0].LeUS = -3 },
		"too many aborted":       func(b *contract.Batch) { b.Rows[0].Aborted = make([]contract.Bucket, 1025) },
		"too many pools":         func(b *contract.Batch) { b.Pools = make([]contract.PoolState, 4097) },
		"pool without name":      func(b *contract.Batch) { b.Pools[0].Pool = "" },
		"pool without service":   func(b *contract.Batch) { b.Pools[0].Service = "" },
		"pool of endless waits":  func(b *contract.Batch) { b.Pools[0].MaxWaitNS = -1 },
		"pool beyond counting":   func(b *contract.Batch) { b.Pools[0].Granted = 1 << 62 },
		"too many counts":        func(b *contract.Batch) { b.Rows[0].Counts = make([]contract.Count, 1025) },
		"too many rows":          func(b *contract.Batch) { b.Rows = make([]contract.Row, 4097) },
		"too many events":        func(b *contract.Batch) { b.Events = make([]contract.Event, 4097) },
		"too many breakers":      func(b *contract.Batch) { b.Breakers = make([]contract.BreakerState, 4097) },
		"event without kind":     func(b *contract.Batch) { b.Events[0].Kind = "" },
		"event of long words":    func(b *contract.Batch) { b.Events[0].Cause = strings.Repeat("x", 1025) },
		"breaker without route":  func(b *contract.Batch) { b.Breakers[0].Route = "" },
		"breaker of no state":    func(b *contract.Batch) { b.Breakers[0].State = "ajar" },
		"breaker since for ever": func(b *contract.Batch) { b.Breakers[0].SinceNS = 1<<63 - 1 },
	} {
		b := full()
		change(&b)
		_, err := telemetry.Decode(encode(t, b))
		require.Error(t, err, name)
	}
	for name, body := range map[string]string{
		"nothing":         "",
		"null":            "null",
		"a list":          "[]",
		"negative count":  strings.Replace(string(encode(t, full())), `"n":1`, `"n":-1`, 1),
		"fraction":        strings.Replace(string(encode(t, full())), `"n":1`, `"n":1.5`, 1),
		"more behind":     string(encode(t, full())) + "{}",
		"unfolding":       `{"rows":[` + strings.Repeat("{},", 300_000) + `{}]}`,
		"unfolding nulls": `{"rows":[` + strings.Repeat("null,", 300_000) + `null]}`,
		"deep":            strings.Repeat(`{"x":`, 100_000),
	} {
		_, err := telemetry.Decode([]byte(body))
		require.Error(t, err, name)
	}
	b, err := telemetry.Decode([]byte(strings.Replace(string(encode(t, full())), `{"schema"`, `{"new":[1],"schema"`, 1)))
	require.NoError(t, err, "a member of a later version")
	require.Equal(t, full(), b)
}

// FuzzDecode: whatever is accepted can be stored, and is the same when it is
// read again.
func FuzzDecode(f *testing.F) {
	b := batch('a', 1, row(30_000_000, ok(1)))
	b.Events = []contract.Event{event("closed", "open", 1, "5xx")}
	b.Breakers = []contract.BreakerState{state("open", 1, "5xx")}
	b.Pools = []contract.PoolState{reads(1, 2, 3, 4, 5)}
	f.Add(encode(f, b))
	f.Add([]byte(`{"schema":1,"node":"n","rows":[null]}`))
	f.Add([]byte(`{"schema":1e0}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := telemetry.Decode(body)
		if err != nil {
			require.LessOrEqual(t, len(fmt.Sprint(err)), 10_000)
			return
		}
		again, err := json.Marshal(b)
		require.NoError(t, err)
		c, err := telemetry.Decode(again)
		require.NoError(t, err)
		last, err := json.Marshal(c) // compared as text: an empty list becomes none
		require.NoError(t, err)
		require.Equal(t, string(again), string(last))
	})
}
