package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/testenv/host"
)

// Retry is what the router does for the requests of a route.
type Retry struct {
	Retries int           // tries after the first
	On      []string      // statuses, reset (which takes in per-try timeouts), connect-failure
	Backoff time.Duration // before each; an answer's Retry-After instead where there is one
	PerTry  time.Duration // 0: no limit
}

// Routed is a request that a Router sends on.
type Routed interface {
	// Answered reports whether its client has an answer.
	Answered() bool
	// Try begins a try.
	Try() Try
	// Respond gives the client its answer.
	Respond(host.Response)
	// After runs something later.
	After(d time.Duration, run func())
}

// Try is a try of it, in the filter chain of its cluster.
type Try interface {
	Held() bool
	// Header is one of the request's, as the upstream sees it.
	Header(name string) string
	// Respond shows the answer to the filters, and returns it as they left it.
	Respond(host.Response) host.Response
	// Done ends the try; failure says why no connection came about.
	Done(failure string)
}

// Router is what Envoy's router does for one request: it tries, and tries again
// as a Retry says.
type Router struct {
	to     Routed
	policy Retry
	try    Try // nil: none is out
	n      int
	calls  int      // tries that reached the upstream
	keys   []string // what those said in keyHeader
}

// keyHeader is looked at on each try, so that a script can say what became of it.
const keyHeader = "idempotency-key"

// Route begins the first try.
func Route(to Routed, policy *Retry) *Router {
	r := &Router{to: to}
	if policy != nil {
		r.policy = *policy
	}
	r.begin()
	return r
}

func (r *Router) begin() {
	if r.to.Answered() {
		return
	}
	r.n++
	try := r.to.Try()
	r.try = try
	if r.to.Answered() { // by a filter
		r.over("")
		return
	}
	if r.policy.PerTry > 0 {
		r.to.After(r.policy.PerTry, func() {
			if r.try == try && !r.to.Answered() {
				r.called()
				r.fail("reset", "", host.Response{Code: 504, Flags: host.FlagUpstreamRequestTimeout, Details: "upstream_per_try_timeout"})
			}
		})
	}
}

// called notes what the upstream got.
func (r *Router) called() {
	if r.try == nil || r.try.Held() {
		return
	}
	r.calls++
	r.keys = append(r.keys, r.try.Header(keyHeader))
}

func (r *Router) over(failure string) {
	if r.try != nil {
		try := r.try
		r.try = nil
		try.Done(failure)
	}
}

// Upstream reports whether an upstream has the request now.
func (r *Router) Upstream() bool { return r.try != nil && !r.try.Held() && !r.to.Answered() }

// Answer is the upstream's, to the try that is out.
func (r *Router) Answer(word string) error {
	r.called()
	resp, _, err := Response(word)
	if err != nil {
		return err
	}
	switch word {
	case "reset", "mid-reset":
		r.fail("reset", "", resp)
	case "refused":
		r.fail("connect-failure", "delayed connect error: Connection refused", resp)
	case "timeout", "no-healthy", "overflow":
		r.over("")
		r.to.Respond(resp)
	default:
		r.answered(r.try.Respond(resp))
	}
	return nil
}

func (r *Router) answered(resp host.Response) {
	if r.to.Answered() { // by a filter
		r.over("")
		return
	}
	again := slices.Contains(r.policy.On, strconv.Itoa(resp.Code)) && !resp.Headers.Has("x-envoy-ratelimited")
	if !again || !r.again(resp.Headers.Get("retry-after")) {
		r.to.Respond(resp)
		r.over("")
	}
}

func (r *Router) fail(word, reason string, resp host.Response) {
	if !slices.Contains(r.policy.On, word) || r.n > r.policy.Retries {
		r.over(reason)
		r.to.Respond(resp)
		return
	}
	r.over(reason)
	r.to.After(r.policy.Backoff, r.begin)
}

// again waits for the next try, if there is one.
func (r *Router) again(retryAfter string) bool {
	if r.n > r.policy.Retries {
		return false
	}
	wait := r.policy.Backoff
	if s, err := strconv.Atoi(retryAfter); err == nil {
		wait = time.Duration(s) * time.Second
	}
	r.over("")
	r.to.After(wait, r.begin)
	return true
}

// Play lets the upstream give its answers, one a try, the last one for all the
// rest, each after some time, until the client has its answer or has left.
func (r *Router) Play(answer string, latency time.Duration, pass func(time.Duration), abort func()) error {
	answers := strings.Split(answer, ",")
	for waited := time.Duration(0); !r.to.Answered(); {
		if !r.Upstream() {
			if waited += waitStep; waited > waitLimit {
				return fmt.Errorf("no answer within %s", waitLimit)
			}
			if answers[0] == "abort" {
				pass(latency)
				abort()
				break
			}
			pass(waitStep)
			continue
		}
		word, try := answers[0], r.try
		if len(answers) > 1 {
			answers = answers[1:]
		}
		if word == "hang" {
			r.await(try, pass)
			continue
		}
		if latency > 0 {
			pass(latency)
		}
		if r.to.Answered() || r.try != try {
			continue // too late
		}
		if word == "abort" {
			r.called()
			abort()
			break
		}
		if err := r.Answer(word); err != nil {
			return err
		}
	}
	return nil
}

// await lets time pass until a try is given up.
func (r *Router) await(try Try, pass func(time.Duration)) {
	for waited := time.Duration(0); waited < waitLimit && r.try == try && !r.to.Answered(); waited += waitStep {
		pass(waitStep)
	}
	if r.try == try { // the route's time is over, which the router does not tell apart
		r.called()
	}
}

// End ends what is left of the request.
func (r *Router) End() { r.over("") }

// Report adds what the upstream saw to a reply. Without a router it saw nothing.
func (r *Router) Report(reply *Reply, req Request) {
	if !req.Tried {
		return
	}
	if r == nil {
		reply.Calls = "0"
		return
	}
	sent := ""
	for _, h := range req.Headers {
		if h.Key == keyHeader {
			sent = h.Value
		}
	}
	reply.Upstream, reply.Calls = r.calls > 0, strconv.Itoa(r.calls)
	keys := slices.Compact(slices.Clone(r.keys))
	switch {
	case len(keys) == 0 || (len(keys) == 1 && keys[0] == ""):
	case len(keys) > 1:
		reply.Key = "differs"
	case keys[0] == sent:
		reply.Key = "kept"
	case isUUID(keys[0]):
		reply.Key = "made"
	default:
		reply.Key = keys[0]
	}
}

// isUUID reports whether s is the text of a random UUID.
func isUUID(s string) bool {
	if len(s) != 36 || s[14] != '4' || !strings.ContainsRune("89ab", rune(s[19])) {
		return false
	}
	for i, c := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || (!dash && !strings.ContainsRune("0123456789abcdef", c)) {
			return false
		}
	}
	return true
}
