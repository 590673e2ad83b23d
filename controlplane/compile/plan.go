package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// Where the filter posts its batches: a static cluster of the bootstrap.
const (
	telemetryCluster = "seawall-telemetry"
	telemetryPath    = "/v1/batches"
)

// A half-open probe is given back when it is not settled by the request's own
// timeout and this slack, which covers the body's way in (Envoy's timer starts
// after it) and the tick; or by probeExpiryStreamNS where there is no timeout.
const (
	probeExpirySlackNS  = 5_000_000_000
	probeExpiryStreamNS = 60_000_000_000
)

// latencyBoundsUS are the bounds of every histogram, in µs; the thresholds of
// latency objectives are merged in, so that those are counted exactly.
var latencyBoundsUS = []int64{
	500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
	1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
}

func compileFilter(set *policy.Set, e policy.Edge, services []served, base string, opt Options) (ir.Filter, error) {
	safe := contract.Plan{
		Schema:          contract.PlanSchema,
		Edge:            e.Metadata.Name,
		EndSignal:       true, // translate gives every listener that counter
		FailureMode:     e.Spec.FailureMode,
		ProblemTypeBase: base,
		LatencyBoundsUS: latencyBoundsUS,
		Telemetry:       contract.Telemetry{Cluster: telemetryCluster, Authority: telemetryCluster, Path: telemetryPath},
		Routes:          []contract.Route{},
	}
	plan := safe
	plan.LatencyBoundsUS = boundsFor(set, services)
	for _, s := range services {
		routes, err := planRoutes(s, opt, bodyTimeout(services))
		if err != nil {
			return ir.Filter{}, fmt.Errorf("service %s: %w", s.name(), err)
		}
		plan.Routes = append(plan.Routes, routes...)
		plan.Pools = append(plan.Pools, planPools(s)...)
	}
	slices.SortFunc(plan.Routes, func(a, b contract.Route) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(plan.Pools, func(a, b contract.Pool) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Name, b.Name))
	})

	planJSON, hash, err := encodePlan(plan)
	if err != nil {
		return ir.Filter{}, err
	}
	safeJSON, _, err := encodePlan(safe)
	if err != nil {
		return ir.Filter{}, err
	}
	return ir.Filter{PlanJSON: planJSON, PlanHash: hash, SafeJSON: safeJSON}, nil
}

// planRoutes are the routes of a service. body is the time that Envoy gives
// clients for their requests, 0 = no limit.
func planRoutes(s served, opt Options, body int64) ([]contract.Route, error) {
	grpc := s.service.Spec.Protocol == policy.ProtocolGRPC
	if s.policy == nil {
		return []contract.Route{{
			Name: s.name() + "/" + DefaultRoute, Service: s.name(), Route: DefaultRoute,
			Priority: contract.Medium.String(), GRPC: grpc,
		}}, nil
	}
	var routes []contract.Route
	for i := range s.policy.Spec.Routes {
		r := &s.policy.Spec.Routes[i]
		route := contract.Route{
			Name: s.name() + "/" + r.Name, Service: s.name(), Route: r.Name, Priority: r.Priority, GRPC: grpc, Stream: r.Timeout.Request == 0,
		}
		route.BodyNS = ownBodyTime(r, body)
		if s.guarded() {
			breaker, err := compileBreaker(r)
			if err != nil {
				return nil, fmt.Errorf("route %s: %w", r.Name, err)
			}
			if breaker != nil {
				breaker.Override = opt.override(s.name(), r.Name)
			}
			route.Breaker = breaker
			route.Pool = r.Pool
			route.DeadlineHeader = r.Timeout.DeadlineHeader
			route.TimeoutNS = int64(r.Timeout.Request)
			if s.countsAttempts(*r) {
				route.Attempts = &contract.Attempts{PerTryNS: int64(r.Timeout.PerTry)}
			}
		}
		retry, err := compileRetry(r, r.Match.Methods, grpc)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Name, err)
		}
		if retry != nil {
			route.Retries = retry.Retries
			if r.Retry.Idempotency != nil && r.Retry.Idempotency.Generate && s.guarded() {
				route.KeyHeader = strings.ToLower(retry.KeyHeader)
			}
		}
		routes = append(routes, route)
	}
	return routes, nil
}

// countsAttempts reports whether each try of a route's requests counts for its
// breaker. Without a breaker, or without retries, the edge sees all there is.
func (s served) countsAttempts(r policy.Route) bool {
	return s.guarded() && r.Breaker != nil && r.Retry != nil && r.Retry.Attempts > 1
}

// guarded reports whether the guards of the service's policy act. Shadow mode
// is not built yet: its guards are off, its requests counted.
func (s served) guarded() bool { return s.policy != nil && s.policy.Spec.Mode == policy.ModeEnforce }

// planPools are the pools of a service, those that no route names included: a
// pool keeps its permits over an edit that takes its last route away and back.
func planPools(s served) []contract.Pool {
	if !s.guarded() {
		return nil
	}
	var pools []contract.Pool
	for name, p := range s.policy.Spec.Pools { // sorted later
		pools = append(pools, contract.Pool{
			Service: s.name(), Name: name,
			MaxConcurrency: uint32(p.MaxConcurrency), MaxQueue: uint32(p.MaxQueue),
			MaxWaitNS: int64(p.MaxWait), TimeoutNS: int64(p.Timeout),
		})
	}
	return pools
}

// compileBreaker gives nil where the route has none.
func compileBreaker(r *policy.Route) (*contract.Breaker, error) {
	b := r.Breaker
	if b == nil {
		return nil, nil
	}
	failures := slices.Sorted(slices.Values([]string(b.Failures)))
	out := &contract.Breaker{
		ConsecutiveFailures: uint32(b.ConsecutiveFailures),
		RecoveryNS:          int64(b.RecoveryTimeout),
		RecoveryMaxNS:       max(int64(b.Backoff.Max), int64(b.RecoveryTimeout)),
		MultiplierPPM:       int64(b.Backoff.Multiplier),
		Probes:              uint32(b.HalfOpen.Probes),
		Successes:           uint32(b.HalfOpen.Successes),
		Failures:            slices.Compact(failures),
	}
	if f := b.FailureRate; f != nil {
		rate := compileRate(f.Percent, f.Window, f.MinRequests)
		out.FailureRate = &rate
	}
	if s := b.SlowCalls; s != nil {
		out.SlowCalls = &contract.SlowCalls{ThresholdNS: int64(s.Threshold), Rate: compileRate(s.Percent, s.Window, s.MinRequests)}
	}
	// Hashed before the expiry and the override are set: an edit of the route's
	// timeout must not reset its breaker, nor may an operator's hand on it.
	identity, err := contentHash(out)
	if err != nil {
		return nil, err
	}
	out.Identity = identity
	out.ProbeExpiryNS = probeExpiryStreamNS
	if r.Timeout.Request > 0 {
		out.ProbeExpiryNS = int64(r.Timeout.Request) + probeExpirySlackNS
	}
	return out, nil
}

func compileRate(share policy.Ratio, window policy.Duration, minRequests int) contract.Rate {
	return contract.Rate{PPM: int64(share), WindowNS: int64(window), MinRequests: uint32(minRequests)}
}

// boundsFor merges the thresholds of the latency objectives of these services
// into the common bounds.
func boundsFor(set *policy.Set, services []served) []int64 {
	bounds := slices.Clone(latencyBoundsUS)
	for _, o := range set.SLOs {
		if o.Spec.Indicator.Latency == nil {
			continue
		}
		if !slices.ContainsFunc(services, func(s served) bool { return s.name() == o.Spec.Service }) {
			continue
		}
		bounds = append(bounds, thresholdUS(o.Spec.Indicator.Latency))
	}
	slices.Sort(bounds)
	return slices.Compact(bounds)
}

// encodePlan writes the plan with its hash. The hash covers everything but
// itself; retired routes are added later, by ir.Retire, and are not covered.
func encodePlan(plan contract.Plan) (planJSON []byte, hash string, err error) {
	plan.Hash = ""
	if plan.Hash, err = contentHash(plan); err != nil {
		return nil, "", err
	}
	planJSON, err = json.Marshal(plan)
	if err != nil {
		return nil, "", fmt.Errorf("plan: %w", err)
	}
	// Envoy tells why a plugin refused its plan only in its log, so the filter's
	// own reader has the first look at it.
	if _, err := contract.ParsePlan(planJSON); err != nil {
		return nil, "", fmt.Errorf("the filter would refuse this plan: %w", err)
	}
	return planJSON, plan.Hash, nil
}

// contentHash is 16 hex digits of v's JSON.
func contentHash(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8]), nil
}
