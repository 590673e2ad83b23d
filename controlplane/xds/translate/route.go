package translate

import (
	"maps"
	"regexp"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// insideHeaders tell a client about our inside. The router sets them because
// what it tells the service (see deadlineHeader) comes with them.
var insideHeaders = []string{"x-envoy-upstream-service-time", headerRateLimited}

// retryHostAttempts is how often a retry draws an endpoint in search of one that
// it has not tried yet, before it takes any. Of two endpoints each draw is an
// even chance.
const retryHostAttempts = 20

func (b *builder) routeConfig() *routev3.RouteConfiguration {
	out := &routev3.RouteConfiguration{
		Name:                     RouteConfigName,
		IgnorePortInHostMatching: true,
		ResponseHeadersToRemove:  insideHeaders,
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
	out := &routev3.Route{Name: r.Name, Match: routeMatch(r.Match), TypedPerFilterConfig: map[string]*anypb.Any{}}
	if r.Cluster == "" {
		out.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: r.DirectStatus}}
		if r.Probe {
			out.TypedPerFilterConfig[FilterName] = b.pack(&routev3.FilterConfig{Disabled: true})
			out.TypedPerFilterConfig[probeFilter] = b.pack(&routev3.FilterConfig{Config: &anypb.Any{}})
		}
		return out
	}
	if r.AnyBody && b.edge.HTTP.MaxBodyBytes > 0 {
		out.TypedPerFilterConfig[bodyFilter] = b.pack(&routev3.FilterConfig{Disabled: true})
	}
	if r.WrapErrors {
		maps.Copy(out.TypedPerFilterConfig, b.wrapErrors())
	}
	if r.GRPC {
		out.TypedPerFilterConfig[grpcStatusFilter] = b.pack(&routev3.FilterConfig{Config: &anypb.Any{}})
	}
	action := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: r.Cluster},
		Timeout:          nanos(r.TimeoutNS),
		IdleTimeout:      nanos(r.IdleTimeoutNS),
	}
	for _, protocol := range r.Upgrades {
		action.UpgradeConfigs = append(action.UpgradeConfigs, &routev3.RouteAction_UpgradeConfig{UpgradeType: protocol})
	}
	if r.RewriteHost != "" {
		action.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: r.RewriteHost}
	}
	if r.Rewrite != nil {
		action.RegexRewrite = pathRewrite(r.Rewrite)
	}
	if r.PerTryTimeoutNS > 0 {
		action.RetryPolicy = &routev3.RetryPolicy{NumRetries: u32(0)} // no retry_on: the one try is bounded, too
	}
	if r.Retry != nil {
		action.RetryPolicy = b.retryPolicy(r.Retry)
		out.TypedPerFilterConfig[triesFilter] = b.pack(tries(r))
	} else {
		out.RequestHeadersToAdd = []*corev3.HeaderValueOption{deadlineHeader()}
	}
	if r.PerTryTimeoutNS > 0 {
		action.RetryPolicy.PerTryTimeout = nanos(r.PerTryTimeoutNS)
	}
	out.Action = &routev3.Route_Route{Route: action}
	return out
}

// pathRewrite works on the service's path, whatever a route of it matches.
func pathRewrite(w *ir.PathRewrite) *matcherv3.RegexMatchAndSubstitute {
	pattern, to := "^"+regexp.QuoteMeta(w.From), w.To
	switch {
	case w.From == "/" && w.To != "/":
		to += "/"
	case w.From != "/" && w.To == "/":
		pattern += "/?"
	}
	return &matcherv3.RegexMatchAndSubstitute{Pattern: fullRegex(pattern), Substitution: to}
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
		RetriableStatusCodes:    r.Statuses,
		RetriableRequestHeaders: repeatable(r),
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

// usableKey is an idempotency key: an empty one tells nothing.
const usableKey = ".+"

// repeatable are the requests that may be tried again: one of these must hold,
// as the router gets them. So a request without a key is sent once, whatever
// became of the filter that should have made one.
func repeatable(r *ir.Retry) []*routev3.HeaderMatcher {
	var one []*routev3.HeaderMatcher
	if len(r.Methods) > 0 {
		one = append(one, methodMatch(r.Methods))
	}
	if r.KeyHeader != "" {
		one = append(one, headerString(r.KeyHeader, regexMatch(usableKey)))
	}
	return one
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
	return append(words, r.GRPC...)
}
