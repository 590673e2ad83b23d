//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// Each protocol on either side of the edge: an answer, a refusal of the
// filter's, a reply of Envoy's, and a stream that is not held back, nor counted
// as slow.
func TestProtocols(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/down", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	service.Set("/hanging", upstream.Behaviour{Hang: true})
	drip := newDrip(t)
	var docs strings.Builder
	for _, protocol := range []string{"http1", "http2"} {
		routes := "{name: fine, match: {path: {prefix: /fine}}}, {name: hanging, match: {path: {prefix: /hanging}}, timeout: {request: 200ms}}"
		for _, client := range []string{"h1", "h2"} {
			routes += fmt.Sprintf(", {name: down-%[1]s, match: {path: {prefix: /down/%[1]s}}, breaker: %[2]s}", client, breaker(2, "1h"))
		}
		docs.WriteString(anotherService(protocol, endpointsAt(service.Addr())+", protocol: "+protocol, "routes: ["+routes+"]"))
		docs.WriteString(anotherService("drip-"+protocol, endpointsAt(drip.addr())+", protocol: "+protocol,
			"wrapUpstreamErrors: true, routes: [{name: drip, timeout: {request: 0}, breaker: {slowCalls: {threshold: 1ms, percent: 50%, minRequests: 1}}}]"))
	}
	u := startUp(t, upConfig{workers: 2, policy: shop{endpoints: []string{service.Addr()}, routes: []route{{name: "fine"}}}.yaml() + docs.String()})
	want := tally{}
	for _, protocol := range []string{"http1", "http2"} {
		for _, client := range []string{"h1", "h2"} {
			want["fine ok"]++
			want["hanging timeout"]++
			want["down-"+client+" 5xx"] += 2
			want["down-"+client+" breaker-open"]++
			want["drip ok"]++
			t.Run(client+" to "+protocol, func(t *testing.T) {
				c := newCaller(t, u.listen)
				c.client, c.host = protocolClient(t, client == "h2"), protocol+".local"
				require.Equal(t, http.StatusOK, c.call(t, "/fine").status)
				records := service.Records()
				require.Equal(t, map[string]string{"http1": "HTTP/1.1", "http2": "HTTP/2.0"}[protocol], records[len(records)-1].Proto)
				provocation{status: 504, problem: "timeout"}.check(t, c.call(t, "/hanging"))
				for range 2 {
					require.Equal(t, 503, c.call(t, "/down/"+client).status)
				}
				provocation{status: 503, problem: "breaker-open", after: 3600}.check(t, c.call(t, "/down/"+client))
				drip.read(t, c, "drip-"+protocol+".local")
			})
		}
	}
	u.awaitOutcomes(want)
	u.stop()
}

// drip is a service that sends a word whenever it is told to.
type drip struct {
	server *httptest.Server
	words  chan string
}

func newDrip(t testing.TB) *drip {
	t.Helper()
	d := &drip{words: make(chan string)}
	d.server = httptest.NewUnstartedServer(d)
	d.server.Config.Protocols = new(http.Protocols)
	d.server.Config.Protocols.SetHTTP1(true)
	d.server.Config.Protocols.SetUnencryptedHTTP2(true)
	d.server.Start()
	t.Cleanup(func() {
		d.server.CloseClientConnections()
		d.server.Close()
	})
	return d
}

func (d *drip) addr() string { return d.server.Listener.Addr().String() }

func (d *drip) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("content-type", "text/event-stream")
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case word := <-d.words:
			if word == "" {
				return
			}
			_, _ = io.WriteString(w, word)
		case <-r.Context().Done():
			return
		}
	}
}

// read tells the service each word only once the one before has come.
func (d *drip) read(t *testing.T, c *caller, host string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.listen+"/", nil)
	require.NoError(t, err)
	req.Host = host
	resp, err := c.client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	for _, word := range []string{"one", "two", "three"} {
		d.words <- word
		got := make([]byte, len(word))
		_, err := io.ReadFull(resp.Body, got)
		require.NoError(t, err)
		require.Equal(t, word, string(got))
	}
	d.words <- ""
	rest, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Empty(t, rest)
}

// A WebSocket through the whole chain: words go both ways, it holds its permit
// and outlives the route's other limits while it lives, a full pool and an open
// breaker refuse it with a problem, and it is counted once.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(websocket.Server{Handler: func(ws *websocket.Conn) {
		words := make([]byte, 64<<10)
		for {
			n, err := ws.Read(words)
			if err != nil || string(words[:n]) == "bye" {
				return
			}
			if _, err := ws.Write(words[:n]); err != nil {
				return
			}
		}
	}})
	t.Cleanup(server.Close)
	service := newUpstream(t)
	service.Set("/down", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	u := startUp(t, upConfig{workers: 2, policy: shop{endpoints: []string{server.Listener.Addr().String()},
		pools: "{chats: {maxConcurrency: 1, maxQueue: 0}}",
		routes: []route{
			{name: "chat", timeout: "0, idle: 10m", more: "upgrades: [websocket]\npool: chats\nbreaker: {slowCalls: {threshold: 1ms, percent: 50%, minRequests: 1}}"},
			{name: "free", timeout: "0, idle: 10m", more: "upgrades: [websocket]"},
			{name: "closed"},
		},
	}.yaml() + anotherService("down", endpointsAt(service.Addr()), "routes: [{name: down, match: {path: {prefix: /down}}, upgrades: [websocket], timeout: {request: 0}, breaker: "+breaker(1, "1h")+"}]")})

	say := func(t *testing.T, ws *websocket.Conn, words string) {
		t.Helper()
		require.NoError(t, ws.SetDeadline(time.Now().Add(soon)))
		_, err := io.WriteString(ws, words)
		require.NoError(t, err)
		got := make([]byte, len(words))
		_, err = io.ReadFull(ws, got)
		require.NoError(t, err)
		require.Equal(t, words, string(got))
	}
	const upgrade = " HTTP/1.1\r\nhost: %s\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	ask := func(path, host string) answer {
		return sendRaw(t, u.listen, "GET "+path+fmt.Sprintf(upgrade, host))
	}
	first := dialWebSocket(t, u.listen, "/chat")
	say(t, first, "hello")
	say(t, first, strings.Repeat("x", 100_000))
	provocation{status: 503, problem: "bulkhead-full", after: 1}.check(t, ask("/chat", shopHost))
	u.awaitPool("chats", 1, 1, 0)
	say(t, first, "still here")
	require.NoError(t, first.Close())
	u.awaitPool("chats", 1, 0, 0)
	second := dialWebSocket(t, u.listen, "/chat")
	say(t, second, "again")
	free := dialWebSocket(t, u.listen, "/free")
	say(t, free, "hello")
	for _, ws := range []*websocket.Conn{second, free} { // the service ends it
		_, err := io.WriteString(ws, "bye")
		require.NoError(t, err)
		_, err = ws.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	}
	provocation{status: 403, problem: "upgrade-refused"}.check(t, ask("/closed", shopHost))
	require.Equal(t, 503, ask("/down", "down.local").status)
	provocation{status: 503, problem: "breaker-open", after: 3600}.check(t, ask("/down", "down.local"))
	u.awaitOutcomes(tally{"chat ok": 2, "chat bulkhead-full": 1, "free ok": 1, "closed 4xx": 1, "down 5xx": 1, "down breaker-open": 1})
	u.stop()
}

func dialWebSocket(t testing.TB, listen, path string) *websocket.Conn {
	t.Helper()
	config, err := websocket.NewConfig("ws://"+shopHost+path, "http://"+shopHost)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", listen)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
	ws, err := websocket.NewClient(config, conn)
	require.NoError(t, err)
	return ws
}
