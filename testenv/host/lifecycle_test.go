package host_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
)

// push returns whether Envoy would have acknowledged the configuration.
func push(h *host.Host, cfg string) bool {
	return h.Push(host.Update{PluginConfig: []byte(cfg)}) == nil
}

func TestStart(t *testing.T) {
	t.Run("canary, main thread and each worker start the plugin", func(t *testing.T) {
		h := start(t, host.Config{Workers: 2, PluginConfig: []byte("config")})
		require.Equal(t, []string{"ok:config", "ok:config", "ok:config", "ok:config"}, logs(h, ""))
		require.Equal(t, "create 1/0,vmstart 1,configure 1 6,create 2/1", do(h, 0, "events"))
		var kinds []string
		for _, l := range h.Logs() {
			kinds = append(kinds, string(l.Kind))
		}
		require.Equal(t, []string{"canary", "main", "worker", "worker"}, kinds)
	})
	t.Run("its configuration can be read in on_configure only", func(t *testing.T) {
		require.Equal(t, "notfound:", do(start(t, host.Config{PluginConfig: []byte("x")}), 0, "config"))
	})
	t.Run("an empty configuration is found, and empty", func(t *testing.T) {
		h := start(t, host.Config{})
		require.Contains(t, do(h, 0, "events"), "configure 1 0")
		require.Equal(t, []string{"", "", ""}, logs(h, ""))
	})
	for _, cfg := range []string{"refuse", "panic", "nilderef"} {
		t.Run("a process does not start with a plugin that fails: "+cfg, func(t *testing.T) {
			_, err := host.New(t.Context(), host.Config{Module: probe, PluginConfig: []byte(cfg)})
			require.ErrorIs(t, err, host.ErrRejected)
		})
	}
	t.Run("while package init runs, host calls are restricted but for logging", func(t *testing.T) {
		_, err := host.New(t.Context(), host.Config{Module: probe, Env: host.H("init", "set")})
		require.ErrorContains(t, err, "restricted_callback")
		h := start(t, host.Config{Env: host.H("init", "log")})
		require.Contains(t, logs(h, ""), "init")
	})
	t.Run("what Envoy would not load", func(t *testing.T) {
		_, err := host.Compile(t.Context(), []byte("\x00asm\x01\x00\x00\x00"), host.CompileConfig{})
		require.ErrorIs(t, err, host.ErrNotProxyWasm)
		_, err = host.Compile(t.Context(), []byte("no module"), host.CompileConfig{})
		require.Error(t, err)
	})
}

func TestPush(t *testing.T) {
	t.Run("same VM, new root context, the idle old one is done at once", func(t *testing.T) {
		h := start(t, host.Config{PluginConfig: []byte("a")})
		require.Equal(t, "1", do(h, 0, "count"))
		require.True(t, push(h, "b"))
		require.Equal(t, "2", do(h, 0, "count"), "globals live on")
		require.Equal(t, "create 1/0,vmstart 1,configure 1 1,create 2/1,log 2,done 2,delete 2,"+
			"create 3/0,vmstart 3,configure 3 1,done 1,delete 1,create 4/3,log 4,done 4,delete 4,create 5/3", do(h, 0, "events"))
	})
	t.Run("a stream in flight ends on its old context", func(t *testing.T) {
		h := start(t, host.Config{PluginConfig: []byte("a")})
		s := h.Worker(0).Request(host.Request{})
		require.True(t, push(h, "b"))
		require.NotContains(t, do(h, 0, "events"), "done 1")
		s.Respond(host.Response{})
		s.Done()
		require.Contains(t, do(h, 0, "events"), "log 2,done 2,delete 2,done 1,delete 1")
	})
	t.Run("a configuration that returns while a stream holds it is not started again", func(t *testing.T) {
		h := start(t, host.Config{PluginConfig: []byte("a")})
		s := h.Worker(0).Request(host.Request{})
		require.True(t, push(h, "b"))
		require.True(t, push(h, "a"))
		got := do(h, 0, "context; events")
		require.Equal(t, 2, strings.Count(got, "configure"), "no third: %s", got)
		require.Contains(t, got, "create 4/1", "new streams are children of the first context again")
		require.Contains(t, got, "done 3", "and the second is gone")
		s.Done()
	})
	t.Run("refused by the canary: nothing changes, the next good one works", func(t *testing.T) {
		h := start(t, host.Config{PluginConfig: []byte("a")})
		for _, bad := range []string{"refuse", "panic", "refuse"} {
			require.False(t, push(h, bad))
		}
		require.Equal(t, "1", do(h, 0, "count"))
		require.NotContains(t, do(h, 0, "events"), "done 1")
		require.True(t, push(h, "b"))
		require.Equal(t, "2", do(h, 0, "count"))
	})
	t.Run("refused by a worker only: acknowledged, bypassed, and spoilt until the vm_id changes", func(t *testing.T) {
		h := start(t, host.Config{Workers: 2, PluginConfig: []byte("a")})
		require.True(t, push(h, "refuse-second"), "an ACK is not a proof")
		for i := range 2 {
			require.True(t, h.Worker(i).Bypassed())
			r := h.Worker(i).Exchange(host.Request{Headers: host.H("x-cmd", "reply 503 no")}, host.Response{})
			require.Equal(t, host.Bypassed, r.Action)
			require.Equal(t, 200, r.Status)
		}
		require.False(t, push(h, "b"))
		require.NoError(t, h.Push(host.Update{VMID: "seawall-r2", PluginConfig: []byte("b")}))
		require.Equal(t, "1", do(h, 0, "count"))
	})
	t.Run("another vm_id starts with empty shared data, and the old one's is dropped", func(t *testing.T) {
		h := start(t, host.Config{PluginConfig: []byte("a")})
		do(h, 0, "set k v 0")
		require.True(t, push(h, "b"))
		require.Equal(t, "ok:v@1", do(h, 0, "get k"))
		require.NoError(t, h.Push(host.Update{VMID: "r2", PluginConfig: []byte("b")}))
		require.Equal(t, "notfound", do(h, 0, "get k"))
		require.Empty(t, h.SharedKeys("seawall"))
	})
	t.Run("on_done may ask for time, proxy_done ends it", func(t *testing.T) {
		h := start(t, host.Config{PluginConfig: []byte("slow-done")})
		require.True(t, push(h, "b"))
		require.NotContains(t, do(h, 0, "events"), "delete 1")
		do(h, 0, "effective 1; done")
		require.Contains(t, do(h, 0, "events"), "delete 1")
	})
}

func TestTicks(t *testing.T) {
	h := start(t, host.Config{Workers: 2, PluginConfig: []byte("tick 200")})
	do(h, 0, "set on-tick now 0")
	h.Advance(199 * time.Millisecond)
	require.Empty(t, logs(h, "tick: "))
	h.Advance(time.Millisecond)
	require.Len(t, logs(h, "tick: "), 3, "main thread and both workers, never the canary")
	h.Advance(800 * time.Millisecond)
	require.Len(t, logs(h, "tick: "), 15)

	t.Run("the old context ticks on until its last stream is over", func(t *testing.T) {
		do(h, 0, "set on-tick context 0")
		s := h.Worker(0).Request(host.Request{})
		require.True(t, push(h, "tick 100"))
		before := len(logs(h, "tick: "))
		h.Advance(200 * time.Millisecond)
		require.Len(t, logs(h, "tick: ")[before:], 3*2+1)
		s.Done()
		before = len(logs(h, "tick: "))
		h.Advance(200 * time.Millisecond)
		require.Len(t, logs(h, "tick: ")[before:], 3*2)
	})
	t.Run("period 0 stops it", func(t *testing.T) {
		require.True(t, push(h, "tick 0"))
		before := len(logs(h, "tick: "))
		h.Advance(time.Second)
		require.Len(t, logs(h, "tick: "), before)
	})
	t.Run("the wall clock may step back, timers keep their distance", func(t *testing.T) {
		h := start(t, host.Config{NoMain: true, PluginConfig: []byte("tick 100")})
		do(h, 0, "set on-tick now 0")
		h.SetClock(h.Now().Add(-time.Hour))
		h.Advance(100 * time.Millisecond)
		require.Len(t, logs(h, "tick: "), 1)
	})
}

func TestPause(t *testing.T) {
	h := start(t, host.Config{NoMain: true, PluginConfig: []byte("tick 100")})
	hold := func() *host.Stream {
		s := h.Worker(0).Request(host.Request{Headers: host.H("x-cmd", "pause")})
		require.Equal(t, host.Paused, s.Action())
		return s
	}
	t.Run("resumed by effective context, from another callback", func(t *testing.T) {
		s := hold() // context 2
		do(h, 0, "effective 2; resume 0")
		require.Equal(t, host.Continued, s.Action())
		s.Respond(host.Response{Code: 204})
		require.Equal(t, 204, s.Done().Status)
	})
	t.Run("answered later", func(t *testing.T) {
		s := hold()
		next, err := strconv.Atoi(do(h, 0, "context"))
		require.NoError(t, err)
		id := strconv.Itoa(next - 1)
		do(h, 0, "effective "+id+"; reply 503 late bare")
		require.Equal(t, host.Replied, s.Action())
		require.Equal(t, 503, s.Done().Status)
	})
	t.Run("a stream that is gone cannot be reached", func(t *testing.T) {
		s := hold()
		s.Abort(true)
		s.Done()
		require.Equal(t, "badarg", do(h, 0, "effective 99"))
	})
	t.Run("an upstream cannot answer what is held", func(t *testing.T) {
		s := hold()
		require.Panics(t, func() { s.Respond(host.Response{}) })
		s.Done()
	})
}

func TestTrap(t *testing.T) {
	trapped := func(h *host.Host) host.Result {
		return h.Worker(0).Exchange(host.Request{Headers: host.H("x-cmd", "panic")}, host.Response{})
	}
	plain := func(h *host.Host) host.Result { return h.Worker(0).Exchange(host.Request{}, host.Response{}) }

	t.Run("the request and all in flight get an empty 503, other workers nothing", func(t *testing.T) {
		h := start(t, host.Config{Workers: 2})
		do(h, 0, "set k v 0; count")
		inFlight := h.Worker(0).Request(host.Request{})
		r := trapped(h)
		require.Equal(t, host.Failed, r.Action)
		require.Equal(t, 503, r.Status)
		require.Empty(t, r.Body)
		require.Error(t, h.Worker(0).Dead())
		inFlight.Respond(host.Response{})
		require.Equal(t, 503, inFlight.Done().Status, "its 200 is replaced")
		require.Equal(t, host.Continued, h.Worker(1).Exchange(host.Request{}, host.Response{}).Action)
	})
	t.Run("a VM older than the back-off is reloaded by the next request", func(t *testing.T) {
		h := start(t, host.Config{})
		do(h, 0, "set k v 0; count")
		h.Advance(2 * time.Second)
		trapped(h)
		require.Equal(t, "1 | ok:v@1", do(h, 0, "count; get k"), "globals are new, shared data survives")
		require.Equal(t, host.Stats{VMsCreated: 4, Traps: 1, Reloads: 1}, h.Stats())
		trapped(h)
		require.Equal(t, host.Failed, plain(h).Action, "again within it")
		h.Advance(1500 * time.Millisecond)
		require.Equal(t, host.Continued, plain(h).Action)
		require.EqualValues(t, 2, h.Stats().Reloads)
		require.EqualValues(t, 1, h.Stats().ReloadBackoffs)
	})
	t.Run("without a request nothing is reloaded, the dead VM does not tick", func(t *testing.T) {
		h := start(t, host.Config{NoMain: true, PluginConfig: []byte("tick 100")})
		do(h, 0, "set on-tick panic 0")
		h.Advance(10 * time.Second)
		require.Error(t, h.Worker(0).Dead())
		require.EqualValues(t, 1, h.Stats().Traps)
	})
	t.Run("a push heals too", func(t *testing.T) {
		h := start(t, host.Config{PluginConfig: []byte("a")})
		trapped(h)
		require.True(t, push(h, "b"))
		require.Equal(t, "1", do(h, 0, "count"))
	})
	t.Run("fail closed stays closed, fail open passes unseen", func(t *testing.T) {
		h := start(t, host.Config{Policy: host.FailClosed})
		trapped(h)
		h.Advance(time.Hour)
		require.Equal(t, host.Failed, plain(h).Action)
		h = start(t, host.Config{Policy: host.FailOpen})
		trapped(h)
		require.Equal(t, host.Bypassed, plain(h).Action)
	})
	t.Run("in on_log the request itself is fine", func(t *testing.T) {
		h := start(t, host.Config{})
		r := h.Worker(0).Exchange(host.Request{Headers: host.H("x-cmd-log", "panic")}, host.Response{})
		require.Equal(t, 200, r.Status)
		require.Error(t, h.Worker(0).Dead())
	})
	t.Run("a reply sent before the panic is not sent", func(t *testing.T) {
		r := start(t, host.Config{}).Worker(0).Exchange(host.Request{Headers: host.H("x-cmd", "reply 429 x; panic")}, host.Response{})
		require.Equal(t, host.Failed, r.Action)
		require.Equal(t, 503, r.Status)
	})
	t.Run("at a host call that the test picks", func(t *testing.T) {
		h := start(t, host.Config{})
		h.Worker(0).TrapAt(func(c host.Crossing) bool { return c.Key == "fatal" })
		require.Equal(t, "ok", do(h, 0, "set other v 0"))
		r := h.Worker(0).Exchange(host.Request{Headers: host.H("x-cmd", "set fatal v 0")}, host.Response{})
		require.Equal(t, host.Failed, r.Action)
		_, ok := h.Shared("seawall", "fatal")
		require.False(t, ok)
	})
	t.Run("out of memory", func(t *testing.T) {
		m, err := host.Compile(t.Context(), probeWasm, host.CompileConfig{MaxMemoryMiB: 32})
		require.NoError(t, err)
		h := start(t, host.Config{Module: m, NoMain: true})
		r := h.Worker(0).Exchange(host.Request{Headers: host.H("x-cmd", "oom")}, host.Response{})
		require.Equal(t, host.Failed, r.Action)
	})
}

func TestCalls(t *testing.T) {
	var mu sync.Mutex
	var got []host.Call
	answer := host.Answer{Status: 200, Body: []byte("done")}
	cfg := host.Config{NoMain: true, PluginConfig: []byte("a"), Clusters: map[string]host.CallHandler{"cp": func(c host.Call) host.Answer {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, c)
		return answer
	}}}
	for _, tc := range []struct {
		name   string
		cmd    string
		answer host.Answer
		after  time.Duration
		out    string
		want   []string
	}{
		{"an answer goes to the root context", "call cp 1000 body", host.Answer{Status: 200, Body: []byte("done")}, 0, "ok:4", []string{"4 to 1: 200 done headers=1"}},
		{"it takes its time", "call cp 1000 body", host.Answer{Status: 503, Delay: 300 * time.Millisecond}, 300 * time.Millisecond, "ok:4", []string{"4 to 1: 503  headers=1"}},
		{"a refused connection is a made-up 503", "call cp 1000 body", host.Answer{}, 0, "ok:4",
			[]string{"4 to 1: 503 upstream connect error or disconnect/reset before headers. reset reason: remote connection failure headers=3"}},
		{"a timeout is a made-up 504", "call cp 1000 body", host.Answer{Hang: true}, time.Second, "ok:4", []string{"4 to 1: 504 upstream request timeout headers=3"}},
		{"without a timeout it may never come", "call cp 0 body", host.Answer{Hang: true}, time.Hour, "ok:4", nil},
		{"a reset answer has no headers", "call cp 1000 body", host.Answer{Reset: true}, 0, "ok:4", []string{"4 to 1:   headers=0"}},
		{"no such cluster", "call nowhere 1000 body", host.Answer{}, 0, "badarg:0", nil},
		{"without a path", "badcall cp", host.Answer{}, 0, "badarg:0", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer = tc.answer
			h := start(t, cfg)
			require.Equal(t, tc.out, do(h, 0, tc.cmd))
			require.Empty(t, logs(h, "answer "))
			h.Advance(tc.after)
			require.Equal(t, tc.want, logs(h, "answer "))
		})
	}
	require.Equal(t, "body", string(got[0].Body))
	require.Equal(t, "4", got[0].Headers.Get("content-length"))
	require.Equal(t, time.Second, got[0].Timeout)

	t.Run("with the old context its unanswered calls are cancelled", func(t *testing.T) {
		answer = host.Answer{Status: 200, Delay: time.Second}
		h := start(t, cfg)
		do(h, 0, "call cp 5000 body")
		require.True(t, push(h, "b"))
		h.Advance(10 * time.Second)
		require.Empty(t, logs(h, "answer "))
		require.EqualValues(t, 1, h.Stats().CallsCancelled)
	})
	t.Run("a dead VM hears no answer", func(t *testing.T) {
		answer = host.Answer{Status: 200, Delay: time.Second}
		h := start(t, cfg)
		do(h, 0, "call cp 5000 body")
		h.Worker(0).Kill()
		h.Advance(10 * time.Second)
		require.Empty(t, logs(h, "answer "))
	})
}

func TestQueue(t *testing.T) {
	h := start(t, host.Config{Workers: 2, NoMain: true})
	require.Equal(t, "ok:1", do(h, 0, "regq q"))
	require.Equal(t, "ok:1", do(h, 1, "regq q"), "the last to register gets all")
	do(h, 0, "enq 1 m1; enq 1 m2")
	h.Advance(0)
	var workers []int
	var msgs []string
	for _, l := range h.Logs() {
		if strings.HasPrefix(l.Message, "queue ") {
			workers, msgs = append(workers, l.Worker), append(msgs, l.Message)
		}
	}
	require.Equal(t, []int{1, 1}, workers)
	require.Equal(t, []string{"queue 1: ok:m1", "queue 1: ok:m2"}, msgs)
	require.Equal(t, "empty: | notfound: | notfound", do(h, 0, "deq 1; deq 7; enq 7 x"))
	require.Equal(t, "ok | notfound", do(h, 0, "foreign clear_route_cache; foreign else"))
}

func TestDeterminism(t *testing.T) {
	trace := func() []host.LogLine {
		h := start(t, host.Config{Workers: 2, PluginConfig: []byte("tick 50"), Seed: 7})
		do(h, 0, "set on-tick now 0")
		h.Advance(time.Second)
		return h.Logs()
	}
	first, second := trace(), trace()
	require.Equal(t, first, second)
}

func TestWorkersInParallel(t *testing.T) {
	h := start(t, host.Config{Workers: 4, NoMain: true})
	do(h, 0, "set n 0 0; define 0 c")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			do(h, i, "define 0 c")
			for range 100 {
				for do(h, i, "incr n") != "ok" {
					continue
				}
				do(h, i, "inc 4 1")
			}
		})
	}
	wg.Wait()
	v, _ := h.Shared("seawall", "n")
	require.Equal(t, "400", string(v))
	require.EqualValues(t, 400, h.Metrics()["c"].Value)
}
