//go:build !wasip1

package problem

import (
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// FromResponse reads the problem document of a response, if it is one: its
// content type is application/problem+json and its body parses. It consumes up
// to MaxDocument bytes of the body and leaves closing it to the caller. Status
// and Retry-After of the response fill what the document leaves out.
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
	if d.RetryAfter == 0 {
		d.RetryAfter = retryAfter(resp.Header)
	}
	return d, true
}

// retryAfter is Retry-After in seconds; 0 where it says nothing. A
// date is compared with the answer's own, so that no clock has to be right.
func retryAfter(h http.Header) int {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return min(max(seconds, 0), 1<<31-1)
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	sent, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return int(max(until.Sub(sent), 0) / time.Second)
}
