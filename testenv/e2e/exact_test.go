//go:build linux

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// exactClients are enough to keep the data plane busy.
	exactClients = 48
	// ambiguous is how near to the end of a minute a request must end for it not
	// to be certain whether the filter, which looks at the clock when Envoy has
	// written the log line, saw the minute before or the one after. The machine
	// may be overloaded.
	ambiguous = 250 * time.Millisecond
)

// exactRequests are how many requests a test makes at least, at most so many a
// second, 0: as many as go.
func exactRequests(few, many int) (requests, rate int) {
	if *long {
		return many, 0
	}
	return few, 1500
}

// Requests of every kind end in every way while the control plane is killed
// with -9 again and again, away for a while, and edited: in the end each request
// in Envoy's log is counted exactly once, by its route and outcome, in the
// minute in which it ended.
func TestEveryRequestIsCountedOnceWhileTheControlPlaneIsKilled(t *testing.T) {
	t.Parallel()
	requests, rate := exactRequests(15_000, 1_000_000)
	service := newFaultyService(t)
	u := startUp(t, upConfig{policy: faulty(service, 0)})
	log := u.keepAccessLog()
	envoy, random := u.envoyPID(), rand.New(rand.NewPCG(9, uint64(time.Now().UnixNano()))) //nolint:gosec // no secret
	// So that the end of a minute lies within it.
	eventually(t, 2*time.Minute, func() (bool, string) {
		s := time.Now().Second()
		return *long || (s >= 35 && s < 50), "a minute does not end"
	})
	began, second := time.Now(), (time.Now().Unix()/60+1)*60
	s := newStampede(t, u.listen, rate)
	kills := 0
	for s.made() < requests || time.Now().Unix() < second+2 {
		s.awaitMore(t, random.IntN(2000))
		u.kill()
		kills++
		writePolicy(t, u.cfg.policies, faulty(service, kills))
		s.awaitMore(t, random.IntN(3000))
		u.again()
		require.Equal(t, envoy, u.envoyPID(), "another Envoy")
	}
	s.stop()
	took := time.Since(began)
	require.Empty(t, s.lost(), "requests that were lost")

	first, last := began.Unix()/60, time.Now().Unix()/60
	counts, minutes := tally{}, map[int64]tally{}
	leave, enter := map[int64]tally{}, map[int64]tally{} // what may be counted in a minute's neighbour, and the reverse
	nearly := 0
	log.each(func(seen sighting) {
		key := seen.key()
		counts[key]++
		s.compare(seen)
		end := seen.end()
		m := end.Unix() / 60
		in(minutes, m)[key]++
		for _, shift := range []time.Duration{-ambiguous, ambiguous} {
			if other := end.Add(shift).Unix() / 60; other != m {
				in(leave, m)[key]++
				in(enter, other)[key]++
				nearly++
			}
		}
	})
	require.Empty(t, s.differences(), "what clients saw and what Envoy did")
	for _, name := range []string{
		"steady ok", "steady 5xx", "steady reset", "steady aborted", "retried ok", "retried 5xx", "retried reset", "retried aborted",
		"fragile ok", "fragile 5xx", "fragile breaker-open", "pooled ok", "pooled bulkhead-full", "pooled bulkhead-timeout", "pooled aborted",
		"late ok", "late timeout", " 4xx",
	} {
		require.NotZero(t, counts[name], "no %s in %v", name, counts)
	}
	u.awaitOutcomes(counts)
	o := list[objective](u, "slos")[0]
	require.EqualValues(t, counts.total(), o.Total+uint64(counts.of("aborted"))+uint64(counts[" 4xx"]))
	u.stop()

	sum := tally{}
	for m := first; m <= last; m++ {
		got := u.stored(m, m+1)
		for key := range got.plus(minutes[m]) {
			least, most := minutes[m][key]-leave[m][key], minutes[m][key]+enter[m][key]
			require.True(t, least <= got[key] && got[key] <= most,
				"minute %d has %d of %s, and should have %d to %d", m-first, got[key], key, least, most)
		}
		sum = sum.plus(got)
	}
	require.Equal(t, counts, sum)
	t.Logf("%d requests in %s (%.0f/s) over %d minutes and %d kills; %d ended near the end of a minute; %v",
		counts.total(), took.Round(time.Second), float64(counts.total())/took.Seconds(), last-first+1, kills, nearly, counts)
}

// in is the tally of a minute.
func in(minutes map[int64]tally, minute int64) tally {
	if minutes[minute] == nil {
		minutes[minute] = tally{}
	}
	return minutes[minute]
}

// gap is a stretch of time that counts may lack, as the API has it.
type gap struct {
	Node  string    `json:"node"`
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
}

func (u *up) gaps() []gap {
	u.t.Helper()
	return get[struct{ Gaps []gap }](u, "status").Gaps
}

// Envoy is killed too, alone, soon after the control plane, or while that is
// away: nothing is counted that no client saw, and whatever a client saw is
// counted, but for what ended in a stretch of time of which the control plane
// says that it may not be. There is one for each kill, and where the control
// plane was there it is short.
func TestWhatAKilledEnvoyHadNotSentIsReported(t *testing.T) {
	t.Parallel()
	requests, rate := exactRequests(20_000, 200_000)
	service := newFaultyService(t)
	u := startUp(t, upConfig{policy: faulty(service, 0)})
	random := rand.New(rand.NewPCG(10, uint64(time.Now().UnixNano()))) //nolint:gosec // no secret
	require.Empty(t, u.gaps())
	began := time.Now()
	s := newStampede(t, u.listen, rate)
	var gaps []gap
	for kills := 0; kills < 3 || s.made() < requests; kills++ {
		known := len(u.gaps())
		killEnvoy := func() (old int) {
			old = u.envoyPID()
			require.NoError(t, syscall.Kill(old, syscall.SIGKILL))
			eventually(t, soon, func() (bool, string) { return !alive(old), "it does not die" })
			return old
		}
		var old int
		var killed time.Time
		switch kills % 3 {
		case 0: // alone, when all is well for a while
			settled := time.Now()
			eventually(t, 2*soon, func() (bool, string) { return time.Since(settled) > 12*time.Second, "time stands still" })
			s.awaitMore(t, random.IntN(1000))
			killed = time.Now()
			old = killEnvoy()
		case 1:
			u.kill()
			s.awaitMore(t, random.IntN(2000))
			u.again()
			s.awaitMore(t, random.IntN(2000))
			known = 0
			old = killEnvoy()
		case 2:
			u.kill()
			s.awaitMore(t, random.IntN(2000))
			old = killEnvoy()
			known = 0
			u.again()
		}
		eventually(t, startLimit, func() (bool, string) {
			all := u.gaps()
			st := get[status](u, "status")
			return len(all) == known+1 && st.Nodes.Synced == 1 && u.envoyPID() != old, fmt.Sprintf("gaps %v after %d, %d nodes synced", all, known, st.Nodes.Synced)
		})
		g := u.gaps()[known]
		require.Equal(t, "local", g.Node)
		if !killed.IsZero() {
			require.Less(t, killed.Sub(g.From), 3*time.Second, "it had sent nothing for long")
		}
		gaps = append(gaps, g)
		s.awaitMore(t, 1000)
	}
	s.stop()
	u.awaitBatches()
	require.Contains(t, u.stderr.String(), "what the one before had not sent is not counted")
	out, _ := u.seawall("status")
	require.Contains(t, out, "local has another Envoy")

	got := u.known()
	seen, late, unknown := tally{}, tally{}, tally{} // unknown: by route
	for _, r := range s.riders {
		for _, c := range r.calls {
			route := c.counted()
			if c.status <= 0 {
				if c.status != unconnected {
					unknown[route]++
				}
				continue
			}
			key := route + " " + c.what
			seen[key]++
			for _, g := range gaps {
				if c.done.After(g.From.Add(-ambiguous)) && c.done.Before(g.Until.Add(ambiguous)) {
					late[key]++
					break
				}
			}
		}
	}
	missing := 0
	for key := range got.plus(seen) {
		route, _, _ := strings.Cut(key, " ")
		require.LessOrEqual(t, got[key], seen[key]+unknown[route], "%s: more than clients saw, and %d that they did not see the end of", key, unknown[route])
		require.GreaterOrEqual(t, got[key], seen[key]-late[key], "%s: less than clients saw, and %d were in a gap", key, late[key])
		missing += max(0, seen[key]-got[key])
	}
	t.Logf("%d answers in %s, %d in gaps, at least %d not counted; %d calls without an answer; gaps: %v",
		seen.total(), time.Since(began).Round(time.Second), late.total(), missing, unknown.total(), gaps)
	u.stop()
}

// An orderly end loses nothing, and nothing is said of it; the power that fails
// is another matter, though nobody was there to see it.
func TestOnlyAnEnvoyThatWasNotDrainedLeavesAGap(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	u := startUp(t, upConfig{policy: shop{endpoints: []string{service.Addr()}, routes: []route{{name: "steady"}}}.yaml()})
	require.Equal(t, http.StatusOK, newCaller(t, u.listen).call(t, "/steady").status)
	u.stop()
	u.again()
	u.awaitBatches()
	require.Empty(t, u.gaps())
	u.awaitOutcomes(tally{"steady ok": 1})
	u.kill()
	require.NoError(t, syscall.Kill(u.envoyPID(), syscall.SIGKILL))
	u.again()
	eventually(t, soon, func() (bool, string) { return len(u.gaps()) == 1, "nothing is said" })
	u.stop()
}

// known are the outcomes, as far as a client can tell them apart.
func (u *up) known() tally {
	u.t.Helper()
	counts := tally{}
	for key, n := range u.outcomes() {
		route, outcome, _ := strings.Cut(key, " ")
		switch outcome {
		case "reset", "timeout", "connect-failure":
			outcome = "5xx"
		}
		counts[route+" "+outcome] += n
	}
	return counts
}

// faulty is the policy of the exactness tests, another one for each version.
func faulty(address string, version int) string {
	s := shop{
		endpoints: []string{address}, slo: true, budget: "{percent: 100%}", pools: "{few: {maxConcurrency: 3, maxQueue: 3, maxWait: 15ms}}",
		routes: []route{
			{name: "steady", breaker: breaker(1000, "1h")},
			{name: "retried", more: "retry: {attempts: 3, retryOn: [503, reset, timeout, connect-failure], backoff: {base: 1ms, max: 5ms}}"},
			{name: "fragile", breaker: breaker(4, "1s")},
			{name: "pooled", more: "pool: few"},
			{name: "late", timeout: "60ms"},
		},
	}
	s.routes = append(s.routes, route{name: fmt.Sprintf("version-%d", version)})
	return s.yaml()
}

// newFaultyService is a service that fails at random, by path, and returns its
// address.
func newFaultyService(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail, reset, slow, patience := 1, 1, 1, 20
		switch r.URL.Path {
		case "/retried":
			fail, reset = 30, 10
		case "/fragile":
			fail, reset = 50, 10
		case "/pooled":
			slow, patience = 100, 10
		case "/late":
			slow, patience = 50, 80
		}
		if rand.IntN(100) < slow { //nolint:gosec // no secret
			select {
			case <-time.After(time.Duration(rand.IntN(1000*patience)) * time.Microsecond): //nolint:gosec // no secret
			case <-r.Context().Done():
			}
		}
		switch n := rand.IntN(100); { //nolint:gosec // no secret
		case n < reset:
			panic(http.ErrAbortHandler)
		case n < reset+fail:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.Listener.Addr().String()
}

// stampede are clients that call in every manner, with as little effort as can
// be: each has a connection of its own, which Go's transport would not give it.
type stampede struct {
	listen string
	every  time.Duration // between a client's calls
	quit   chan struct{}
	once   sync.Once
	wg     sync.WaitGroup
	ended  atomic.Int64
	riders []*rider
	odd    []string // see differences
}

var errUnconnected = errors.New("no connection")

// rider is one client. All but its address is its own until it has stopped.
type rider struct {
	s      *stampede
	number int
	random *rand.Rand
	conn   net.Conn
	reader *bufio.Reader
	calls  []ride
	lost   []string
}

// ride is a call, and what is known of it.
type ride struct {
	route  uint8
	status int16     // or one of the three below
	seen   bool      // by Envoy
	done   time.Time // answered
	what   string    // it was answered: the outcome
}

// What a ride has instead of a status.
const (
	hungUp      = 0
	lost        = -1 // no answer came
	unconnected = -2 // nobody listens
)

// counted is the route that it is counted for.
func (c ride) counted() string {
	if route := rideRoutes[c.route]; route != "nowhere" {
		return route
	}
	return ""
}

var rideRoutes = [...]string{"steady", "retried", "fragile", "pooled", "late", "nowhere"}

// rideWeights are the shares of the routes in a hundred calls.
var rideWeights = [len(rideRoutes)]int{64, 15, 8, 9, 3, 1}

func newStampede(t testing.TB, listen string, rate int) *stampede {
	t.Helper()
	s := &stampede{listen: listen, quit: make(chan struct{})}
	if rate > 0 {
		s.every = time.Second * exactClients / time.Duration(rate)
	}
	for i := range exactClients {
		r := &rider{s: s, number: i, random: rand.New(rand.NewPCG(uint64(i), 3))} //nolint:gosec // no secret
		s.riders = append(s.riders, r)
		s.wg.Go(r.run)
	}
	t.Cleanup(s.stop)
	return s
}

func (s *stampede) stop() {
	s.once.Do(func() { close(s.quit) })
	s.wg.Wait()
}

func (s *stampede) made() int { return int(s.ended.Load()) }

func (s *stampede) awaitMore(t testing.TB, n int) {
	t.Helper()
	more(t, &s.ended, int64(n), "calls")
}

func (r *rider) run() {
	defer r.hangUp()
	var pace <-chan time.Time
	if r.s.every > 0 {
		tick := time.NewTicker(r.s.every)
		defer tick.Stop()
		pace = tick.C
	}
	for {
		if pace != nil {
			select {
			case <-r.s.quit:
				return
			case <-pace:
			}
		}
		select {
		case <-r.s.quit:
			return
		default:
		}
		if !r.ride() {
			select { // nobody is there: it calms down
			case <-r.s.quit:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
		r.s.ended.Add(1)
	}
}

// ride makes one call, and reports whether it was answered as it should.
func (r *rider) ride() bool {
	route, n := 0, r.random.IntN(100)
	for n >= rideWeights[route] {
		n -= rideWeights[route]
		route++
	}
	r.calls = append(r.calls, ride{route: uint8(route)}) //nolint:gosec // six of them
	c := &r.calls[len(r.calls)-1]
	leave := r.random.IntN(50) == 0
	patience := time.Duration(r.random.IntN(2) * r.random.IntN(4000) * int(time.Microsecond))
	answer, err := r.call(rideRoutes[route], leave, patience)
	switch {
	case leave && !errors.Is(err, errUnconnected):
		r.hangUp()
	case err != nil:
		c.status = lost
		if errors.Is(err, errUnconnected) {
			c.status = unconnected
		}
		r.lost = append(r.lost, err.Error())
		r.hangUp()
		return false
	default:
		c.status, c.done, c.what = int16(answer.status), time.Now(), answer.outcome() //nolint:gosec // three digits
	}
	return true
}

// call sends a request, and leaves after a while or waits for the answer.
func (r *rider) call(route string, leave bool, patience time.Duration) (answer, error) {
	if r.conn == nil {
		conn, err := net.DialTimeout("tcp", r.s.listen, soon)
		if err != nil {
			return answer{}, errors.Join(errUnconnected, err)
		}
		r.conn, r.reader = conn, bufio.NewReader(conn)
	}
	if err := r.conn.SetDeadline(time.Now().Add(soon)); err != nil {
		return answer{}, err
	}
	_, err := fmt.Fprintf(r.conn, "GET /%s HTTP/1.1\r\nhost: %s\r\nuser-agent: %d/%d\r\n\r\n", route, shopHost, r.number, len(r.calls)-1)
	if err != nil || leave {
		if patience > 0 {
			<-time.After(patience)
		}
		return answer{}, err
	}
	resp, err := http.ReadResponse(r.reader, nil)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return answer{}, err
	}
	if resp.Close {
		r.hangUp()
	}
	a := answer{status: resp.StatusCode, header: resp.Header}
	return a, nil
}

func (r *rider) hangUp() {
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
}

// lost are the failures of calls whose client had not hung up. It is for after
// the stop, like all that follows.
func (s *stampede) lost() (all []string) {
	for _, r := range s.riders {
		all = append(all, r.lost...)
	}
	return all
}

// compare notes that Envoy has seen a call, as its client has.
func (s *stampede) compare(seen sighting) {
	number, call, _ := strings.Cut(seen.Call, "/")
	i, err := strconv.Atoi(number)
	k, err2 := strconv.Atoi(call)
	if err != nil || err2 != nil || i >= len(s.riders) || k >= len(s.riders[i].calls) {
		s.odd = append(s.odd, fmt.Sprintf("a call that nobody made: %+v", seen))
		return
	}
	c := &s.riders[i].calls[k]
	if c.seen || (c.status != hungUp && int(c.status) != seen.Status) {
		s.odd = append(s.odd, fmt.Sprintf("seen before: %v; its client saw %d: %+v", c.seen, c.status, seen))
	}
	c.seen = true
}

// differences are what is odd of the calls that were compared: a client was
// answered other than Envoy says, or Envoy does not know of it, or saw it twice.
func (s *stampede) differences() []string {
	for _, r := range s.riders {
		for k, c := range r.calls {
			if c.status > 0 && !c.seen {
				s.odd = append(s.odd, fmt.Sprintf("call %d/%d was answered %d, and Envoy has not seen it", r.number, k, c.status))
			}
		}
	}
	return s.odd[:min(len(s.odd), 20)]
}
