package telemetry_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// TestSLOsAgreeWithANaiveModel asks again and again while time passes, counts
// come late, the store is pruned and the policy changes, and compares every
// number with a plain sum over minutes. What is kept of stretches that are over
// must never show.
func TestSLOsAgreeWithANaiveModel(t *testing.T) {
	const day = 24 * time.Hour
	objectives := func(bad ...string) []slo.Objective {
		var all []slo.Objective
		for _, w := range []time.Duration{time.Hour, day, 30 * day, 120 * day} {
			all = append(all, slo.Objective{Name: w.String(), Service: "payments", ObjectivePPM: 990_000, Window: w, Bad: bad})
		}
		return all
	}
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		e := reopen(t, filepath.Join(dir, fmt.Sprintf("%d.db", n)))
		defer e.ingest.Close()
		listed := objectives("5xx")
		e.ingest.SetPolicy(listed, nil, nil)
		type counts struct{ total, server, shed uint64 }
		model := map[int64]counts{}
		seq := uint64(0)
		keep := telemetry.DefaultRetention()
		// from is where a window of so many minutes begins.
		from := func(minutes int64) int64 {
			start, grain := e.minute()-minutes, int64(1440)
			switch age := time.Duration(minutes) * time.Minute; {
			case age <= keep.Minutes:
				grain = 1
			case age <= keep.Tens:
				grain = 10
			case age <= keep.Hours:
				grain = 60
			}
			return start + (grain-start%grain)%grain
		}
		within := func(minutes int64, bad func(counts) uint64) (total, failed uint64) {
			for m, c := range model {
				if m >= from(minutes) && m <= e.minute() {
					total += c.total
					failed += bad(c)
				}
			}
			return total, failed
		}
		rt.Repeat(map[string]func(*rapid.T){
			"time passes": func(rt *rapid.T) {
				e.pass(rapid.SampledFrom([]time.Duration{
					time.Second, time.Minute, 2 * time.Minute, 9 * time.Minute, 51 * time.Minute, 23 * time.Hour, 3 * day,
				}).Draw(rt, "step"))
			},
			"counts come": func(rt *rapid.T) {
				age := rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(0, 90), rapid.Int64Range(0, 60_000)).Draw(rt, "age")
				c := counts{rapid.Uint64Range(0, 1000).Draw(rt, "ok"), rapid.Uint64Range(0, 9).Draw(rt, "5xx"), rapid.Uint64Range(0, 9).Draw(rt, "shed")}
				seq++
				b := batch('a', seq, row(e.minute()-age, ok(c.total), contract.Count{Outcome: "5xx", Status: 500, N: c.server}, contract.Count{Outcome: "shed", N: c.shed}))
				b.AtNS = e.now().UnixNano()
				e.send(b)
				old := model[e.minute()-age]
				model[e.minute()-age] = counts{old.total + c.total + c.server + c.shed, old.server + c.server, old.shed + c.shed}
			},
			"old counts are pruned": func(*rapid.T) {
				_, err := e.store.Prune(t.Context(), e.now(), keep, time.Time{})
				require.NoError(rt, err)
			},
			"the policy changes": func(rt *rapid.T) {
				listed = objectives(rapid.SampledFrom([]string{"5xx", "shed"}).Draw(rt, "bad"))
				e.ingest.SetPolicy(listed, nil, nil)
			},
			"": func(rt *rapid.T) {
				all, err := e.ingest.SLOs(t.Context())
				require.NoError(rt, err)
				require.Len(rt, all, len(listed))
				for _, s := range all {
					bad := func(c counts) uint64 { return c.server }
					if listed[0].Bad[0] == "shed" {
						bad = func(c counts) uint64 { return c.shed }
					}
					total, failed := within(int64(time.Duration(s.Window)/time.Minute), bad)
					require.Equal(rt, fmt.Sprint(total, failed), fmt.Sprint(s.Total, s.Bad), s.Name)
					for _, b := range s.Burn {
						for span, got := range map[slo.Span]float64{b.Long: b.LongRate, b.Short: b.ShortRate} {
							total, failed := within(int64(time.Duration(span)/time.Minute), bad)
							want := 0.0
							if total > 0 {
								want = float64(failed) / float64(total) / 0.01
							}
							require.InDelta(rt, want, got, 1e-9, "%s %s over %s", s.Name, b.Tier, span)
						}
					}
				}
			},
		})
	})
}

// TestAClockThatStepsBack: what a fast filter counted goes into our minute, also
// into one that we had before.
func TestAClockThatStepsBack(t *testing.T) {
	e := setup(t)
	e.ingest.SetPolicy([]slo.Objective{{Name: "x", Service: "payments", ObjectivePPM: 990_000, Window: time.Hour}}, nil, nil)
	total := func() uint64 {
		all, err := e.ingest.SLOs(t.Context())
		require.NoError(t, err)
		return all[0].Total
	}
	e.send(batch('a', 1, row(e.minute(), ok(1))))
	e.pass(3 * time.Minute)
	require.EqualValues(t, 1, total())
	e.pass(-3 * time.Minute)
	e.send(batch('a', 2, row(e.minute()+5, ok(2))))
	e.pass(3 * time.Minute)
	require.EqualValues(t, 3, total())
}

// watched counts what is asked of a store.
type watched struct {
	telemetry.Store

	stretches int
}

func (w *watched) Sums(ctx context.Context, bounds []int64, latency bool) ([]slo.Sums, error) {
	w.stretches += len(bounds) - 1
	return w.Store.Sums(ctx, bounds, latency)
}

// TestAQuestionReadsLittle: only what is new, also where windows move into the
// next ten minutes, hour or day.
func TestAQuestionReadsLittle(t *testing.T) {
	e := setup(t)
	store := &watched{Store: e.store}
	ingest := telemetry.New(telemetry.Config{Log: slog.New(slog.DiscardHandler), Store: store, Now: e.now})
	defer ingest.Close()
	ingest.SetPolicy([]slo.Objective{{Name: "x", Service: "payments", ObjectivePPM: 999_000, Window: 30 * 24 * time.Hour}}, nil, nil)
	ask := func() int {
		store.stretches = 0
		_, err := ingest.SLOs(t.Context())
		require.NoError(t, err)
		return store.stretches
	}
	require.Greater(t, ask(), 60, "nothing was known")
	most := 0
	for minute := range 13 * 60 { // past midnight
		e.pass(time.Minute)
		first := ask()
		if minute > 30 {
			most = max(most, first)
		}
		for range 5 {
			ask()
		}
		require.LessOrEqual(t, ask(), 2, "the last whole minute and the current one")
	}
	require.LessOrEqual(t, most, 20)
	t.Logf("at most %d stretches at the turn of a minute", most)
}
