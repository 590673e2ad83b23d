//go:build !wasip1

package problem

import (
	"io"
	"mime"
	"net/http"
	"strconv"
)

// FromResponse reads the problem document of a response, if it is one: its
// content type is application/problem+json and its body parses. It consumes up
// to MaxDocument bytes of the body and leaves closing it to the caller. Status
// and Retry-After (in seconds) of the response fill what the document leaves
// out.
func FromResponse(resp *http.Response) (Document, bool) {
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || media != ContentType {
		return Document{}, false
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxDocument+1))
	if err != nil {
		return Document{}, false
	}
	d, err := Parse(body)
	if err != nil {
		return Document{}, false
	}
	if d.Status == 0 {
		d.Status = resp.StatusCode
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 && d.RetryAfter == 0 {
		d.RetryAfter = seconds
	}
	return d, true
}
