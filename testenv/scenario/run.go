package scenario

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// ErrUnsupported is what a World returns for a step that it cannot do. The
// whole scenario then counts as not run there.
var ErrUnsupported = errors.New("not supported in this world")

// Request is what a client sends. A World maps the route's name to a host and
// a path that its router resolves to it.
type Request struct {
	Method  string
	Route   string // service/route
	NoRoute bool
	GRPC    bool
	ID      string // x-request-id; "" lets the edge make one
	Headers []KV   // more headers
	// Answer is what its upstream will do, where that is known at its start. A
	// real upstream that shall not be reached must be told before.
	Answer string

	Tried bool   // the World plays the router too, and the reply says what the upstream saw
	Retry *Retry // of the route, nil: none
}

// Reply is what the client got.
type Reply struct {
	Status     int // 0: none
	Decision   string
	RetryAfter string
	GRPCStatus string
	Upstream   bool // the upstream was called
	Note       string

	Calls string // how many tries the upstream got, "" where that was not counted
	Key   string // the idempotency key on them: kept, made, or differs; "": none
}

// World is a data plane with an upstream whose answers the script gives.
type World interface {
	// Until lets time pass until d after the start.
	Until(d time.Duration) error
	// Now is the time since the start.
	Now() time.Duration
	// Epoch is the wall clock at the start, in Unix ns.
	Epoch() int64
	// Workers is how many there are.
	Workers() int
	// Send starts a request. End gives it its upstream's answer, and returns
	// what the client got.
	Send(worker int, r Request) (Exchange, error)
	// Push applies a plan; false is a refusal by the data plane.
	Push(plan []byte) (accepted bool, err error)
	// Trap lets a worker's VM die.
	Trap(worker int) error
	// Step sets the wall clock forward or back. Now and Until do not notice.
	Step(by time.Duration) error
	// Telemetry sets how batches fare.
	Telemetry(mode string) error
	// Bodies are all batches that came in, accepted or not, in order.
	Bodies() []Delivery
	Close() error
}

// Exchange is a request in flight.
type Exchange interface {
	// State is waiting while the filter holds the request, upstream once it was
	// sent on, and answered when the client has an answer.
	State() string
	// Sent is a header of the request as it stands.
	Sent(name string) string
	// End lets the request end, a waiting one once it was sent on or answered;
	// an answer of "abort" is a client that leaves.
	End(answer string, latency time.Duration) (Reply, error)
}

// Delivery is one POST of a batch.
type Delivery struct {
	Body     []byte
	Accepted bool // stored, whether or not the filter hears of it
}

// RealTime is a World whose clock nobody can hold. Its exchanges are Awaiters.
type RealTime interface {
	// Settle waits until done, and until all that was before has been told.
	Settle(done func() bool) error
	// Pace is how many times faster than the script its time runs.
	Pace() float64
	// Wall is its wall clock, in Unix ns.
	Wall() int64
}

// Awaiter is an Exchange in real time.
type Awaiter interface {
	// Await waits a little for the request to get into a State, and returns the
	// one that it is in. Waiting must last for so much of the script's time.
	Await(state string, lasting time.Duration) string
}

// settle is how long a run goes on after its last step, for batches to arrive.
const settle = 5 * time.Second

type runner struct {
	w       World
	real    RealTime // nil: time is virtual
	s       *Scenario
	trace   strings.Builder
	turn    int
	held    map[string]Exchange
	heldBy  map[string]Request
	sent    map[string]uint64 // by route
	settled bool              // nothing has happened since
	later   []belated
	lossy   bool
	errs    []error
}

// belated is an expectation of a breaker in real time: a batch would come too
// late to tell its state, but events say when it changed.
type belated struct {
	step Step
	do   Expect
	at   int64 // Unix ns
}

// Run plays a scenario in a World, and returns the trace. The error joins all
// that was not as expected; it is ErrUnsupported where the World cannot do it.
func Run(_ context.Context, s *Scenario, w World) (string, error) {
	r := &runner{w: w, s: s, held: map[string]Exchange{}, heldBy: map[string]Request{}, sent: map[string]uint64{}}
	r.real, _ = w.(RealTime)
	var last time.Duration
	for i, step := range s.Steps {
		if err := w.Until(step.At); err != nil {
			return r.trace.String(), fmt.Errorf("script:%d: %w", step.Line, err)
		}
		if err := r.step(step, s.pause(i)); err != nil {
			return r.trace.String(), fmt.Errorf("script:%d: %w", step.Line, err)
		}
		last = step.At
	}
	if err := r.settle(last); err != nil {
		return r.trace.String(), err
	}
	r.finish()
	return r.trace.String(), errors.Join(r.errs...)
}

// pause is how long nothing happens after a step and what comes at the same
// time; after the last one it is long.
func (s *Scenario) pause(i int) time.Duration {
	for _, next := range s.Steps[i:] {
		if next.At > s.Steps[i].At {
			return next.At - s.Steps[i].At
		}
	}
	return settle
}

// settle waits for batches.
func (r *runner) settle(last time.Duration) error {
	if r.real == nil {
		return r.w.Until(max(last, r.w.Now()) + settle)
	}
	if r.settled {
		return nil
	}
	r.settled = true
	return r.real.Settle(r.allCounted)
}

func (r *runner) allCounted() bool {
	l, err := Read(r.w.Bodies())
	if err != nil || l.Undelivered {
		return err != nil // it will not get better
	}
	for route, n := range r.sent {
		for name := range r.held {
			if r.heldBy[name].Route == route {
				n--
			}
		}
		if strings.Contains(route, "/") && l.count(route) < n {
			return false
		}
	}
	return true
}

func (r *runner) failf(step Step, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("script:%d: %s: %s", step.Line, step.Text, fmt.Sprintf(format, args...)))
}

func (r *runner) step(step Step, pause time.Duration) error {
	if do, ok := step.Do.(Expect); ok {
		return r.expect(step, do, pause)
	}
	r.settled = false
	switch do := step.Do.(type) {
	case Send:
		return r.send(step, do)
	case Release:
		ex, ok := r.held[do.Name]
		if !ok {
			return fmt.Errorf("release %s: nothing is held by that name", do.Name)
		}
		delete(r.held, do.Name)
		reply, err := ex.End(do.Answer, do.Latency)
		if err != nil {
			return err
		}
		r.check(step, do.Want, reply)
		r.tracef(step.At, "release %s upstream=%s -> %s", do.Name, do.Answer, reply)
	case Push:
		return r.push(step, do)
	case Telemetry:
		r.tracef(step.At, "telemetry %s", do.Mode)
		return r.w.Telemetry(do.Mode)
	case Trap:
		r.lossy = true
		r.tracef(step.At, "trap")
		return r.w.Trap(do.Worker % r.w.Workers())
	case Clock:
		r.tracef(step.At, "clock by %s", do.By)
		return r.w.Step(do.By)
	}
	return nil
}

func (r *runner) send(step Step, do Send) error {
	var last string
	var times int
	flush := func() {
		if times == 0 {
			return
		}
		prefix := ""
		if times > 1 {
			prefix = strconv.Itoa(times) + "x "
		}
		r.tracef(step.At, "%s%s", prefix, last)
		times = 0
	}
	for range do.Times {
		worker := do.Worker
		if worker < 0 {
			worker = r.turn
			r.turn++
		}
		req := do.Request
		req.Retry = r.s.Retries[req.Route]
		req.Tried = r.s.Attempts || req.Retry != nil
		if do.Hold == "" {
			req.Answer = do.Answer
		}
		ex, err := r.w.Send(worker%r.w.Workers(), req)
		if err != nil {
			return err
		}
		r.sent[do.Request.Route]++
		line := fmt.Sprintf("%s %s", do.Request.Method, do.Request.Route)
		if do.Hold != "" {
			if r.held[do.Hold] != nil {
				return fmt.Errorf("hold=%s: that name is taken", do.Hold)
			}
			r.held[do.Hold], r.heldBy[do.Hold] = ex, req
			r.tracef(step.At, "hold %s %s", do.Hold, line)
			return nil
		}
		reply, err := ex.End(do.Answer, do.Latency)
		if err != nil {
			return err
		}
		r.check(step, do.Want, reply)
		if r.s.Mask && reply.RetryAfter != "" {
			reply.RetryAfter = "…"
		}
		if reply.Upstream {
			line += " upstream=" + do.Answer
		}
		if line = fmt.Sprintf("%s -> %s", line, reply); line != last {
			flush()
			last = line
		}
		times++
	}
	flush()
	return nil
}

func (r *runner) push(step Step, do Push) error {
	plan := r.s.Files[do.File]
	if !strings.HasSuffix(do.File, ".raw") {
		var err error
		if plan, err = FillAt(plan, r.w.Epoch()); err != nil {
			return err
		}
	}
	ok, err := r.w.Push(plan)
	if err != nil {
		return err
	}
	got := map[bool]string{true: "ack", false: "nack"}[ok]
	if do.Want != "" && do.Want != got {
		r.failf(step, "got %s", got)
	}
	r.tracef(step.At, "push %s -> %s", do.File, got)
	return nil
}

// String is the reply as scripts and traces write it.
func (r Reply) String() string {
	parts := []string{strconv.Itoa(r.Status), r.Decision, kv("retry-after", r.RetryAfter), kv("grpc-status", r.GRPCStatus), kv("calls", r.Calls), kv("key", r.Key), r.Note}
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " ")
}

func kv(k, v string) string {
	if v == "" {
		return ""
	}
	return k + "=" + v
}

func (r *runner) check(step Step, want *Want, got Reply) {
	if want == nil {
		return
	}
	if want.Status != got.Status || want.Decision != got.Decision {
		r.failf(step, "got %s", got)
		return
	}
	have := map[string]string{
		"retry-after": got.RetryAfter, "grpc-status": got.GRPCStatus,
		"upstream": map[bool]string{true: "yes", false: "no"}[got.Upstream], "calls": got.Calls, "key": got.Key,
	}
	for _, v := range want.Values {
		if v.Key == "retry-after" && r.about(v.Value, have[v.Key]) {
			continue
		}
		if have[v.Key] != v.Value {
			r.failf(step, "%s is %q", v.Key, have[v.Key])
		}
	}
}

// about reports whether a number of seconds is what it should be, or one more or
// less where time is real.
func (r *runner) about(want, got string) bool {
	if r.real == nil {
		return want == got
	}
	w, err1 := strconv.Atoi(want)
	g, err2 := strconv.Atoi(got)
	w = int(math.Ceil(float64(w) / r.real.Pace()))
	return errors.Join(err1, err2) == nil && g >= w-1 && g <= w+1
}

// slack is how much of a request's time may be gone where time is real.
const slack = 300 * time.Millisecond

// left reports whether a header says the time that it should, or where time is
// real a little less: digits, and what may follow them, as milliseconds.
func (r *runner) left(want, got string) bool {
	if r.real == nil || want == got {
		return want == got
	}
	w, err1 := strconv.Atoi(strings.TrimSuffix(want, "m"))
	g, err2 := strconv.Atoi(strings.TrimSuffix(got, "m"))
	w = int(float64(w) / r.real.Pace())
	return errors.Join(err1, err2) == nil && strings.HasSuffix(want, "m") == strings.HasSuffix(got, "m") &&
		g <= w && g >= w-int(slack.Milliseconds())
}

func (r *runner) tracef(at time.Duration, format string, args ...any) {
	fmt.Fprintf(&r.trace, "%-6s %s\n", at, fmt.Sprintf(format, args...))
}

// look checks a held request.
func (r *runner) look(step Step, do Expect, pause time.Duration) {
	ex := r.held[do.Subject]
	if ex == nil {
		r.failf(step, "nothing is held by that name")
		return
	}
	for _, want := range do.Values {
		var got string
		if real, ok := ex.(Awaiter); do.Kind == "sent" {
			if got = ex.Sent(want.Key); r.left(want.Value, got) {
				continue
			}
		} else if ok {
			got = real.Await(want.Value, pause)
		} else {
			got = ex.State()
		}
		if got != want.Value {
			r.failf(step, "%s is %q", want.Key, got)
		}
	}
}

func (r *runner) expect(step Step, do Expect, pause time.Duration) error {
	switch {
	case do.Kind == "held" || do.Kind == "sent":
		r.look(step, do, pause)
		return nil
	case r.real != nil && do.Kind == "breaker":
		r.later = append(r.later, belated{step, do, r.real.Wall()})
		return nil
	case r.real != nil:
		if err := r.settle(step.At); err != nil {
			return err
		}
	}
	l, err := Read(r.w.Bodies())
	if err != nil {
		r.failf(step, "%v", err)
		return nil
	}
	for _, want := range do.Values {
		var got string
		switch do.Kind {
		case "breaker":
			got = l.Breakers[do.Subject].State
			if got == "" {
				got = "closed" // one that never left closed is not reported
			}
		case "pool":
			got = l.Pool(do.Subject, want.Key)
		case "attempts":
			got = strconv.FormatUint(l.Attempts[do.Subject], 10)
		case "count":
			got = strconv.FormatUint(l.Counts[do.Subject][want.Key], 10)
		default:
			got = strconv.FormatUint(l.Counter(want.Key), 10)
		}
		if got != want.Value {
			r.failf(step, "%s is %s", want.Key, got)
		}
	}
	return nil
}

// lookBack checks what was expected of breakers, now that all is told.
func (r *runner) lookBack(l *Ledger) {
	for _, b := range r.later {
		state := "closed"
		for _, e := range l.Events { // by time
			switch {
			case e.Service+"/"+e.Route != b.do.Subject || e.AtNS > b.at:
			case e.Kind == "breaker-reset":
				state = "closed"
			case e.To != "":
				state = e.To
			}
		}
		if want := b.do.Values[0].Value; state != want {
			r.failf(b.step, "it was %s", state)
		}
	}
}

// finish writes what telemetry says in the end, and checks what always holds.
func (r *runner) finish() {
	l, err := Read(r.w.Bodies())
	if err != nil {
		r.errs = append(r.errs, err)
		return
	}
	r.lookBack(l)
	for _, e := range l.Events {
		at := time.Duration(e.AtNS - r.w.Epoch())
		line := strings.TrimSuffix(e.Kind+" "+e.Service+"/"+e.Route, " /")
		if e.To != "" {
			line += " " + e.From + " -> " + e.To
		}
		if e.Cause != "" {
			line += " cause=" + e.Cause
		}
		fmt.Fprintf(&r.trace, "event  %s at %s\n", line, at.Round(time.Millisecond))
	}
	for _, name := range sorted(l.Breakers) {
		forced := ""
		if l.Breakers[name].Forced {
			forced = " forced"
		}
		fmt.Fprintf(&r.trace, "breaker %s %s%s\n", name, l.Breakers[name].State, forced)
	}
	for _, name := range sorted(l.Counts) {
		fmt.Fprintf(&r.trace, "count  %s", name)
		for _, o := range sorted(l.Counts[name]) {
			fmt.Fprintf(&r.trace, " %s=%d", o, l.Counts[name][o])
		}
		r.trace.WriteString("\n")
	}
	if !r.lossy && len(r.held) == 0 && !l.Undelivered {
		for _, route := range sorted(r.sent) {
			if !strings.Contains(route, "/") {
				continue // no row
			}
			if n := l.count(route); n != r.sent[route] {
				r.errs = append(r.errs, fmt.Errorf("%s: %d requests sent, %d counted", route, r.sent[route], n))
			}
		}
	}
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// eventOrder is by time, then by what makes one breaker's events follow.
func eventOrder(a, b contract.Event) int {
	if a.AtNS != b.AtNS {
		return int(min(max(a.AtNS-b.AtNS, -1), 1))
	}
	if c := strings.Compare(a.Service+"/"+a.Route, b.Service+"/"+b.Route); c != 0 {
		return c
	}
	return int(min(max(int64(a.Gen)-int64(b.Gen), -1), 1))
}
