package hosttest

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
)

// refusals are configurations that the canary does not start: a NACK that
// changes nothing.
func refusals(t *testing.T, factory Factory) {
	for _, cfg := range []string{"refuse", "panic", "nilderef"} {
		t.Run(cfg, func(t *testing.T) {
			_, err := factory(t, Options{Config: cfg})
			require.ErrorIs(t, err, host.ErrRejected)
		})
	}
}

// Start and push (xds 4, 5, FACTS 1).
var lifecycleCases = []conformance{
	{name: "callbacks of a start, a stream and its end, in order", opt: Options{Config: "log a"}, run: func(w world) {
		require.Equal(w.t, "create 1/0,vmstart 1,configure 1 5,create 2/1", w.do(0, "events"))
		require.Contains(w.t, w.do(0, "events"), "create 2/1,log 2,done 2,delete 2,create 3/1")
	}},
	{name: "the configuration can be read in on_configure only", opt: Options{Config: "log x"}, run: func(w world) {
		require.Equal(w.t, "notfound:", w.do(0, "config"))
	}},
	{name: "an empty configuration", run: func(w world) {
		require.Contains(w.t, w.do(0, "events"), "configure 1 0")
	}},
	{name: "a push: same VM, a new root context, the idle old one is done at once", opt: Options{Config: "log a"}, run: func(w world) {
		vm := w.do(0, "vm")
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log bb")}))
		require.Equal(w.t, vm, w.do(0, "vm"))
		w.gone("1")
		require.Contains(w.t, w.do(0, "events"), "create 1/0,vmstart 1,configure 1 5,create 2/1,log 2,done 2,delete 2,create 3/0,vmstart 3,configure 3 6")
		require.Contains(w.t, w.do(0, "events"), "create 4/3,log 4,done 4,delete 4")
	}},
	{name: "a stream in flight ends on its old context", opt: Options{Config: "log a"}, run: func(w world) {
		s := w.Request(0, request("vm"))
		s.Upstream()
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log b")}))
		require.NotContains(w.t, w.do(0, "events"), "done 1")
		s.Respond(host.Response{})
		s.Done()
		w.gone("1")
		require.Contains(w.t, w.do(0, "events"), "log 2,done 2,delete 2")
	}},
	{name: "A, B, A while a stream holds the first: taken up again without a callback", opt: Options{Config: "log a"}, run: func(w world) {
		s := w.Request(0, request("vm"))
		s.Upstream()
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log bb")}))
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log a")}))
		w.gone("3")
		events := w.do(0, "events")
		require.Equal(w.t, 2, strings.Count(events, "configure"), "no third: %s", events)
		require.NotContains(w.t, events, "done 1,")
		require.True(w.t, strings.HasSuffix(events, "/1"), "streams are children of the first context again: %s", events)
		s.Respond(host.Response{})
		s.Done()
	}},
	// Without a stream that holds it Envoy still keeps the first context for some
	// milliseconds: a quick return may find it, without a callback, or not.
	{name: "A, B, A once the first is done is a third start", opt: Options{Config: "log a"}, run: func(w world) {
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log bb")}))
		w.gone("1")
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log a")}))
		w.gone("2")
		require.Equal(w.t, 3, strings.Count(w.do(0, "events"), "configure"))
	}},
	{name: "refused by the canary: nothing changes, the next good one works", opt: Options{Config: "log a"}, run: func(w world) {
		vm := w.do(0, "vm")
		for _, bad := range []string{"refuse", "panic"} {
			require.ErrorIs(w.t, w.Push(host.Update{PluginConfig: []byte(bad)}), host.ErrRejected)
		}
		require.NotContains(w.t, w.do(0, "events"), "done 1")
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log b")}))
		require.Equal(w.t, vm, w.do(0, "vm"))
	}},
	{name: "refused by the workers only: acknowledged, bypassed, and spoilt until the vm_id changes", opt: Options{Config: "log a"}, run: func(w world) {
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("refuse-second")}), "an ACK is not a proof")
		for worker := range w.Workers() {
			r := w.answer(worker, request("reply 503 no"), host.Response{})
			require.Equal(w.t, 200, r.Status, "nobody looks at the request")
			require.True(w.t, r.Upstream)
		}
		require.ErrorIs(w.t, w.Push(host.Update{PluginConfig: []byte("log b")}), host.ErrRejected)
		require.NoError(w.t, w.Push(host.Update{VMID: "healed-" + time.Now().Format("150405.000000"), PluginConfig: []byte("log b")}))
		require.Equal(w.t, "1", w.do(0, "count"))
	}},
	{name: "on_done may ask for time, proxy_done ends it", opt: Options{Config: "log slow-done"}, run: func(w world) {
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log b")}))
		w.until("it is asked", func() bool { return strings.Contains(w.do(0, "events"), ",done 1,") })
		require.NotContains(w.t, w.do(0, "events"), "delete 1,")
		w.do(0, "effective 1; done")
		require.Contains(w.t, w.do(0, "events"), "delete 1,")
	}},
	{name: "each worker has a VM of its own", run: func(w world) {
		first := w.do(0, "vm")
		require.NotEqual(w.t, first, w.do(1, "vm"))
		require.Equal(w.t, first, w.do(0, "vm"), "and keeps it")
	}},
}

// Traps (FACTS 5, filter 10).
var trapCases = []conformance{
	{name: "the request gets an empty 503, those in flight too, other workers nothing", run: func(w world) {
		s := w.Request(0, request("vm"))
		s.Upstream()
		r := w.answer(0, request("panic"), host.Response{})
		require.Equal(w.t, 503, r.Status)
		require.Empty(w.t, r.Body)
		require.NotEmpty(w.t, w.do(1, "vm"))
		s.Respond(host.Response{})
		require.Equal(w.t, 503, s.Done().Status, "its 200 is replaced")
	}},
	{name: "a VM older than the back-off is reloaded by the next request", opt: Options{Config: "log a"}, run: func(w world) {
		w.do(0, "set k v 0; count")
		w.Pass(2 * ReloadBackoff)
		w.answer(0, request("panic"), host.Response{})
		require.Regexp(w.t, `^1 \| ok:v@\d+$`, w.do(0, "count; get k"), "globals are new, shared data survives")
	}},
	{name: "one that traps again within it answers 503 until it is over", run: func(w world) {
		w.Pass(2 * ReloadBackoff)
		w.answer(0, request("panic"), host.Response{})
		w.do(0, "vm")
		w.answer(0, request("panic"), host.Response{})
		require.Equal(w.t, 503, w.answer(0, request("vm"), host.Response{}).Status)
		w.Pass(2 * ReloadBackoff)
		require.NotEmpty(w.t, w.do(0, "vm"))
	}},
	{name: "in a tick: nothing happens until the next request", opt: Options{Config: "log a"}, run: func(w world) {
		first := w.do(0, "vm")
		w.do(0, "set on-tick panic 0; tick 10")
		w.Pass(2*ReloadBackoff + 50*time.Millisecond)
		second := w.do(0, "vm")
		require.NotEqual(w.t, first, second)
	}},
	{name: "in on_queue_ready, for who sits in the VM", run: func(w world) {
		tok := token(w, w.do(0, "regq q"))
		first := w.do(0, "vm")
		w.do(1, "enq "+tok+" !panic")
		w.Pass(2*ReloadBackoff + 50*time.Millisecond)
		require.NotEqual(w.t, first, w.do(0, "vm"))
	}},
	{name: "after a reload a wake goes to the context of the same number in the new VM", run: func(w world) {
		tok := token(w, w.do(0, "regq q"))
		w.Pass(2 * ReloadBackoff)
		w.answer(0, request("panic"), host.Response{})
		w.do(0, "vm")
		w.do(1, "enq "+tok+" m1")
		require.Equal(w.t, []string{"ok:m1"}, w.logged("queue "+tok+": ", 1))
	}},
	{name: "a push heals too", opt: Options{Config: "log a"}, run: func(w world) {
		w.answer(0, request("panic"), host.Response{})
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log b")}))
		require.Equal(w.t, "1", w.do(0, "count"))
	}},
	{name: "FAIL_CLOSED stays closed", opt: Options{Policy: host.FailClosed}, run: func(w world) {
		w.answer(0, request("panic"), host.Response{})
		w.Pass(2 * ReloadBackoff)
		require.Equal(w.t, 503, w.answer(0, request("vm"), host.Response{}).Status)
	}},
	{name: "FAIL_OPEN lets pass unseen", opt: Options{Policy: host.FailOpen}, run: func(w world) {
		w.answer(0, request("panic"), host.Response{})
		r := w.answer(0, request("reply 503 no"), host.Response{})
		require.Equal(w.t, 200, r.Status)
	}},
	{name: "in on_log the request itself is fine", run: func(w world) {
		require.Equal(w.t, 200, w.answer(0, request("vm", "x-cmd-log", "panic"), host.Response{}).Status)
		require.Equal(w.t, 503, w.answer(0, request("vm"), host.Response{}).Status)
	}},
	{name: "a reply sent before the panic is not sent", run: func(w world) {
		r := w.answer(0, request("reply 429 x; panic"), host.Response{})
		require.Equal(w.t, 503, r.Status)
		require.Empty(w.t, r.Body)
	}},
	{name: "what was in shared data, queues and gauges before the panic stays", run: func(w world) {
		tok := token(w, w.do(1, "regq q"))
		w.do(1, "define-as 1 conf_leak")
		w.answer(0, request("set k v 0; enq "+tok+" m; define-as 1 conf_leak; bump conf_leak 1; panic"), host.Response{})
		require.Regexp(w.t, `^ok:v@\d+ \| ok:1$`, w.do(1, "get k; gauge conf_leak"))
		require.Equal(w.t, []string{"ok:m"}, w.logged("queue "+tok+": ", 1))
	}},
}

// Calls out (filter 8, FACTS 7).
var callCases = []conformance{
	callCase("an answer comes to the root context", "callpath "+Cluster+" 2000 /x", `to 1: 200 got body`),
	callCase("an upstream's 503", "callpath "+Cluster+" 2000 /unavailable", `to 1: 503 sorry`),
	callCase("a refused connection is a made-up 503", "callpath "+RefusedCluster+" 2000 /x", `to 1: 503 upstream connect error`),
	callCase("a timeout is a made-up 504", "callpath "+Cluster+" 200 /hang", `to 1: 504 upstream request timeout`),
	command("no such cluster, no callback", "callpath nowhere 1000 /x", "badarg:0"),
	command("without a path", "badcall "+Cluster, "badarg:0"),
	{name: "with the old context its unanswered calls are cancelled", opt: Options{Config: "log a"}, run: func(w world) {
		w.do(0, "callpath "+Cluster+" 2000 /delay")
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log b")}))
		w.Pass(500 * time.Millisecond)
		require.Empty(w.t, w.logs("answer "))
	}},
}

func callCase(name, cmd, want string) conformance {
	return conformance{name: name, opt: Options{Config: "log a"}, run: func(w world) {
		require.Contains(w.t, w.do(0, cmd), "ok:")
		require.Contains(w.t, w.logged("answer ", 1)[0], want)
	}}
}

// Timeouts of the upstream and the filter (FACTS 11, filter extra).
var timeoutCases = []conformance{
	{name: "a route's timeout", run: func(w world) {
		r := request("vm", "x-cmd-log", "prop response.code; prop response.flags; prop response.code_details")
		r.Route = SlowRoute
		r.Timeout = SlowTimeout
		s := w.Request(0, r)
		s.Upstream()
		w.Pass(SlowTimeout)
		require.Equal(w.t, 504, s.Done().Status)
		require.Equal(w.t, []string{number(504), number(host.FlagUpstreamRequestTimeout), "ok:" + host.RouteTimeout.Details}, w.logged("log: ", 3))
	}},
	{name: "it starts when a held request is let go", run: func(w world) {
		r := request("pause", "x-tag", "t")
		r.Route, r.Timeout = SlowRoute, SlowTimeout
		s := w.Request(0, r)
		w.logged("request t: ", 1)
		w.Pass(2 * SlowTimeout)
		w.do(0, "release")
		_, reached := s.Upstream()
		require.True(w.t, reached)
		s.Respond(host.Response{})
		require.Equal(w.t, 200, s.Done().Status)
	}},
	{name: "the filter shortens it by x-envoy-upstream-rq-timeout-ms, which the upstream does not see", run: func(w world) {
		s := w.Request(0, request("replace 0 x-envoy-upstream-rq-timeout-ms 100", "x-cmd-log", "prop response.code; prop response.flags"))
		hs, reached := s.Upstream()
		require.True(w.t, reached)
		require.False(w.t, hs.Has("x-envoy-upstream-rq-timeout-ms"))
		w.Pass(100 * time.Millisecond)
		require.Equal(w.t, 504, s.Done().Status)
		require.Equal(w.t, []string{number(504), number(host.FlagUpstreamRequestTimeout)}, w.logged("log: ", 2))
	}},
	{name: "also on a request that was held", run: func(w world) {
		s, _ := w.hold(0)
		w.Pass(100 * time.Millisecond)
		w.do(0, "retime 100")
		_, reached := s.Upstream()
		require.True(w.t, reached)
		w.Pass(100 * time.Millisecond)
		require.Equal(w.t, 504, s.Done().Status)
	}},
	{name: "it may be longer than the route's", run: func(w world) {
		r := request("replace 0 x-envoy-upstream-rq-timeout-ms 5000")
		r.Route, r.Timeout = SlowRoute, SlowTimeout
		s := w.Request(0, r)
		s.Upstream()
		w.Pass(2 * SlowTimeout)
		s.Respond(host.Response{})
		require.Equal(w.t, 200, s.Done().Status)
	}},
}
