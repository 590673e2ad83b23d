package alert

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

const (
	// postTimeout bounds one request, from connecting to the end of the answer.
	postTimeout = 10 * time.Second

	// The wait after a failed request doubles from one to the other.
	firstWait = time.Second
	longWait  = time.Minute
)

// NotifyConfig is what Alertmanagers and Webhooks need; all members are
// required.
type NotifyConfig struct {
	Log *slog.Logger
	Now func() time.Time
	// Client makes the requests; it must not follow redirects, which would
	// carry a signed message to somebody else.
	Client *http.Client
	// Wait sleeps until d has passed or ctx ends.
	Wait func(ctx context.Context, d time.Duration)
}

// NewClient is a Client for NotifyConfig.
func NewClient() *http.Client {
	return &http.Client{
		Timeout:       postTimeout,
		Transport:     http.DefaultTransport.(*http.Transport).Clone(), //nolint:forcetypeassert // documented
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Sleep is the Wait of NotifyConfig outside of tests.
func Sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// refusal is an answer that is not a success. Later is what the receiver asks
// to be left alone for, 0 where it does not say.
type refusal struct {
	status int
	text   string
	later  time.Duration
}

// Error is the status and the beginning of the answer.
func (r *refusal) Error() string { return fmt.Sprintf("answered %d: %q", r.status, r.text) }

// forGood reports that the same message would be refused again.
func (r *refusal) forGood() bool {
	return r.status < 500 && r.status != http.StatusTooManyRequests && r.status != http.StatusRequestTimeout
}

// post sends JSON. The error is a *refusal where there was an answer; it never
// names the URL, which may hold a secret.
func (c *NotifyConfig) post(ctx context.Context, url string, header http.Header, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("not a usable URL")
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "seawall")
	resp, err := c.Client.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // for the log; whatever came is enough
	if resp.StatusCode/100 == 2 {
		return nil
	}
	seconds, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16)
	return &refusal{resp.StatusCode, string(text), min(time.Duration(seconds)*time.Second, longWait)}
}
