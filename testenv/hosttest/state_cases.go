package hosttest

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
)

// command is a case that is one request's commands and what they find.
func command(name, cmd, want string) conformance {
	return conformance{name: name, run: func(w world) { require.Equal(w.t, want, w.do(0, cmd)) }}
}

// Shared data (FACTS 9, filter 4).
var sharedCases = []conformance{
	command("a missing key is not found", "get k", "notfound"),
	command("cas 0 overwrites", "set k a 0; set k b 0; cas k b 0", "ok | ok | ok"),
	command("the cas sequence is one over all keys", "set a 1 0; set b 1 0; casdiff a b; set a 2 0; casdiff b a", "ok | ok | 1 | ok | 1"),
	command("cas 0xFFFFFFFF creates if absent, atomically", "set k a 0xFFFFFFFF; set k b 0xFFFFFFFF; cas k c 0", "ok | casmismatch | ok"),
	command("an old cas mismatches, the current one does not", "set k a 0; cas k b 0; cas k c -1; cas k d 0", "ok | ok | casmismatch | ok"),
	{name: "an empty value is a value", run: func(w world) {
		require.Regexp(w.t, `^ok \| ok:@\d+$`, w.do(0, "set k ; get k"))
	}},
	{name: "it is one for all workers, and its cas loses no update", run: func(w world) {
		w.do(0, "set n 0 0")
		var wg sync.WaitGroup
		for worker := range 2 {
			wg.Go(func() {
				for range 50 {
					w.do(worker, "add-cas n")
				}
			})
		}
		wg.Wait()
		require.Contains(w.t, w.do(1, "get n"), "ok:100@")
	}},
	{name: "another vm_id starts with none, the same one keeps it", run: func(w world) {
		w.do(0, "set k v 0")
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log b")}))
		require.Contains(w.t, w.do(0, "get k"), "ok:v@")
		require.NoError(w.t, w.Push(host.Update{VMID: fmt.Sprintf("other-%d", time.Now().UnixNano()), PluginConfig: []byte("log b")}))
		require.Equal(w.t, "notfound", w.do(0, "get k"))
	}},
}

// Metrics (FACTS 9, filter 9). They outlive a vm_id, so names are a case's own.
var metricCases = []conformance{
	{name: "a gauge is one for all VMs", run: func(w world) {
		require.Equal(w.t, "ok | ok", w.do(0, "define-as 1 conf_shared; bump conf_shared 5"))
		require.Equal(w.t, "ok | ok:5 | ok | ok:4", w.do(1, "define-as 1 conf_shared; gauge conf_shared; bump conf_shared -1; gauge conf_shared"))
		require.Equal(w.t, "ok:4", w.do(0, "gauge conf_shared"))
		require.EqualValues(w.t, 4, w.Metrics()["conf_shared"])
	}},
	command("each definition of a name gives a new id of one value", "define 1 conf_twice; define 1 conf_twice; inc 5 3; inc 9 2; read 5; read 9", "ok:5 | ok:9 | ok | ok | ok:5 | ok:5"),
	command("a counter takes no step back", "define 0 conf_ctr; inc 4 1; inc 4 0; inc 4 -1; read 4", "ok:4 | ok | badarg | badarg | ok:1"),
	command("recording sets a gauge and adds to a counter", "define 0 conf_rc; define 1 conf_rg; rec 4 3; rec 4 3; rec 5 3; rec 5 2; read 4; read 5",
		"ok:4 | ok:5 | ok | ok | ok | ok | ok:6 | ok:2"),
	command("a histogram cannot be read", "define 2 conf_h; rec 6 9; read 6; inc 6 1", "ok:6 | ok | badarg:0 | badarg"),
	command("an unknown id", "read 4; rec 400 1; inc 5 1", "notfound:0 | notfound | notfound"),
	command("behind a stats_matcher it takes all and reads 0", "define-as 1 hidden_g; bump hidden_g 1; gauge hidden_g", "ok | ok | ok:0"),
	{name: "increments of two workers at once are exact", run: func(w world) {
		w.do(0, "define-as 1 conf_exact")
		w.do(1, "define-as 1 conf_exact")
		var wg sync.WaitGroup
		for worker := range 2 {
			wg.Go(func() {
				for range 100 {
					w.do(worker, "bump conf_exact 1")
				}
			})
		}
		wg.Wait()
		require.Equal(w.t, "ok:200", w.do(0, "gauge conf_exact"))
	}},
}

// token is the number in "ok:3".
func token(w world, out string) string {
	w.t.Helper()
	tok, ok := strings.CutPrefix(out, "ok:")
	require.True(w.t, ok, out)
	return tok
}

// Shared queues (FACTS 8, filter 4).
var queueCases = []conformance{
	{name: "a name is one token everywhere, and can be resolved", run: func(w world) {
		tok := token(w, w.do(0, "regq q"))
		require.Equal(w.t, "ok:"+tok+" | ok:"+tok+" | notfound:0", w.do(1, "regq q; resolve q; resolve other"))
	}},
	{name: "the last to register gets every wake, in order, one for each item", run: func(w world) {
		tok := token(w, w.do(0, "regq q"))
		w.do(1, "regq q")
		vm := w.do(1, "vm")
		w.do(0, "enq "+tok+" !vm; enq "+tok+" m2")
		w.do(1, "enq "+tok+" m3")
		require.Equal(w.t, []string{"ok:!vm", "ok:m2", "ok:m3"}, w.logged("queue "+tok+": ", 3))
		require.Equal(w.t, []string{vm}, w.logs("woken: "))
	}},
	{name: "anybody may take an item, the wake comes all the same", run: func(w world) {
		tok := token(w, w.do(0, "regq q"))
		require.Equal(w.t, "ok | ok:m1 | empty:", w.do(0, "enq "+tok+" m1; deq "+tok+"; deq "+tok))
		require.Equal(w.t, []string{"empty:"}, w.logged("queue "+tok+": ", 1))
	}},
	command("an unknown token", "deq 4000000; enq 4000000 x", "notfound: | notfound"),
	{name: "it has no bound of its own", run: func(w world) {
		tok := token(w, w.do(0, "regq q"))
		require.Equal(w.t, "ok | 2000", w.do(0, "fill "+tok+" 2000; drain "+tok), "wakes come after the callback")
	}},
	{name: "the canary registers too: its wakes come to the main thread", opt: Options{Config: "regq ghost"}, run: func(w world) {
		// Of all that register at start, the last one gets the wakes; a canary of a
		// later push takes them away from the workers until those register again.
		require.ErrorIs(w.t, w.Push(host.Update{PluginConfig: []byte("regq ghost; refuse")}), host.ErrRejected)
		tok := token(w, w.do(0, "resolve ghost"))
		workers := []string{w.do(0, "vm"), w.do(1, "vm")}
		w.do(0, "enq "+tok+" !vm")
		woken := w.logged("woken: ", 1)
		require.NotContains(w.t, workers, woken[0])
	}},
	{name: "a wake from another worker lets a held request go", run: func(w world) {
		tok := token(w, w.do(1, "regq mine"))
		s, ctx := w.hold(1)
		_, reached := s.Upstream()
		require.False(w.t, reached)
		require.Equal(w.t, "ok", w.do(0, "enq "+tok+" !effective,"+ctx+"+resume,0"))
		_, reached = s.Upstream()
		require.True(w.t, reached)
		require.Equal(w.t, []string{"ok | ok"}, w.logs("woken: "))
		s.Respond(host.Response{Code: 204})
		require.Equal(w.t, 204, s.Done().Status)
	}},
	{name: "after a push the old context still gets the wake, while a stream holds it", run: func(w world) {
		tok := token(w, w.do(0, "regq q"))
		s := w.Request(0, request("context"))
		s.Upstream()
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log b")}))
		w.do(0, "enq "+tok+" m1")
		require.Equal(w.t, []string{"ok:m1"}, w.logged("queue "+tok+": ", 1))
		s.Respond(host.Response{})
		s.Done()
	}},
	{name: "after a push nobody gets the wake until the new context registers", run: func(w world) {
		tok := token(w, w.do(0, "regq q"))
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log b")}))
		w.gone("1")
		w.do(0, "enq "+tok+" m1")
		w.Pass(50 * time.Millisecond)
		require.Empty(w.t, w.logs("queue "+tok+": "))
		w.do(0, "regq q; enq "+tok+" m2")
		require.Equal(w.t, []string{"ok:m1"}, w.logged("queue "+tok+": ", 1), "what was queued is kept")
	}},
}

// Ticks (filter 2).
var tickCases = []conformance{
	{name: "main thread and each worker tick, never the canary", opt: Options{Config: "tick 10"}, run: func(w world) {
		w.do(0, "set on-tick vm 0")
		w.until("three VMs tick", func() bool { return len(distinct(w.logs("tick: "))) == 3 })
		w.Pass(100 * time.Millisecond)
		require.Len(w.t, distinct(w.logs("tick: ")), 3)
	}},
	{name: "the period can be set from a stream, and is its root's", run: func(w world) {
		vm := w.do(0, "vm; set on-tick vm 0; tick 20")
		ticks := w.logged("tick: ", 2)
		require.Equal(w.t, []string{strings.Fields(vm)[0]}, distinct(ticks), "only this VM")
	}},
	{name: "a new period takes effect at once, also from within a tick", opt: Options{Config: "tick 60000"}, run: func(w world) {
		w.do(0, "set on-tick tick,10+context 0; tick 10")
		w.logged("tick: ", 6)
		w.do(0, "tick 60000; set on-tick tick,60000 0")
		w.Pass(50 * time.Millisecond)
		before := len(w.logs("tick: "))
		w.Pass(150 * time.Millisecond)
		require.Len(w.t, w.logs("tick: "), before)
	}},
	{name: "period 0 stops them", run: func(w world) {
		w.do(0, "set on-tick context 0; tick 10")
		w.logged("tick: ", 2)
		w.do(0, "tick 0")
		w.Pass(20 * time.Millisecond)
		before := len(w.logs("tick: "))
		w.Pass(150 * time.Millisecond)
		require.Len(w.t, w.logs("tick: "), before)
	}},
	{name: "the old context ticks on until its last stream is over", opt: Options{Config: "log a"}, run: func(w world) {
		w.do(0, "set on-tick context 0; tick 10")
		s := w.Request(0, request("context"))
		s.Upstream()
		old := w.logged("tick: ", 1)[0]
		require.NoError(w.t, w.Push(host.Update{PluginConfig: []byte("log b")}))
		before := len(w.logs("tick: "))
		require.Equal(w.t, []string{old}, distinct(w.logged("tick: ", before+3)[before:]))
		s.Respond(host.Response{})
		s.Done()
		w.gone(old)
		before = len(w.logs("tick: "))
		w.Pass(100 * time.Millisecond)
		require.Len(w.t, w.logs("tick: "), before, "and then no more")
	}},
	{name: "the two clocks agree", run: func(w world) {
		require.Contains(w.t, []string{"-1", "0", "1"}, w.do(0, "clocks"))
	}},
}
