//go:build linux

package e2e

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

const (
	headerPatience = "x-patience-ms" // of the callers of these tests
	headerLeft     = "x-seawall-deadline-ms"
)

func patience(ms string) http.Header { return http.Header{headerPatience: {ms}} }

// obeying is a request timeout, and a header in which a caller may ask for
// less.
func obeying(timeout string) string { return timeout + ", deadlineHeader: " + headerPatience }

// A caller's deadline shortens the call, is handed on, and is the caller's own
// affair: no breaker counts what it ends.
func TestCallersDeadline(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	for _, path := range []string{"/slow", "/stern", "/wary"} {
		service.Set(path, upstream.Behaviour{Latency: 2 * time.Second})
	}
	u := startUp(t, upConfig{workers: 4, policy: shop{endpoints: []string{service.Addr()}, routes: []route{
		{name: "fine", timeout: obeying("10s"), breaker: breaker(3, "1h")},
		{name: "slow", timeout: obeying("10s"), breaker: breaker(3, "1h")},
		{name: "stern", timeout: obeying("300ms"), breaker: breaker(3, "1h")},
		{name: "wary", timeout: obeying("10s"), breaker: "{slowCalls: {threshold: 80ms, minRequests: 3, window: 10m}, recoveryTimeout: 1h}"},
		{name: "deaf"}, // no deadlineHeader
	}}.yaml()})
	want := tally{}

	t.Run("cuts the call and is handed on", func(t *testing.T) {
		c := newCaller(t, u.listen).fresh()
		for k := range 8 { // above the threshold of the breaker
			service.Forget()
			started := time.Now()
			a, err := c.try("/slow", patience("200"))
			took := time.Since(started)
			require.NoError(t, err)
			require.Equal(t, http.StatusGatewayTimeout, a.status, "call %d", k+1)
			require.Equal(t, typeBase+"timeout", a.problem.Type)
			require.Empty(t, a.decision())
			require.GreaterOrEqual(t, took, 190*time.Millisecond)
			require.Less(t, took, time.Second)
			calls := service.Records()
			require.Len(t, calls, 1)
			left, err := strconv.Atoi(calls[0].Headers.Get(headerLeft))
			require.NoError(t, err)
			require.Positive(t, left)
			require.LessOrEqual(t, left, 200)
			require.Empty(t, calls[0].Headers.Get("x-envoy-upstream-rq-timeout-ms"), "a header of our own is told the service")
			want["slow timeout"]++
		}
	})
	t.Run("the policy's own timeout is a failure", func(t *testing.T) {
		c := newCaller(t, u.listen).fresh()
		for k := range 6 { // the caller would have waited for longer
			a, err := c.try("/stern", patience("5000"))
			require.NoError(t, err)
			require.Equal(t, k >= 3, a.refused(), "call %d: %d", k+1, a.status)
			want["stern "+map[bool]string{true: "breaker-open", false: "timeout"}[k >= 3]]++
		}
	})
	t.Run("no slow call either", func(t *testing.T) {
		c := newCaller(t, u.listen).fresh()
		for k := range 6 {
			a, err := c.try("/wary", patience("100"))
			require.NoError(t, err)
			require.Equal(t, http.StatusGatewayTimeout, a.status, "call %d", k+1)
			want["wary timeout"]++
		}
	})
	t.Run("spent", func(t *testing.T) {
		c := newCaller(t, u.listen).fresh()
		service.Forget()
		for _, ms := range []string{"0", "-1", "-200", "00", "-99999999999999999999999"} {
			for range 4 { // above the threshold
				a, err := c.try("/fine", patience(ms))
				require.NoError(t, err)
				require.Equal(t, http.StatusGatewayTimeout, a.status, "%q", ms)
				require.Equal(t, "deadline", a.decision(), "%q", ms)
				require.Equal(t, typeBase+"deadline", a.problem.Type, "%q", ms)
				require.Equal(t, a.header.Get("x-request-id"), a.problem.Instance)
				want["fine deadline"]++
			}
		}
		require.Zero(t, service.Calls("/"), "calls of the service")
		a, err := c.try("/fine", patience("5000"))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, a.status, "the breaker has not moved")
		want["fine ok"]++
	})
	t.Run("garbage says nothing", func(t *testing.T) {
		c := newCaller(t, u.listen).fresh()
		for _, ms := range []string{"", "soon", "1.5", "1e3", "0x10", "200ms", "+5", "1 2", "--1", "1,2", "\u0661", "9223372036855", "99999999999999999999999", strings.Repeat("9x", 2000)} {
			service.Forget()
			a, err := c.try("/fine", patience(ms))
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, a.status, "%.20q", ms)
			calls := service.Records()
			require.Len(t, calls, 1, "%q", ms)
			left, err := strconv.Atoi(calls[0].Headers.Get(headerLeft))
			require.NoError(t, err, "%q", ms)
			require.Greater(t, left, 9000, "%q", ms)
			require.LessOrEqual(t, left, 10_000, "%q", ms)
			want["fine ok"]++
		}
	})
	t.Run("only where the policy says so", func(t *testing.T) {
		service.Forget()
		header := patience("0")
		header.Set(headerLeft, "1")
		header.Set("grpc-timeout", "1n")
		a, err := newCaller(t, u.listen).try("/deaf", header)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, a.status)
		require.NotEqual(t, "1", service.Records()[0].Headers.Get(headerLeft))
		want["deaf ok"]++
	})
	u.awaitOutcomes(want)
	require.Equal(t, "closed", u.breaker("slow").State)
	u.stop()
}

// Waiting for a permit is of the caller's time: what is left afterwards is
// handed on, and a deadline that ends in the queue ends there.
func TestDeadlineInTheQueue(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	s := work(g, "maxConcurrency: 1, maxQueue: 5, maxWait: 20s")
	s.routes[0].timeout, s.routes[0].breaker = obeying("30s"), breaker(1, "1h")
	u := startUp(t, upConfig{workers: 4, policy: s.yaml()})
	holds := send(t, newCaller(t, u.listen), "/work", "holds", nil)
	g.awaitHolds(t, "/work", 1)

	short := send(t, newCaller(t, u.listen), "/work", "short", patience("400"))
	a := short.wait(t)
	require.Equal(t, http.StatusGatewayTimeout, a.status)
	require.Equal(t, "deadline", a.decision())
	require.GreaterOrEqual(t, short.took, 390*time.Millisecond)
	require.Less(t, short.took, 2*time.Second)

	waits := send(t, newCaller(t, u.listen), "/work", "waits", patience("5000"))
	u.awaitWaiting("work", 1)
	began := time.Now()
	eventually(t, soon, func() (bool, string) { return time.Since(began) > time.Second, "time stands still" })
	g.letGo("/work", 1, http.StatusOK)
	require.Equal(t, http.StatusOK, holds.wait(t).status)
	g.awaitCalls(t, "/work", 2)
	left, err := strconv.Atoi(g.last("/work").header.Get(headerLeft))
	require.NoError(t, err)
	require.LessOrEqual(t, left, 4000, "the second in the queue counts")
	require.Greater(t, left, 500)
	// And what is left ends the call.
	a = waits.wait(t)
	require.Equal(t, http.StatusGatewayTimeout, a.status)
	require.Equal(t, typeBase+"timeout", a.problem.Type)
	require.GreaterOrEqual(t, waits.took, 4900*time.Millisecond)
	require.Less(t, waits.took, 7*time.Second)
	require.Equal(t, "closed", u.breaker("work").State)
	g.open("/work", http.StatusOK)
	a, err = newCaller(t, u.listen).try("/work", patience("5000"))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, a.status, "the permit came back, and the breaker has not moved")
	u.awaitOutcomes(tally{"work ok": 2, "work deadline": 1, "work timeout": 1})
	u.awaitPool("work", 1, 0, 0)
	u.stop()
}

// The policy of a pool may bound waiting and call together.
func TestPoolTimeoutBoundsWaitAndCall(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	u := startUp(t, upConfig{workers: 2, policy: work(g, "maxConcurrency: 1, maxQueue: 5, maxWait: 1s, timeout: 1500ms").yaml()})
	first := send(t, newCaller(t, u.listen), "/work", "first", nil)
	g.awaitHolds(t, "/work", 1)
	began := time.Now()
	eventually(t, soon, func() (bool, string) { return time.Since(began) > 700*time.Millisecond, "time stands still" })
	second := send(t, newCaller(t, u.listen), "/work", "second", nil)
	for _, e := range []*errand{first, second} {
		a := e.wait(t)
		require.Equal(t, http.StatusGatewayTimeout, a.status)
		require.Equal(t, typeBase+"timeout", a.problem.Type)
		require.GreaterOrEqual(t, e.took, 1400*time.Millisecond)
		require.Less(t, e.took, 3*time.Second)
	}
	require.Equal(t, 2, g.calls("/work"))
	require.Equal(t, 1, g.atMost())
	u.stop()
}

// gRPC has its own way to say how long a caller waits, and to tell it that the
// time is over.
func TestGRPCDeadline(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/slow", upstream.Behaviour{Latency: 2 * time.Second})
	u := startUp(t, upConfig{workers: 2, policy: shop{endpoints: []string{service.Addr()}, protocol: "grpc", routes: []route{
		{name: "slow", breaker: breaker(3, "1h")}, {name: "fine"},
	}}.yaml()})
	c := newCaller(t, u.listen)
	c.http2()
	header := func(timeout string) http.Header {
		return http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Grpc-Timeout": {timeout}}
	}
	for k := range 6 {
		service.Forget()
		started := time.Now()
		a, err := c.try("/slow", header("200m"))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, a.status)
		require.Equal(t, "4", a.header.Get("grpc-status"), "call %d: %v", k+1, a.header) // DEADLINE_EXCEEDED
		require.Less(t, time.Since(started), time.Second)
		calls := service.Records()
		require.Len(t, calls, 1)
		left, err := strconv.Atoi(calls[0].Headers.Get(headerLeft))
		require.NoError(t, err)
		require.LessOrEqual(t, left, 200)
		require.Regexp(t, `^\d{1,3}m$`, calls[0].Headers.Get("grpc-timeout"))
	}
	service.Forget()
	a, err := c.try("/fine", header("0m"))
	require.NoError(t, err)
	require.Equal(t, "4", a.header.Get("grpc-status"))
	require.Equal(t, "deadline", a.decision())
	require.Zero(t, service.Calls("/"))
	u.awaitOutcomes(tally{"slow timeout": 6, "fine deadline": 1})
	u.stop()
}

// http2 makes the caller speak HTTP/2, without TLS.
func (c *caller) http2() {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	c.client.Transport.(*http.Transport).Protocols = protocols
}
