//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// Every way in which a request can end, made to happen in a real Envoy: what
// the client is told, and the one outcome that it is counted as.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	own := upstream.Behaviour{Status: 500, Body: `{"type":"about:blank","title":"Ours"}`, Headers: map[string]string{"content-type": "application/problem+json"}}
	for path, b := range map[string]upstream.Behaviour{
		"/redirect":    {Status: 302, Headers: map[string]string{"location": "/elsewhere"}},
		"/missing":     {Status: 404},
		"/throttled":   {Status: 429},
		"/failing":     {Status: 500},
		"/own-problem": own,
		"/down":        {Status: 503},
		"/reset":       {Reset: true},
		"/hanging":     {Hang: true},
		"/patient":     {Latency: 30 * time.Second},
		"/glitching":   {FailNext: 2},
		"/dead":        {Status: 503},
		"/crowded":     {Latency: time.Second},
	} {
		service.Set(path, b)
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := nobody.Addr().String()
	require.NoError(t, nobody.Close())

	var routes []route
	for _, name := range []string{"fine", "redirect", "missing", "throttled", "failing", "own-problem", "down", "reset", "patient"} {
		routes = append(routes, route{name: name})
	}
	routes = append(routes, route{name: "hanging", timeout: "300ms"},
		route{name: "glitching", more: "retry: {attempts: 3, retryOn: [503], backoff: {base: 10ms, max: 20ms}}"},
		route{name: "dead", more: "retry: {attempts: 3, retryOn: [503], backoff: {base: 10ms, max: 20ms}}"},
	)
	u := startUp(t, upConfig{policy: shop{
		endpoints: []string{service.Addr()}, routes: routes, slo: true,
		extra: fmt.Sprintf(`---
apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: gone}
spec: {hosts: [gone.local], endpoints: [{address: 127.0.0.1, port: %s}]}
---
apiVersion: seawall.io/v1alpha1
kind: ResiliencePolicy
metadata: {name: gone}
spec: {service: gone, routes: [{name: unreachable, match: {path: {prefix: /}}, timeout: {request: 5s}}]}
---
apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: narrow}
spec: {hosts: [narrow.local], connections: {max: 1}, endpoints: [{address: 127.0.0.1, port: %s}]}
---
apiVersion: seawall.io/v1alpha1
kind: ResiliencePolicy
metadata: {name: narrow}
spec: {service: narrow, routes: [{name: crowded, match: {path: {prefix: /crowded}}, timeout: {request: 10s}}]}
`, portOf(closed), portOf(service.Addr())),
	}.yaml()})

	want := tally{}
	for _, tc := range []struct {
		route, method, host string
		status              int
		problem             string // slug; "" where the answer is the upstream's
		outcome             string
		upstreamCalls       uint64
	}{
		{route: "fine", status: 200, outcome: "ok", upstreamCalls: 1},
		{route: "redirect", status: 302, outcome: "ok", upstreamCalls: 1},
		{route: "missing", status: 404, outcome: "4xx", upstreamCalls: 1},
		{route: "throttled", status: 429, outcome: "4xx", upstreamCalls: 1},
		{route: "failing", status: 500, outcome: "5xx", upstreamCalls: 1},
		{route: "own-problem", status: 500, outcome: "5xx", upstreamCalls: 1},
		{route: "down", status: 503, outcome: "5xx", upstreamCalls: 1},
		{route: "reset", status: 503, problem: "upstream-reset", outcome: "reset", upstreamCalls: 1},
		{route: "hanging", status: 504, problem: "timeout", outcome: "timeout", upstreamCalls: 1},
		{route: "unreachable", host: "gone.local", status: 503, problem: "connect-failure", outcome: "connect-failure"},
		// Over several tries: what ended the request, once.
		{route: "glitching", method: http.MethodGet, status: 200, outcome: "ok", upstreamCalls: 3},
		{route: "dead", method: http.MethodGet, status: 503, outcome: "5xx", upstreamCalls: 3},
		// Not retried without an idempotency key.
		{route: "dead", method: http.MethodPost, status: 503, outcome: "5xx", upstreamCalls: 1},
	} {
		t.Run(tc.route+tc.method, func(t *testing.T) {
			c := newCaller(t, u.listen)
			c.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			if tc.host != "" {
				c.host = tc.host
			}
			if tc.method != "" {
				c.method = tc.method
			}
			before := service.Calls("/" + tc.route)
			a := c.call(t, "/"+tc.route)
			want[tc.route+" "+tc.outcome]++
			require.Equal(t, tc.status, a.status)
			require.Equal(t, tc.upstreamCalls, service.Calls("/"+tc.route)-before, "calls of the upstream")
			require.NotEmpty(t, a.header.Get("x-request-id"))
			require.Empty(t, a.header.Get("x-seawall-decision"))
			if tc.problem == "" {
				require.NotContains(t, a.problem.Type, typeBase, "an upstream's answer is passed on untouched")
				if tc.route == "own-problem" {
					require.Equal(t, own.Body, a.body)
				}
				return
			}
			require.Equal(t, typeBase+tc.problem, a.problem.Type)
			require.Equal(t, tc.status, a.problem.Status)
			require.Equal(t, a.header.Get("x-request-id"), a.problem.Instance)
		})
	}

	t.Run("the client leaves", func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+u.listen+"/patient", strings.NewReader("{}"))
		require.NoError(t, err)
		req.Host = shopHost
		gone := make(chan error, 1)
		go func() {
			_, err := newCaller(t, u.listen).client.Do(req) //nolint:bodyclose // there is none
			gone <- err
		}()
		eventually(t, soon, func() (bool, string) { return service.Calls("/patient") == 1, "it was not called" })
		leave()
		require.Error(t, <-gone)
		want["patient aborted"]++
	})

	t.Run("more than the service takes", func(t *testing.T) {
		// One connection, one request in line for it; the third and fourth are too many.
		var mu sync.Mutex
		var wg sync.WaitGroup
		full := 0
		for range 6 {
			c := newCaller(t, u.listen)
			c.host = "narrow.local"
			wg.Go(func() {
				a, err := c.try("/crowded", nil)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Error(err)
				case a.status == http.StatusOK:
					want["crowded ok"]++
				case a.problem.Type == typeBase+"overflow" && a.status == 503 && a.header.Get("retry-after") != "":
					want["crowded bulkhead-full"]++
					full++
				default:
					t.Errorf("%d %s", a.status, a.body)
				}
			})
		}
		wg.Wait()
		require.NotZero(t, full)
	})

	u.awaitOutcomes(want)
	total, bad := 0, 0
	for _, row := range list[trafficRow](u, "traffic?window=15m") {
		require.Equal(t, row.Total, row.Good+row.Bad, "%s/%s", row.Service, row.Route)
		if row.Service == "shop" {
			total, bad = total+int(row.Total), bad+int(row.Bad)
		}
		if row.Route == "patient" {
			require.EqualValues(t, 1, row.Aborted)
			require.Zero(t, row.Total, "who left is in no total")
		}
	}
	o := list[objective](u, "slos")[0]
	require.EqualValues(t, total, o.Total)
	require.EqualValues(t, bad, o.Bad)
	require.Equal(t, 7, bad) // failing, own-problem, down, reset, hanging, dead twice
	u.stop()
}

// What is no proper request is turned away by Envoy itself, as a problem, and
// does no harm.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	u := startUp(t, upConfig{policy: shop{endpoints: []string{service.Addr()}, routes: []route{{name: "charge"}}}.yaml()})
	for _, tc := range []struct {
		name, request string
		status        string
		problem       string
	}{
		{"no HTTP", "GARBAGE\r\n\r\n", "400", "bad-request"},
		{"no host", "GET /charge HTTP/1.1\r\n\r\n", "400", "bad-request"},
		{"two lengths", "POST /charge HTTP/1.1\r\nhost: shop.local\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx", "400", "bad-request"},
		{"length and chunks", "POST /charge HTTP/1.1\r\nhost: shop.local\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400", "bad-request"},
		{"underscore in a name", "GET /charge HTTP/1.1\r\nhost: shop.local\r\nx_envoy_max_retries: 3\r\n\r\n", "400", "bad-request"},
		{"huge headers", "GET /charge HTTP/1.1\r\nhost: shop.local\r\nx: " + strings.Repeat("y", 100<<10) + "\r\n\r\n", "431", "headers-too-large"},
		{"escaped slash", "GET /charge%2f..%2fadmin HTTP/1.1\r\nhost: shop.local\r\n\r\n", "307", ""},
		{"above the root", "GET /../../charge HTTP/1.1\r\nhost: shop.local\r\n\r\n", "200", ""},
		{"NUL in the path", "GET /charge%00 HTTP/1.1\r\nhost: shop.local\r\n\r\n", "400", "bad-request"},
		{"CONNECT", "CONNECT shop.local:443 HTTP/1.1\r\nhost: shop.local\r\n\r\n", "404", "no-route"},
		{"upgrade", "GET /charge HTTP/1.1\r\nhost: shop.local\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", "403", "upgrade-refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", u.listen)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
			go func() { _, _ = io.WriteString(conn, tc.request) }()
			head := make([]byte, 4096)
			n, err := conn.Read(head)
			require.NoError(t, err)
			text := string(head[:n])
			t.Log(text)
			require.True(t, strings.HasPrefix(text, "HTTP/1.1 "+tc.status+" "), "it is answered %s", strings.SplitN(text, "\r\n", 2)[0])
			if tc.problem != "" {
				require.Contains(t, text, typeBase+tc.problem)
				require.Contains(t, text, "application/problem+json")
			}
			require.NotContains(t, strings.ToLower(text), "envoy")
		})
	}
	require.Equal(t, http.StatusOK, newCaller(t, u.listen).call(t, "/charge").status)
	require.EqualValues(t, 2, service.Calls("/"), "calls of the upstream")
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
