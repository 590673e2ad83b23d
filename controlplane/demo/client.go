package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const host = "payments.local"

// client is a caller of the payment service.
type client struct {
	http    *http.Client
	address string
}

func newClient(address string) *client {
	return &client{address: address, http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// answer is what a caller saw of one call.
type answer struct {
	status     int
	decision   string // x-seawall-decision
	retryAfter string
	problem    string // the last segment of a problem document's type
	took       time.Duration
}

func (c *client) call(ctx context.Context, method, path string, headers ...string) (answer, error) {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(`{"amount":4200,"currency":"EUR"}`)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.address+path, body)
	if err != nil {
		return answer{}, err
	}
	req.Host = host
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	start := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, decision: resp.Header.Get("x-seawall-decision"), retryAfter: resp.Header.Get("retry-after")}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	a.took = time.Since(start)
	if resp.Header.Get("content-type") == "application/problem+json" {
		var doc struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(text, &doc) == nil {
			a.problem = doc.Type[strings.LastIndexByte(doc.Type, '/')+1:]
		}
	}
	return a, nil
}

// calls makes n calls, one after another. headers are names and values in turn.
func (c *client) calls(ctx context.Context, n int, method, path string, headers ...string) (answers, error) {
	out := make(answers, 0, n)
	for range n {
		a, err := c.call(ctx, method, path, headers...)
		if err != nil {
			return out, err
		}
		out = append(out, a)
	}
	return out, nil
}

// together makes n calls at once.
func (c *client) together(ctx context.Context, n int, method, path string) (answers, error) {
	out, errs := make(answers, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { out[i], errs[i] = c.call(ctx, method, path) })
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

type answers []answer

func (as answers) count(match func(answer) bool) int {
	n := 0
	for _, a := range as {
		if match(a) {
			n++
		}
	}
	return n
}

func (as answers) ok() int { return as.count(func(a answer) bool { return a.status < 300 }) }

func (as answers) refused() answers { return as.decided("breaker-open") }

// decided are those with a decision of the filter's.
func (as answers) decided(decision string) answers {
	var out answers
	for _, a := range as {
		if a.decision == decision {
			out = append(out, a)
		}
	}
	return out
}

func (as answers) slowest() time.Duration {
	var slowest time.Duration
	for _, a := range as {
		slowest = max(slowest, a.took)
	}
	return slowest.Round(time.Millisecond)
}

func (as answers) median() time.Duration {
	if len(as) == 0 {
		return 0
	}
	took := make([]time.Duration, len(as))
	for i, a := range as {
		took[i] = a.took
	}
	slices.Sort(took)
	return took[len(took)/2].Round(10 * time.Microsecond)
}

// String is how often each status was seen, such as "5 × 503, 15 × 503 breaker-open".
func (as answers) String() string {
	seen := map[string]int{}
	for _, a := range as {
		seen[strings.TrimSpace(fmt.Sprintf("%d %s", a.status, a.decision))]++
	}
	var words []string
	for word, n := range seen {
		words = append(words, fmt.Sprintf("%d × %s", n, word))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// ask reads one document of the API.
func ask(ctx context.Context, admin, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("api %s: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("api %s: %s", path, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 8<<20)).Decode(into); err != nil {
		return fmt.Errorf("api %s: %w", path, err)
	}
	return nil
}
