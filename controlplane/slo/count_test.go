package slo

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
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

// TestCountAgainstSingleRequests draws requests one by one and objectives at
// random, and compares what a Book counts of their sums with a judgement of each
// request by the words of DESIGN section 5.
func TestCountAgainstSingleRequests(t *testing.T) {
	type request struct {
		service, route, priority, outcome string
		status                            uint16
		degraded, synthetic               bool
		tookMS                            int64 // -1: a stream
	}
	bounds := []int64{10_000, 100_000, 500_000}
	outcomes := []string{"ok", "4xx", "5xx", "reset", "timeout", "connect-failure", "shed", "breaker-open", "bulkhead-full", "bulkhead-timeout", "deadline", "aborted", "injected"}
	pick := func(rt *rapid.T, label string, from ...string) string { return rapid.SampledFrom(from).Draw(rt, label) }
	rapid.Check(t, func(rt *rapid.T) {
		var objectives []Objective
		for range rapid.IntRange(1, 4).Draw(rt, "objectives") {
			o := Objective{Service: pick(rt, "service", "a", "b")}
			o.Routes = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"r", "s"}), 0, 2, rapid.ID[string]).Draw(rt, "routes")
			o.Priorities = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"high", "low"}), 0, 2, rapid.ID[string]).Draw(rt, "priorities")
			if rapid.Bool().Draw(rt, "latency") {
				o.LatencyThreshold = time.Duration(rapid.SampledFrom(bounds).Draw(rt, "threshold")) * time.Microsecond
			} else {
				o.Bad = rapid.SliceOfNDistinct(rapid.SampledFrom(append([]string{"503", "404", "degraded"}, outcomes...)), 0, 5, rapid.ID[string]).Draw(rt, "bad")
			}
			objectives = append(objectives, o)
		}
		var sums Sums
		want := make([]Counts, len(objectives))
		for range rapid.IntRange(0, 30).Draw(rt, "requests") {
			r := request{
				service: pick(rt, "service", "a", "b", "c"), route: pick(rt, "route", "r", "s", ""), priority: pick(rt, "priority", "high", "low"),
				outcome: pick(rt, "outcome", outcomes...), degraded: rapid.Bool().Draw(rt, "degraded"), synthetic: rapid.Bool().Draw(rt, "synthetic"),
				tookMS: rapid.SampledFrom([]int64{-1, 5, 50, 300, 900}).Draw(rt, "ms"),
			}
			switch r.outcome {
			case "4xx":
				r.status = rapid.SampledFrom([]uint16{0, 404, 429}).Draw(rt, "status")
			case "5xx":
				r.status = rapid.SampledFrom([]uint16{0, 500, 503}).Draw(rt, "status")
			}
			sums.Cells = append(sums.Cells, Cell{Service: r.service, Route: r.route, Priority: r.priority, Outcome: r.outcome, Status: r.status, Degraded: r.degraded, Synthetic: r.synthetic, N: 1})
			if r.tookMS >= 0 && r.outcome != "injected" && !r.synthetic {
				class, le := LatencyBad, int64(-1)
				switch r.outcome {
				case "ok", "4xx":
					class = LatencyGood
				case "aborted":
					class = LatencyAborted
				}
				for _, b := range bounds {
					if r.tookMS*1000 <= b {
						le = b
						break
					}
				}
				sums.Latency = append(sums.Latency, Latency{Service: r.service, Route: r.route, Priority: r.priority, Class: class, LeUS: le, N: 1})
			}
			for n, o := range objectives {
				c := &want[n]
				if r.service != o.Service || r.route == "" || (len(o.Routes) > 0 && !slices.Contains(o.Routes, r.route)) ||
					(len(o.Priorities) > 0 && !slices.Contains(o.Priorities, r.priority)) {
					continue
				}
				slow := r.tookMS*1000 > int64(o.LatencyThreshold/time.Microsecond)
				switch {
				case r.synthetic:
					c.Synthetic++
					continue
				case r.outcome == "injected":
					c.Injected++
					continue
				case r.outcome == "aborted":
					c.Aborted++
					if o.LatencyThreshold > 0 && slow {
						c.Total++
						c.Bad++
					}
					continue
				}
				if r.degraded {
					c.Degraded++
				}
				if o.LatencyThreshold > 0 {
					if (r.outcome == "ok" || r.outcome == "4xx") && r.tookMS >= 0 {
						c.Total++
						if slow {
							c.Bad++
						}
					}
					continue
				}
				c.Total++
				list := o.Bad
				if len(list) == 0 {
					list = DefaultBad()
				}
				bad := slices.Contains(list, r.outcome) || (r.status > 0 && slices.Contains(list, strconv.Itoa(int(r.status))))
				if r.degraded {
					bad = slices.Contains(list, "degraded")
				}
				if bad {
					c.Bad++
				}
			}
		}
		require.Equal(rt, want, NewBook(objectives).Count(sums))
		for n, o := range objectives {
			require.Equal(rt, want[n], o.Count(sums))
		}
	})
}
