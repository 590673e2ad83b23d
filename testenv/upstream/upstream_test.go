package upstream_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T) *upstream.Server {
	t.Helper()
	s, err := upstream.New(upstream.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// client speaks one protocol only.
func client(t *testing.T, h2 bool) *http.Client {
	t.Helper()
	p := new(http.Protocols)
	p.SetHTTP1(!h2)
	p.SetUnencryptedHTTP2(h2)
	tr := &http.Transport{Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func get(t *testing.T, c *http.Client, url string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("body"))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

func TestBehaviour(t *testing.T) {
	for _, proto := range []struct {
		name string
		h2   bool
	}{{"HTTP/1.1", false}, {"HTTP/2", true}} {
		t.Run(proto.name, func(t *testing.T) {
			s, c := serve(t), client(t, proto.h2)
			s.Set("/v1/charges", upstream.Behaviour{Status: 201, Body: "{}", Headers: map[string]string{"content-type": "application/json"}})
			s.Set("/v1/charges/bad", upstream.Behaviour{Status: 418})
			for path, want := range map[string]int{"/": 200, "/v1/charges": 201, "/v1/charges/7": 201, "/v1/chargesX": 200, "/v1/charges/bad": 418} {
				code, _ := get(t, c, s.URL(path))
				require.Equal(t, want, code, path)
			}
			require.EqualValues(t, 3, s.Calls("/v1/charges"))
			require.EqualValues(t, 5, s.Calls("/"))
			rec := s.Records()[0]
			require.Equal(t, "POST", rec.Method)
			require.Equal(t, "body", string(rec.Body))
			require.True(t, strings.HasPrefix(rec.Proto, proto.name))
		})
	}
}

func TestFailures(t *testing.T) {
	s, c := serve(t), client(t, false)
	codes := func(path string, n int) []int {
		var out []int
		for range n {
			code, _ := get(t, c, s.URL(path))
			out = append(out, code)
		}
		return out
	}
	s.Set("/next", upstream.Behaviour{FailNext: 2})
	require.Equal(t, []int{503, 503, 200, 200}, codes("/next", 4))
	s.Set("/every", upstream.Behaviour{FailEvery: 3, Failure: &upstream.Behaviour{Status: 500}})
	require.Equal(t, []int{200, 200, 500, 200, 200, 500}, codes("/every", 6))
	s.Set("/next", upstream.Behaviour{FailNext: 1})
	require.Equal(t, []int{503, 200}, codes("/next", 2), "setting it again starts anew")
}

func TestReset(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		s, c := serve(t), client(t, h2)
		s.Set("/", upstream.Behaviour{Reset: true})
		_, err := c.Post(s.URL("/"), "text/plain", nil)
		require.Error(t, err)
		if !h2 {
			require.ErrorIs(t, err, syscall.ECONNRESET)
		}
	}
}

func TestRaw(t *testing.T) {
	s, c := serve(t), client(t, false)
	s.Set("/half", upstream.Behaviour{Raw: "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"})
	resp, err := c.Post(s.URL("/half"), "text/plain", nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, "half", string(got))
	s.Set("/noise", upstream.Behaviour{Raw: "noise\r\n\r\n"})
	_, err = c.Post(s.URL("/noise"), "text/plain", nil)
	require.ErrorContains(t, err, "malformed HTTP")
}

func TestHangAndLatency(t *testing.T) {
	s, c := serve(t), client(t, false)
	s.Set("/hang", upstream.Behaviour{Hang: true})
	s.Set("/slow", upstream.Behaviour{Latency: 50 * time.Millisecond})
	at := time.Now()
	get(t, c, s.URL("/slow"))
	require.GreaterOrEqual(t, time.Since(at), 50*time.Millisecond)

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL("/hang"), nil)
	require.NoError(t, err)
	_, err = c.Do(req)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Eventually(t, func() bool { now, _ := s.InFlight(); return now == 0 }, 5*time.Second, 5*time.Millisecond)

	failed := make(chan error, 1)
	go func() {
		resp, err := c.Get(s.URL("/hang"))
		if err == nil {
			_ = resp.Body.Close()
		}
		failed <- err
	}()
	require.Eventually(t, func() bool { now, _ := s.InFlight(); return now == 1 }, 5*time.Second, 5*time.Millisecond)
	addr := s.Addr()
	require.NoError(t, s.Close())
	require.Error(t, <-failed, "closing ends what hangs")
	_, err = net.Dial("tcp", addr)
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "a provider that is down")
}

func TestLedger(t *testing.T) {
	s, c := serve(t), client(t, false)
	s.Set("/pay", upstream.Behaviour{Status: 201, Ledger: true, FailNext: 1, Failure: &upstream.Behaviour{Reset: true, Ledger: true}})
	_, err := c.Do(keyed(t, s.URL("/pay"), "k1"))
	require.Error(t, err, "charged, and the client never hears of it")
	for _, key := range []string{"k1", "k2", "k1"} {
		code, _ := get(t, c, s.URL("/pay"), "Idempotency-Key", key)
		require.Equal(t, 201, code)
	}
	charges := s.Charges()
	require.Len(t, charges, 2)
	require.Equal(t, "k1", charges[0].Key)
	require.Equal(t, 3, charges[0].Calls)
	get(t, c, s.URL("/pay"))
	get(t, c, s.URL("/pay"))
	require.Len(t, s.Charges(), 4, "without a key each call is a charge")
	s.Forget()
	require.Empty(t, s.Charges())
	require.Zero(t, s.Calls("/"))
}

func keyed(t *testing.T, url, key string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
	require.NoError(t, err)
	req.Header.Set("Idempotency-Key", key)
	return req
}

func TestBounds(t *testing.T) {
	s, c := serve(t), client(t, false)
	for range 1030 {
		get(t, c, s.URL("/x"))
	}
	require.Len(t, s.Records(), 1024)
	require.EqualValues(t, 6, s.Dropped())
	require.EqualValues(t, 1030, s.Calls("/x"))
}
