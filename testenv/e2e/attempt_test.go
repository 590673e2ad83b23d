//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// Each try feeds the breaker, and one that opens it is the last; with as many
// workers as share its state.
func TestEachTryCounts(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			t.Parallel()
			service := newUpstream(t)
			loop := func(name string, threshold int) route {
				return route{
					name: name, breaker: breaker(threshold, "1h"), timeout: "10s, perTry: 300ms",
					more: "retry: {attempts: 4, retryOn: [503, reset, timeout, connect-failure], backoff: {base: 10ms, max: 10ms}, idempotency: {generate: true}}",
				}
			}
			u := startUp(t, upConfig{workers: workers, policy: shop{
				endpoints: []string{service.Addr()}, budget: "{percent: 100%, minConcurrency: 100}",
				routes: []route{loop("down", 3), loop("broken", 3), loop("slow", 3), loop("glitch", 3), loop("spread", 5), loop("patient", 9), loop("left", 1)},
			}.yaml()})
			c := newCaller(t, u.listen).fresh()

			t.Run("an answer ends the loop", func(t *testing.T) {
				service.Set("/down", upstream.Behaviour{Status: http.StatusServiceUnavailable, Body: "its own"})
				a := c.call(t, "/down")
				require.Equal(t, http.StatusServiceUnavailable, a.status)
				require.Equal(t, "its own", a.body, "the last try's answer is the client's")
				require.Empty(t, a.header.Get("x-envoy-ratelimited"))
				require.EqualValues(t, 3, service.Calls("/down"))
				for range 10 {
					require.True(t, c.call(t, "/down").refused())
				}
				require.EqualValues(t, 3, service.Calls("/down"))
			})
			for path, b := range map[string]upstream.Behaviour{"/broken": {Reset: true}, "/slow": {Hang: true}} {
				t.Run("an end that is not seen"+path, func(t *testing.T) {
					service.Set(path, b)
					a := c.call(t, path)
					require.True(t, a.refused(), "%d %s", a.status, a.body)
					require.NotEmpty(t, a.header.Get("retry-after"))
					require.EqualValues(t, 3, service.Calls(path))
					require.True(t, c.call(t, path).refused())
					require.EqualValues(t, 3, service.Calls(path))
				})
			}
			t.Run("one key, one charge", func(t *testing.T) {
				service.Set("/glitch", upstream.Behaviour{FailEvery: 2, Ledger: true, Failure: &upstream.Behaviour{Reset: true, Ledger: true}})
				post := newCaller(t, u.listen).fresh()
				post.method, post.body = http.MethodPost, "{}"
				for range 6 {
					require.Equal(t, http.StatusOK, post.call(t, "/glitch").status)
				}
				keys := map[string]int{}
				for _, r := range service.Records() {
					if r.Path == "/glitch" {
						require.Regexp(t, uuid, r.Headers.Get("Idempotency-Key"))
						keys[r.Headers.Get("Idempotency-Key")]++
					}
				}
				require.Len(t, keys, 6, "a key for each request: %v", keys)
				require.Len(t, service.Charges(), 6)
				require.EqualValues(t, 11, service.Calls("/glitch"))
			})
			t.Run("a success ends the run on any worker", func(t *testing.T) {
				service.Set("/spread", upstream.Behaviour{FailEvery: 2})
				for range 40 {
					require.Equal(t, http.StatusOK, c.call(t, "/spread").status)
				}
			})
			t.Run("no patience for a long Retry-After", func(t *testing.T) {
				service.Set("/patient", upstream.Behaviour{Status: http.StatusServiceUnavailable, Headers: map[string]string{"retry-after": "11"}})
				began := time.Now()
				a := c.call(t, "/patient")
				require.Equal(t, "11", a.header.Get("retry-after"))
				require.EqualValues(t, 1, service.Calls("/patient"))
				require.Less(t, time.Since(began), 3*time.Second)
			})
			t.Run("a client that leaves is no failure", func(t *testing.T) {
				service.Set("/left", upstream.Behaviour{Hang: true})
				for range 5 {
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					_, err := c.do(ctx, "/left", nil)
					cancel()
					require.Error(t, err)
				}
				service.Set("/left", upstream.Behaviour{})
				require.Equal(t, http.StatusOK, c.call(t, "/left").status)
			})
			eventually(t, soon, func() (bool, string) {
				got, want := u.attempts(), map[string]int{"down": 3, "broken": 3, "slow": 3, "glitch": 11, "spread": 79, "patient": 1, "left": 6}
				return fmt.Sprint(got) == fmt.Sprint(want), fmt.Sprintf("attempts are %v, not %v", got, want)
			})
			require.Contains(t, u.metrics(), `seawall_attempts_total{priority="medium",route="glitch",service="shop"} 11`)
			eventually(t, soon, func() (bool, string) { // Envoy flushes it every 10 s
				log := readFile(filepath.Join(u.cfg.data, "envoy", "access.log"))
				return regexp.MustCompile(`"attempts":3,.*"path":"/down"`).MatchString(log), "the access log does not tell the tries"
			})
		})
	}
}

// attempts are the calls that upstreams were sent, by route.
func (u *up) attempts() map[string]int {
	u.t.Helper()
	counts := map[string]int{}
	for _, row := range list[struct {
		Route    string `json:"route"`
		Attempts int    `json:"attempts"`
	}](u, "traffic?window=15m") {
		counts[row.Route] += row.Attempts
	}
	return counts
}

// The attempt role comes and goes with edits, under load: no request fails, an
// open breaker stays open, and no try is taken for a request or the reverse.
func TestTheAttemptRoleComesAndGoes(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/broken", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	policy := func(more string) string {
		return shop{endpoints: []string{service.Addr()}, routes: []route{
			{name: "steady", breaker: breaker(5, "1h"), more: more},
			{name: "broken", breaker: breaker(5, "1h")},
		}}.yaml()
	}
	const retry = "retry: {attempts: 3, backoff: {base: 10ms}, idempotency: {generate: true}}"
	u := startUp(t, upConfig{policy: policy("")})
	opener := newCaller(t, u.listen)
	for range 5 {
		require.False(t, opener.call(t, "/broken").refused())
	}
	require.True(t, opener.call(t, "/broken").refused())
	u.awaitBreaker("broken", "open")
	l := startLoad(t, u.listen, 8, "/steady/1", "/broken/1")
	for i := range 8 {
		u.edit(policy([]string{retry, ""}[i%2]))
		l.awaitMore(t, 50)
		require.Empty(t, l.failures(), "after edit %d", i)
	}
	calls := l.stop()
	require.Empty(t, l.failures())
	require.Equal(t, []string{"broken breaker-open", "steady ok"}, calls.names())
	u.awaitOutcomes(calls.plus(tally{"broken 5xx": 5, "broken breaker-open": 1}))
	require.Equal(t, map[string]int{"broken": 5, "steady": calls["steady ok"]}, u.attempts())
	u.stop()
}
