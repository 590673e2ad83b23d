package scenario_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/testenv/host"
	"github.com/seawall-mesh/seawall/testenv/scenario"
)

// model is a breaker as its documentation has it, for requests one after the
// other: no workers, no records, no jitter.
type model struct {
	state               string
	failures, successes int
	retryAt             time.Duration
	rests               time.Duration // half-open after a success: closes if nothing comes until then
	jittered            bool          // a re-open: probes may start up to 10 % later
}

const recovery = 60 * time.Second

// admits says what must happen; sure is false within the jitter.
func (m *model) admits(now time.Duration) (admit, sure bool) {
	if m.state == "half-open" && m.successes > 0 && now >= m.rests {
		*m = model{state: "closed"}
	}
	if m.state != "open" {
		return true, true
	}
	if now < m.retryAt {
		return false, true
	}
	return true, !m.jittered || now >= m.retryAt+recovery/10
}

func (m *model) settle(now time.Duration, failed, said bool) {
	if m.state == "open" {
		m.state, m.successes = "half-open", 0
	}
	switch {
	case !said:
	case m.state == "closed" && failed:
		if m.failures++; m.failures == 5 {
			m.open(now, false)
		}
	case m.state == "closed":
		m.failures = 0
	case failed:
		m.open(now, true)
	default:
		m.rests = now + recovery
		if m.successes++; m.successes == 3 {
			*m = model{state: "closed"}
		}
	}
}

func (m *model) open(now time.Duration, again bool) {
	*m = model{state: "open", retryAt: now + recovery, jittered: again}
}

// Whatever happens around it (workers in any order, pushes, telemetry that
// comes and goes), the breaker in the module decides as the model does, and
// telemetry counts each request once.
func TestAgainstTheModel(t *testing.T) {
	plans := [][]byte{
		fill(t, `{"routes":[{"name":"payments/charge","breaker":{"multiplierPpm":1000000}}]}`),
		fill(t, `{"edge":"b","routes":[{"name":"payments/charge","breaker":{"multiplierPpm":1000000}},{"name":"payments/other"}]}`),
		fill(t, `{"failureMode":"closed","routes":[{"name":"payments/charge","breaker":{"multiplierPpm":1000000}}]}`),
	}
	answers := []string{"200", "404", "503", "503", "503", "reset", "timeout", "refused", "abort"}
	rapid.Check(t, func(rt *rapid.T) {
		workers := rapid.IntRange(1, 3).Draw(rt, "workers")
		w, err := scenario.NewHostWorld(t.Context(), scenario.HostConfig{
			Module: filter, Workers: workers, Plan: plans[0], Node: "edge-1",
			HideMetrics: map[bool]func(string) bool{true: func(string) bool { return true }}[rapid.IntRange(0, 4).Draw(rt, "hidden") == 0],
		})
		require.NoError(rt, err)
		defer func() { require.NoError(rt, w.Close()) }()
		m := &model{state: "closed"}
		var sent uint64
		request := func(rt *rapid.T, answer string) {
			worker := rapid.IntRange(0, workers-1).Draw(rt, "worker")
			admit, sure := m.admits(w.Now())
			s := w.Host.Worker(worker).Request(host.Request{Method: "POST", Route: "payments/charge"})
			sent++
			got := s.Action() == host.Continued
			if sure {
				require.Equal(rt, admit, got, "%+v at %s", *m, w.Now())
			}
			if got {
				m.settle(w.Now(), answer != "200" && answer != "404", answer != "abort")
			}
			end(rt, s, answer)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"request": func(rt *rapid.T) { request(rt, rapid.SampledFrom(answers).Draw(rt, "answer")) },
			"good run": func(rt *rapid.T) {
				for range rapid.IntRange(2, 4).Draw(rt, "n") {
					request(rt, "200")
				}
			},
			"bad run": func(rt *rapid.T) {
				for range rapid.IntRange(4, 6).Draw(rt, "n") {
					request(rt, "503")
				}
			},
			"recovery": func(rt *rapid.T) {
				w.Host.Advance(time.Duration(rapid.IntRange(59_000, 67_000).Draw(rt, "ms")) * time.Millisecond)
			},
			"time": func(rt *rapid.T) {
				w.Host.Advance(time.Duration(rapid.IntRange(1, 20_000).Draw(rt, "ms")) * time.Millisecond)
			},
			"push": func(rt *rapid.T) {
				ok, err := w.Push(rapid.SampledFrom(plans).Draw(rt, "plan"))
				require.NoError(rt, err)
				require.True(rt, ok)
			},
			"telemetry": func(rt *rapid.T) {
				require.NoError(rt, w.Telemetry(rapid.SampledFrom([]string{"up", "down", "503", "lost", "hang"}).Draw(rt, "mode")))
			},
		})
		require.NoError(rt, w.Telemetry("up"))
		w.Host.Advance(30 * time.Second)
		l, err := scenario.Read(w.Bodies())
		require.NoError(rt, err)
		var counted uint64
		for _, n := range l.Counts["payments/charge"] {
			counted += n
		}
		require.Equal(rt, sent, counted)
		require.Zero(rt, l.Counter("panics"))
		if got := l.Breakers["payments/charge"].State; got != "" && (m.state != "half-open" || m.successes == 0) {
			require.Equal(rt, m.state, got)
		}
	})
}

func end(rt *rapid.T, s *host.Stream, answer string) {
	if s.Action() == host.Continued {
		resp, abort, err := scenario.Response(answer)
		require.NoError(rt, err)
		if abort {
			s.Abort(true)
		} else {
			s.Respond(resp)
		}
	}
	s.Done()
}
