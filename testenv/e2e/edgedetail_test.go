//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestEdgeDetails: what an Edge says besides where it listens.
func TestEdgeDetails(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	service := newUpstream(t)
	policies := t.TempDir()
	show := func(name string) (pool *x509.CertPool) {
		key, cert := newCertificate(t, name)
		replaceFile(t, filepath.Join(policies, "edge.key"), key)
		replaceFile(t, filepath.Join(policies, "edge.crt"), cert)
		pool = x509.NewCertPool()
		require.True(t, pool.AppendCertsFromPEM(cert))
		return pool
	}
	first := show("first.local")
	secure := freeAddress(t)
	writePolicy(t, policies, shop{endpoints: []string{service.Addr()}, routes: []route{{name: "buy"}}}.yaml()+
		anotherService("chat", endpointsAt(echoes(t)), "routes: [{name: chat, upgrades: [websocket], timeout: {request: 0s}}]")+
		fmt.Sprintf(`---
apiVersion: seawall.io/v1alpha1
kind: Edge
metadata: {name: shop}
spec:
  listeners:
  - {port: %s}
  - {port: %s, tls: {certFile: edge.crt, keyFile: edge.key}}
  maxBody: 64KiB
  probes: [/healthz, /buy/ready]
`, portOf(freeAddress(t)), portOf(secure)))
	u := startUp(t, upConfig{policies: policies})
	want := tally{}

	t.Run("maxBody", func(t *testing.T) {
		for _, tc := range []struct {
			name    string
			size    int
			chunked bool
			status  int
		}{
			{"nothing", 0, false, 200},
			{"the largest", limit, false, 200},
			{"the largest, in chunks", limit, true, 200},
			{"too large by its length", limit + 1, false, 413},
			{"too large as it comes", limit + 1, true, 413},
			{"much too large as it comes", 8 << 20, true, 413},
		} {
			t.Run(tc.name, func(t *testing.T) {
				service.Forget()
				body := io.Reader(strings.NewReader(strings.Repeat("x", tc.size)))
				if tc.chunked {
					body = io.MultiReader(body) // of no length that net/http knows
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+u.listen+"/buy", body)
				require.NoError(t, err)
				req.Host = shopHost
				resp, err := newCaller(t, u.listen).fresh().client.Do(req)
				require.NoError(t, err)
				defer resp.Body.Close()
				require.Equal(t, tc.status, resp.StatusCode)
				if tc.status == 200 {
					want["buy ok"]++
					return
				}
				want["buy 4xx"]++
				var p problem
				require.NoError(t, json.NewDecoder(resp.Body).Decode(&p))
				require.Equal(t, typeBase+"payload-too-large", p.Type)
				if !tc.chunked {
					require.Empty(t, service.Records(), "the service is not even asked")
				}
			})
		}
		t.Run("not of what is no body", func(t *testing.T) {
			conn, err := net.Dial("tcp", u.listen)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
			_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nhost: chat.local\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
			require.NoError(t, err)
			answers := bufio.NewReader(conn)
			resp, err := http.ReadResponse(answers, nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
			words := bytes.Repeat([]byte("x"), 4*limit)
			go func() { _, _ = conn.Write(words) }()
			back := make([]byte, len(words))
			_, err = io.ReadFull(answers, back)
			require.NoError(t, err)
			require.Equal(t, words, back)
			want["chat ok"]++
		})
	})

	t.Run("probes", func(t *testing.T) {
		service.Forget()
		for _, host := range []string{shopHost, "10.1.2.3", "nobody.local"} {
			for _, path := range []string{"/healthz", "/buy/ready"} {
				c := newCaller(t, u.listen)
				c.host, c.method, c.body = host, http.MethodGet, ""
				a := c.call(t, path)
				require.Equal(t, 200, a.status, host+path)
			}
		}
		require.Empty(t, service.Records())
	})

	t.Run("TLS", func(t *testing.T) {
		for _, protocol := range []string{"http/1.1", "h2"} {
			tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: first, ServerName: "first.local", NextProtos: []string{protocol}}, ForceAttemptHTTP2: protocol == "h2"}
			t.Cleanup(tr.CloseIdleConnections)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+secure+"/buy", nil)
			require.NoError(t, err)
			req.Host = shopHost
			resp, err := tr.RoundTrip(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, 200, resp.StatusCode)
			require.Equal(t, protocol, resp.TLS.NegotiatedProtocol)
			require.Equal(t, uint16(tls.VersionTLS13), resp.TLS.Version)
			want["buy ok"]++
		}
		require.Equal(t, "https", service.Records()[0].Headers.Get("x-forwarded-proto"))
	})

	t.Run("a certificate that is renewed", func(t *testing.T) {
		load := startLoad(t, u.listen, 2, "/buy") // whom it must not disturb
		second := show("second.local")
		eventually(t, soon, func() (bool, string) {
			conn, err := tls.Dial("tcp", secure, &tls.Config{RootCAs: second, ServerName: "second.local"})
			if err != nil {
				return false, err.Error()
			}
			_ = conn.Close()
			return true, ""
		})
		load.awaitMore(t, 20)
		seen := load.stop()
		require.Empty(t, load.failures())
		want["buy ok"] += seen.total()
	})

	// Nothing of the probes is counted.
	u.awaitOutcomes(want)

	t.Run("probes fail while the edge drains", func(t *testing.T) {
		var state struct {
			Admin string `json:"admin"`
		}
		require.NoError(t, json.Unmarshal([]byte(readFile(filepath.Join(u.cfg.data, "envoy", "state.json"))), &state))
		resp, err := http.Post("http://"+state.Admin+"/healthcheck/fail", "", nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		c := newCaller(t, u.listen)
		c.method, c.body = http.MethodGet, ""
		require.Equal(t, 503, c.call(t, "/healthz").status)
	})
}

// replaceFile renames a new file over another, as certificates are renewed.
func replaceFile(t testing.TB, name string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(name+".new", content, 0o600))
	require.NoError(t, os.Rename(name+".new", name))
}

// freeAddress is one on which nothing listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// echoes is a service that agrees to any upgrade, and then says what it hears.
func echoes(t testing.TB) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: "+r.Header.Get("upgrade")+"\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}
