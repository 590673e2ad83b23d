//go:build !wasip1

package problem_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/problem"
)

func TestFromResponse(t *testing.T) {
	t.Parallel()
	response := func(contentType, body, retryAfter string) *http.Response {
		r := &http.Response{StatusCode: 503, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Retry-After", retryAfter)
		return r
	}
	d, ok := problem.FromResponse(response("application/problem+json; charset=utf-8", `{"title":"x"}`, "7"))
	require.True(t, ok)
	require.Equal(t, problem.Document{Type: "about:blank", Title: "x", Status: 503, RetryAfter: 7}, d)
	dated := response("application/problem+json", `{"status":429}`, "Wed, 21 Oct 2026 07:28:00 GMT")
	d, ok = problem.FromResponse(dated)
	require.True(t, ok)
	require.Zero(t, d.RetryAfter, "a date without one to compare it with")
	for date, want := range map[string]int{"Wed, 21 Oct 2026 07:26:30 GMT": 90, "Wed, 21 Oct 2026 07:30:00 GMT": 0} {
		dated = response("application/problem+json", `{"status":429}`, "Wed, 21 Oct 2026 07:28:00 GMT")
		dated.Header.Set("Date", date)
		d, ok = problem.FromResponse(dated)
		require.True(t, ok)
		require.Equal(t, want, d.RetryAfter)
	}
	for value, want := range map[string]int{"-3": 0, "soon": 0, "99999999999": 1<<31 - 1} {
		d, ok = problem.FromResponse(response("application/problem+json", `{}`, value))
		require.True(t, ok)
		require.Equal(t, want, d.RetryAfter)
	}
	d, ok = problem.FromResponse(response("application/problem+json", `{"status":429,"retry_after":3}`, "Wed, 21 Oct 2026 07:28:00 GMT"))
	require.True(t, ok)
	require.Equal(t, problem.Document{Type: "about:blank", Status: 429, RetryAfter: 3}, d)
	for name, r := range map[string]*http.Response{
		"another type": response("application/json", `{}`, ""),
		"no type":      response("", `{}`, ""),
		"not json":     response("application/problem+json", `<html>`, ""),
		"huge":         response("application/problem+json", strings.Repeat(" ", problem.MaxDocument+1), ""),
	} {
		_, ok := problem.FromResponse(r)
		require.False(t, ok, name)
	}
}
