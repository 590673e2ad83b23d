package contract_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/contract"
)

func samplePlan() contract.Plan {
	return contract.Plan{
		Schema: contract.PlanSchema, Hash: "0123456789abcdef", Edge: "shop",
		FailureMode: "open", ProblemTypeBase: "https://example.org/problems/",
		LatencyBoundsUS: []int64{1000, 5000, 500000},
		Telemetry:       contract.Telemetry{Cluster: "seawall-telemetry", Authority: "telemetry", Path: "/v1/batches"},
		Routes: []contract.Route{
			{Name: "payments/charge", Service: "payments", Route: "charge", Priority: "critical", Breaker: &contract.Breaker{
				Identity: "00000000deadbeef", ConsecutiveFailures: 5, RecoveryNS: 60e9, RecoveryMaxNS: 300e9, MultiplierPPM: 1_500_000,
				Probes: 3, Successes: 3, ProbeExpiryNS: 30e9, Failures: []string{"5xx", "reset", "503"},
			}},
			{Name: "payments/offers", Service: "payments", Route: "offers", Priority: "medium", GRPC: true, Pool: "reads", TimeoutNS: 7e9, DeadlineHeader: "x-deadline-ms",
				KeyHeader: "idempotency-key", Retries: 2, Attempts: &contract.Attempts{PerTryNS: 1e9}, Faults: []contract.Fault{
					{Experiment: "brownout", PPM: 10_000, NotAfterNS: 7, Tries: 1, LatencyMinNS: 1, LatencyMaxNS: 2},
					{Experiment: "errors", PPM: 50_000, NotAfterNS: 7, Status: 503},
				}},
		},
		Pools: []contract.Pool{
			{Service: "payments", Name: "charges", MaxConcurrency: 20, MaxQueue: 50, MaxWaitNS: 5e9, TimeoutNS: 10e9},
			{Service: "payments", Name: "reads", MaxConcurrency: 5},
		},
	}
}

func TestParsePlanReadsWhatEncodingJSONWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		plan := samplePlan()
		plan.Edge = rapid.StringN(0, 60, 253).Draw(t, "edge")
		plan.FailureMode = rapid.SampledFrom([]string{"open", "closed"}).Draw(t, "mode")
		plan.Telemetry = rapid.SampledFrom([]contract.Telemetry{plan.Telemetry, {}}).Draw(t, "telemetry")
		plan.Routes, plan.Pools = nil, nil
		for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching("[a-z]{1,3}"), 0, 4, rapid.ID).Draw(t, "pools") {
			plan.Pools = append(plan.Pools, contract.Pool{
				Service: "s", Name: name, MaxConcurrency: rapid.Uint32Range(1, 1024).Draw(t, "permits"), MaxQueue: rapid.Uint32Range(0, 1024).Draw(t, "queue"),
				MaxWaitNS: rapid.Int64Range(0, 1e15).Draw(t, "wait"), TimeoutNS: rapid.Int64Range(0, 1e15).Draw(t, "timeout"),
			})
		}
		slices.SortFunc(plan.Pools, func(a, b contract.Pool) int { return strings.Compare(a.Name, b.Name) })
		for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching("[a-z0-9]{1,9}"), 0, 9, rapid.ID).Draw(t, "routes") {
			route := contract.Route{Name: "s/" + name, Service: "s", Route: name}
			route.Priority = rapid.SampledFrom([]string{"critical", "high", "medium", "low"}).Draw(t, "priority")
			route.GRPC = rapid.Bool().Draw(t, "grpc")
			route.Stream = rapid.Bool().Draw(t, "stream")
			route.Retired = rapid.Bool().Draw(t, "retired")
			route.TimeoutNS = rapid.Int64Range(0, 1e15).Draw(t, "timeout")
			route.DeadlineHeader = rapid.SampledFrom([]string{"", "x-deadline-ms", "a_b.c9"}).Draw(t, "header")
			route.KeyHeader = rapid.SampledFrom([]string{"", "idempotency-key"}).Draw(t, "key")
			route.Retries = rapid.Uint32Range(0, 100).Draw(t, "retries")
			if rapid.Bool().Draw(t, "attempts") {
				route.Attempts = &contract.Attempts{PerTryNS: rapid.Int64Range(0, 1e15).Draw(t, "per try")}
				route.Faults = rapid.SliceOfN(faults, 0, 2).Draw(t, "faults")
				if len(route.Faults) == 0 {
					route.Faults = nil
				}
			}
			if len(plan.Pools) > 0 && rapid.Bool().Draw(t, "pooled") {
				route.Pool = rapid.SampledFrom(plan.Pools).Draw(t, "pool").Name
			}
			if rapid.Bool().Draw(t, "breaker") {
				recovery := rapid.Int64Range(1, 1e15).Draw(t, "recovery")
				route.Breaker = &contract.Breaker{
					Identity: "00000000deadbeef", ConsecutiveFailures: rapid.Uint32Range(1, 1_000_000).Draw(t, "n"),
					RecoveryNS: recovery, RecoveryMaxNS: recovery + rapid.Int64Range(0, 1e15).Draw(t, "cap"),
					MultiplierPPM: rapid.Int64Range(1e6, 1e9).Draw(t, "mul"), Probes: rapid.Uint32Range(1, 32).Draw(t, "probes"),
					Successes: rapid.Uint32Range(1, 9).Draw(t, "successes"), ProbeExpiryNS: rapid.Int64Range(1, 1e15).Draw(t, "expiry"),
					Failures: rapid.SliceOfN(rapid.SampledFrom([]string{"5xx", "reset", "599"}), 1, 4).Draw(t, "failures"),
				}
				drawConditions(t, route.Breaker)
			}
			plan.Routes = append(plan.Routes, route)
		}
		sortRoutes(plan.Routes)
		data, err := json.Marshal(plan)
		require.NoError(t, err)
		got, err := contract.ParsePlan(data)
		require.NoError(t, err)
		require.Equal(t, plan, got)

		indented, err := json.MarshalIndent(plan, "\t", "  ")
		require.NoError(t, err)
		got, err = contract.ParsePlan(indented)
		require.NoError(t, err)
		require.Equal(t, plan, got)
	})
}

var faults = rapid.Custom(func(t *rapid.T) contract.Fault {
	f := contract.Fault{
		Experiment: "e", PPM: rapid.Int64Range(1, 1_000_000).Draw(t, "ppm"), NotAfterNS: rapid.Int64Range(1, 1<<62).Draw(t, "end"),
		Tries: rapid.Uint32Range(0, 100).Draw(t, "tries"), LatencyMinNS: rapid.Int64Range(0, 1e15).Draw(t, "min"),
	}
	f.LatencyMaxNS = f.LatencyMinNS + rapid.Int64Range(1, 1e15).Draw(t, "spread")
	f.Status = rapid.SampledFrom([]uint16{0, 400, 503, 599}).Draw(t, "status")
	return f
})

func drawConditions(t *rapid.T, b *contract.Breaker) {
	rate := func() contract.Rate {
		return contract.Rate{
			PPM: rapid.Int64Range(1, 1e6).Draw(t, "ppm"), WindowNS: rapid.Int64Range(1e9, 3600e9).Draw(t, "window"),
			MinRequests: rapid.Uint32Range(1, 1_000_000).Draw(t, "volume"),
		}
	}
	if rapid.Bool().Draw(t, "failure rate") {
		r := rate()
		b.FailureRate = &r
	}
	if rapid.Bool().Draw(t, "slow calls") {
		b.SlowCalls = &contract.SlowCalls{ThresholdNS: rapid.Int64Range(1, 1e15).Draw(t, "threshold"), Rate: rate()}
	}
	if (b.FailureRate != nil || b.SlowCalls != nil) && rapid.Bool().Draw(t, "rates only") {
		b.ConsecutiveFailures = 0
	}
	if rapid.Bool().Draw(t, "overridden") {
		b.Override = &contract.Override{State: rapid.SampledFrom([]string{"open", "closed"}).Draw(t, "forced"), NotAfterNS: rapid.Int64Range(1, 1<<62).Draw(t, "end")}
	}
}

func sortRoutes(routes []contract.Route) {
	for i := range routes {
		for j := i; j > 0 && routes[j].Name < routes[j-1].Name; j-- {
			routes[j], routes[j-1] = routes[j-1], routes[j]
		}
	}
}

func TestParsePlanNamesTheField(t *testing.T) {
	t.Parallel()
	breaker := func(edit func(*contract.Breaker)) func(*contract.Plan) {
		return func(p *contract.Plan) { edit(p.Routes[0].Breaker) }
	}
	cases := map[string]struct {
		edit func(*contract.Plan)
		want string
	}{
		"schema":       {func(p *contract.Plan) { p.Schema = 2 }, "schema: schema 2, this filter reads 1"},
		"hash":         {func(p *contract.Plan) { p.Hash = "XYZ" }, "hash: not 16 hex digits"},
		"failure mode": {func(p *contract.Plan) { p.FailureMode = "ajar" }, "failureMode: neither open nor closed"},
		"bounds order": {func(p *contract.Plan) { p.LatencyBoundsUS[1] = 7 }, "latencyBoundsUs[1]: 7 is not in 1001..86400000000"},
		"bounds many":  {func(p *contract.Plan) { p.LatencyBoundsUS = ascending(65) }, "latencyBoundsUs: more than 64 elements"},
		"authority":    {func(p *contract.Plan) { p.Telemetry.Authority = "" }, "telemetry.authority: missing"},
		"path":         {func(p *contract.Plan) { p.Telemetry.Path = "v1" }, "telemetry.path: not an absolute path"},
		"long name":    {func(p *contract.Plan) { p.Edge = strings.Repeat("x", 254) }, "edge: longer than 253 bytes"},
		"order":        {func(p *contract.Plan) { p.Routes[0], p.Routes[1] = p.Routes[1], p.Routes[0] }, "routes[1]: not sorted by name, or twice the same"},
		"twice":        {func(p *contract.Plan) { p.Routes[1] = p.Routes[0] }, "routes[1]: not sorted by name, or twice the same"},
		"name":         {func(p *contract.Plan) { p.Routes[1].Name = "payments/x" }, "routes[1].name: not service/route"},
		"service":      {func(p *contract.Plan) { p.Routes[1].Service = "" }, "routes[1].service: missing"},
		"priority":     {func(p *contract.Plan) { p.Routes[1].Priority = "urgent" }, "routes[1].priority: none of critical, high, medium, low"},
		"identity":     {breaker(func(b *contract.Breaker) { b.Identity = "" }), "routes[0].breaker.identity: not 16 hex digits"},
		"threshold":    {breaker(func(b *contract.Breaker) { b.ConsecutiveFailures = 0 }), "routes[0].breaker.consecutiveFailures: missing, as are failureRate and slowCalls"},
		"rate": {breaker(func(b *contract.Breaker) {
			b.FailureRate = &contract.Rate{PPM: 1_000_001, WindowNS: 1e9, MinRequests: 1}
		}), "routes[0].breaker.failureRate.ppm: 1000001 is not in 1..1000000"},
		"rate window": {breaker(func(b *contract.Breaker) {
			b.FailureRate = &contract.Rate{PPM: 1, WindowNS: 999_999_999, MinRequests: 1}
		}), "routes[0].breaker.failureRate.windowNs: 999999999 is not in 1000000000..3600000000000"},
		"rate volume": {breaker(func(b *contract.Breaker) { b.FailureRate = &contract.Rate{PPM: 1, WindowNS: 1e9} }), "routes[0].breaker.failureRate.minRequests: 0 is not in 1..1000000"},
		"slow threshold": {breaker(func(b *contract.Breaker) {
			b.SlowCalls = &contract.SlowCalls{Rate: contract.Rate{PPM: 1, WindowNS: 1e9, MinRequests: 1}}
		}), "routes[0].breaker.slowCalls.thresholdNs: 0 is not in 1..31622400000000000"},
		"slow window": {breaker(func(b *contract.Breaker) {
			b.SlowCalls = &contract.SlowCalls{ThresholdNS: 1, Rate: contract.Rate{PPM: 1, WindowNS: 3601e9, MinRequests: 1}}
		}), "routes[0].breaker.slowCalls.windowNs: 3601000000000 is not in 1000000000..3600000000000"},
		"override state": {breaker(func(b *contract.Breaker) { b.Override = &contract.Override{State: "half-open", NotAfterNS: 1} }), "routes[0].breaker.override.state: neither open nor closed"},
		"override end":   {breaker(func(b *contract.Breaker) { b.Override = &contract.Override{State: "open"} }), "routes[0].breaker.override.notAfterNs: 0 is not in 1..4611686018427387904"},
		"recovery":       {breaker(func(b *contract.Breaker) { b.RecoveryNS = -1 }), "routes[0].breaker.recoveryNs: -1 is not in 1..31622400000000000"},
		"recovery max":   {breaker(func(b *contract.Breaker) { b.RecoveryMaxNS = 1 }), "routes[0].breaker.recoveryMaxNs: less than recoveryNs"},
		"multiplier":     {breaker(func(b *contract.Breaker) { b.MultiplierPPM = 999_999 }), "routes[0].breaker.multiplierPpm: 999999 is not in 1000000..1000000000"},
		"probes":         {breaker(func(b *contract.Breaker) { b.Probes = 33 }), "routes[0].breaker.probes: 33 is not in 1..32"},
		"successes":      {breaker(func(b *contract.Breaker) { b.Successes = 0 }), "routes[0].breaker.successes: 0 is not in 1..1000000"},
		"expiry":         {breaker(func(b *contract.Breaker) { b.ProbeExpiryNS = 0 }), "routes[0].breaker.probeExpiryNs: 0 is not in 1..31622400000000000"},
		"failures":       {breaker(func(b *contract.Breaker) { b.Failures[2] = "6xx" }), `routes[0].breaker.failures[2]: neither an outcome nor a status: "6xx"`},
		"timeout":        {func(p *contract.Plan) { p.Routes[1].TimeoutNS = -1 }, "routes[1].timeoutNs: -1 is not in 0..31622400000000000"},
		"header":         {func(p *contract.Plan) { p.Routes[1].DeadlineHeader = "X-Deadline" }, "routes[1].deadlineHeader: not a header's name in lower case"},
		"key header":     {func(p *contract.Plan) { p.Routes[1].KeyHeader = ":key" }, "routes[1].keyHeader: not a header's name in lower case"},
		"retries":        {func(p *contract.Plan) { p.Routes[1].Retries = 101 }, "routes[1].retries: 101 is not in 0..100"},
		"per try":        {func(p *contract.Plan) { p.Routes[1].Attempts.PerTryNS = -1 }, "routes[1].attempts.perTryNs: -1 is not in 0..31622400000000000"},
		"no attempts":    {func(p *contract.Plan) { p.Routes[1].Attempts = nil }, "routes[1].attempts: missing, and faults are the attempt role's"},
		"experiment":     {func(p *contract.Plan) { p.Routes[1].Faults[1].Experiment = "" }, "routes[1].faults[1].experiment: missing"},
		"share":          {func(p *contract.Plan) { p.Routes[1].Faults[1].PPM = 1_000_001 }, "routes[1].faults[1].ppm: 1000001 is not in 1..1000000"},
		"fault's end":    {func(p *contract.Plan) { p.Routes[1].Faults[1].NotAfterNS = 0 }, "routes[1].faults[1].notAfterNs: 0 is not in 1..4611686018427387904"},
		"latency":        {func(p *contract.Plan) { p.Routes[1].Faults[0].LatencyMinNS = 3 }, "routes[1].faults[0].latencyMaxNs: less than latencyMinNs"},
		"fault's status": {func(p *contract.Plan) { p.Routes[1].Faults[1].Status = 200 }, "routes[1].faults[1].status: 200 is not in 400..599"},
		"no fault":       {func(p *contract.Plan) { p.Routes[1].Faults[0].LatencyMaxNS, p.Routes[1].Faults[0].LatencyMinNS = 0, 0 }, "routes[1].faults[0].status: missing, as is a latency"},
		"no such pool":   {func(p *contract.Plan) { p.Routes[0].Pool = "read" }, `routes[0].pool: the service has no pool "read"`},
		"pool of other":  {func(p *contract.Plan) { p.Pools[1].Service = "q" }, `routes[1].pool: the service has no pool "reads"`},
		"pool order":     {func(p *contract.Plan) { p.Pools[0].Name = "reads" }, "pools[1]: not sorted by service and name, or twice the same"},
		"pool service":   {func(p *contract.Plan) { p.Pools[0].Service = "" }, "pools[0].service: missing"},
		"pool name":      {func(p *contract.Plan) { p.Pools[0].Name = "" }, "pools[0].name: missing"},
		"permits":        {func(p *contract.Plan) { p.Pools[1].MaxConcurrency = 0 }, "pools[1].maxConcurrency: 0 is not in 1..1024"},
		"queue":          {func(p *contract.Plan) { p.Pools[0].MaxQueue = 1025 }, "pools[0].maxQueue: 1025 is not in 0..1024"},
		"max wait":       {func(p *contract.Plan) { p.Pools[0].MaxWaitNS = -1 }, "pools[0].maxWaitNs: -1 is not in 0..31622400000000000"},
		"pool timeout":   {func(p *contract.Plan) { p.Pools[0].TimeoutNS = 1e18 }, "pools[0].timeoutNs: 1000000000000000000 is not in 0..31622400000000000"},
		"many failures":  {breaker(func(b *contract.Breaker) { b.Failures = make([]string, 65) }), `routes[0].breaker.failures[0]: neither an outcome nor a status: ""`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan := samplePlan()
			c.edit(&plan)
			data, err := json.Marshal(plan)
			require.NoError(t, err)
			got, err := contract.ParsePlan(data)
			require.EqualError(t, err, c.want)
			require.Equal(t, contract.Plan{}, got)
		})
	}
}

func ascending(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i + 1)
	}
	return out
}

func TestParsePlanRefusesDocuments(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ doc, want string }{
		"empty":         {"", "offset 0: not an object"},
		"list":          {"[]", "offset 0: not an object"},
		"nothing in it": {"{}", "schema: missing"},
		"wrong type":    {`{"schema":1,"hash":7}`, "hash: offset 19: not a string"},
		"wrong element": {`{"schema":1,"routes":[{"grpc":1}]}`, "routes[0].grpc: offset 30: not true or false"},
		"no breaker":    {`{"schema":1,"routes":[{"name":"a/b","service":"a","route":"b","priority":"low","breaker":{}}]}`, "routes[0].breaker.identity: not 16 hex digits"},
		"big number":    {`{"schema":1,"latencyBoundsUs":[9223372036854775808]}`, "latencyBoundsUs[0]: offset 50: not a whole number of 64 bits"},
		"trailing":      {`{"schema":1,"hash":"0123456789abcdef","failureMode":"open"} x`, "offset 60: something after the document's end"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := contract.ParsePlan([]byte(c.doc))
			require.EqualError(t, err, c.want)
		})
	}
}

func TestParsePlanBoundsRoutes(t *testing.T) {
	t.Parallel()
	plan := samplePlan()
	plan.Routes = nil
	for i := range contract.MaxRoutes + 1 {
		name := string([]byte{'a' + byte(i>>12&15), 'a' + byte(i>>8&15), 'a' + byte(i>>4&15), 'a' + byte(i&15)})
		plan.Routes = append(plan.Routes, contract.Route{Name: "s/" + name, Service: "s", Route: name, Priority: "low"})
	}
	data, err := json.Marshal(plan)
	require.NoError(t, err)
	_, err = contract.ParsePlan(data)
	require.EqualError(t, err, "routes: more than 4096 elements")
	plan.Routes = plan.Routes[:contract.MaxRoutes]
	data, err = json.Marshal(plan)
	require.NoError(t, err)
	_, err = contract.ParsePlan(data)
	require.NoError(t, err)
}

func TestParsePlanPassesOverUnknownFields(t *testing.T) {
	t.Parallel()
	doc := `{"later":{"a":[1,{"b":null}]},"schema":1,"hash":"0123456789abcdef","failureMode":"open","routes":null,
		"telemetry":{"tls":true}}`
	plan, err := contract.ParsePlan([]byte(doc))
	require.NoError(t, err)
	require.Equal(t, contract.Plan{Schema: 1, Hash: "0123456789abcdef", FailureMode: "open"}, plan)
}

func FuzzParsePlan(f *testing.F) {
	data, err := json.Marshal(samplePlan())
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte(`{"schema":1,"routes":[{"breaker":{"probes":0}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		plan, err := contract.ParsePlan(data)
		if err != nil {
			require.Equal(t, contract.Plan{}, plan)
			return
		}
		again, err := json.Marshal(plan)
		require.NoError(t, err)
		back, err := contract.ParsePlan(again)
		require.NoError(t, err)
		normal, err := json.Marshal(back)
		require.NoError(t, err)
		require.Equal(t, string(again), string(normal))
	})
}

func TestBatchReadsBack(t *testing.T) {
	t.Parallel()
	text := rapid.Custom(func(t *rapid.T) string {
		if rapid.Bool().Draw(t, "bytes") {
			return string(rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "raw"))
		}
		return rapid.StringN(0, 12, -1).Draw(t, "text")
	})
	buckets := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) contract.Bucket {
		return contract.Bucket{LeUS: rapid.Int64().Draw(t, "le"), N: rapid.Uint64().Draw(t, "n")}
	}), 0, 3)
	rows := rapid.Custom(func(t *rapid.T) contract.Row {
		return contract.Row{
			Minute: rapid.Int64().Draw(t, "minute"), Coarse: rapid.Bool().Draw(t, "coarse"), Service: text.Draw(t, "s"), Route: text.Draw(t, "r"),
			Priority: text.Draw(t, "p"), Attempts: rapid.Uint64().Draw(t, "attempts"), Good: buckets.Draw(t, "good"), Bad: buckets.Draw(t, "bad"), Aborted: buckets.Draw(t, "aborted"),
			Counts: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) contract.Count {
				return contract.Count{Outcome: text.Draw(t, "o"), Status: rapid.Uint16().Draw(t, "st"), Degraded: rapid.Bool().Draw(t, "d"), Synthetic: rapid.Bool().Draw(t, "s"), N: rapid.Uint64().Draw(t, "n")}
			}), 0, 3).Draw(t, "counts"),
		}
	})
	events := rapid.Custom(func(t *rapid.T) contract.Event {
		return contract.Event{
			AtNS: rapid.Int64().Draw(t, "at"), Kind: text.Draw(t, "k"), Service: text.Draw(t, "s"), Route: text.Draw(t, "r"),
			From: text.Draw(t, "from"), To: text.Draw(t, "to"), Cause: text.Draw(t, "c"), Gen: rapid.Uint64().Draw(t, "g"),
		}
	})
	breakers := rapid.Custom(func(t *rapid.T) contract.BreakerState {
		return contract.BreakerState{
			Service: text.Draw(t, "s"), Route: text.Draw(t, "r"), State: text.Draw(t, "st"), Gen: rapid.Uint64().Draw(t, "g"),
			SinceNS: rapid.Int64().Draw(t, "since"), RetryAtNS: rapid.Int64().Draw(t, "retry"), Cause: text.Draw(t, "c"), Forced: rapid.Bool().Draw(t, "forced"),
		}
	})
	pools := rapid.Custom(func(t *rapid.T) contract.PoolState {
		return contract.PoolState{
			Service: text.Draw(t, "s"), Pool: text.Draw(t, "p"), Held: rapid.Uint32().Draw(t, "held"), Waiting: rapid.Uint32().Draw(t, "waiting"),
			Limit: rapid.Uint32().Draw(t, "limit"), Granted: rapid.Uint64().Draw(t, "granted"), Full: rapid.Uint64().Draw(t, "full"),
			TimedOut: rapid.Uint64().Draw(t, "timed out"), MaxWaitNS: rapid.Int64().Draw(t, "wait"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		b := contract.Batch{
			Schema: contract.BatchSchema, Node: text.Draw(t, "node"), Boot: text.Draw(t, "boot"), VM: text.Draw(t, "vm"),
			Seq: rapid.Uint64().Draw(t, "seq"), AtNS: rapid.Int64().Draw(t, "at"), BootNS: rapid.Int64().Draw(t, "bootNs"),
			Plan: text.Draw(t, "plan"), Filter: text.Draw(t, "filter"), Served: rapid.Bool().Draw(t, "served"),
			Rows: rapid.SliceOfN(rows, 0, 3).Draw(t, "rows"), Events: rapid.SliceOfN(events, 0, 3).Draw(t, "events"),
			Breakers: rapid.SliceOfN(breakers, 0, 3).Draw(t, "breakers"), Pools: rapid.SliceOfN(pools, 0, 3).Draw(t, "pools"),
			Counters: contract.Counters{
				Requests: rapid.Uint64().Draw(t, "c1"), UnknownRoutes: rapid.Uint64().Draw(t, "c2"), Panics: rapid.Uint64().Draw(t, "c3"),
				CASExhausted: rapid.Uint64().Draw(t, "c4"), DroppedRows: rapid.Uint64().Draw(t, "c5"), DroppedEvents: rapid.Uint64().Draw(t, "c6"),
				Rejected: rapid.Uint64().Draw(t, "c7"), EpochFallback: rapid.Bool().Draw(t, "c8"),
			},
		}
		var got, want contract.Batch
		require.NoError(t, json.Unmarshal(contract.AppendBatch(nil, &b), &got))
		reference, err := json.Marshal(b)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(reference, &want))
		require.Equal(t, want, got)
	})
}

func TestAppendBatchKeepsThePrefixAndEmptyCounts(t *testing.T) {
	t.Parallel()
	out := contract.AppendBatch([]byte("prefix"), &contract.Batch{Rows: []contract.Row{{}}})
	require.True(t, strings.HasPrefix(string(out), `prefix{"schema":0,`))
	require.Contains(t, string(out), `"counts":[]`)
}

func TestOutcomesDivideIntoGoodBadAndNeither(t *testing.T) {
	t.Parallel()
	for i := range contract.OutcomeCount {
		o := contract.Outcome(i)
		back, ok := contract.ParseOutcome(o.String())
		require.True(t, ok)
		require.Equal(t, o, back)
		require.False(t, o.Good() && o.Bad())
		require.Equal(t, o == contract.Aborted || o == contract.Injected, !o.Good() && !o.Bad(), o.String())
		if o.Refusal() {
			require.True(t, o.Bad(), o.String())
		}
	}
}
