package plugin

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever overlaps on however many workers: no more permits than the limit,
// none lost, each request answered, and nobody waits for ever.
func TestPoolsOverWorkers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ws := poolWorkers(t, rapid.IntRange(1, 4).Draw(t, "workers"))
		p := ws[0].proxy
		limit := uint32(2)
		type flight struct {
			w     *worker
			id    uint32
			route string
		}
		var flying []flight
		running := func() (n int) {
			for _, f := range flying {
				if !f.w.paused[f.id] && f.w.answers[f.id] == nil {
					n++
				}
			}
			return n
		}
		hash := 0
		push := func() {
			plan := poolPlan()
			plan.Pools[0].MaxConcurrency = limit
			hash++
			plan.Hash = "00000000000000" + string("0123456789abcdef"[hash/16%16]) + string("0123456789abcdef"[hash%16])
			for _, w := range ws {
				w.configure(plan)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"start": func(t *rapid.T) {
				f := flight{w: rapid.SampledFrom(ws).Draw(t, "worker"), route: rapid.SampledFrom([]string{"pay/charge", "pay/report"}).Draw(t, "route")}
				before := running()
				var refused *Response
				if f.id, refused = f.w.start(f.route, nil); refused != nil {
					f.w.end(f.id, f.route, answer{code: 503})
					return
				}
				flying = append(flying, f)
				require.LessOrEqual(t, running(), max(before, int(limit)))
			},
			"end": func(t *rapid.T) {
				if len(flying) == 0 {
					return
				}
				i := rapid.IntRange(0, len(flying)-1).Draw(t, "flight")
				f := flying[i]
				flying = append(flying[:i], flying[i+1:]...)
				a := rapid.SampledFrom([]answer{status(200), {flags: flagDownstreamLeft}, status(404)}).Draw(t, "answer")
				if f.w.paused[f.id] {
					a = answer{flags: flagDownstreamLeft}
				}
				f.w.end(f.id, f.route, a)
			},
			"wakes":  func(*rapid.T) { p.deliver() },
			"wait":   func(t *rapid.T) { p.now += rapid.Int64Range(1, 1500).Draw(t, "ms") * 1e6 },
			"tick":   func(t *rapid.T) { rapid.SampledFrom(ws).Draw(t, "worker").tick() },
			"lose":   func(t *rapid.T) { rapid.SampledFrom(append(p.queues, &queue{})).Draw(t, "queue").items = nil },
			"resize": func(t *rapid.T) { limit = rapid.Uint32Range(1, 4).Draw(t, "limit"); push() },
			"": func(t *rapid.T) {
				require.LessOrEqual(t, running(), len(p.pool().Permits), "each call that runs has a permit")
			},
		})
		// It comes to rest: whoever waits is served or refused.
		for range 10 {
			p.now += sec
			for _, w := range ws {
				w.tick()
				w.posts = nil
			}
			p.deliver()
		}
		for _, f := range flying {
			require.False(t, f.w.paused[f.id], "nobody waits for ever")
			f.w.end(f.id, f.route, status(200))
		}
		require.Empty(t, p.pool().Permits)
		require.Empty(t, p.pool().Waiters)
		for _, w := range ws {
			require.Zero(t, w.vm.waiters)
			require.Zero(t, w.vm.poolList[0].users)
			require.Empty(t, w.vm.poolList[0].waiting)
			require.Zero(t, w.vm.counters.Panics, "%s", strings.Join(w.logs, "\n"))
		}
	})
}
