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

// repeatable are the methods that may be tried again without a key that tells
// the service that two requests are one. Methods that we do not know are not
// among them.
var repeatable = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"}

// bindingRoutes are the routes of one service at one path, closed by one that
// takes all the rest of that path.
func bindingRoutes(b binding) ([]ir.Route, error) {
	rest := ir.RouteMatch{Path: ir.Path{Kind: ir.PathPrefix, Value: b.path}}
	if b.policy == nil {
		return []ir.Route{{
			Name: b.name() + "/" + DefaultRoute, Match: rest, Cluster: b.name(),
			TimeoutNS: defaultTimeoutNS, IdleTimeoutNS: defaultIdleTimeoutNS,
		}}, nil
	}
	var routes []ir.Route
	for i := range b.policy.Spec.Routes {
		r := &b.policy.Spec.Routes[i]
		match, ok := routeMatch(r.Match, b.path)
		if !ok {
			continue // lies outside of this path of the service
		}
		compiled, err := compileRoute(b.name(), r, match)
		if err != nil {
			return nil, fmt.Errorf("policy %s: route %s: %w", b.policy.Metadata.Name, r.Name, err)
		}
		routes = append(routes, compiled...)
		if last := compiled[len(compiled)-1].Match; len(last.Methods) == 0 && len(last.Headers) == 0 && last.Within == "" && last.Path == rest.Path {
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

// compileRoute gives one route, or two of the same name where only some of the
// methods may be retried.
func compileRoute(service string, r *policy.Route, match ir.RouteMatch) ([]ir.Route, error) {
	route := ir.Route{
		Name: service + "/" + r.Name, Match: match, Cluster: service,
		TimeoutNS: int64(r.Timeout.Request), IdleTimeoutNS: int64(r.Timeout.Idle), PerTryTimeoutNS: int64(r.Timeout.PerTry),
	}
	retry, err := compileRetry(r)
	if err != nil {
		return nil, err
	}
	if retry == nil {
		return []ir.Route{route}, nil
	}
	safe, unsafe := splitMethods(match.Methods)
	var routes []ir.Route
	if len(safe) > 0 {
		again := route
		again.Match.Methods, again.Retry = safe, retry
		routes = append(routes, again)
	}
	if len(match.Methods) == 0 || len(unsafe) > 0 {
		route.Match.Methods = unsafe
		routes = append(routes, route)
	}
	return routes, nil
}

// splitMethods parts methods into those that may be repeated and the others;
// of no methods, which means all, the others are again all, being asked second.
func splitMethods(methods []string) (safe, unsafe []string) {
	if len(methods) == 0 {
		return repeatable, nil
	}
	for _, m := range methods {
		if slices.Contains(repeatable, m) {
			safe = append(safe, m)
		} else {
			unsafe = append(unsafe, m)
		}
	}
	return safe, unsafe
}

// compileRetry gives nil where the route does not retry.
func compileRetry(r *policy.Route) (*ir.Retry, error) {
	if r.Retry == nil || r.Retry.Attempts < 2 {
		return nil, nil
	}
	retry := &ir.Retry{
		Retries: uint32(r.Retry.Attempts - 1),
		BaseNS:  int64(r.Retry.Backoff.Base),
		MaxNS:   int64(r.Retry.Backoff.Max),
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
	return retry, nil
}

func appendClass(list []uint32, first uint32) []uint32 {
	for s := first; s < first+100; s++ {
		list = append(list, s)
	}
	return list
}
