//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tally counts by name.
type tally map[string]int

// answer is what a client saw of a request.
type answer struct {
	status  int
	header  http.Header
	body    string
	problem problem // if it is one
}

// problem is a problem document (RFC 9457).
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Instance string `json:"instance"`
}

func (a answer) decision() string { return a.header.Get("x-seawall-decision") }

func (a answer) refused() bool { return a.decision() == "breaker-open" }

// outcome is the word that the request must be counted as.
func (a answer) outcome() string {
	switch {
	case a.decision() != "":
		return a.decision()
	case a.status >= 500:
		return "5xx"
	case a.status >= 400:
		return "4xx"
	}
	return "ok"
}

// caller is an HTTP client with connections of its own. It calls with POST,
// if not told otherwise, which Go's transport never sends twice.
type caller struct {
	client *http.Client
	listen string
	host   string
	method string
	body   string
}

func newCaller(t testing.TB, listen string) *caller {
	t.Helper()
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &caller{client: &http.Client{Transport: tr, Timeout: 30 * time.Second}, listen: listen, host: shopHost, method: http.MethodPost, body: "{}"}
}

// fresh makes each call open a connection of its own.
func (c *caller) fresh() *caller {
	c.client.Transport.(*http.Transport).DisableKeepAlives = true
	return c
}

func (c *caller) try(path string, header http.Header) (answer, error) {
	a, _, err := c.trace(path, header)
	return a, err
}

// trace also tells whether the call went over a connection that had been used
// before.
func (c *caller) trace(path string, header http.Header) (a answer, reused bool, err error) {
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused },
	})
	a, err = c.do(ctx, path, header)
	return a, reused, err
}

func (c *caller) do(ctx context.Context, path string, header http.Header) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, c.method, "http://"+c.listen+path, strings.NewReader(c.body))
	if err != nil {
		return answer{}, err
	}
	req.Host = c.host
	if header != nil {
		req.Header = header
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a = answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
	if resp.Header.Get("content-type") == "application/problem+json" {
		if err := json.Unmarshal(body, &a.problem); err != nil {
			return answer{}, fmt.Errorf("problem document %s: %w", body, err)
		}
	}
	return a, nil
}

func (c *caller) call(t testing.TB, path string) answer {
	t.Helper()
	a, err := c.try(path, nil)
	require.NoError(t, err)
	return a
}

// load is clients that call one path after another until they are stopped.
type load struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	gate   sync.RWMutex // write-locked while paused

	mu     sync.Mutex
	counts tally // by "route outcome"
	errs   []callError
	calls  []called // all of them, in the order of their ends
}

type callError struct {
	at     time.Time
	err    error
	reused bool // the connection
}

type called struct{ sent, done time.Time }

// startLoad has n clients call the paths in turn, each with a connection of
// its own and a pause of a few milliseconds between calls. The route of a call
// is the first segment of its path.
func startLoad(t testing.TB, listen string, n int, paths ...string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel, counts: tally{}}
	for i := range n {
		c := newCaller(t, listen)
		l.wg.Go(func() {
			pause := time.NewTicker(4 * time.Millisecond)
			defer pause.Stop()
			for k := i; ; k++ {
				select {
				case <-ctx.Done():
					return
				case <-pause.C:
				}
				l.gate.RLock()
				l.one(c, paths[k%len(paths)])
				l.gate.RUnlock()
			}
		})
	}
	t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) one(c *caller, path string) {
	sent := time.Now()
	a, reused, err := c.trace(path, nil)
	done := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.errs = append(l.errs, callError{done, err, reused})
		return
	}
	route, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	l.counts[route+" "+a.outcome()]++
	l.calls = append(l.calls, called{sent, done})
}

// pause returns when no call is in flight, and lets none begin until the
// returned function is called.
func (l *load) pause() (resume func()) {
	l.gate.Lock()
	return l.gate.Unlock
}

// stop ends the load. It may be called more than once.
func (l *load) stop() tally {
	l.cancel()
	l.wg.Wait()
	return l.seen()
}

// seen are the counts so far.
func (l *load) seen() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.counts)
}

func (l *load) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.calls)
}

func (l *load) failures() []callError {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]callError(nil), l.errs...)
}

// awaitMore waits until n more calls have been answered: proof that traffic
// flows.
func (l *load) awaitMore(t testing.TB, n int) {
	t.Helper()
	from := l.answered()
	eventually(t, soon, func() (bool, string) {
		now := l.answered()
		return now >= from+n, fmt.Sprintf("%d calls answered, of %d", now-from, n)
	})
}

func (t tally) plus(o tally) tally {
	out := tally{}
	for _, m := range []tally{t, o} {
		for k, n := range m {
			out[k] += n
		}
	}
	return out
}

func (t tally) equal(o tally) bool { return maps.Equal(t, o) }

func (t tally) names() []string { return slices.Sorted(maps.Keys(t)) }

func (t tally) total() int {
	n := 0
	for _, v := range t {
		n += v
	}
	return n
}

// of is how many ended in one way, over all routes.
func (t tally) of(outcome string) (n int) {
	for name, v := range t {
		if strings.HasSuffix(name, " "+outcome) {
			n += v
		}
	}
	return n
}
