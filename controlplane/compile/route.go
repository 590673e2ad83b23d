package compile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// bindingRoutes are the routes of one service at one path, closed by one that
// takes all the rest of that path.
func bindingRoutes(b binding) ([]ir.Route, error) {
	rest := ir.RouteMatch{Path: ir.Path{Kind: ir.PathPrefix, Value: b.path}}
	if b.policy == nil {
		return []ir.Route{b.rewritten(ir.Route{
			Name: b.name() + "/" + DefaultRoute, Match: rest, Cluster: b.name(),
			TimeoutNS: defaultTimeoutNS, IdleTimeoutNS: defaultIdleTimeoutNS, GRPC: b.grpc(),
		})}, nil
	}
	var routes []ir.Route
	for i := range b.policy.Spec.Routes {
		r := &b.policy.Spec.Routes[i]
		match, ok := routeMatch(r.Match, b.path)
		if !ok {
			continue // lies outside of this path of the service
		}
		compiled, err := compileRoute(b, r, match)
		if err != nil {
			return nil, fmt.Errorf("policy %s: route %s: %w", b.policy.Metadata.Name, r.Name, err)
		}
		compiled.WrapErrors = wraps(&b.policy.Spec, r)
		routes = append(routes, compiled)
		if len(match.Methods) == 0 && len(match.Headers) == 0 && match.Within == "" && match.Path == rest.Path {
			return routes, nil // takes everything; what follows is never reached
		}
	}
	return append(routes, notFound(b.name()+"/", b.path)), nil
}

// routeMatch narrows a policy's match to what lies under path; ok is false
// where nothing does.
func routeMatch(m policy.Match, path string) (match ir.RouteMatch, ok bool) {
	match.Methods = slices.Sorted(slices.Values(m.Methods))
	match.Methods = slices.Compact(match.Methods)
	for _, h := range m.Headers {
		match.Headers = append(match.Headers, headerMatch(h))
	}
	slices.SortStableFunc(match.Headers, func(a, b ir.HeaderMatch) int { return strings.Compare(a.Name, b.Name) })

	p := policy.PathMatch{Prefix: "/"}
	if m.Path != nil {
		p = *m.Path
	}
	switch {
	case p.Exact != "":
		match.Path = ir.Path{Kind: ir.PathExact, Value: p.Exact}
		return match, ir.UnderPrefix(path, p.Exact)
	case p.Template != "":
		match.Path = ir.Path{Kind: ir.PathTemplate, Value: p.Template}
	case p.Regex != "":
		match.Path = ir.Path{Kind: ir.PathRegex, Value: p.Regex}
	default:
		prefix := cleanPrefix(p.Prefix)
		switch {
		case ir.UnderPrefix(path, prefix): // the route is the narrower one
		case ir.UnderPrefix(prefix, path):
			prefix = path
		default:
			return match, false
		}
		match.Path = ir.Path{Kind: ir.PathPrefix, Value: prefix}
		return match, true
	}
	if path != "/" {
		match.Within = path
	}
	return match, true
}

func headerMatch(h policy.HeaderMatch) ir.HeaderMatch {
	m := ir.HeaderMatch{Name: strings.ToLower(h.Name), Kind: ir.HeaderPresent}
	switch {
	case h.Present != nil && !*h.Present:
		m.Kind = ir.HeaderAbsent
	case h.Present != nil:
	case h.Regex != "":
		m.Kind, m.Value = ir.HeaderRegex, h.Regex
	case h.Prefix != "":
		m.Kind, m.Value = ir.HeaderPrefix, h.Prefix
	case h.Exact != "":
		m.Kind, m.Value = ir.HeaderExact, h.Exact
	}
	return m
}

func compileRoute(b binding, r *policy.Route, match ir.RouteMatch) (ir.Route, error) {
	retry, err := compileRetry(r, match.Methods, b.grpc())
	if err != nil {
		return ir.Route{}, err
	}
	upgrades := slices.Compact(slices.Sorted(slices.Values(r.Upgrades)))
	return b.rewritten(ir.Route{
		Name: b.name() + "/" + r.Name, Match: match, Cluster: b.name(),
		TimeoutNS: b.allowed(r), IdleTimeoutNS: b.idle(r), PerTryTimeoutNS: int64(r.Timeout.PerTry),
		Retry: retry, Upgrades: upgrades, GRPC: b.grpc(),
		AnyBody: len(upgrades) > 0 || r.Timeout.Request == 0 && b.grpc(),
		// Only there does the filter heed the caller's grpc-timeout; elsewhere it
		// would be lengthened, or lost where there is no limit.
		GRPCTimeout: retry != nil && b.guarded() && b.grpc() && (b.allowed(r) > 0 || r.Timeout.PerTry > 0),
	}), nil
}

func (b binding) grpc() bool { return b.service.Spec.Protocol == policy.ProtocolGRPC }

// allowed is how long a request may take, a wait for its pool's permit
// included; 0: no limit. It is Envoy's timeout as long as there is no wait: what
// one takes of it, the filter takes off.
func (b binding) allowed(r *policy.Route) int64 {
	request, pool := int64(r.Timeout.Request), int64(b.policy.Spec.Pools[r.Pool].Timeout)
	if b.guarded() && pool > 0 && (request == 0 || pool < request) {
		return pool
	}
	return request
}

// strandedNS is how long after its time a waiting request is let go of by
// Envoy, where the filter has not done so.
const strandedNS = 5_000_000_000

// idle is how long a request may be silent. A VM that traps leaves its waiters
// paused, and nothing but this ends them: a request that waits or runs has no
// business to be silent for longer than it may take. Streams may be.
func (b binding) idle(r *policy.Route) int64 {
	idle, most := int64(r.Timeout.Idle), b.allowed(r)
	if r.Pool == "" || !b.guarded() || b.grpc() || len(r.Upgrades) > 0 || most == 0 {
		return idle
	}
	if idle == 0 || most+strandedNS < idle {
		return most + strandedNS
	}
	return idle
}

// rewritten adds what the service's rewrite says.
func (b binding) rewritten(r ir.Route) ir.Route {
	if w := b.service.Spec.Rewrite; w != nil {
		r.RewriteHost = w.Host
		if to := cleanPrefix(w.Prefix); w.Prefix != "" && to != b.path {
			r.Rewrite = &ir.PathRewrite{From: b.path, To: to}
		}
	}
	return r
}

// wraps reports whether a route's bare 5xx answers are made problem documents,
// which a policy that must not act does not do.
func wraps(p *policy.ResiliencePolicySpec, r *policy.Route) bool {
	if r.WrapUpstreamErrors != nil {
		return *r.WrapUpstreamErrors && p.Mode == policy.ModeEnforce
	}
	return p.WrapUpstreamErrors && p.Mode == policy.ModeEnforce
}

// compileRetry gives nil where the route does not retry. methods are those of
// the route, none = all: methods that we do not know are tried again only with
// a key.
func compileRetry(r *policy.Route, methods []string, grpc bool) (*ir.Retry, error) {
	if r.Retry == nil || r.Retry.Attempts < 2 {
		return nil, nil
	}
	retry := &ir.Retry{
		Retries: uint32(r.Retry.Attempts - 1),
		BaseNS:  int64(r.Retry.Backoff.Base),
		MaxNS:   int64(r.Retry.Backoff.Max),
	}
	for _, m := range policy.IdempotentMethods() {
		if len(methods) == 0 || slices.Contains(methods, m) {
			retry.Methods = append(retry.Methods, m)
		}
	}
	if i := r.Retry.Idempotency; i != nil {
		retry.KeyHeader = i.Header
	}
	if len(retry.Methods) == 0 && retry.KeyHeader == "" {
		return nil, nil
	}
	if r.Retry.HonorRetryAfter != nil {
		retry.RetryAfterMaxNS = int64(r.Retry.HonorRetryAfter.Max)
	}
	for _, word := range r.Retry.RetryOn {
		switch word {
		case contract.Reset.String(), contract.Timeout.String():
			retry.Resets = true
		case contract.ConnectFailure.String():
			retry.ConnectFailures = true
		case contract.ServerError.String():
			retry.Statuses = appendClass(retry.Statuses, 500)
		case contract.ClientError.String():
			retry.Statuses = appendClass(retry.Statuses, 400)
		default:
			status, err := strconv.ParseUint(word, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("retryOn: %q cannot be retried", word)
			}
			retry.Statuses = append(retry.Statuses, uint32(status))
		}
	}
	slices.Sort(retry.Statuses)
	retry.Statuses = slices.Compact(retry.Statuses)
	if grpc {
		retry.GRPC = grpcStatuses(retry.Statuses)
	}
	return retry, nil
}

// grpcStatuses are what gRPC services answer where others answer with one of
// the statuses; Envoy has no word for UNKNOWN and DATA_LOSS.
func grpcStatuses(statuses []uint32) []string {
	var words []string
	for _, s := range statuses {
		switch s {
		case 429:
			words = append(words, "resource-exhausted")
		case 500:
			words = append(words, "internal")
		case 503:
			words = append(words, "unavailable")
		}
	}
	return slices.Sorted(slices.Values(words))
}

func appendClass(list []uint32, first uint32) []uint32 {
	for s := first; s < first+100; s++ {
		list = append(list, s)
	}
	return list
}
