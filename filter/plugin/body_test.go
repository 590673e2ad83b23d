package plugin

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/problem"
)

// A route gives its clients three seconds to send a body.
func bodyPlan() contract.Plan {
	plan := poolPlan()
	plan.Routes[0].BodyNS = 3 * sec
	return plan
}

func TestABodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		route   string
		body    bool // there is one
		came    int64
		wait    int64
		refused bool
	}{
		{name: "in time", route: "pay/charge", body: true, came: 2 * sec, wait: 9 * sec},
		{name: "too late", route: "pay/charge", body: true, came: 9 * sec, wait: 4 * sec, refused: true},
		{name: "not yet", route: "pay/charge", body: true, came: 9 * sec, wait: 2 * sec},
		{name: "there is none", route: "pay/charge", came: 9 * sec, wait: 8 * sec},
		{name: "another route", route: "pay/report", body: true, came: 9 * sec, wait: 8 * sec},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newProxy(t).worker(bodyPlan())
			id, _ := w.start(tc.route, map[string]string{headerRequestID: "id-7"})
			if tc.body {
				w.vm.AwaitBody(id)
			}
			w.headers = nil // by then they are gone
			for range tc.wait / 200e6 {
				w.now += 200e6
				if tc.came -= 200e6; tc.came == 0 {
					w.vm.RequestBody(id)
				}
				w.tick()
			}
			answered := w.answers[id]
			require.Equal(t, tc.refused, answered != nil)
			if !tc.refused {
				return
			}
			require.Equal(t, 408, answered.Status)
			var doc problem.Document
			require.NoError(t, json.Unmarshal(answered.Body, &doc))
			require.Equal(t, "request-timeout", doc.Slug())
			require.Equal(t, "id-7", doc.Instance)
			for _, h := range answered.Headers {
				require.NotEqual(t, "x-seawall-decision", h[0], "none of the guards decided that")
			}
			w.end(id, tc.route, answer{code: 408, details: answered.Details})
			require.Empty(t, w.vm.uploads)
			for len(w.posts) > 0 { // of the ticks before
				w.reply(202)
			}
			require.Equal(t, map[string]uint64{"4xx": 1}, w.outcomes(tc.route))
		})
	}
}

// Envoy does not tell of a held request's body, which may have come long ago.
func TestTheTimeForABodyBeginsWhenTheRequestIsSentOn(t *testing.T) {
	t.Parallel()
	w := newProxy(t).worker(bodyPlan())
	a, _ := w.start("pay/charge", nil)
	_, _ = w.start("pay/charge", nil)
	c, _ := w.start("pay/charge", nil)
	w.vm.AwaitBody(c)
	require.True(t, w.paused[c])
	w.now += 3*sec + sec/2
	w.tick()
	require.Nil(t, w.answers[c])
	w.finish(a, "pay/charge", 200)
	w.deliver()
	require.False(t, w.paused[c])
	w.now += 2 * sec
	w.tick()
	require.Nil(t, w.answers[c])
	w.now += 2 * sec
	w.tick()
	require.Equal(t, 408, w.answers[c].Status)
}

// A request that was refused at once is over, whether its body comes or not.
func TestARefusedRequestsBodyIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	plan := bodyPlan()
	plan.Routes[0].DeadlineHeader = "x-deadline-ms"
	w := newProxy(t).worker(plan)
	id, refused := w.start("pay/charge", map[string]string{"x-deadline-ms": "0"})
	require.NotNil(t, refused)
	w.vm.AwaitBody(id)
	require.Empty(t, w.vm.uploads)
}
