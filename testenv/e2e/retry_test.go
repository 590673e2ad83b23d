//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

const headerAttempt = "x-envoy-attempt-count"

// failing fails the next n calls in a way, nil being 503.
func failing(n int, failure *upstream.Behaviour) upstream.Behaviour {
	return upstream.Behaviour{FailNext: n, Failure: failure}
}

// TestRetries: what is tried again, what never is, and what each try is told.
// All of it is Envoy's own; the filter is in the chain.
func TestRetries(t *testing.T) {
	t.Parallel()
	service, spare := newUpstream(t), newUpstream(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, dead.Close())
	u := startUp(t, upConfig{policy: shop{endpoints: []string{service.Addr()}, budget: "{percent: 100%, minConcurrency: 100}", routes: []route{
		{name: "plain", more: "retry: {}"},
		{name: "keyed", more: "retry: {backoff: {base: 10ms}, idempotency: {}}"},
		{name: "stamped", more: "retry: {backoff: {base: 10ms}, idempotency: {generate: true}}"},
		{name: "pertry", timeout: "10s, perTry: 300ms", more: "retry: {backoff: {base: 10ms}}"},
		{name: "after", timeout: "4s", more: "retry: {attempts: 2, retryOn: [503, 429], honorRetryAfter: {max: 3s}}"},
		{name: "brief", timeout: "1500ms", more: "retry: {attempts: 2, retryOn: [503]}"},
		{name: "patient", timeout: "10s, perTry: 1s", more: "retry: {attempts: 2, retryOn: [503], honorRetryAfter: {max: 3s}}"},
		{name: "hasty", more: "retry: {attempts: 3, backoff: {base: 10ms}, honorRetryAfter: false}"},
		{name: "told", timeout: "5s, deadlineHeader: " + headerPatience, more: "retry: {attempts: 3, backoff: {base: 200ms, max: 200ms}}"},
		{name: "once", more: "breaker: {}"},
	}, extra: anotherService("pair", endpointsOf(service.Addr(), spare.Addr()), "routes: [{name: all, retry: {attempts: 2, backoff: {base: 10ms}}}]") +
		anotherService("rpc", endpointsOf(service.Addr())+", protocol: grpc", "routes: [{name: rpc, timeout: {request: 5s}, retry: {attempts: 3, backoff: {base: 200ms, max: 200ms}, idempotency: {generate: true}}}]") +
		anotherService("half", endpointsOf(dead.Addr().String(), spare.Addr()), "routes: [{name: all, retry: {backoff: {base: 10ms}}}]") +
		anotherService("miser", endpointsOf(service.Addr()), "retryBudget: {percent: 0%, minConcurrency: 0}, routes: [{name: all, retry: {backoff: {base: 10ms}}}]")}.yaml()})

	after := func(status int, seconds string) upstream.Behaviour {
		return upstream.Behaviour{Status: status, Headers: map[string]string{"retry-after": seconds}}
	}
	cases := []struct {
		name, method, path string
		header             http.Header
		service            upstream.Behaviour
		status, calls      int
		least, most        time.Duration // that the answer takes; most 0 = 3s
		after              string        // Retry-After that the client is told
	}{
		{name: "503", method: "GET", path: "/plain/503", service: failing(1, nil), status: 200, calls: 2},
		{name: "reset", method: "GET", path: "/plain/reset", service: failing(1, &upstream.Behaviour{Reset: true}), status: 200, calls: 2},
		{name: "three tries are all", method: "PUT", path: "/plain/down", service: upstream.Behaviour{Status: 503}, status: 503, calls: 3},
		{name: "an error that is not listed", method: "GET", path: "/plain/500", service: upstream.Behaviour{Status: 500}, status: 500, calls: 1},
		{name: "bad request", method: "GET", path: "/plain/400", service: upstream.Behaviour{Status: 400}, status: 400, calls: 1},
		{name: "who are you", method: "GET", path: "/plain/401", service: upstream.Behaviour{Status: 401}, status: 401, calls: 1},
		{name: "you may not", method: "GET", path: "/plain/403", service: upstream.Behaviour{Status: 403}, status: 403, calls: 1},
		{name: "too many, which is not listed", method: "GET", path: "/plain/429", service: upstream.Behaviour{Status: 429}, status: 429, calls: 1},
		{name: "POST without a key", method: "POST", path: "/plain/post", service: failing(1, nil), status: 503, calls: 1},
		{name: "PATCH without a key", method: "PATCH", path: "/plain/patch", service: failing(1, nil), status: 503, calls: 1},
		{name: "a key that the policy does not name", method: "POST", path: "/plain/named", header: http.Header{"Idempotency-Key": {"k"}}, service: failing(1, nil), status: 503, calls: 1},
		{name: "POST with its key", method: "POST", path: "/keyed/with", header: http.Header{"Idempotency-Key": {"k"}}, service: failing(2, nil), status: 200, calls: 3},
		{name: "POST that lacks it", method: "POST", path: "/keyed/without", service: failing(1, nil), status: 503, calls: 1},
		{name: "POST with an empty key", method: "POST", path: "/keyed/empty", header: http.Header{"Idempotency-Key": {""}}, service: failing(1, nil), status: 503, calls: 1},
		{name: "GET needs none", method: "GET", path: "/keyed/get", service: failing(1, nil), status: 200, calls: 2},
		{name: "a slow try", method: "GET", path: "/pertry/slow", service: failing(1, &upstream.Behaviour{Hang: true}), status: 200, calls: 2, least: 290 * time.Millisecond},
		{name: "each try is slow", method: "GET", path: "/pertry/hang", service: upstream.Behaviour{Hang: true}, status: 504, calls: 3, least: 870 * time.Millisecond},
		{name: "Retry-After is waited for", method: "GET", path: "/after/1", service: failing(1, new(after(503, "1"))), status: 200, calls: 2, least: time.Second},
		{name: "after a 429, too", method: "GET", path: "/after/429", service: failing(1, new(after(429, "1"))), status: 200, calls: 2, least: time.Second},
		{name: "longer than honorRetryAfter", method: "GET", path: "/after/9", service: after(503, "9"), status: 503, calls: 1, most: time.Second, after: "9"},
		{name: "longer than what is left", method: "GET", path: "/brief/2", service: after(503, "2"), status: 503, calls: 1, most: time.Second, after: "2"},
		{name: "longer than a try, not than the whole", method: "GET", path: "/patient/2", service: failing(1, new(after(503, "2"))), status: 200, calls: 2, least: 2 * time.Second, most: 4 * time.Second},
		{name: "no number", method: "GET", path: "/after/date", service: failing(1, new(after(503, "Fri, 31 Dec 2027 23:59:59 GMT"))), status: 200, calls: 2},
		{name: "not looked at", method: "GET", path: "/hasty/60", service: failing(1, new(after(503, "60"))), status: 200, calls: 2},
		{name: "no retry in the policy", method: "GET", path: "/once/503", service: upstream.Behaviour{Status: 503}, status: 503, calls: 1},
	}
	for _, tc := range cases {
		service.Set(tc.path, tc.service)
	}
	// All at once: they are requests of their own, and most of them wait.
	t.Run("retried", func(t *testing.T) {
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				c := newCaller(t, u.listen)
				c.method = tc.method
				started := time.Now()
				a, err := c.try(tc.path, tc.header)
				took := time.Since(started)
				require.NoError(t, err)
				require.Equal(t, tc.status, a.status)
				require.GreaterOrEqual(t, took, tc.least)
				most := tc.most
				if most == 0 {
					most = 5 * time.Second
				}
				require.Less(t, took, most)
				if tc.after != "" {
					require.Equal(t, tc.after, a.header.Get("retry-after"))
				}
				for name := range a.header {
					require.NotContains(t, name, "X-Envoy-", "clients learn nothing of our inside")
				}
				tries := recorded(service, tc.path)
				require.Len(t, tries, tc.calls)
				for i, r := range tries {
					require.Equal(t, strconv.Itoa(i+1), r.Headers.Get(headerAttempt))
					require.Equal(t, tc.header.Get("Idempotency-Key"), r.Headers.Get("Idempotency-Key"), "the same key on each try")
				}
			})
		}
	})

	t.Run("a key that the edge makes", func(t *testing.T) {
		for _, key := range []string{"", "mine"} {
			service.Set("/stamped", upstream.Behaviour{Ledger: true, FailNext: 2, Failure: &upstream.Behaviour{Status: 503, Ledger: true}})
			service.Forget()
			header := http.Header{}
			if key != "" {
				header.Set("Idempotency-Key", key)
			}
			a, err := newCaller(t, u.listen).try("/stamped/"+key, header)
			require.NoError(t, err)
			require.Equal(t, 200, a.status)
			charges := service.Charges()
			require.Len(t, charges, 1, "charged once")
			require.Equal(t, 3, charges[0].Calls)
			if key != "" {
				require.Equal(t, key, charges[0].Key)
				continue
			}
			require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, charges[0].Key)
		}
	})

	t.Run("each try is told what it has left", func(t *testing.T) {
		service.Set("/told", upstream.Behaviour{Status: 503, Latency: 300 * time.Millisecond})
		for name, c := range map[string]struct {
			header http.Header
			first  int
		}{"of the policy's time": {nil, 5000}, "of the caller's": {patience("3000"), 3000}} {
			path := "/told/" + strconv.Itoa(c.first)
			caller := newCaller(t, u.listen)
			caller.method = http.MethodGet
			a, err := caller.try(path, c.header)
			require.NoError(t, err)
			require.Equal(t, 503, a.status)
			before := 0
			for i, r := range recorded(service, path) {
				left, err := strconv.Atoi(r.Headers.Get(headerLeft))
				require.NoError(t, err, "%s: try %d: %v", name, i+1, r.Headers)
				switch i {
				case 0:
					require.InDelta(t, c.first, left, 20)
				default:
					require.Less(t, left, before-250, "%s: try %d", name, i+1)
				}
				before = left
			}
		}
	})

	t.Run("over gRPC, too", func(t *testing.T) {
		service.Set("/rpc", upstream.Behaviour{Status: 503, Latency: 300 * time.Millisecond})
		for name, c := range map[string]struct {
			path, timeout string
			first         int
		}{"of the policy's time": {"/rpc/policy", "", 5000}, "of the caller's": {"/rpc/caller", "3S", 3000}} {
			caller := newCaller(t, u.listen)
			caller.host = "rpc.local"
			header := http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
			if c.timeout != "" {
				header.Set("grpc-timeout", c.timeout)
			}
			_, err := caller.try(c.path, header)
			require.NoError(t, err)
			tries := recorded(service, c.path)
			require.Len(t, tries, 3)
			before := 0
			for i, r := range tries {
				value, milliseconds := strings.CutSuffix(r.Headers.Get("grpc-timeout"), "m")
				require.True(t, milliseconds, "%s: try %d: %v", name, i+1, r.Headers)
				left, err := strconv.Atoi(value)
				require.NoError(t, err)
				require.Equal(t, r.Headers.Get(headerLeft), value)
				if i == 0 {
					require.InDelta(t, c.first, left, 20)
				} else {
					require.Less(t, left, before-250)
				}
				before = left
			}
		}
	})

	t.Run("another try goes to another endpoint", func(t *testing.T) {
		service.Set("/pair", upstream.Behaviour{Status: 503})
		c := newCaller(t, u.listen)
		c.method, c.host = http.MethodGet, "pair.local"
		for range 20 {
			require.Equal(t, 200, c.call(t, "/pair").status)
		}
		require.Equal(t, 20, int(spare.Calls("/pair")))
		require.NotZero(t, service.Calls("/pair"), "the failing one has been asked")
	})
	t.Run("nor to one where nobody listens", func(t *testing.T) {
		c := newCaller(t, u.listen)
		c.method, c.host = http.MethodGet, "half.local"
		for range 20 {
			require.Equal(t, 200, c.call(t, "/half").status)
		}
		require.Equal(t, 20, int(spare.Calls("/half")))
		failed, err := u.stat("cluster.half.upstream_cx_connect_fail")
		require.NoError(t, err)
		require.NotZero(t, failed)
	})
	t.Run("a budget of nothing", func(t *testing.T) {
		service.Set("/miser", upstream.Behaviour{Status: 503})
		c := newCaller(t, u.listen)
		c.method, c.host = http.MethodGet, "miser.local"
		for range 5 {
			require.Equal(t, 503, c.call(t, "/miser").status)
		}
		require.Equal(t, 5, int(service.Calls("/miser")))
		overflow, err := u.stat("cluster.miser.upstream_rq_retry_overflow")
		require.NoError(t, err)
		require.Equal(t, 5, overflow)
	})
	t.Run("a budget of nothing makes no full pool of a reset", func(t *testing.T) {
		service.Set("/miser", upstream.Behaviour{Reset: true})
		c := newCaller(t, u.listen)
		c.method, c.host = http.MethodGet, "miser.local"
		a := c.call(t, "/miser")
		require.Equal(t, 503, a.status)
		require.Equal(t, typeBase+"upstream-reset", a.problem.Type)
		eventually(t, soon, func() (bool, string) {
			got := u.outcomes()
			return got["all reset"] == 1 && got["all 5xx"] >= 5, fmt.Sprint(got)
		})
		require.Zero(t, u.outcomes().of("bulkhead-full"))
	})
	t.Run("tries are in the access log", func(t *testing.T) {
		u.stop()
		attempts := map[string]int{}
		for line := range strings.Lines(readFile(filepath.Join(u.cfg.data, "envoy", "access.log"))) {
			var entry struct {
				Path     string
				Attempts int
			}
			require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
			attempts[entry.Path] = entry.Attempts
		}
		for _, tc := range cases {
			require.Equal(t, tc.calls, attempts[tc.path], tc.path)
		}
	})
}

// endpointsOf are the endpoints of a Service.
func endpointsOf(addresses ...string) string {
	list := make([]string, len(addresses))
	for i, a := range addresses {
		host, port, _ := net.SplitHostPort(a)
		list[i] = fmt.Sprintf("{address: %s, port: %s}", host, port)
	}
	return "endpoints: [" + strings.Join(list, ", ") + "]"
}

// recorded are the calls for a path, oldest first.
func recorded(s *upstream.Server, path string) (calls []upstream.Record) {
	for _, r := range s.Records() {
		if r.Path == path {
			calls = append(calls, r)
		}
	}
	return calls
}
