package scenario_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/testenv/scenario"
)

func TestParse(t *testing.T) {
	s, err := scenario.Parse([]byte(`Title here.
-- next.json --
{}
-- script --
workers 1 2  # both
at 0s: 5x worker=1 POST payments/charge upstream=503 latency=2s -> 503 breaker-open retry-after=59
at 0s: hold=a GET payments/ grpc id=r1
at 1s: GET -
at 1s: release a upstream=200/14 -> 200
at 1s: push next.json -> ack
at 1s: telemetry lost
at 1s: trap worker=3
at 2s: expect count payments/charge 5xx=5 ok=1
at 2s: expect breaker payments/charge open
at 2s: hold=b GET a/b header=x-deadline-ms:5 header=x:a=b:c
at 2s: expect held b waiting
at 2s: expect sent b x-seawall-deadline-ms=5 x=
at 2s: expect pool a/db held=1
-- trace --
old
`))
	require.NoError(t, err)
	require.Equal(t, "Title here.", s.Title)
	require.Equal(t, []int{1, 2}, s.Workers)
	require.Equal(t, "old\n", s.Trace)
	var got []any
	for _, step := range s.Steps {
		got = append(got, step.Do)
	}
	require.Equal(t, []any{
		scenario.Send{Times: 5, Worker: 1, Request: scenario.Request{Method: "POST", Route: "payments/charge"}, Answer: "503", Latency: 2 * time.Second,
			Want: &scenario.Want{Status: 503, Decision: "breaker-open", Values: []scenario.KV{{Key: "retry-after", Value: "59"}}}},
		scenario.Send{Times: 1, Worker: -1, Request: scenario.Request{Method: "GET", Route: "payments/", GRPC: true, ID: "r1"}, Hold: "a", Answer: "200"},
		scenario.Send{Times: 1, Worker: -1, Request: scenario.Request{Method: "GET", Route: "-", NoRoute: true}, Answer: "200"},
		scenario.Release{Name: "a", Answer: "200/14", Want: &scenario.Want{Status: 200}},
		scenario.Push{File: "next.json", Want: "ack"},
		scenario.Telemetry{Mode: "lost"},
		scenario.Trap{Worker: 3},
		scenario.Expect{Kind: "count", Subject: "payments/charge", Values: []scenario.KV{{Key: "5xx", Value: "5"}, {Key: "ok", Value: "1"}}},
		scenario.Expect{Kind: "breaker", Subject: "payments/charge", Values: []scenario.KV{{Key: "state", Value: "open"}}},
		scenario.Send{
			Times: 1, Worker: -1, Request: scenario.Request{Method: "GET", Route: "a/b", Headers: []scenario.KV{{Key: "x-deadline-ms", Value: "5"}, {Key: "x", Value: "a=b:c"}}},
			Hold: "b", Answer: "200",
		},
		scenario.Expect{Kind: "held", Subject: "b", Values: []scenario.KV{{Key: "state", Value: "waiting"}}},
		scenario.Expect{Kind: "sent", Subject: "b", Values: []scenario.KV{{Key: "x-seawall-deadline-ms", Value: "5"}, {Key: "x", Value: ""}}},
		scenario.Expect{Kind: "pool", Subject: "a/db", Values: []scenario.KV{{Key: "held", Value: "1"}}},
	}, got)
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ name, script, want string }{
		{"empty", "", "no steps"},
		{"no time", "GET a/b", "want `at TIME: STEP`"},
		{"a pace without x", "envoy: 20", "want yes, or how many times faster"},
		{"a pace that stands still", "envoy: 0x", "1x to 100x"},
		{"time goes back", "at 2s: GET a/b\nat 1s: GET a/b", "script:2: time 1s is before the previous step"},
		{"negative time", "at -1s: GET a/b", "want 0s to"},
		{"workers", "workers 0", "want 1 to 16"},
		{"times", "at 0s: 0x GET a/b", "want 1x to"},
		{"no route", "at 0s: GET", "want METHOD ROUTE"},
		{"unknown setting", "at 0s: GET a/b colour=red", `"colour=red" is not known`},
		{"upstream", "at 0s: GET a/b upstream=42", "want a status"},
		{"gRPC status", "at 0s: GET a/b upstream=200/99", "0 to 16"},
		{"expectation", "at 0s: GET a/b -> fine", "want a status first"},
		{"no expectation", "at 0s: GET a/b ->", "nothing after ->"},
		{"no such file", "at 0s: push x.json", "no such file"},
		{"telemetry", "at 0s: telemetry off", "want one of"},
		{"several held", "at 0s: 2x hold=a GET a/b", "one request has one name"},
		{"expect", "at 0s: expect weather sunny", "want breaker, count, counter, attempts, pool, held or sent"},
		{"held", "at 0s: expect held a gone", "one of [waiting upstream answered]"},
		{"header", "at 0s: GET a/b header=x", "want header=NAME:VALUE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := scenario.Parse([]byte("-- script --\n" + tc.script + "\n"))
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestFill(t *testing.T) {
	a, err := scenario.Fill([]byte(`{"routes":[{"name":"s/r","breaker":{"probes":1}}]}`))
	require.NoError(t, err)
	plan, err := contract.ParsePlan(a)
	require.NoError(t, err)
	require.Equal(t, "s", plan.Routes[0].Service)
	require.EqualValues(t, 1, plan.Routes[0].Breaker.Probes)
	require.EqualValues(t, 5, plan.Routes[0].Breaker.ConsecutiveFailures)
	b, err := scenario.Fill([]byte(`{"routes":[{"name":"s/r","breaker":{"probes":2}}]}`))
	require.NoError(t, err)
	other, err := contract.ParsePlan(b)
	require.NoError(t, err)
	require.NotEqual(t, plan.Hash, other.Hash)
	require.NotEqual(t, plan.Routes[0].Breaker.Identity, other.Routes[0].Breaker.Identity)
	_, err = scenario.Fill([]byte("{"))
	require.Error(t, err)
}

func TestPace(t *testing.T) {
	for line, want := range map[string]int{"": 0, "envoy: yes": 1, "envoy: 20x": 20} {
		s, err := scenario.Parse([]byte("-- script --\n" + line + "\nat 0s: GET a/b\n"))
		require.NoError(t, err)
		require.Equal(t, want, s.Envoy, line)
	}
}

// All times become shorter, and what they are the times of stays what it is.
func TestFaster(t *testing.T) {
	const epoch = 1_000_000_000_000_000_000
	slow, err := scenario.FillAt([]byte(`{"routes":[{"name":"s/r","pool":"db","timeoutNs":8000000000,"breaker":{"failureRate":{},"override":{"state":"open","until":"30s"}}}],
		"pools":[{"service":"s","name":"db","maxConcurrency":2,"maxWaitNs":4000000000}]}`), epoch)
	require.NoError(t, err)
	raw, err := scenario.Faster(slow, epoch, 10)
	require.NoError(t, err)
	was, err := contract.ParsePlan(slow)
	require.NoError(t, err)
	is, err := contract.ParsePlan(raw)
	require.NoError(t, err)
	b := is.Routes[0].Breaker
	require.EqualValues(t, 800*time.Millisecond, is.Routes[0].TimeoutNS)
	require.EqualValues(t, 400*time.Millisecond, is.Pools[0].MaxWaitNS)
	require.EqualValues(t, 6*time.Second, b.RecoveryNS)
	require.EqualValues(t, time.Second, b.FailureRate.WindowNS)
	require.EqualValues(t, epoch+3_000_000_000, b.Override.NotAfterNS)
	require.Equal(t, was.Hash, is.Hash)
	require.Equal(t, was.Routes[0].Breaker.Identity, b.Identity)
	require.Equal(t, was.LatencyBoundsUS, is.LatencyBoundsUS)
	require.Equal(t, was.Routes[0].Breaker.FailureRate.PPM, b.FailureRate.PPM)
	slower, err := scenario.Faster(slow, epoch, 0.5)
	require.NoError(t, err)
	is, err = contract.ParsePlan(slower)
	require.NoError(t, err)
	require.EqualValues(t, 16*time.Second, is.Routes[0].TimeoutNS)
	_, err = scenario.Faster([]byte("{"), epoch, 10)
	require.Error(t, err)
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := scenario.Parse(data)
		if err != nil {
			return
		}
		last := time.Duration(0)
		for _, step := range s.Steps {
			if step.At < last || step.Do == nil {
				t.Fatalf("step %+v after %s", step, last)
			}
			last = step.At
		}
		for _, w := range s.Workers {
			if w < 1 || w > 16 {
				t.Fatalf("%d workers", w)
			}
		}
	})
}
