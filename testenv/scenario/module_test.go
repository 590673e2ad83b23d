package scenario_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
	"github.com/seawall-mesh/seawall/testenv/scenario"
)

const onePlan = `{"routes":[{"name":"payments/charge","priority":"critical","breaker":{}}]}`

func fill(t *testing.T, plan string) []byte {
	t.Helper()
	b, err := scenario.Fill([]byte(plan))
	require.NoError(t, err)
	return b
}

func world(t *testing.T, cfg scenario.HostConfig) *scenario.HostWorld {
	t.Helper()
	cfg.Module, cfg.Node = filter, "edge-1"
	if cfg.Plan == nil {
		cfg.Plan = fill(t, onePlan)
	}
	w, err := scenario.NewHostWorld(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	return w
}

// send is one request to payments/charge.
func send(t *testing.T, w *scenario.HostWorld, worker int, answer string) scenario.Reply {
	t.Helper()
	ex, err := w.Send(worker, scenario.Request{Method: "POST", Route: "payments/charge"})
	require.NoError(t, err)
	reply, err := ex.End(answer, 0)
	require.NoError(t, err)
	return reply
}

func ledger(t *testing.T, w *scenario.HostWorld) *scenario.Ledger {
	t.Helper()
	l, err := scenario.Read(w.Bodies())
	require.NoError(t, err)
	return l
}

func TestPluginStart(t *testing.T) {
	t.Run("a good plan starts, and claims nothing before the first tick", func(t *testing.T) {
		w := world(t, scenario.HostConfig{Workers: 2})
		require.Empty(t, w.Host.SharedKeys("seawall"))
		require.Empty(t, w.Host.Metrics())
		require.Zero(t, w.Host.Stats().CallsSent)
	})
	for _, tc := range []struct{ name, plan, field string }{
		{"empty configuration", "", ""},
		{"no JSON", "{", ""},
		{"not an object", "[]", ""},
		{"another schema", string(fill(t, `{"schema":2,"routes":[]}`)), "schema"},
		{"no probes", string(fill(t, `{"routes":[{"name":"a/b","breaker":{"probes":0}}]}`)), "routes[0].breaker.probes"},
		{"an outcome that is none", string(fill(t, `{"routes":[{"name":"a/b"},{"name":"a/c","breaker":{"failures":["6xx"]}}]}`)), "routes[1].breaker.failures"},
		{"two of one name", string(fill(t, `{"routes":[{"name":"a/b"},{"name":"a/b"}]}`)), "routes[1]"},
		{"a priority that is none", string(fill(t, `{"routes":[{"name":"a/b","priority":"urgent"}]}`)), "routes[0].priority"},
	} {
		t.Run("refused: "+tc.name, func(t *testing.T) {
			_, err := scenario.NewHostWorld(t.Context(), scenario.HostConfig{Module: filter, Workers: 1, Plan: []byte(tc.plan)})
			require.ErrorIs(t, err, host.ErrRejected)

			w := world(t, scenario.HostConfig{})
			ok, err := w.Push([]byte(tc.plan))
			require.NoError(t, err)
			require.False(t, ok)
			require.True(t, slices.ContainsFunc(w.Host.Logs(), func(l host.LogLine) bool {
				return l.Kind == host.KindCanary && l.Level == "error" && strings.Contains(l.Message, tc.field)
			}), "the log names %s: %v", tc.field, w.Host.Logs())
			require.Equal(t, 200, send(t, w, 0, "200").Status)
		})
	}
}

func open(t *testing.T, w *scenario.HostWorld) {
	t.Helper()
	for range 5 {
		send(t, w, 0, "503")
	}
}

func TestRefusal(t *testing.T) {
	w := world(t, scenario.HostConfig{Workers: 2})
	open(t, w)
	r := w.Host.Worker(1).Exchange(host.Request{Method: "POST", Route: "payments/charge", Headers: host.H("x-request-id", "id-7")}, host.Response{})
	require.Equal(t, host.Replied, r.Action)
	require.False(t, r.Upstream)
	require.Equal(t, 503, r.Status)
	require.Equal(t, "application/problem+json", r.Headers.Get("content-type"))
	require.Equal(t, "60", r.Headers.Get("retry-after"))
	require.Equal(t, "breaker-open", r.Headers.Get("x-seawall-decision"))
	require.Equal(t, "id-7", r.Headers.Get("x-request-id"))
	var doc map[string]any
	require.NoError(t, json.Unmarshal(r.Body, &doc))
	require.Equal(t, "https://seawall-mesh.github.io/problems/breaker-open", doc["type"])
	require.EqualValues(t, 503, doc["status"])
	require.Equal(t, "id-7", doc["instance"])
	require.Equal(t, true, doc["retryable"])
	require.EqualValues(t, 60, doc["retry_after"])
	require.NotEmpty(t, doc["title"])
	require.Contains(t, doc["detail"], "payments/charge")
}

// The module hears of bodies: one that has come is not waited for, however long
// the answer takes.
func TestTheTimeForABody(t *testing.T) {
	w := world(t, scenario.HostConfig{Plan: fill(t, `{"routes":[{"name":"payments/charge","bodyNs":1000000000}]}`)})
	for name, tc := range map[string]struct {
		r    host.Request
		late bool
	}{
		"none":      {host.Request{}, false},
		"whole":     {host.Request{Body: []byte("all of it")}, false},
		"half":      {host.Request{Body: []byte("half"), BodyOpen: true}, true},
		"announced": {host.Request{BodyOpen: true}, true},
	} {
		tc.r.Method, tc.r.Route = "POST", "payments/charge"
		s := w.Host.Worker(0).Request(tc.r)
		w.Host.Advance(900 * time.Millisecond)
		require.False(t, s.Answered(), name)
		w.Host.Advance(400 * time.Millisecond)
		require.Equal(t, tc.late, s.Answered(), name)
		if !tc.late {
			s.Respond(host.Response{})
		}
		r := s.Done()
		require.Equal(t, map[bool]int{true: 408, false: 200}[tc.late], r.Status, name)
	}
	w.Host.Advance(3 * time.Second)
	require.Equal(t, map[string]uint64{"4xx": 2, "ok": 2}, ledger(t, w).Counts["payments/charge"])
}

func TestBatches(t *testing.T) {
	t.Run("every VM reports each second, idle or not, and says whether it serves", func(t *testing.T) {
		w := world(t, scenario.HostConfig{Workers: 2})
		send(t, w, 0, "200")
		w.Host.Advance(10 * time.Second)
		perVM, served := map[string]int{}, map[string]bool{}
		for _, b := range ledger(t, w).Batches {
			perVM[b.VM]++
			served[b.VM] = served[b.VM] || b.Served
			require.Equal(t, "edge-1", b.Node)
			require.Equal(t, filter.SHA256(), b.Filter)
		}
		require.Len(t, perVM, 3, "main thread and two workers")
		n := 0
		for vm, k := range perVM {
			require.GreaterOrEqual(t, k, 8, vm)
			require.LessOrEqual(t, k, 11, vm)
			if served[vm] {
				n++
			}
		}
		require.Equal(t, 1, n, "only one worker has seen a stream")
	})
	t.Run("a new plan is named by every VM within two ticks", func(t *testing.T) {
		w := world(t, scenario.HostConfig{Workers: 2})
		w.Host.Advance(5 * time.Second)
		before := len(w.Bodies())
		ok, err := w.Push(fill(t, `{"routes":[{"name":"payments/charge"}]}`))
		require.NoError(t, err)
		require.True(t, ok)
		w.Host.Advance(410 * time.Millisecond)
		l := ledger(t, w)
		hash := l.Batches[len(l.Batches)-1].Plan
		named := map[string]bool{}
		for _, b := range l.Batches[before:] {
			if b.Plan == hash {
				named[b.VM] = true
			}
		}
		require.Len(t, named, 3)
	})
	t.Run("anything reaches the control plane within 3 s", func(t *testing.T) {
		w := world(t, scenario.HostConfig{})
		w.Host.Advance(1234 * time.Millisecond)
		send(t, w, 0, "404")
		w.Host.Advance(1500 * time.Millisecond)
		require.Equal(t, map[string]uint64{"4xx": 1}, ledger(t, w).Counts["payments/charge"])
	})
	t.Run("the minutes of an outage keep their minute", func(t *testing.T) {
		w := world(t, scenario.HostConfig{})
		require.NoError(t, w.Telemetry("down"))
		for i := range 5 {
			for range i + 1 {
				send(t, w, 0, "200")
			}
			w.Host.Advance(time.Minute)
		}
		require.NoError(t, w.Telemetry("up"))
		w.Host.Advance(10 * time.Second)
		got := map[int64]uint64{}
		for _, b := range ledger(t, w).Batches {
			for _, r := range b.Rows {
				require.False(t, r.Coarse)
				for _, c := range r.Counts {
					got[r.Minute-w.Epoch()/60e9] += c.N
				}
			}
		}
		require.Equal(t, map[int64]uint64{0: 1, 1: 2, 2: 3, 3: 4, 4: 5}, got)
	})
	t.Run("what the control plane refuses for good is dropped and counted", func(t *testing.T) {
		w := world(t, scenario.HostConfig{})
		require.NoError(t, w.Telemetry("400"))
		send(t, w, 0, "200")
		w.Host.Advance(3 * time.Second)
		require.NoError(t, w.Telemetry("up"))
		send(t, w, 0, "200")
		w.Host.Advance(3 * time.Second)
		l := ledger(t, w)
		require.Positive(t, l.Counter("rejectedBatches"))
		require.EqualValues(t, 2, l.Counter("requests"))
		require.EqualValues(t, 1, l.Counts["payments/charge"]["ok"])
	})
	t.Run("statuses are told apart", func(t *testing.T) {
		w := world(t, scenario.HostConfig{})
		for _, a := range []string{"500", "503", "503", "418", "no-healthy"} {
			send(t, w, 0, a)
		}
		w.Host.Advance(3 * time.Second)
		got := map[string]uint64{}
		for _, b := range ledger(t, w).Batches {
			for _, r := range b.Rows {
				require.Equal(t, "critical", r.Priority)
				for _, c := range r.Counts {
					got[fmt.Sprintf("%s/%d", c.Outcome, c.Status)] += c.N
				}
			}
		}
		require.Equal(t, map[string]uint64{"5xx/500": 1, "5xx/503": 2, "4xx/418": 1, "connect-failure/0": 1}, got)
	})
}

// Another worker's failing request comes between any two shared-data accesses
// of the first one's: no failure is lost, and none is counted twice.
func TestFailuresThatRace(t *testing.T) {
	accesses := 0
	count := world(t, scenario.HostConfig{Workers: 2})
	count.Host.Worker(0).Interleave(func(host.Crossing) { accesses++ })
	send(t, count, 0, "503")
	require.Positive(t, accesses)
	for at := 1; at <= accesses; at++ {
		for _, extra := range []int{1, 3} {
			w := world(t, scenario.HostConfig{Workers: 2})
			n, sent := 0, 0
			w.Host.Worker(0).Interleave(func(host.Crossing) {
				if n++; n == at {
					for range extra {
						send(t, w, 1, "503")
						sent++
					}
				}
			})
			send(t, w, 0, "503")
			require.Equal(t, extra, sent)
			for range 4 - 1 - extra {
				send(t, w, 0, "503")
			}
			require.Empty(t, send(t, w, 1, "503").Decision, "the fifth is still admitted (access %d)", at)
			for worker := range 2 {
				require.Equal(t, "breaker-open", send(t, w, worker, "200").Decision, "the sixth is not (access %d, worker %d)", at, worker)
			}
		}
	}
}

// Two workers take probes at the same time: never more than three in total.
func TestProbesThatRace(t *testing.T) {
	for at := 1; at <= 12; at++ {
		w := world(t, scenario.HostConfig{Workers: 2})
		open(t, w)
		w.Host.Advance(61 * time.Second)
		var admitted []*host.Stream
		ask := func(worker int) {
			s := w.Host.Worker(worker).Request(host.Request{Method: "POST", Route: "payments/charge"})
			if s.Action() == host.Continued {
				admitted = append(admitted, s)
			} else {
				s.Done()
			}
		}
		n := 0
		w.Host.Worker(0).Interleave(func(host.Crossing) {
			if n++; n == at {
				ask(1)
				ask(1)
			}
		})
		for range 5 {
			ask(0)
		}
		ask(1)
		w.Host.Worker(0).Interleave(nil)
		require.Len(t, admitted, 3, "interleaved at access %d", at)
		for _, s := range admitted {
			s.Respond(host.Response{})
			s.Done()
		}
		for worker := range 2 {
			require.Empty(t, send(t, w, worker, "200").Decision, "closed again")
		}
	}
}

func TestHiddenMetrics(t *testing.T) {
	w := world(t, scenario.HostConfig{Workers: 2, HideMetrics: func(string) bool { return true }})
	for i := range 5 {
		require.Empty(t, send(t, w, i%2, "503").Decision)
	}
	for worker := range 2 {
		require.Equal(t, "breaker-open", send(t, w, worker, "200").Decision)
	}
	w.Host.Advance(3 * time.Second)
	l := ledger(t, w)
	require.True(t, l.Batches[len(l.Batches)-1].Counters.EpochFallback)
	require.True(t, slices.ContainsFunc(w.Host.Logs(), func(l host.LogLine) bool { return strings.Contains(l.Message, "stats_matcher") }))
}

func TestClockStepsBack(t *testing.T) {
	w := world(t, scenario.HostConfig{Workers: 2})
	open(t, w)
	w.Host.SetClock(w.Host.Now().Add(-time.Hour))
	require.Equal(t, "breaker-open", send(t, w, 1, "200").Decision, "does not close")
	require.Eventually(t, func() bool {
		w.Host.Advance(10 * time.Second)
		return send(t, w, 1, "200").Decision == ""
	}, time.Minute, time.Nanosecond, "does not starve")
	require.Less(t, w.Host.Now().Sub(time.Unix(0, w.Epoch()).Add(-time.Hour)), 6*time.Minute)
}

func TestMemoryIsFlat(t *testing.T) {
	w := world(t, scenario.HostConfig{})
	play := func(n int) {
		for i := range n {
			send(t, w, 0, []string{"200", "404", "200", "503"}[i%4])
			if i%100 == 0 {
				w.Host.Advance(200 * time.Millisecond)
			}
		}
	}
	play(5_000)
	before := w.Host.Worker(0).MemoryBytes()
	play(20_000)
	require.LessOrEqual(t, w.Host.Worker(0).MemoryBytes(), before+2<<20)
	l := ledger(t, w)
	require.Zero(t, l.Counter("panics"))
}
