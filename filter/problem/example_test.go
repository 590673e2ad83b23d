//go:build !wasip1

package problem_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/seawall-mesh/seawall/filter/problem"
)

// What a client does about an error, whoever answered it.
func ExampleFromResponse() {
	for _, body := range []string{
		`{"type":"https://seawall-mesh.github.io/problems/breaker-open","status":503,"retryable":true,"retry_after":7}`,
		`{"title":"Invalid order","status":422,"errors":[{"detail":"must be positive","pointer":"#/amount"}]}`,
		`{"title":"Too many requests","status":429,"limit":100,"window":60,"retry_after":3}`,
	} {
		resp := &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Content-Type": {problem.ContentType}}, Body: io.NopCloser(strings.NewReader(body))}
		doc, ok := problem.FromResponse(resp)
		if !ok {
			continue
		}
		switch limit, limited := doc.RateLimit(); {
		case doc.IsValidation():
			fmt.Println("mend", doc.Errors[0].Pointer, doc.Errors[0].Detail)
		case limited:
			fmt.Println("at most", limit.Limit, "in", limit.Window, "s: wait", limit.RetryAfter, "s")
		case doc.IsRetryable():
			fmt.Println(doc.Slug()+": try again in", doc.RetryAfter, "s")
		}
	}
	// Output:
	// breaker-open: try again in 7 s
	// mend #/amount must be positive
	// at most 100 in 60 s: wait 3 s
}
