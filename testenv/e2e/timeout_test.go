//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// TestTimeouts: which limit ends a request, as what, and that streams are left
// alone.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	const body = ", body: 600ms"
	u := startUp(t, upConfig{policy: shop{endpoints: []string{service.Addr()}, routes: []route{
		{name: "request", timeout: "300ms" + body},
		{name: "try", timeout: "10s, perTry: 300ms" + body},
		{name: "least", timeout: "10s, perTry: 5s, deadlineHeader: " + headerPatience + body},
		{name: "idle", timeout: "0s, idle: 300ms" + body},
		{name: "poll", timeout: "0s, idle: 0s" + body},
		{name: "body", timeout: "10s" + body},
	}}.yaml() + anotherService("deaf", "connectTimeout: 300ms, "+endpointsAt(deafAddress(t)), "routes: [{name: deaf, timeout: {body: 600ms}}]")})
	hang := upstream.Behaviour{Hang: true}
	cases := []struct {
		name, path  string
		header      http.Header
		service     upstream.Behaviour
		status      int
		problem     string
		outcome     string
		least, most time.Duration
	}{
		{"the request's", "/request", nil, hang, 504, "timeout", "timeout", 290 * time.Millisecond, 2 * time.Second},
		{"of the one try", "/try", nil, hang, 504, "timeout", "timeout", 290 * time.Millisecond, 2 * time.Second},
		{"the shortest of three", "/least", patience("200"), hang, 504, "timeout", "timeout", 190 * time.Millisecond, 2 * time.Second},
		{"no byte for too long", "/idle", nil, hang, 504, "timeout", "timeout", 290 * time.Millisecond, 2 * time.Second},
		{"a long poll", "/poll", nil, upstream.Behaviour{Latency: 1500 * time.Millisecond}, 200, "", "ok", 1500 * time.Millisecond, 10 * time.Second},
	}
	want := tally{}
	for _, tc := range cases {
		service.Set(tc.path, tc.service)
		want[tc.path[1:]+" "+tc.outcome]++
	}
	t.Run("ended by", func(t *testing.T) {
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				c := newCaller(t, u.listen)
				started := time.Now()
				a, err := c.try(tc.path, tc.header)
				took := time.Since(started)
				require.NoError(t, err)
				require.Equal(t, tc.status, a.status)
				if tc.problem != "" {
					require.Equal(t, typeBase+tc.problem, a.problem.Type)
				}
				require.GreaterOrEqual(t, took, tc.least)
				require.Less(t, took, tc.most)
			})
		}
		// A client that does not send what it announced.
		t.Run("a body that does not come", func(t *testing.T) {
			t.Parallel()
			started := time.Now()
			a := sendRaw(t, u.listen, "POST /body HTTP/1.1\r\nhost: "+shopHost+"\r\ncontent-length: 10\r\n\r\nhalf")
			require.Equal(t, 408, a.status)
			require.GreaterOrEqual(t, time.Since(started), 590*time.Millisecond)
			require.Contains(t, a.body, typeBase+"request-timeout")
		})
		t.Run("a body that comes too slowly", func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", u.listen)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
			started := time.Now()
			_, err = io.WriteString(conn, "POST /body/slow HTTP/1.1\r\nhost: "+shopHost+"\r\ncontent-length: 1000\r\n\r\n")
			require.NoError(t, err)
			go func() { // a byte now and then, so that it is never idle
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for range tick.C {
					if _, err := conn.Write([]byte("x")); err != nil {
						return
					}
				}
			}()
			status := make([]byte, len("HTTP/1.1 408"))
			_, err = io.ReadFull(conn, status)
			require.NoError(t, err)
			require.Equal(t, "HTTP/1.1 408", string(status))
			require.GreaterOrEqual(t, time.Since(started), 590*time.Millisecond)
		})
	})
	t.Run("ended by no connection", func(t *testing.T) {
		c := newCaller(t, u.listen)
		c.host = "deaf.local"
		started := time.Now()
		a := c.call(t, "/")
		require.Equal(t, 503, a.status)
		require.Equal(t, typeBase+"connect-failure", a.problem.Type)
		require.GreaterOrEqual(t, time.Since(started), 290*time.Millisecond)
		require.Less(t, time.Since(started), 3*time.Second)
	})
	want["deaf connect-failure"]++
	want["body 4xx"] = 2
	for _, r := range service.Records() {
		if r.Path == "/poll" || r.Path == "/idle" {
			require.Empty(t, r.Headers.Get(headerLeft), "a request without a limit has no deadline")
		}
	}
	u.awaitOutcomes(want)
}

// Envoy has one time for the bodies of all routes of an edge, here the five
// minutes of the route that says nothing. A shorter one is the filter's.
func TestEachRouteHasItsOwnTimeForABody(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/slow", upstream.Behaviour{Latency: 1500 * time.Millisecond})
	u := startUp(t, upConfig{workers: 2, policy: shop{endpoints: []string{service.Addr()}, routes: []route{
		{name: "short", timeout: "10s, body: 600ms"}, {name: "slow", timeout: "10s, body: 600ms"}, {name: "fine"},
	}}.yaml()})
	head := "\r\nhost: " + shopHost + "\r\n"
	half := func(path string) answer {
		return sendRaw(t, u.listen, "POST "+path+" HTTP/1.1"+head+"content-length: 10\r\n\r\nhalf")
	}
	started := time.Now()
	a := half("/short")
	require.Equal(t, http.StatusRequestTimeout, a.status)
	require.GreaterOrEqual(t, time.Since(started), 590*time.Millisecond)
	require.Contains(t, a.body, typeBase+"request-timeout")
	require.Contains(t, a.body, `"instance":"`+a.header.Get("x-request-id")+`"`)
	require.Empty(t, a.decision())

	// Who has sent all, in whatever manner, may wait for an answer.
	for name, request := range map[string]string{
		"at once":       "content-length: 4\r\n\r\nbody",
		"nothing":       "content-length: 0\r\n\r\n",
		"in chunks":     "transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
		"with trailers": "transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n",
	} {
		require.Equal(t, http.StatusOK, sendRaw(t, u.listen, "POST /slow HTTP/1.1"+head+request).status, name)
	}
	conn, err := net.Dial("tcp", u.listen)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
	_, err = io.WriteString(conn, "POST /fine HTTP/1.1"+head+"content-length: 8\r\n\r\nhalf")
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestTimeout, half("/short").status, "meanwhile")
	_, err = io.WriteString(conn, "half")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	u.awaitOutcomes(tally{"short 4xx": 2, "slow ok": 4, "fine ok": 1})
	u.stop()
}

// deafAddress is one where connections are neither taken nor refused: nobody
// accepts them, and the kernel's queue is full.
func deafAddress(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(fd, 0))
	bound, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
	for { // until one waits in vain
		conn, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}
