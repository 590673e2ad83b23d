//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	problems "github.com/seawall-mesh/seawall/filter/problem"
	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// provocation makes the edge answer in the service's place, and says what
// everybody must hear of it.
type provocation struct {
	name    string
	answer  func(t *testing.T) answer
	status  int
	problem string // slug
	after   int    // retry_after and Retry-After, 0: neither, some: whatever it is
	flags   string // Envoy's, in its access log
	counted string // "route outcome", "": in no row
}

// Every way in which Envoy or the filter answers by itself, as far as it can be
// provoked here: the problem document with all its members, the request id, the
// flag that tells it apart, and what it is counted as.
//
// Of Envoy's response flags these cannot be: NC, DF, RL, RLSE, UAEX, FI, DI, IH,
// LH, NFCF, RFCF, UMSDR, DT, DO, UDO (nothing that Seawall pushes uses what sets
// them: a cluster that is not there, filters that are not run, a maximum
// duration), OM (Envoy would have to run out of memory), LR and DR (a fault of
// Envoy's own codec). DC, the client's leaving, has no answer (TestOutcomes).
func TestProblems(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	slow := upstream.Behaviour{Latency: 2 * time.Second}
	for path, b := range map[string]upstream.Behaviour{
		"/hanging": {Hang: true}, "/trying": {Hang: true}, "/silent": {Hang: true},
		"/reset": {Reset: true}, "/gives-up": {Reset: true}, "/stream-reset": {Reset: true}, "/noise": {Raw: "noise\r\n\r\n"},
		"/brittle": {Status: http.StatusServiceUnavailable, Headers: map[string]string{"retry-after": "1"}},
		"/down":    {Status: http.StatusServiceUnavailable}, "/pooled": slow, "/queued": slow, "/crowded": slow,
	} {
		service.Set(path, b)
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := nobody.Addr().String()
	require.NoError(t, nobody.Close())
	retry := "timeout: {request: 5s, perTry: 1s}, retry: {attempts: 3, retryOn: [reset, timeout, connect-failure], backoff: {base: 10ms, max: 20ms}}"
	u := startUp(t, upConfig{workers: 1, policy: shop{ // each worker may have a connection, whatever the limit
		endpoints: []string{service.Addr()},
		pools:     "{small: {maxConcurrency: 1, maxQueue: 0}, queue: {maxConcurrency: 1, maxQueue: 5, maxWait: 200ms}}",
		routes: []route{
			{name: "fine"}, {name: "reset"}, {name: "noise"},
			{name: "hanging", timeout: "300ms"}, {name: "trying", timeout: "5s, perTry: 200ms"},
			{name: "silent", timeout: "0, idle: 300ms"},
			{name: "down", breaker: breaker(1, "30s")},
			{name: "pooled", more: "pool: small"}, {name: "queued", more: "pool: queue"},
			{name: "late", timeout: obeying("10s")},
		},
		extra: fmt.Sprintf("---\napiVersion: seawall.io/v1alpha1\nkind: Edge\nmetadata: {name: shop}\nspec: {listeners: [{port: %s}], maxBody: 64KiB}\n", portOf(freeAddress(t))) +
			anotherService("gone", endpointsAt(closed), "routes: [{name: gone}]") +
			anotherService("gone-again", endpointsAt(closed), "routes: [{name: gone-again, "+retry+"}]") +
			anotherService("gone-slowly", endpointsAt(closed), "routes: [{name: gone-slowly, timeout: {request: 400ms}, retry: {retryOn: [connect-failure], backoff: {base: 10s}}}]") +
			anotherService("nowhere", "dns: {name: nowhere.invalid, port: 80}", "routes: [{name: nowhere}]") +
			anotherService("second", endpointsAt(service.Addr())+", protocol: http2", "routes: [{name: stream-reset}]") +
			anotherService("weary", endpointsAt(service.Addr()), "routes: [{name: gives-up, "+retry+"}]") +
			anotherService("brittle", endpointsAt(service.Addr()), "routes: [{name: brittle, match: {path: {prefix: /brittle}}, retry: {attempts: 3, retryOn: [503]}, breaker: "+breaker(2, "1h")+"}]") +
			anotherService("narrow", endpointsAt(service.Addr())+", connections: {max: 1}", "routes: [{name: crowded}]"),
	}.yaml()})

	call := func(method, host, path string, header http.Header) func(t *testing.T) answer {
		return func(t *testing.T) answer {
			c := newCaller(t, u.listen)
			c.method, c.host = method, host
			a, err := c.try(path, header)
			require.NoError(t, err)
			return a
		}
	}
	post := func(route string) func(t *testing.T) answer { return call(http.MethodPost, shopHost, "/"+route, nil) }
	to := func(host, path string) func(t *testing.T) answer {
		return call(http.MethodGet, host+".local", path, nil)
	}
	// What is counted besides the provocations.
	want := tally{"down 5xx": 1, "pooled ok": 1, "queued ok": 1, "crowded ok": 2, "brittle 5xx": 1}
	// behind is the answer to a call that comes while another one takes long.
	behind := func(path string) func(t *testing.T) answer {
		c := newCaller(t, u.listen)
		return func(tt *testing.T) answer {
			send(t, c, path, "first", nil)
			eventually(tt, soon, func() (bool, string) { return service.Calls(path) == 1, "the first does not come" })
			return post(path[1:])(tt)
		}
	}
	// One request has the connection, and one waits for it.
	crowded := func(tt *testing.T) answer {
		c := newCaller(t, u.listen)
		c.host = "narrow.local"
		send(t, c, "/crowded", "first", nil)
		eventually(tt, soon, func() (bool, string) { return service.Calls("/crowded") == 1, "the first does not come" })
		send(t, c, "/crowded", "second", nil)
		eventually(tt, soon, func() (bool, string) {
			n, err := u.stat("cluster.narrow.upstream_rq_pending_active")
			return n == 1, fmt.Sprintf("%d wait for the connection (%v)", n, err)
		})
		return call(http.MethodPost, "narrow.local", "/crowded", nil)(tt)
	}
	// The service asks for a second's patience; meanwhile another call's failure
	// opens the breaker.
	between := func(tt *testing.T) answer {
		c := newCaller(t, u.listen)
		c.method, c.host = http.MethodGet, "brittle.local"
		first := send(t, c, "/brittle", "first", nil)
		eventually(tt, soon, func() (bool, string) { return service.Calls("/brittle") == 1, "the first does not come" })
		require.Equal(tt, 503, call(http.MethodPost, "brittle.local", "/brittle", nil)(tt).status)
		a := first.wait(tt)
		require.EqualValues(tt, 2, service.Calls("/brittle"))
		return a
	}
	raw := func(request string) func(t *testing.T) answer {
		return func(t *testing.T) answer { return sendRaw(t, u.listen, request) }
	}
	const head = " HTTP/1.1\r\nhost: shop.local\r\n"

	cases := []provocation{
		// By Envoy, before the request is one.
		{name: "no HTTP", answer: raw("NOISE\r\n\r\n"), status: 400, problem: problems.BadRequest, flags: "DPE"},
		{name: "an old HTTP", answer: raw("GET /fine HTTP/1.0\r\nhost: shop.local\r\n\r\n"), status: 426, problem: problems.BadRequest, flags: "DPE"},
		{name: "large headers", answer: raw("GET /fine" + head + "x: " + strings.Repeat("y", 61<<10) + "\r\n\r\n"), status: 431, problem: problems.HeadersTooLarge, flags: "DPE"},
		{name: "headers that do not end", answer: raw("GET /fine" + head), status: 408, problem: problems.RequestTimeout, flags: "-"},
		// By Envoy's routes.
		{name: "another host", answer: to("elsewhere", "/"), status: 404, problem: problems.NoRoute, flags: "-"},
		{name: "another path", answer: to("shop", "/elsewhere"), status: 404, problem: problems.NoRoute, flags: "-", counted: " 4xx"},
		{name: "CONNECT", answer: raw("CONNECT shop.local:443" + head + "\r\n"), status: 404, problem: problems.NoRoute, flags: "NR"},
		{name: "an upgrade", answer: raw("GET /fine" + head + "connection: upgrade\r\nupgrade: websocket\r\n\r\n"), status: 403, problem: problems.UpgradeRefused, flags: "-", counted: "fine 4xx"},
		// By Envoy's body limit and its router.
		{name: "a large body", answer: func(t *testing.T) answer {
			c := newCaller(t, u.listen)
			c.body = strings.Repeat("x", 65<<10)
			return c.call(t, "/fine")
		}, status: 413, problem: problems.PayloadTooLarge, flags: "-", counted: "fine 4xx"},
		{name: "no endpoint", answer: to("nowhere", "/"), status: 503, problem: problems.NoHealthyUpstream, flags: "UH", counted: "nowhere connect-failure"},
		{name: "nobody listens", answer: to("gone", "/"), status: 503, problem: problems.ConnectFailure, flags: "UF", counted: "gone connect-failure"},
		{name: "nobody ever listens", answer: to("gone-again", "/"), status: 503, problem: problems.ConnectFailure, flags: "URX,UF", counted: "gone-again connect-failure"},
		{name: "the time ends between two tries", answer: to("gone-slowly", "/"), status: 504, problem: problems.Timeout, flags: "UT", counted: "gone-slowly timeout"},
		{name: "too many connections", answer: crowded, status: 503, problem: problems.Overflow, after: 1, flags: "UO", counted: "crowded bulkhead-full"},
		{name: "too slow", answer: post("hanging"), status: 504, problem: problems.Timeout, flags: "UT", counted: "hanging timeout"},
		{name: "a try too slow", answer: post("trying"), status: 504, problem: problems.Timeout, flags: "UT", counted: "trying timeout"},
		{name: "silence", answer: post("silent"), status: 504, problem: problems.Timeout, flags: "SI", counted: "silent timeout"},
		{name: "half a body", answer: raw("POST /silent" + head + "content-length: 10\r\n\r\nhalf"), status: 408, problem: problems.RequestTimeout, flags: "SI", counted: "silent 4xx"},
		{name: "connection reset", answer: post("reset"), status: 503, problem: problems.UpstreamReset, flags: "UC", counted: "reset reset"},
		{name: "connection reset each time", answer: to("weary", "/gives-up"), status: 503, problem: problems.UpstreamReset, flags: "URX,UC", counted: "gives-up reset"},
		{name: "stream reset", answer: to("second", "/stream-reset"), status: 503, problem: problems.UpstreamReset, flags: "UR", counted: "stream-reset reset"},
		{name: "no HTTP from the service", answer: post("noise"), status: 502, problem: problems.UpstreamProtocol, flags: "UPE", counted: "noise reset"},
		// By the filter.
		{name: "breaker open", answer: func(t *testing.T) answer { post("down")(t); return post("down")(t) },
			status: 503, problem: problems.BreakerOpen, after: 30, flags: "-", counted: "down breaker-open"},
		{name: "breaker opens between two tries", answer: between, status: 503, problem: problems.BreakerOpen, after: some, flags: "-", counted: "brittle breaker-open"},
		{name: "pool full", answer: behind("/pooled"), status: 503, problem: problems.BulkheadFull, after: 1, flags: "-", counted: "pooled bulkhead-full"},
		{name: "too long in the queue", answer: behind("/queued"), status: 503, problem: problems.BulkheadTimeout, after: 1, flags: "-", counted: "queued bulkhead-timeout"},
		{name: "no time left", answer: call(http.MethodPost, shopHost, "/late", patience("0")), status: 504, problem: problems.Deadline, flags: "-", counted: "late deadline"},
	}
	var mu sync.Mutex
	flags := map[string]string{} // by request id
	t.Run("each", func(t *testing.T) {
		for _, tc := range cases {
			if tc.counted != "" {
				want[tc.counted]++
			}
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				a := tc.answer(t)
				id := tc.check(t, a)
				mu.Lock()
				defer mu.Unlock()
				flags[id] = tc.flags
			})
		}
	})
	// A redirect is no problem, but has an id as well.
	a := sendRaw(t, u.listen, "GET /a%2fb"+head+"\r\n")
	require.Equal(t, http.StatusTemporaryRedirect, a.status)
	require.Empty(t, a.body)
	require.NotEmpty(t, a.header.Get("x-request-id"))
	u.awaitOutcomes(want)
	u.stop()
	told := 0
	for line := range strings.Lines(readFile(filepath.Join(u.cfg.data, "envoy", "access.log"))) {
		var entry struct{ RequestID, Flags, Details string }
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		if f, mine := flags[entry.RequestID]; mine {
			told++
			require.Equal(t, f, entry.Flags, line)
		}
	}
	require.Equal(t, len(cases), told, "answers whose request id is in the access log")
}

const some = -1

// check looks at all that a caller is told, and returns the request id.
func (p provocation) check(t *testing.T, a answer) (id string) {
	t.Helper()
	require.Equal(t, p.status, a.status)
	require.Equal(t, problems.ContentType, a.header.Get("content-type"))
	kind, known := problems.Lookup(p.problem)
	require.True(t, known)
	id = a.header.Get("x-request-id")
	require.Regexp(t, `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, id)
	var members map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.body), &members))
	detail, _ := members["detail"].(string)
	require.Regexp(t, `^[A-Za-z].*\w`, detail)
	want := map[string]any{
		"type": typeBase + p.problem, "title": kind.Title, "status": float64(p.status), "detail": detail,
		"instance": id, "retryable": kind.Retryable,
	}
	if p.after == some {
		p.after, _ = strconv.Atoi(a.header.Get("retry-after"))
		require.Positive(t, p.after)
	}
	after := ""
	if p.after != 0 {
		want["retry_after"], after = float64(p.after), fmt.Sprint(p.after)
	}
	require.Equal(t, want, members)
	require.Equal(t, after, a.header.Get("retry-after"))
	// Nothing of our inside.
	for _, word := range []string{"envoy", "cluster", "127.0.0.1", "upstream", "wasm"} {
		require.NotContains(t, strings.ToLower(detail), word)
	}
	// And a Go client can act on it.
	d, err := problems.Parse([]byte(a.body))
	require.NoError(t, err)
	require.Equal(t, kind.Retryable, d.IsRetryable())
	return id
}

// sendRaw sends bytes over a connection of their own.
func sendRaw(t testing.TB, listen, request string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", listen)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
}

// anotherService is a service of the host NAME.local, and its policy.
func anotherService(name, spec, policy string) string {
	return fmt.Sprintf(`---
apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: %[1]s}
spec: {hosts: [%[1]s.local], %[2]s}
---
apiVersion: seawall.io/v1alpha1
kind: ResiliencePolicy
metadata: {name: %[1]s}
spec: {service: %[1]s, %[3]s}
`, name, spec, policy)
}

func endpointsAt(address string) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf("endpoints: [{address: %s, port: %s}]", host, port)
}

// A service's bare 5xx is told as a problem where the policy says so, and only
// there; all else passes untouched.
func TestWrappedErrors(t *testing.T) {
	t.Parallel()
	const secret = "Traceback: /srv/app.py"
	html := func(status int, more ...string) upstream.Behaviour {
		b := upstream.Behaviour{Status: status, Body: secret, Headers: map[string]string{"content-type": "text/html", "x-inside": secret}}
		for i := 0; i < len(more); i += 2 {
			b.Headers[more[i]] = more[i+1]
		}
		return b
	}
	own := html(500, "content-type", "Application/Problem+JSON; charset=utf-8")
	const date = "Wed, 21 Oct 2026 07:28:00 GMT"
	glitch := html(503)
	service := newUpstream(t)
	for path, b := range map[string]upstream.Behaviour{
		"/broken": html(500), "/busy": html(503, "retry-after", "7"), "/dated": html(502, "retry-after", date), "/odd": html(599), "/typeless": {Status: 500, Body: secret},
		"/own": own, "/raw": html(500), "/bad": html(400, "retry-after", "7"), "/fine": html(200), "/empty": {Status: 500}, "/huge": {Status: 500, Body: strings.Repeat(secret, 1<<16)},
		"/glitching": {FailNext: 2, Failure: &glitch}, "/failing": html(503), "/tripping": html(500), "/hanging": {Hang: true},
	} {
		service.Set(path, b)
	}
	retry := "retry: {attempts: 3, retryOn: [503], backoff: {base: 10ms, max: 20ms}}"
	var routes []string
	for _, r := range []string{"broken", "busy", "dated", "odd", "typeless", "own", "raw, wrapUpstreamErrors: false", "bad", "fine", "empty", "huge", "glitching, " + retry, "failing, " + retry,
		"tripping, breaker: " + breaker(3, "1h"), "hanging, timeout: {request: 300ms}"} {
		name, _, _ := strings.Cut(r, ",")
		routes = append(routes, fmt.Sprintf("{name: %s, match: {path: {prefix: /%s}}}", r, name))
	}
	u := startUp(t, upConfig{policy: shop{endpoints: []string{service.Addr()}, routes: []route{{name: "broken"}, {name: "busy", more: "wrapUpstreamErrors: true"}}}.yaml() +
		anotherService("told", endpointsAt(service.Addr()), "wrapUpstreamErrors: true, routes: ["+strings.Join(routes, ", ")+"]")})
	kept := func(t *testing.T, a answer, b upstream.Behaviour) {
		t.Helper()
		require.Equal(t, b.Status, a.status)
		require.Equal(t, b.Body, a.body)
		for name, value := range b.Headers {
			require.Equal(t, value, a.header.Get(name))
		}
	}
	for _, tc := range []struct {
		host, path string
		header     http.Header
		problem    string // "": untouched
		status     int
		retryAfter string
		seconds    int
		calls      uint64
	}{
		{host: "told", path: "/broken", problem: problems.UpstreamError, status: 500},
		{host: "told", path: "/busy", problem: problems.UpstreamUnavailable, status: 503, retryAfter: "7", seconds: 7},
		{host: "told", path: "/dated", problem: problems.UpstreamUnavailable, status: 502, retryAfter: date},
		{host: "told", path: "/odd", problem: problems.UpstreamError, status: 599},
		{host: "told", path: "/typeless", problem: problems.UpstreamError, status: 500},
		{host: "told", path: "/empty", problem: problems.UpstreamError, status: 500},
		{host: "told", path: "/huge", problem: problems.UpstreamError, status: 500},
		{host: "told", path: "/failing", problem: problems.UpstreamUnavailable, status: 503, calls: 3},
		{host: "told", path: "/hanging", problem: problems.Timeout, status: 504}, // Envoy's own is as ever
		{host: "told", path: "/own"},
		{host: "told", path: "/raw"},
		{host: "told", path: "/bad"},
		{host: "told", path: "/fine"},
		{host: "told", path: "/glitching", calls: 3},
		{host: "told", path: "/broken", header: http.Header{"Content-Type": {"application/grpc"}}},
		{host: "shop", path: "/busy", problem: problems.UpstreamUnavailable, status: 503, retryAfter: "7", seconds: 7},
		{host: "shop", path: "/broken"},
	} {
		t.Run(tc.host+tc.path, func(t *testing.T) {
			c := newCaller(t, u.listen)
			c.host, c.method = tc.host+".local", http.MethodGet
			before := service.Calls(tc.path)
			a, err := c.try(tc.path, tc.header)
			require.NoError(t, err)
			require.Equal(t, max(tc.calls, 1), service.Calls(tc.path)-before)
			if tc.problem == "" {
				b := map[string]upstream.Behaviour{"/own": own, "/bad": html(400, "retry-after", "7"), "/fine": html(200), "/glitching": {Status: 200}}[tc.path]
				if b.Status == 0 {
					b = html(500)
				}
				kept(t, a, b)
				return
			}
			require.NotContains(t, a.body, "Traceback")
			require.Empty(t, a.header.Get("x-inside"))
			require.Equal(t, tc.retryAfter, a.header.Get("retry-after"))
			if tc.seconds == 0 {
				a.header.Del("retry-after") // a date is in the header alone
			}
			provocation{status: tc.status, problem: tc.problem, after: tc.seconds}.check(t, a)
		})
	}
	t.Run("HEAD", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+u.listen+"/broken", nil)
		require.NoError(t, err)
		req.Host = "told.local"
		resp, err := newCaller(t, u.listen).client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, 500, resp.StatusCode)
		require.Equal(t, problems.ContentType, resp.Header.Get("content-type"))
	})
	t.Run("a breaker counts them", func(t *testing.T) {
		c := newCaller(t, u.listen)
		c.host = "told.local"
		for k := range 6 {
			require.Equal(t, k >= 3, c.call(t, "/tripping").refused(), "call %d", k+1)
		}
	})
	u.awaitOutcomes(tally{
		"broken 5xx": 4, "busy 5xx": 2, "dated 5xx": 1, "odd 5xx": 1, "typeless 5xx": 1, "empty 5xx": 1, "huge 5xx": 1, "failing 5xx": 1, "hanging timeout": 1,
		"own 5xx": 1, "raw 5xx": 1, "bad 4xx": 1, "fine ok": 1, "glitching ok": 1, "tripping 5xx": 3, "tripping breaker-open": 3,
	})
	u.stop()
}
