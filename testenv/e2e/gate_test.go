//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// headerCall names a call, for the service that it reaches.
	headerCall = "x-call"
	// headerTake is how long the service is to take, or "reset".
	headerTake = "x-take"
)

// gate is a service whose calls stay inside until a test lets them go. Who is
// inside is exact: a call has left before its answer is on its way.
type gate struct {
	server *httptest.Server

	mu      sync.Mutex
	inside  []*guest            // in the order in which they came
	came    []*guest            // all of them
	most    int                 // inside at once
	opened  map[string]int      // by path: status that is answered at once
	byPath  map[string]int      // calls
	excuses map[string]struct{} // calls whose client has left before they came
}

// guest is one call.
type guest struct {
	path, call string
	header     http.Header
	size       int64 // of the body
	at         time.Time
	leave      chan int // status; 0 breaks the connection
	told       bool     // to leave
}

func newGate(t testing.TB) *gate {
	t.Helper()
	g := &gate{opened: map[string]int{}, byPath: map[string]int{}, excuses: map[string]struct{}{}}
	g.server = httptest.NewServer(g)
	t.Cleanup(func() {
		g.server.CloseClientConnections()
		g.server.Close()
	})
	return g
}

func (g *gate) addr() string { return g.server.Listener.Addr().String() }

// ServeHTTP keeps a call inside until it is let go or its client leaves.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	size, _ := io.Copy(io.Discard, r.Body)
	v := &guest{size: size, path: r.URL.Path, call: r.Header.Get(headerCall), header: r.Header.Clone(), at: time.Now(), leave: make(chan int, 1)}
	g.enter(v)
	var timer <-chan time.Time
	take := r.Header.Get(headerTake)
	if d, err := time.ParseDuration(take); err == nil {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	status := http.StatusOK
	select {
	case status = <-v.leave:
	case <-timer:
	case <-r.Context().Done():
		status = 0
	}
	g.exit(v)
	if status == 0 || take == "reset" {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
}

func (g *gate) enter(v *guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.byPath[v.path]++
	g.came = append(g.came, v)
	if status, open := g.opened[v.path]; open {
		v.tell(status)
	}
	if v.header.Get(headerTake) == "reset" {
		v.tell(0)
	}
	if _, excused := g.excuses[v.call]; excused {
		return
	}
	g.inside = append(g.inside, v)
	g.most = max(g.most, len(g.inside))
}

func (g *gate) exit(v *guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, other := range g.inside {
		if other == v {
			g.inside = append(g.inside[:i:i], g.inside[i+1:]...)
			return
		}
	}
}

// excuse takes a call out of the count, since its client leaves now: the data
// plane may hear of that before the service does.
func (g *gate) excuse(call string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.excuses[call] = struct{}{}
	for i, other := range g.inside {
		if other.call == call {
			g.inside = append(g.inside[:i:i], g.inside[i+1:]...)
			return
		}
	}
}

// letGo answers the oldest n calls that are inside below a path.
func (g *gate) letGo(path string, n, status int) (let int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, v := range g.inside {
		if let < n && strings.HasPrefix(v.path, path) && v.tell(status) {
			let++
		}
	}
	return let
}

func (v *guest) tell(status int) bool {
	if v.told {
		return false
	}
	v.told = true
	v.leave <- status
	return true
}

// open lets go whoever is inside, and answers all that come at once.
func (g *gate) open(path string, status int) {
	g.mu.Lock()
	g.opened[path] = status
	g.mu.Unlock()
	g.letGo(path, 1<<30, status)
}

// shut ends open.
func (g *gate) shut(path string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.opened, path)
}

// holds is how many are inside.
func (g *gate) holds(path string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, v := range g.inside {
		if v.path == path {
			n++
		}
	}
	return n
}

// calls is how many ever came.
func (g *gate) calls(path string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byPath[path]
}

// atMost is the most that were inside at once, and forgets it.
func (g *gate) atMost() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	most := g.most
	g.most = len(g.inside)
	return most
}

// order are the names of the calls below a path, as they came.
func (g *gate) order(path string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	for _, v := range g.came {
		if strings.HasPrefix(v.path, path) {
			names = append(names, v.call)
		}
	}
	return names
}

// last is the newest call of a path.
func (g *gate) last(path string) *guest {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, v := range slices.Backward(g.came) {
		if v.path == path {
			return v
		}
	}
	return nil
}

func (g *gate) awaitHolds(t testing.TB, path string, n int) {
	t.Helper()
	eventually(t, soon, func() (bool, string) {
		now := g.holds(path)
		return now == n, fmt.Sprintf("%d calls of %s inside, not %d", now, path, n)
	})
}

func (g *gate) awaitCalls(t testing.TB, path string, n int) {
	t.Helper()
	eventually(t, soon, func() (bool, string) {
		now := g.calls(path)
		return now >= n, fmt.Sprintf("%d calls of %s, not %d", now, path, n)
	})
	require.Equal(t, n, g.calls(path), "calls of %s", path)
}

// errand is a call that may take long.
type errand struct {
	answer answer
	err    error
	took   time.Duration
	done   chan struct{}
}

// send calls without waiting for the answer. The name tells the call at the
// gate.
func send(t testing.TB, c *caller, path, name string, header http.Header) *errand {
	t.Helper()
	e, _ := sendUntil(t, c, path, name, header)
	return e
}

// sendUntil is send for a client that may hang up.
func sendUntil(t testing.TB, c *caller, path, name string, header http.Header) (e *errand, hangUp func()) {
	t.Helper()
	if header == nil {
		header = http.Header{}
	}
	header.Set(headerCall, name)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	e = &errand{done: make(chan struct{})}
	go func() {
		defer close(e.done)
		started := time.Now()
		e.answer, e.err = c.do(ctx, path, header)
		e.took = time.Since(started)
	}()
	return e, func() {
		cancel()
		<-e.done
	}
}

// wait is the answer, once it is there.
func (e *errand) wait(t testing.TB) answer {
	t.Helper()
	select {
	case <-e.done:
	case <-time.After(soon):
		t.Fatal("no answer")
	}
	if e.err != nil {
		t.Fatalf("no answer: %v", e.err)
	}
	return e.answer
}

func (e *errand) pending() bool {
	select {
	case <-e.done:
		return false
	default:
		return true
	}
}
