package slo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCount(t *testing.T) {
	cell := func(outcome string, status uint16, degraded bool, n uint64) Cell {
		return Cell{Service: "payments", Route: "charge", Priority: "high", Outcome: outcome, Status: status, Degraded: degraded, N: n}
	}
	of := func(service, route, priority string) Cell {
		return Cell{Service: service, Route: route, Priority: priority, Outcome: "5xx", N: 1}
	}
	bucket := func(class Class, le int64, n uint64) Latency {
		return Latency{Service: "payments", Route: "charge", Priority: "high", Class: class, LeUS: le, N: n}
	}
	all := Objective{Service: "payments"}
	listed := func(bad ...string) Objective { return Objective{Service: "payments", Bad: bad} }
	fast := Objective{Service: "payments", LatencyThreshold: 500 * time.Millisecond}
	for name, tc := range map[string]struct {
		objective Objective
		sums      Sums
		want      Counts
	}{
		"4xx are good":         {all, Sums{Cells: []Cell{cell("ok", 0, false, 5), cell("4xx", 404, false, 3)}}, Counts{Total: 8}},
		"5xx are bad":          {all, Sums{Cells: []Cell{cell("ok", 0, false, 5), cell("5xx", 500, false, 3)}}, Counts{Total: 8, Bad: 3}},
		"refusals are bad":     {all, Sums{Cells: []Cell{cell("shed", 0, false, 1), cell("breaker-open", 0, false, 1), cell("bulkhead-full", 0, false, 1), cell("bulkhead-timeout", 0, false, 1), cell("deadline", 0, false, 1)}}, Counts{Total: 5, Bad: 5}},
		"failures are bad":     {all, Sums{Cells: []Cell{cell("reset", 0, false, 1), cell("timeout", 0, false, 1), cell("connect-failure", 0, false, 1)}}, Counts{Total: 3, Bad: 3}},
		"aborted are outside":  {all, Sums{Cells: []Cell{cell("ok", 0, false, 5), cell("aborted", 0, false, 3)}}, Counts{Total: 5, Aborted: 3}},
		"injected are outside": {all, Sums{Cells: []Cell{cell("injected", 503, false, 3)}}, Counts{Injected: 3}},
		"synthetic are outside, however they ended": {
			listed("degraded", "5xx"), Sums{Cells: []Cell{
				{Service: "payments", Route: "charge", Outcome: "5xx", Synthetic: true, N: 3},
				{Service: "payments", Route: "charge", Outcome: "injected", Synthetic: true, N: 1},
				{Service: "payments", Route: "charge", Outcome: "shed", Degraded: true, Synthetic: true, N: 1},
			}}, Counts{Synthetic: 5},
		},
		"even where bad lists them": {
			listed("aborted", "injected", "503"), Sums{Cells: []Cell{cell("aborted", 0, false, 3), cell("injected", 503, false, 3)}}, Counts{Aborted: 3, Injected: 3},
		},
		"degraded are good":             {all, Sums{Cells: []Cell{cell("breaker-open", 0, true, 3)}}, Counts{Total: 3, Degraded: 3}},
		"also with the cause listed":    {listed("breaker-open", "503"), Sums{Cells: []Cell{cell("5xx", 503, true, 3)}}, Counts{Total: 3, Degraded: 3}},
		"unless bad says so":            {listed("degraded"), Sums{Cells: []Cell{cell("5xx", 503, true, 3), cell("5xx", 503, false, 1)}}, Counts{Total: 4, Bad: 3, Degraded: 3}},
		"a number":                      {listed("503"), Sums{Cells: []Cell{cell("5xx", 503, false, 3), cell("5xx", 500, false, 1), cell("5xx", 0, false, 1)}}, Counts{Total: 5, Bad: 3}},
		"a number of a client error":    {listed("429"), Sums{Cells: []Cell{cell("4xx", 429, false, 3), cell("4xx", 404, false, 1)}}, Counts{Total: 4, Bad: 3}},
		"a number is an upstream's":     {listed("503"), Sums{Cells: []Cell{cell("shed", 503, false, 3)}}, Counts{Total: 3}},
		"other services":                {all, Sums{Cells: []Cell{of("orders", "charge", "high")}}, Counts{}},
		"a host without a route":        {all, Sums{Cells: []Cell{of("payments", "", "high")}}, Counts{}},
		"all routes":                    {all, Sums{Cells: []Cell{of("payments", "a", "high"), of("payments", "b", "low")}}, Counts{Total: 2, Bad: 2}},
		"one route":                     {Objective{Service: "payments", Routes: []string{"b"}}, Sums{Cells: []Cell{of("payments", "a", "high"), of("payments", "b", "low")}}, Counts{Total: 1, Bad: 1}},
		"one class":                     {Objective{Service: "payments", Priorities: []string{"high"}}, Sums{Cells: []Cell{of("payments", "a", "high"), of("payments", "b", "low")}}, Counts{Total: 1, Bad: 1}},
		"availability ignores latency":  {all, Sums{Latency: []Latency{bucket(LatencyGood, -1, 5)}}, Counts{}},
		"latency: the threshold is ok":  {fast, Sums{Latency: []Latency{bucket(LatencyGood, 500_000, 5), bucket(LatencyGood, 500_001, 2), bucket(LatencyGood, -1, 1)}}, Counts{Total: 8, Bad: 3}},
		"latency: failures are outside": {fast, Sums{Cells: []Cell{cell("5xx", 500, false, 9)}, Latency: []Latency{bucket(LatencyBad, -1, 9), bucket(LatencyGood, 1, 1)}}, Counts{Total: 1}},
		"latency: aborted count once slow": {
			fast, Sums{Cells: []Cell{cell("aborted", 0, false, 3)}, Latency: []Latency{bucket(LatencyAborted, 500_000, 2), bucket(LatencyAborted, 1_000_000, 1)}},
			Counts{Total: 1, Bad: 1, Aborted: 3},
		},
		"latency: streams have none": {fast, Sums{Cells: []Cell{cell("ok", 0, false, 3)}}, Counts{}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, tc.objective.Count(tc.sums))
		})
	}
}
