package translate

import (
	"regexp"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// retryHostAttempts is how often a retry looks for an endpoint that it has not
// tried yet, before it takes any.
const retryHostAttempts = 3

func (b *builder) routeConfig() *routev3.RouteConfiguration {
	out := &routev3.RouteConfiguration{
		Name:                     RouteConfigName,
		IgnorePortInHostMatching: true,
	}
	for _, vh := range b.edge.VirtualHosts {
		host := &routev3.VirtualHost{
			Name:    vh.Name,
			Domains: vh.Domains,
			// The service may see which try it gets; clients do not.
			IncludeRequestAttemptCount: true,
		}
		for _, r := range vh.Routes {
			host.Routes = append(host.Routes, b.route(r))
		}
		out.VirtualHosts = append(out.VirtualHosts, host)
	}
	return out
}

func (b *builder) route(r ir.Route) *routev3.Route {
	out := &routev3.Route{Name: r.Name, Match: routeMatch(r.Match)}
	if r.Cluster == "" {
		out.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: r.DirectStatus}}
		return out
	}
	action := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: r.Cluster},
		Timeout:          nanos(r.TimeoutNS),
		IdleTimeout:      nanos(r.IdleTimeoutNS),
	}
	if r.Retry != nil {
		action.RetryPolicy = b.retryPolicy(r.Retry)
	}
	if r.PerTryTimeoutNS > 0 {
		if action.RetryPolicy == nil {
			action.RetryPolicy = &routev3.RetryPolicy{NumRetries: u32(0)} // no retry_on: the one try is bounded, too
		}
		action.RetryPolicy.PerTryTimeout = nanos(r.PerTryTimeoutNS)
	}
	out.Action = &routev3.Route_Route{Route: action}
	if r.TimeoutNS > 0 {
		out.RequestHeadersToAdd = []*corev3.HeaderValueOption{deadlineHeader(r.TimeoutNS)}
	}
	return out
}

// deadlineHeader tells the service how many ms it has. Where the filter knows
// better (a caller's deadline, a wait in a queue) its own word stays; clients'
// are gone by then.
func deadlineHeader(timeoutNS int64) *corev3.HeaderValueOption {
	const ms = 1_000_000
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: "x-seawall-deadline-ms", Value: strconv.FormatInt((timeoutNS+ms-1)/ms, 10)},
		AppendAction: corev3.HeaderValueOption_ADD_IF_ABSENT,
	}
}

func routeMatch(m ir.RouteMatch) *routev3.RouteMatch {
	out := &routev3.RouteMatch{}
	switch {
	case m.Path.Kind == ir.PathExact:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: m.Path.Value}
	case m.Path.Kind == ir.PathTemplate:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: fullRegex(ir.TemplateRegex(m.Path.Value))}
	case m.Path.Kind == ir.PathRegex:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: fullRegex(m.Path.Value)}
	case m.Path.Value == "/":
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
	default:
		out.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: m.Path.Value}
	}
	if len(m.Methods) > 0 {
		out.Headers = append(out.Headers, methodMatch(m.Methods))
	}
	if m.Within != "" {
		// A second condition on the path; ":path" carries the query as well.
		out.Headers = append(out.Headers, headerString(":path", regexMatch(regexp.QuoteMeta(m.Within)+`(?:[/?].*)?`)))
	}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, headerMatch(h))
	}
	return out
}

func methodMatch(methods []string) *routev3.HeaderMatcher {
	if len(methods) == 1 {
		return headerString(":method", exactMatch(methods[0]))
	}
	quoted := make([]string, len(methods))
	for i, m := range methods {
		quoted[i] = regexp.QuoteMeta(m)
	}
	return headerString(":method", regexMatch(strings.Join(quoted, "|")))
}

func headerMatch(h ir.HeaderMatch) *routev3.HeaderMatcher {
	switch h.Kind {
	case ir.HeaderExact:
		return headerString(h.Name, exactMatch(h.Value))
	case ir.HeaderPrefix:
		return prefixHeader(h.Name, h.Value)
	case ir.HeaderRegex:
		return headerString(h.Name, regexMatch(h.Value))
	case ir.HeaderPresent, ir.HeaderAbsent:
	}
	return &routev3.HeaderMatcher{
		Name:                 h.Name,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
		InvertMatch:          h.Kind == ir.HeaderAbsent,
	}
}

func headerString(name string, m *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name:                 name,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m},
	}
}

func prefixHeader(name, prefix string) *routev3.HeaderMatcher {
	return headerString(name, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}})
}

func exactMatch(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func regexMatch(expr string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: fullRegex(expr)}}
}

// fullRegex is matched over the whole subject by Envoy.
func fullRegex(expr string) *matcherv3.RegexMatcher { return &matcherv3.RegexMatcher{Regex: expr} }

func (b *builder) retryPolicy(r *ir.Retry) *routev3.RetryPolicy {
	out := &routev3.RetryPolicy{
		RetryOn:    strings.Join(retryOn(r), ","),
		NumRetries: u32(r.Retries),
		RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: nanos(r.BaseNS),
			MaxInterval:  nanos(r.MaxNS),
		},
		RetriableStatusCodes: r.Statuses,
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: b.pack(&previoushostsv3.PreviousHostsPredicate{}),
			},
		}},
		HostSelectionRetryMaxAttempts: retryHostAttempts,
	}
	if r.RetryAfterMaxNS > 0 {
		out.RateLimitedRetryBackOff = &routev3.RetryPolicy_RateLimitedRetryBackOff{
			ResetHeaders: []*routev3.RetryPolicy_ResetHeader{{
				Name:   "retry-after",
				Format: routev3.RetryPolicy_SECONDS,
			}},
			MaxInterval: nanos(r.RetryAfterMaxNS),
		}
	}
	return out
}

// retryOn are Envoy's words. Its own "5xx" is never among them: that one
// retries resets and timeouts as well.
func retryOn(r *ir.Retry) []string {
	var words []string
	if r.ConnectFailures {
		words = append(words, "connect-failure")
	}
	if r.Resets {
		words = append(words, "reset")
	}
	if len(r.Statuses) > 0 {
		words = append(words, "retriable-status-codes")
	}
	return words
}
