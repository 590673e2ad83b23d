package contract

import (
	"strconv"

	"github.com/seawall-mesh/seawall/filter/jsonlite"
)

// The bounds of a Plan. What is beyond them is refused, so that no plan can
// make a filter allocate without limit.
const (
	MaxPlanBytes     = 16 << 20
	MaxRoutes        = 4096
	MaxString        = 253 // bytes of a name, an authority, a path
	MaxLatencyBounds = 64
	MaxFailures      = 64 // words of one breaker's Failures
	MaxProbes        = 32
	MaxPools         = 1024
	MaxPool          = 1024 // permits, and waiters, of one pool
	MaxFaults        = 16   // of one route
	MaxRetries       = 100  // of one request

	maxThreshold  = 1_000_000
	maxSuccesses  = 1_000_000
	maxMultiplier = 1_000_000_000           // × 1,000
	maxDurationNS = 366 * 24 * 3600 * 1e9   // a year
	maxBoundUS    = 24 * 3600 * 1_000_000   // a day
	minMultiplier = 1_000_000               // × 1
	minWindowNS   = 1e9                     // a second
	maxWindowNS   = 3600 * 1e9              // an hour
	refusedLength = "longer than 253 bytes" // of MaxString
)

// PlanError says which field of a Plan is wrong, and how.
type PlanError struct {
	Field   string // such as "routes[3].breaker.probes"; "" for the document
	Problem string
}

// Error reads "routes[3].breaker.probes: 0 is not in 1..32".
func (e *PlanError) Error() string {
	if e.Field == "" {
		return e.Problem
	}
	return e.Field + ": " + e.Problem
}

// ParsePlan reads a Plan that encoding/json wrote. It is strict about ranges,
// the error (a *PlanError) names the first field that is wrong; unknown fields
// are passed over, so that an older filter reads a newer plan of its schema.
func ParsePlan(data []byte) (Plan, error) {
	if len(data) > MaxPlanBytes {
		return Plan{}, &PlanError{Problem: "a plan of more than 16 MiB"}
	}
	p := planParser{r: jsonlite.NewReader(data)}
	plan := p.plan()
	p.r.End()
	p.syntax()
	if p.err != nil {
		return Plan{}, p.err
	}
	return plan, nil
}

// planParser remembers where it is, to name the field in an error.
type planParser struct {
	r    *jsonlite.Reader
	path []byte
	err  *PlanError
}

func (p *planParser) fail(problem string) {
	if p.err == nil {
		p.err = &PlanError{Field: string(p.path), Problem: problem}
	}
}

// syntax turns the reader's problem into ours, while the path is known.
func (p *planParser) syntax() {
	if err := p.r.Err(); err != nil {
		p.fail(err.Error())
	}
}

func (p *planParser) ok() bool { return p.err == nil && !p.r.Failed() }

// in runs read with name added to the path.
func (p *planParser) in(name string, read func()) {
	depth := len(p.path)
	if depth > 0 && (name == "" || name[0] != '[') {
		p.path = append(p.path, '.')
	}
	p.path = append(p.path, name...)
	read()
	p.syntax()
	p.path = p.path[:depth]
}

// object reads an object's members by member, which reports whether it knows
// the name.
func (p *planParser) object(member func(name string) bool) {
	for name, ok := p.r.Object(); ok; name, ok = p.r.Next() {
		known := false
		p.in(name, func() { known = member(name) })
		if !p.ok() {
			return
		}
		if !known {
			p.r.Skip()
		}
	}
}

// array reads at most limit elements, null as none.
func (p *planParser) array(limit int, element func()) {
	if p.r.Null() {
		return
	}
	n := 0
	for ok := p.r.Array(); ok; ok = p.r.More() {
		if n++; n > limit {
			p.fail("more than " + strconv.Itoa(limit) + " elements")
			return
		}
		p.in("["+strconv.Itoa(n-1)+"]", element)
		if !p.ok() {
			return
		}
	}
}

func (p *planParser) str() string {
	s := p.r.String()
	if len(s) > MaxString {
		p.fail(refusedLength)
	}
	return s
}

func (p *planParser) intIn(low, high int64) int64 {
	n := p.r.Int()
	p.syntax()
	if p.ok() && (n < low || n > high) {
		p.fail(strconv.FormatInt(n, 10) + " is not in " + strconv.FormatInt(low, 10) + ".." + strconv.FormatInt(high, 10))
	}
	return n
}

// require checks a field after its object is complete, so that an absent one
// is found too.
func (p *planParser) require(name string, good bool, problem string) {
	if good || !p.ok() {
		return
	}
	p.in(name, func() { p.fail(problem) })
}

func (p *planParser) plan() Plan {
	var plan Plan
	p.object(func(name string) bool {
		switch name {
		case "schema":
			plan.Schema = int(p.r.Int())
			if p.syntax(); plan.Schema != PlanSchema {
				p.fail("schema " + strconv.Itoa(plan.Schema) + ", this filter reads " + strconv.Itoa(PlanSchema))
			}
		case "hash":
			plan.Hash = p.str()
		case "edge":
			plan.Edge = p.str()
		case "failureMode":
			plan.FailureMode = p.str()
		case "problemTypeBase":
			plan.ProblemTypeBase = p.str()
		case "latencyBoundsUs":
			p.array(MaxLatencyBounds, func() {
				low := int64(1)
				if n := len(plan.LatencyBoundsUS); n > 0 {
					low = plan.LatencyBoundsUS[n-1] + 1
				}
				plan.LatencyBoundsUS = append(plan.LatencyBoundsUS, p.intIn(low, maxBoundUS))
			})
		case "endSignal":
			plan.EndSignal = p.r.Bool()
		case "telemetry":
			plan.Telemetry = p.telemetry()
		case "routes":
			p.array(MaxRoutes, func() {
				route := p.route()
				if n := len(plan.Routes); n > 0 && p.ok() && plan.Routes[n-1].Name >= route.Name {
					p.fail("not sorted by name, or twice the same")
				}
				plan.Routes = append(plan.Routes, route)
			})
		case "pools":
			p.array(MaxPools, func() {
				pool := p.pool()
				if n := len(plan.Pools); n > 0 && p.ok() && !plan.Pools[n-1].before(pool.Service, pool.Name) {
					p.fail("not sorted by service and name, or twice the same")
				}
				plan.Pools = append(plan.Pools, pool)
			})
		default:
			return false
		}
		return true
	})
	p.require("schema", plan.Schema == PlanSchema, "missing")
	p.require("hash", isHex16(plan.Hash), "not 16 hex digits")
	p.require("failureMode", plan.FailureMode == "open" || plan.FailureMode == "closed", "neither open nor closed")
	for i := range plan.Routes {
		// A retired route's pool may be gone with it.
		if r := &plan.Routes[i]; r.Pool != "" && !r.Retired && plan.Pool(r.Service, r.Pool) == nil {
			p.require("routes["+strconv.Itoa(i)+"].pool", false, "the service has no pool "+strconv.Quote(r.Pool))
		}
	}
	return plan
}

// Pool finds a pool, nil where there is none.
func (p *Plan) Pool(service, name string) *Pool {
	low, high := 0, len(p.Pools)
	for low < high {
		if mid := (low + high) / 2; p.Pools[mid].before(service, name) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low < len(p.Pools) && p.Pools[low].Service == service && p.Pools[low].Name == name {
		return &p.Pools[low]
	}
	return nil
}

func (p *Pool) before(service, name string) bool {
	return p.Service < service || (p.Service == service && p.Name < name)
}

func (p *planParser) pool() Pool {
	var b Pool
	p.object(func(name string) bool {
		switch name {
		case "service":
			b.Service = p.str()
		case "name":
			b.Name = p.str()
		case "maxConcurrency":
			b.MaxConcurrency = uint32(p.intIn(1, MaxPool))
		case "maxQueue":
			b.MaxQueue = uint32(p.intIn(0, MaxPool))
		case "maxWaitNs":
			b.MaxWaitNS = p.intIn(0, maxDurationNS)
		case "timeoutNs":
			b.TimeoutNS = p.intIn(0, maxDurationNS)
		default:
			return false
		}
		return true
	})
	p.require("service", b.Service != "", "missing")
	p.require("name", b.Name != "", "missing")
	p.require("maxConcurrency", b.MaxConcurrency > 0, "missing")
	return b
}

func (p *planParser) telemetry() Telemetry {
	var t Telemetry
	p.object(func(name string) bool {
		switch name {
		case "cluster":
			t.Cluster = p.str()
		case "authority":
			t.Authority = p.str()
		case "path":
			t.Path = p.str()
		default:
			return false
		}
		return true
	})
	p.require("authority", t.Cluster == "" || t.Authority != "", "missing")
	p.require("path", t.Cluster == "" || (t.Path != "" && t.Path[0] == '/'), "not an absolute path")
	return t
}

func (p *planParser) route() Route {
	var r Route
	p.object(func(name string) bool {
		switch name {
		case "name":
			r.Name = p.str()
		case "service":
			r.Service = p.str()
		case "route":
			r.Route = p.str()
		case "priority":
			r.Priority = p.str()
		case "breaker":
			if !p.r.Null() {
				b := p.breaker()
				r.Breaker = &b
			}
		case "stream":
			r.Stream = p.r.Bool()
		case "bodyNs":
			r.BodyNS = p.intIn(0, maxDurationNS)
		case "grpc":
			r.GRPC = p.r.Bool()
		case "retired":
			r.Retired = p.r.Bool()
		case "pool":
			r.Pool = p.str()
		case "timeoutNs":
			r.TimeoutNS = p.intIn(0, maxDurationNS)
		case "deadlineHeader":
			r.DeadlineHeader = p.str()
		case "keyHeader":
			r.KeyHeader = p.str()
		case "retries":
			r.Retries = uint32(p.intIn(0, MaxRetries))
		case "attempts":
			if !p.r.Null() {
				r.Attempts = p.attempts()
			}
		case "faults":
			p.array(MaxFaults, func() { r.Faults = append(r.Faults, p.fault()) })
		default:
			return false
		}
		return true
	})
	p.require("service", r.Service != "", "missing")
	p.require("name", r.Name == r.Service+"/"+r.Route, "not service/route")
	_, known := ParsePriority(r.Priority)
	p.require("priority", known, "none of critical, high, medium, low")
	p.require("deadlineHeader", isHeaderName(r.DeadlineHeader), "not a header's name in lower case")
	p.require("keyHeader", isHeaderName(r.KeyHeader), "not a header's name in lower case")
	p.require("attempts", r.Attempts != nil || len(r.Faults) == 0, "missing, and faults are the attempt role's")
	return r
}

func (p *planParser) attempts() *Attempts {
	var a Attempts
	p.object(func(name string) bool {
		if name != "perTryNs" {
			return false
		}
		a.PerTryNS = p.intIn(0, maxDurationNS)
		return true
	})
	return &a
}

func (p *planParser) fault() Fault {
	var f Fault
	p.object(func(name string) bool {
		switch name {
		case "experiment":
			f.Experiment = p.str()
		case "ppm":
			f.PPM = p.intIn(1, 1_000_000)
		case "notAfterNs":
			f.NotAfterNS = p.intIn(1, 1<<62)
		case "tries":
			f.Tries = uint32(p.intIn(0, MaxRetries))
		case "latencyMinNs":
			f.LatencyMinNS = p.intIn(0, maxDurationNS)
		case "latencyMaxNs":
			f.LatencyMaxNS = p.intIn(0, maxDurationNS)
		case "status":
			f.Status = uint16(p.intIn(400, 599))
		default:
			return false
		}
		return true
	})
	p.require("experiment", f.Experiment != "", "missing")
	p.require("ppm", f.PPM > 0, "missing")
	p.require("notAfterNs", f.NotAfterNS > 0, "missing")
	p.require("latencyMaxNs", f.LatencyMaxNS >= f.LatencyMinNS, "less than latencyMinNs")
	p.require("status", f.Status > 0 || f.LatencyMaxNS > 0, "missing, as is a latency")
	return f
}

func (p *planParser) breaker() Breaker {
	var b Breaker
	p.object(func(name string) bool {
		switch name {
		case "identity":
			b.Identity = p.str()
		case "consecutiveFailures":
			b.ConsecutiveFailures = uint32(p.intIn(0, maxThreshold))
		case "recoveryNs":
			b.RecoveryNS = p.intIn(1, maxDurationNS)
		case "recoveryMaxNs":
			b.RecoveryMaxNS = p.intIn(1, maxDurationNS)
		case "multiplierPpm":
			b.MultiplierPPM = p.intIn(minMultiplier, maxMultiplier)
		case "probes":
			b.Probes = uint32(p.intIn(1, MaxProbes))
		case "successes":
			b.Successes = uint32(p.intIn(1, maxSuccesses))
		case "probeExpiryNs":
			b.ProbeExpiryNS = p.intIn(1, maxDurationNS)
		case "failures":
			p.array(MaxFailures, func() {
				word := p.str()
				if _, _, ok := ParseOutcomeSet([]string{word}); !ok && p.ok() {
					p.fail("neither an outcome nor a status: " + strconv.Quote(word))
				}
				b.Failures = append(b.Failures, word)
			})
		case "failureRate":
			if !p.r.Null() {
				rate := Rate{}
				p.object(func(name string) bool { return p.rate(&rate, name) })
				p.requireRate(rate)
				b.FailureRate = &rate
			}
		case "slowCalls":
			if !p.r.Null() {
				b.SlowCalls = p.slowCalls()
			}
		case "override":
			if !p.r.Null() {
				b.Override = p.override()
			}
		default:
			return false
		}
		return true
	})
	p.require("identity", isHex16(b.Identity), "not 16 hex digits")
	p.require("consecutiveFailures", b.ConsecutiveFailures > 0 || b.FailureRate != nil || b.SlowCalls != nil, "missing, as are failureRate and slowCalls")
	p.require("recoveryNs", b.RecoveryNS > 0, "missing")
	p.require("recoveryMaxNs", b.RecoveryMaxNS >= b.RecoveryNS, "less than recoveryNs")
	p.require("multiplierPpm", b.MultiplierPPM > 0, "missing")
	p.require("probes", b.Probes > 0, "missing")
	p.require("successes", b.Successes > 0, "missing")
	p.require("probeExpiryNs", b.ProbeExpiryNS > 0, "missing")
	return b
}

// isHeaderName also takes "": no header. Others are what HTTP/2 allows, without
// pseudo-headers.
func isHeaderName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func (p *planParser) rate(r *Rate, name string) bool {
	switch name {
	case "ppm":
		r.PPM = p.intIn(1, 1_000_000)
	case "windowNs":
		r.WindowNS = p.intIn(minWindowNS, maxWindowNS)
	case "minRequests":
		r.MinRequests = uint32(p.intIn(1, maxThreshold))
	default:
		return false
	}
	return true
}

func (p *planParser) requireRate(r Rate) {
	p.require("ppm", r.PPM > 0, "missing")
	p.require("windowNs", r.WindowNS > 0, "missing")
	p.require("minRequests", r.MinRequests > 0, "missing")
}

func (p *planParser) slowCalls() *SlowCalls {
	var s SlowCalls
	p.object(func(name string) bool {
		if name == "thresholdNs" {
			s.ThresholdNS = p.intIn(1, maxDurationNS)
			return true
		}
		return p.rate(&s.Rate, name)
	})
	p.require("thresholdNs", s.ThresholdNS > 0, "missing")
	p.requireRate(s.Rate)
	return &s
}

func (p *planParser) override() *Override {
	var o Override
	p.object(func(name string) bool {
		switch name {
		case "state":
			o.State = p.str()
		case "notAfterNs":
			o.NotAfterNS = p.intIn(1, 1<<62)
		default:
			return false
		}
		return true
	})
	p.require("state", o.State == "open" || o.State == "closed", "neither open nor closed")
	p.require("notAfterNs", o.NotAfterNS > 0, "missing")
	return &o
}

func isHex16(s string) bool {
	if len(s) != 16 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
