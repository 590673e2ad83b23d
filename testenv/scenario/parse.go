package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/tools/txtar"
)

// Bounds of a scenario: it may come from anywhere.
const (
	maxSteps   = 1000
	maxTimes   = 100_000
	maxWorkers = 16
	maxAt      = 30 * 24 * time.Hour
	maxPace    = 100
)

// Scenario is a parsed archive.
type Scenario struct {
	Title   string // the first line of the description
	Workers []int  // the numbers of workers to run with
	Steps   []Step
	Envoy   int  // how many times faster a real Envoy plays it, 0: not at all
	Mask    bool // the trace leaves out Retry-After, which has jitter
	// Attempts puts the filter into the clusters' upstream chains too.
	Attempts bool
	Retries  map[string]*Retry // by route
	Files    map[string][]byte
	Trace    string
}

// Step is one line of the script.
type Step struct {
	Line int
	At   time.Duration
	Text string // the line without its time
	Do   any    // Send, Release, Push, Telemetry, Trap, Clock, Expect
}

// Send is one or more requests.
type Send struct {
	Times   int
	Worker  int // -1: in turn
	Request Request
	Hold    string // keeps the request in flight under this name
	Answer  string // what the upstream does: a status, or a word of Answers
	Latency time.Duration
	Want    *Want
}

// Release lets a held request end.
type Release struct {
	Name    string
	Answer  string
	Latency time.Duration
	Want    *Want
}

// Push is a new plan.
type Push struct {
	File string
	Want string // ack | nack | ""
}

// Telemetry is how batches fare from now on.
type Telemetry struct{ Mode string }

// Trap lets a worker's VM die.
type Trap struct{ Worker int }

// Clock is a step of the wall clock; timers and the script's own time go on as
// before.
type Clock struct{ By time.Duration }

// Expect is a check of what telemetry said so far.
type Expect struct {
	Kind, Subject string // breaker SUBJECT state | count SUBJECT k=v … | counter k=v …
	Values        []KV
}

// KV is one name=value.
type KV struct{ Key, Value string }

// Want is what a client shall get.
type Want struct {
	Status   int
	Decision string // x-seawall-decision; "" is none
	Values   []KV   // retry-after=59, grpc-status=14, upstream=no
}

// Answers are the words for upstream= beside a status.
var Answers = []string{"reset", "timeout", "refused", "no-healthy", "overflow", "mid-reset", "abort", "hang"}

var heldStates = []string{"waiting", "upstream", "answered"}

var telemetryModes = []string{"up", "down", "503", "400", "hang", "lost"}

// Parse reads a scenario. The error names the line of the script.
func Parse(data []byte) (*Scenario, error) {
	ar := txtar.Parse(data)
	s := &Scenario{Workers: []int{1}, Files: map[string][]byte{}, Retries: map[string]*Retry{}}
	s.Title, _, _ = strings.Cut(strings.TrimSpace(string(ar.Comment)), "\n")
	var script string
	for _, f := range ar.Files {
		switch f.Name {
		case "script":
			script = string(f.Data)
		case "trace":
			s.Trace = string(f.Data)
		default:
			s.Files[f.Name] = f.Data
		}
	}
	for i, line := range strings.Split(script, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := s.line(i+1, line); err != nil {
			return nil, fmt.Errorf("script:%d: %w", i+1, err)
		}
	}
	if len(s.Steps) == 0 {
		return nil, fmt.Errorf("script: no steps")
	}
	return s, nil
}

func (s *Scenario) line(n int, line string) error {
	if rest, ok := strings.CutPrefix(line, "workers "); ok {
		s.Workers = nil
		for w := range strings.FieldsSeq(rest) {
			k, err := strconv.Atoi(w)
			if err != nil || k < 1 || k > maxWorkers {
				return fmt.Errorf("workers %q: want 1 to %d", w, maxWorkers)
			}
			s.Workers = append(s.Workers, k)
		}
		return nil
	}
	if pace, ok := strings.CutPrefix(line, "envoy: "); ok {
		return s.pace(pace)
	}
	if line == "attempts: yes" {
		s.Attempts = true
		return nil
	}
	if rest, ok := strings.CutPrefix(line, "retry "); ok {
		return s.retry(strings.Fields(rest))
	}
	if line == "mask retry-after" {
		s.Mask = true
		return nil
	}
	rest, ok := strings.CutPrefix(line, "at ")
	at, text, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return fmt.Errorf("%q: want `at TIME: STEP`", line)
	}
	d, err := time.ParseDuration(strings.TrimSpace(at))
	if err != nil || d < 0 || d > maxAt {
		return fmt.Errorf("time %q: want 0s to %s", at, maxAt)
	}
	if len(s.Steps) > 0 && d < s.Steps[len(s.Steps)-1].At {
		return fmt.Errorf("time %s is before the previous step", d)
	}
	if len(s.Steps) == maxSteps {
		return fmt.Errorf("more than %d steps", maxSteps)
	}
	step := Step{Line: n, At: d, Text: strings.Join(strings.Fields(text), " ")}
	if step.Do, err = s.parseStep(strings.Fields(text)); err != nil {
		return err
	}
	s.Steps = append(s.Steps, step)
	return nil
}

func (s *Scenario) pace(v string) error {
	if v == "yes" {
		s.Envoy = 1
		return nil
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v, "x"))
	if err != nil || !strings.HasSuffix(v, "x") || n < 1 || n > maxPace {
		return fmt.Errorf("envoy: %s: want yes, or how many times faster, 1x to %dx", v, maxPace)
	}
	s.Envoy = n
	return nil
}

func (s *Scenario) parseStep(w []string) (any, error) {
	var want []string
	if i := slices.Index(w, "->"); i >= 0 {
		w, want = w[:i], w[i+1:]
		if len(want) == 0 {
			return nil, fmt.Errorf("nothing after ->")
		}
	}
	if len(w) == 0 {
		return nil, fmt.Errorf("no step")
	}
	switch w[0] {
	case "push":
		return s.parsePush(w[1:], want)
	case "telemetry":
		if len(w) != 2 || !slices.Contains(telemetryModes, w[1]) {
			return nil, fmt.Errorf("telemetry: want one of %v", telemetryModes)
		}
		return Telemetry{w[1]}, nil
	case "trap":
		worker := "0"
		if len(w) == 2 {
			worker = strings.TrimPrefix(w[1], "worker=")
		}
		n, err := strconv.Atoi(worker)
		if err != nil || n < 0 || len(w) > 2 {
			return nil, fmt.Errorf("trap: want worker=N")
		}
		return Trap{n}, nil
	case "clock":
		if len(w) != 2 {
			return nil, fmt.Errorf("clock: want `clock +1h` or `clock -1h`")
		}
		by, err := time.ParseDuration(w[1])
		if err != nil || by > maxAt || by < -maxAt {
			return nil, fmt.Errorf("clock %s: want a step of at most %s", w[1], maxAt)
		}
		return Clock{by}, nil
	case "expect":
		return parseExpect(w[1:])
	case "release":
		return parseRelease(w[1:], want)
	}
	return parseSend(w, want)
}

func (s *Scenario) parsePush(w, want []string) (any, error) {
	p := Push{}
	if len(w) != 1 || len(want) > 1 {
		return nil, fmt.Errorf("push: want `push FILE [-> ack|nack]`")
	}
	p.File = w[0]
	if s.Files[p.File] == nil {
		return nil, fmt.Errorf("push %s: the archive has no such file", p.File)
	}
	if len(want) == 1 {
		if p.Want = want[0]; p.Want != "ack" && p.Want != "nack" {
			return nil, fmt.Errorf("push -> %s: want ack or nack", p.Want)
		}
	}
	return p, nil
}

func parseExpect(w []string) (any, error) {
	if len(w) < 2 {
		return nil, fmt.Errorf("expect: want breaker, count, counter, attempts, pool, held or sent")
	}
	e := Expect{Kind: w[0]}
	switch e.Kind {
	case "breaker":
		if len(w) != 3 {
			return nil, fmt.Errorf("expect breaker: want ROUTE STATE")
		}
		e.Subject, e.Values = w[1], []KV{{"state", w[2]}}
		return e, nil
	case "held":
		if len(w) != 3 || !slices.Contains(heldStates, w[2]) {
			return nil, fmt.Errorf("expect held: want NAME and one of %v", heldStates)
		}
		e.Subject, e.Values = w[1], []KV{{"state", w[2]}}
		return e, nil
	case "count", "pool", "sent", "attempts":
		e.Subject = w[1]
		w = w[2:]
	case "counter":
		w = w[1:]
	default:
		return nil, fmt.Errorf("expect %s: want breaker, count, counter, attempts, pool, held or sent", e.Kind)
	}
	for _, kv := range w {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, fmt.Errorf("expect %s: %q is not name=value", e.Kind, kv)
		}
		e.Values = append(e.Values, KV{k, v})
	}
	return e, nil
}

func parseRelease(w, want []string) (any, error) {
	if len(w) == 0 {
		return nil, fmt.Errorf("release: want a name")
	}
	r := Release{Name: w[0], Answer: "200"}
	var err error
	for _, kv := range w[1:] {
		k, v, _ := strings.Cut(kv, "=")
		switch k {
		case "upstream":
			r.Answer, err = parseAnswer(v)
		case "latency":
			r.Latency, err = parseLatency(v)
		default:
			err = fmt.Errorf("release: %q is not known", kv)
		}
		if err != nil {
			return nil, err
		}
	}
	r.Want, err = parseWant(want)
	return r, err
}

func parseSend(w, want []string) (any, error) {
	s := Send{Times: 1, Worker: -1, Answer: "200"}
	var err error
	for len(w) > 0 {
		head, value, isKV := strings.Cut(w[0], "=")
		switch {
		case isKV && head == "worker":
			if s.Worker, err = strconv.Atoi(value); err != nil || s.Worker < 0 {
				return nil, fmt.Errorf("worker %q: want a number", value)
			}
		case isKV && head == "hold" && value != "":
			s.Hold = value
		case !isKV && strings.HasSuffix(head, "x") && len(head) > 1:
			if s.Times, err = strconv.Atoi(head[:len(head)-1]); err != nil || s.Times < 1 || s.Times > maxTimes {
				return nil, fmt.Errorf("%q: want 1x to %dx", head, maxTimes)
			}
		default:
			return s.rest(w, want)
		}
		w = w[1:]
	}
	return nil, fmt.Errorf("no METHOD and ROUTE")
}

func (s Send) rest(w, want []string) (any, error) {
	if len(w) < 2 {
		return nil, fmt.Errorf("%q: want METHOD ROUTE, or push, release, telemetry, trap, expect", strings.Join(w, " "))
	}
	if s.Hold != "" && s.Times != 1 {
		return nil, fmt.Errorf("hold=%s: one request has one name", s.Hold)
	}
	s.Request = Request{Method: w[0], Route: strings.TrimPrefix(w[1], "?")}
	s.Request.NoRoute = w[1] == "-"
	var err error
	for _, kv := range w[2:] {
		k, v, _ := strings.Cut(kv, "=")
		switch k {
		case "upstream":
			s.Answer, err = parseAnswer(v)
		case "latency":
			s.Latency, err = parseLatency(v)
		case "grpc":
			s.Request.GRPC = true
		case "id":
			s.Request.ID = v
		case "header":
			name, value, ok := strings.Cut(v, ":")
			if !ok || name == "" {
				return nil, fmt.Errorf("header=%s: want header=NAME:VALUE", v)
			}
			s.Request.Headers = append(s.Request.Headers, KV{name, value})
		default:
			err = fmt.Errorf("%q is not known: want upstream=, latency=, grpc, id= or header=", kv)
		}
		if err != nil {
			return nil, err
		}
	}
	s.Want, err = parseWant(want)
	return s, err
}

// retry reads "ROUTE retries=2 on=503,reset backoff=100ms perTry=1s".
func (s *Scenario) retry(w []string) error {
	if len(w) == 0 {
		return fmt.Errorf("retry: want ROUTE retries=N on=503,reset,connect-failure backoff=TIME perTry=TIME")
	}
	r := &Retry{}
	for _, kv := range w[1:] {
		k, v, _ := strings.Cut(kv, "=")
		var err error
		switch k {
		case "retries":
			r.Retries, err = strconv.Atoi(v)
		case "on":
			r.On = strings.Split(v, ",")
		case "backoff":
			r.Backoff, err = parseLatency(v)
		case "perTry":
			r.PerTry, err = parseLatency(v)
		default:
			err = fmt.Errorf("%q is not known", kv)
		}
		if err != nil {
			return fmt.Errorf("retry %s: %w", w[0], err)
		}
	}
	s.Retries[w[0]] = r
	return nil
}

// parseAnswer reads an answer, or one for each try with commas between.
func parseAnswer(v string) (string, error) {
	for one := range strings.SplitSeq(v, ",") {
		if _, err := parseOne(one); err != nil {
			return "", err
		}
	}
	return v, nil
}

func parseOne(v string) (string, error) {
	if slices.Contains(Answers, v) {
		return v, nil
	}
	plain, after, _ := strings.Cut(v, ":")
	if _, err := strconv.Atoi("0" + after); err != nil {
		return "", fmt.Errorf("upstream=%s: want STATUS:SECONDS for a Retry-After", v)
	}
	status, grpc, isGRPC := strings.Cut(plain, "/")
	n, err := strconv.Atoi(status)
	if err != nil || n < 100 || n > 599 {
		return "", fmt.Errorf("upstream=%s: want a status, status/grpc-status, or one of %v", v, Answers)
	}
	if g, err := strconv.Atoi(grpc); isGRPC && (err != nil || g < 0 || g > 16) {
		return "", fmt.Errorf("upstream=%s: the gRPC status is 0 to 16", v)
	}
	return v, nil
}

func parseLatency(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 || d > maxAt {
		return 0, fmt.Errorf("latency=%s: want 0s to %s", v, maxAt)
	}
	return d, nil
}

func parseWant(w []string) (*Want, error) {
	if len(w) == 0 {
		return nil, nil
	}
	want := &Want{}
	status, err := strconv.Atoi(w[0])
	if err != nil || status < 0 || status > 599 {
		return nil, fmt.Errorf("-> %s: want a status first (0 is no answer)", w[0])
	}
	want.Status = status
	for i, word := range w[1:] {
		k, v, isKV := strings.Cut(word, "=")
		switch {
		case isKV:
			want.Values = append(want.Values, KV{k, v})
		case i == 0:
			want.Decision = word
		default:
			return nil, fmt.Errorf("-> %q: want STATUS [DECISION] [name=value …]", strings.Join(w, " "))
		}
	}
	return want, nil
}
