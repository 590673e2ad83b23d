package hosttest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
)

// What a TryHost has to have: the probe in the listener's chain, and once more,
// configured with AttemptConfig, in its cluster's; a route that tries again
// after 503 and a reset, TryRetries times.
const (
	AttemptConfig = "attempt"
	TryRetries    = 2
)

// TryHost is a proxy with one worker and the probe in both chains of a request.
type TryHost interface {
	// Play sends a request. The upstream answers one try after the other, with a
	// status or a "reset", the last one for all the rest. It returns what the
	// client got and the headers that came with each try.
	Play(r host.Request, answers ...string) (host.Result, []host.Headers)
}

// ExerciseTries runs the cases about the upstream chain.
func ExerciseTries(t *testing.T, h TryHost) {
	play := func(t *testing.T, calls, status int, more []string, answers ...string) []host.Headers {
		t.Helper()
		r, seen := h.Play(host.Request{Headers: host.H(more...)}, answers...)
		require.Equal(t, status, r.Status)
		require.Len(t, seen, calls)
		return seen
	}
	out := func(seen host.Headers) []string { return strings.Split(seen.Get("x-try-out"), " | ") }
	events := func(t *testing.T) string {
		t.Helper()
		return play(t, 1, 200, []string{"x-cmd", "events"}, "200")[0].Get("x-out") + ","
	}

	t.Run("one VM for both chains", func(t *testing.T) {
		seen := play(t, 1, 200, []string{"x-cmd", "vm", "x-try", "vm"}, "200")[0]
		require.NotEmpty(t, seen.Get("x-out"))
		require.Equal(t, seen.Get("x-out"), seen.Get("x-try-out"))
	})
	t.Run("each try sees what the edge has left, and its number", func(t *testing.T) {
		seen := play(t, 3, 200, []string{"x-cmd", "setprop mark left", "x-try", "prop mark; prop upstream.request_attempt_count"}, "503", "reset", "200")
		require.Equal(t, []string{"ok:left", "ok:le8=1"}, out(seen[0]))
		require.Equal(t, []string{"ok:left", "ok:le8=2"}, out(seen[1]))
		require.Equal(t, []string{"ok:left", "ok:le8=3"}, out(seen[2]))
	})
	t.Run("what one try leaves the next one sees", func(t *testing.T) {
		seen := play(t, 2, 200, []string{"x-try", "prop mine; setprop mine kept"}, "503", "200")
		require.Equal(t, "notfound", out(seen[0])[0])
		require.Equal(t, "ok:kept", out(seen[1])[0])
	})
	t.Run("so with request headers", func(t *testing.T) {
		seen := play(t, 2, 200, []string{"x-try", "hdr 0 x-mine; replace 0 x-mine kept"}, "503", "200")
		require.Equal(t, "notfound", out(seen[0])[0])
		require.Equal(t, "ok:kept", out(seen[1])[0])
	})
	t.Run("an endpoint is known to tries, and not to the edge", func(t *testing.T) {
		seen := play(t, 1, 200, []string{"x-cmd", "prop upstream.address; prop upstream.request_attempt_count", "x-try", "prop upstream.address"}, "200")[0]
		require.Equal(t, "notfound | ok:le8=0", seen.Get("x-out"))
		require.Regexp(t, `^ok:127\.0\.0\.1:\d+$`, seen.Get("x-try-out"))
	})
	t.Run("each try is a stream, that is told of its end and not logged", func(t *testing.T) {
		seen := play(t, 3, 503, []string{"x-cmd", "context", "x-try", "context"}, "503", "reset", "503")
		all := events(t)
		edge := seen[0].Get("x-out")
		require.Contains(t, all, ",log "+edge+",")
		require.Contains(t, all, ",delete "+edge+",")
		for _, s := range seen {
			try := s.Get("x-try-out")
			require.NotEqual(t, edge, try)
			require.Contains(t, all, ",create "+try+"/")
			require.Contains(t, all, ",delete "+try+",")
			require.NotContains(t, all, ",log "+try+",")
			require.Less(t, strings.Index(all, ",delete "+try+","), strings.Index(all, ",delete "+edge+","), "a try ends before its request")
		}
	})
	t.Run("the edge sees one answer, the last", func(t *testing.T) {
		r, _ := h.Play(host.Request{Headers: host.H("x-try-answer", "replace 2 x-cmd-response count")}, "503", "200")
		require.Equal(t, 200, r.Status)
		var out []string
		for _, hd := range r.Headers {
			if hd.Name == "x-out" {
				out = append(out, hd.Value)
			}
		}
		require.Equal(t, []string{"ok", "1"}, out, "of the try, and of the edge")
		require.Equal(t, "2", play(t, 1, 200, []string{"x-cmd", "count"}, "200")[0].Get("x-out"))
	})
	t.Run("a local reply is not tried again", func(t *testing.T) {
		r, seen := h.Play(host.Request{Headers: host.H("x-try", "reply 503 no bare")}, "200")
		require.Equal(t, 503, r.Status)
		require.Equal(t, "no", string(r.Body))
		require.Empty(t, seen)
	})
	t.Run("a replaced status is", func(t *testing.T) {
		play(t, 3, 503, []string{"x-try-answer", "replace 2 :status 503"}, "200")
	})
	t.Run("but not with x-envoy-ratelimited", func(t *testing.T) {
		play(t, 1, 503, []string{"x-try-answer", "replace 2 x-envoy-ratelimited true"}, "503", "200")
	})
	t.Run("in its answer the request is gone", func(t *testing.T) {
		r, _ := h.Play(host.Request{Headers: host.H("x-try-answer", "hdr 0 :method")}, "200")
		require.Equal(t, "badarg", r.Headers.Get("x-out"))
	})
	t.Run("a held try is sent on by a tick of its plugin", func(t *testing.T) {
		play(t, 1, 200, []string{"x-cmd", "set on-tick release 0", "x-try", "tick 10; pause"}, "200")
		play(t, 1, 200, []string{"x-cmd", "set on-tick now 0", "x-try", "tick 0"}, "200")
	})
	t.Run("why there was no connection is known at the try's end", func(t *testing.T) {
		seen := play(t, 2, 200, []string{"x-try", "context", "x-try-end", "prop upstream.transport_failure_reason"}, "reset", "200")
		all := events(t)
		require.Contains(t, all, ",end "+out(seen[0])[0]+" ")
		require.NotContains(t, all, ",end "+out(seen[0])[0]+" ok:delayed", "there was one")
		r, none := h.Play(host.Request{Cluster: "refused", Headers: host.H("x-try-end", "prop upstream.transport_failure_reason")}, "200")
		require.Equal(t, 503, r.Status)
		require.Empty(t, none)
		require.Contains(t, events(t), " ok:delayed connect error: Connection refused,")
	})
}
