//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// An operator forces breakers on a running data plane: it is effective on every
// worker at once, moves no other breaker, and is in the audit log.
func TestBreakersAreForcedByHand(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/broken", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	u := startUp(t, upConfig{workers: 4, policy: shop{endpoints: []string{service.Addr()}, routes: []route{
		{name: "steady", breaker: breaker(5, "1h")}, {name: "broken", breaker: breaker(5, "1h")},
	}}.yaml()})
	c := newCaller(t, u.listen).fresh()
	for k := range 6 {
		require.Equal(t, k == 5, c.call(t, "/broken").refused())
	}

	force := func(args ...string) {
		t.Helper()
		out, code := u.seawall(append([]string{"breakers"}, args...)...)
		require.Zero(t, code, out)
	}
	settles := func(path string, refused bool) {
		t.Helper()
		eventually(t, soon, func() (bool, string) { return c.call(t, path).refused() == refused, path + " is not as it was forced" })
		for range 40 {
			require.Equal(t, refused, c.call(t, path).refused(), path)
		}
	}
	force("open", "shop/steady", "--reason", "drill", "--for", "1h")
	settles("/steady", true)
	force("close", "shop/broken", "--reason", "drill", "--for", "1h")
	settles("/broken", false)
	force("reset", "shop/steady", "--reason", "over")
	settles("/steady", false)
	force("reset", "shop/broken", "--reason", "over")
	settles("/broken", true) // as it was before: nothing has moved it meanwhile

	out, code := u.seawall("audit")
	require.Zero(t, code, out)
	require.Equal(t, 2, strings.Count(out, "breaker-reset"), out)
}

// A forced breaker ends by itself while nobody is there to end it.
func TestAnOverrideEndsWithoutAControlPlane(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	u := startUp(t, upConfig{workers: 2, policy: shop{endpoints: []string{service.Addr()}, routes: []route{{name: "steady", breaker: breaker(5, "1h")}}}.yaml()})
	c := newCaller(t, u.listen).fresh()
	const length = 6 * time.Second
	before := time.Now()
	out, code := u.seawall("breakers", "open", "shop/steady", "--reason", "drill", "--for", "6s")
	set := time.Now()
	require.Zero(t, code, out)
	eventually(t, length/2, func() (bool, string) { return c.call(t, "/steady").refused(), "it is not forced open" })
	u.kill()

	var ended time.Time
	eventually(t, 2*length, func() (bool, string) {
		ended = time.Now()
		return !c.call(t, "/steady").refused(), "it is still forced open"
	})
	require.Greater(t, ended.Sub(before), length-100*time.Millisecond, "ended too early")
	require.Less(t, ended.Sub(set), length+time.Second, "ended too late")
	for range 20 {
		require.False(t, c.call(t, "/steady").refused())
	}
	u.again()
	eventually(t, soon, func() (bool, string) {
		out, code := u.seawall("audit")
		return code == 0 && strings.Contains(out, "breaker-override-expired"), out
	})
	require.False(t, c.call(t, "/steady").refused(), "a restart has brought it back")
}

// override asks the API for an override, or for its end.
func (u *up) override(method, route, body string, header map[string]string) (status int, etag string, p problem) {
	u.t.Helper()
	req, err := http.NewRequestWithContext(u.t.Context(), method, "http://"+u.admin+"/api/v1/breakers/shop/"+route+"/override", strings.NewReader(body))
	require.NoError(u.t, err)
	req.Header.Set("content-type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(u.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(u.t, err)
	if resp.StatusCode >= 400 {
		require.Equal(u.t, "application/problem+json", resp.Header.Get("content-type"))
		require.NoError(u.t, json.Unmarshal(raw, &p))
		require.Equal(u.t, resp.StatusCode, p.Status)
	}
	return resp.StatusCode, resp.Header.Get("etag"), p
}

// The API as tools use it: what is asked for wrongly changes nothing, what is
// asked for is on all workers, is shown, and ends when it should.
func TestOverrideByTheAPI(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	service.Set("/broken", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	u := startUp(t, upConfig{workers: 4, policy: shop{endpoints: []string{service.Addr()}, routes: []route{
		{name: "steady", breaker: breaker(5, "1h")}, {name: "broken", breaker: breaker(5, "1h")}, {name: "bare"},
	}}.yaml()})
	o := spread(t, u.listen, 24, "/steady")
	// An edit comes to the workers one after another: it is everywhere once
	// all connections agree, and then it stays so.
	awaitAll := func(path string, refused bool) {
		t.Helper()
		eventually(t, soon, func() (bool, string) {
			for k := range o.callers {
				if o.call(t, path).refused() != refused {
					return false, fmt.Sprintf("%s is not as it was forced, after %d calls that are", path, k)
				}
			}
			return true, ""
		})
	}
	requireAll := func(path string, refused bool) {
		t.Helper()
		awaitAll(path, refused)
		for range 2 * len(o.callers) {
			require.Equal(t, refused, o.call(t, path).refused(), path)
		}
	}
	requireShown := func(route, state string, forced bool) {
		t.Helper()
		eventually(t, soon, func() (bool, string) {
			b := u.breaker(route)
			return b.State == state && b.Forced == forced, fmt.Sprintf("%s is shown as %s, forced %v", route, b.State, b.Forced)
		})
	}

	for name, tc := range map[string]struct {
		route, body string
		header      map[string]string
		status      int
	}{
		"no reason":        {"steady", `{"state":"open","for":"10m"}`, nil, 400},
		"blank reason":     {"steady", `{"state":"open","reason":" ","for":"10m"}`, nil, 400},
		"no end":           {"steady", `{"state":"open","reason":"drill"}`, nil, 400},
		"for too long":     {"steady", `{"state":"open","reason":"drill","for":"24h1s"}`, nil, 400},
		"for nothing":      {"steady", `{"state":"open","reason":"drill","for":"0s"}`, nil, 400},
		"half-open":        {"steady", `{"state":"half-open","reason":"drill","for":"10m"}`, nil, 400},
		"no JSON":          {"steady", `open it`, nil, 400},
		"no such route":    {"nowhere", `{"state":"open","reason":"drill","for":"10m"}`, nil, 404},
		"no breaker":       {"bare", `{"state":"open","reason":"drill","for":"10m"}`, nil, 404},
		"no content type":  {"steady", `{"state":"open","reason":"drill","for":"10m"}`, map[string]string{"content-type": ""}, 415},
		"nothing to match": {"steady", `{"state":"open","reason":"drill","for":"10m"}`, map[string]string{"if-match": `"x"`}, 412},
		"a foreign origin": {"steady", `{"state":"open","reason":"drill","for":"10m"}`, map[string]string{"origin": "http://evil.example"}, 403},
	} {
		status, _, p := u.override(http.MethodPut, tc.route, tc.body, tc.header)
		require.Equal(t, tc.status, status, "%s: %+v", name, p)
	}
	requireAll("/steady", false)
	require.False(t, u.breaker("steady").Forced)

	// Open: no call reaches the service, over whatever worker.
	status, first, p := u.override(http.MethodPut, "steady", `{"state":"open","reason":"drill","for":"10m","by":"e2e"}`, nil)
	require.Equal(t, http.StatusOK, status, p)
	require.NotEmpty(t, first)
	requireAll("/steady", true)
	service.Forget()
	for range len(o.callers) {
		a := o.call(t, "/steady")
		require.Equal(t, typeBase+"breaker-open", a.problem.Type)
		require.NotEmpty(t, a.header.Get("retry-after"))
		require.NotEqual(t, "0", a.header.Get("retry-after"))
		require.False(t, o.call(t, "/broken").refused() && service.Calls("/broken") < 5, "another breaker was forced")
	}
	require.Zero(t, service.Calls("/steady"), "calls through a breaker that is forced open")
	require.EqualValues(t, 5, service.Calls("/broken"), "the other breaker has tripped by itself")
	requireShown("steady", "open", true)
	requireShown("broken", "open", false)

	// It is changed only by who has seen it.
	status, _, _ = u.override(http.MethodPut, "steady", `{"state":"closed","reason":"drill","for":"10m"}`, map[string]string{"if-match": `"stale"`})
	require.Equal(t, http.StatusPreconditionFailed, status)
	status, _, _ = u.override(http.MethodDelete, "steady", `{"reason":"over"}`, map[string]string{"if-match": `"stale"`})
	require.Equal(t, http.StatusPreconditionFailed, status)
	status, _, _ = u.override(http.MethodDelete, "steady", `{}`, nil)
	require.Equal(t, http.StatusBadRequest, status)
	requireAll("/steady", true)
	status, second, _ := u.override(http.MethodPut, "steady", `{"state":"open","reason":"longer","for":"1h"}`, map[string]string{"if-match": first})
	require.Equal(t, http.StatusOK, status)
	require.NotEqual(t, first, second)

	// A restart of the control plane changes nothing.
	u.kill()
	requireAll("/steady", true)
	u.again()
	requireAll("/steady", true)
	requireShown("steady", "open", true)
	status, _, p = u.override(http.MethodDelete, "steady", `{"reason":"over"}`, map[string]string{"if-match": second})
	require.Less(t, status, 300, p)
	requireAll("/steady", false)
	requireShown("steady", "closed", false)
	status, _, _ = u.override(http.MethodDelete, "steady", `{"reason":"over"}`, nil)
	require.Equal(t, http.StatusNotFound, status)

	// Closed: all go through, whatever comes of it, and nothing is counted; it
	// ends by itself, and the breaker is where it was.
	const length = 6 * time.Second
	service.Forget()
	set := time.Now()
	status, _, p = u.override(http.MethodPut, "broken", `{"state":"closed","reason":"drill","for":"6s"}`, nil)
	require.Equal(t, http.StatusOK, status, p)
	awaitAll("/broken", false)
	requireShown("broken", "closed", true)
	for range len(o.callers) {
		require.False(t, o.call(t, "/broken").refused())
	}
	require.Less(t, time.Since(set), length, "too slow for what this test is about")
	eventually(t, soon, func() (bool, string) { return o.call(t, "/broken").refused(), "it does not end" })
	require.Greater(t, time.Since(set), length-50*time.Millisecond, "ended too early")
	requireAll("/broken", true)
	requireShown("broken", "open", false)

	// A breaker that is forced closed while it is closed counts nothing either.
	service.Set("/steady", upstream.Behaviour{Status: http.StatusServiceUnavailable})
	u.awaitBatches()
	free := u.node().PlanHash
	status, _, p = u.override(http.MethodPut, "steady", `{"state":"closed","reason":"drill","for":"10m"}`, nil)
	require.Equal(t, http.StatusOK, status, p)
	requireShown("steady", "closed", true)
	eventually(t, soon, func() (bool, string) { // not before: lifting it brings back the plan before it
		n := u.node()
		return n.PlanHash != "" && n.PlanHash != free, "a worker does not have the override yet"
	})
	for range 3 * len(o.callers) {
		require.False(t, o.call(t, "/steady").refused())
	}
	before := u.node().PlanHash
	status, _, _ = u.override(http.MethodDelete, "steady", `{"reason":"over"}`, nil)
	require.Less(t, status, 300)
	eventually(t, soon, func() (bool, string) {
		n := u.node()
		for _, w := range n.Workers {
			if w.PlanHash == before {
				return false, "a worker still has the override"
			}
		}
		return n.PlanHash != before, "the override is still in the plan"
	})
	service.Forget()
	for k := range 20 {
		require.Equal(t, k >= 5, o.call(t, "/steady").refused(), "call %d", k+1)
	}
	u.stop()
}
