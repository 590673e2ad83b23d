package plugin

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// endPlan is testPlan for a listener that counts what does not end well.
func endPlan() contract.Plan {
	plan := testPlan()
	plan.EndSignal = true
	return plan
}

// properties is how many a request costs.
func (w *worker) properties(route string, a answer) int {
	before := w.calls["property"]
	id, _ := w.start(route, nil)
	w.end(id, route, a)
	return w.calls["property"] - before
}

func (w *worker) outcomes(route string) map[string]uint64 {
	out := map[string]uint64{}
	for _, r := range w.batch().Rows {
		for _, c := range r.Counts {
			if r.Service+"/"+r.Route == route {
				out[c.Outcome] += c.N
			}
		}
	}
	return out
}

func TestEndSignal(t *testing.T) {
	t.Parallel()
	const name, all = 1, 3 // the route's name; code and flags too
	for _, tc := range []struct {
		name  string
		plan  func(*contract.Plan)
		hide  bool
		route string
		ends  []answer
		costs []int
		want  map[string]uint64
	}{
		{
			name: "good ends are not looked at", route: "pay/charge",
			ends: []answer{status(200), status(204), status(302)}, costs: []int{name, name, name},
			want: map[string]uint64{"ok": 3},
		},
		{
			name: "each other end is, once", route: "pay/charge",
			ends:  []answer{status(503), status(200), {code: 200, flags: flagConnectionTermination, details: "upstream_reset"}, status(200), status(404), {flags: flagDownstreamLeft}, status(101), status(200)},
			costs: []int{all + 1, name, all + 1, name, all + 1, all + 1, all, name},
			want:  map[string]uint64{"5xx": 1, "ok": 4, "reset": 1, "4xx": 1, "aborted": 1},
		},
		{
			name: "without the counter all are", plan: func(p *contract.Plan) { p.EndSignal = false }, route: "pay/charge",
			ends: []answer{status(200), status(503)}, costs: []int{all, all + 1},
			want: map[string]uint64{"ok": 1, "5xx": 1},
		},
		{
			name: "where metrics are hidden it stands still for ever", hide: true, route: "pay/charge",
			ends: []answer{status(200), status(503)}, costs: []int{all, all + 1},
			want: map[string]uint64{"ok": 1, "5xx": 1},
		},
		{
			name: "a breaker that names a good status wants to know it", route: "pay/charge",
			plan: func(p *contract.Plan) { p.Routes[0].Breaker.Failures = []string{"5xx", "302"} },
			ends: []answer{status(200), status(302)}, costs: []int{all, all},
			want: map[string]uint64{"ok": 2},
		},
		{
			name: "gRPC: trailers that say OK are enough, others are looked at", route: "pay/chat",
			ends: []answer{
				{code: 200, details: "via_upstream", isGRPC: true},
				{code: 200, details: "via_upstream", isGRPC: true, grpc: 14},
				{code: 200, details: "via_upstream", isGRPC: true, grpc: 5, trailersOnly: true},
				{code: 200, details: "via_upstream", isGRPC: true, trailersOnly: true},
				status(200),
				status(503),
			},
			costs: []int{name, all + 1, all + 2, all + 2, all + 2, all + 2},
			want:  map[string]uint64{"ok": 2, "5xx": 3, "4xx": 1},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			p.hidden = tc.hide
			plan := endPlan()
			if tc.plan != nil {
				tc.plan(&plan)
			}
			w := p.worker(plan)
			for i, end := range tc.ends {
				require.Equal(t, tc.costs[i], w.properties(tc.route, end), "end %d", i)
			}
			require.Equal(t, tc.want, w.outcomes(tc.route))
		})
	}
}

// The counter is one for all workers: what does not end well in another costs a
// needless look here, and is never taken for this one's.
func TestEndSignalOfAnotherWorker(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	a, b := p.worker(endPlan()), p.worker(endPlan())
	a.request("pay/charge", status(200))
	require.Equal(t, 4, b.properties("pay/charge", status(503)))
	require.Equal(t, 3, a.properties("pay/charge", status(200)))
	require.Equal(t, 1, a.properties("pay/charge", status(200)))
	require.Equal(t, map[string]uint64{"ok": 3}, a.outcomes("pay/charge"))
	require.Equal(t, map[string]uint64{"5xx": 1}, b.outcomes("pay/charge"))
}

// The host tells of the end of a plan's own context as of a stream's.
func TestTheEndOfAPlansContextIsNoRequest(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.request("pay/charge", status(200))
	w.vm.StreamDone(w.root)
	require.EqualValues(t, 1, w.batch().Counters.Requests)
}
