package translate

import (
	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherxds "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/custom_response/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/custom_response/local_response_policy/v3"
	envoymatcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/seawall-mesh/seawall/filter/problem"
)

// A service's bare error is made a problem document by two filters of Envoy's:
// custom_response turns it into a reply of Envoy's own, which localReplies then
// writes like all others, and header_to_metadata saves its Retry-After from
// being lost with its headers. They stand in the chain of an edge that has a
// route for them, and run on such routes only.
const (
	wrapFilter       = "seawall-wrap"
	retryAfterFilter = "seawall-retry-after"

	wrapNamespace  = "seawall.wrap"
	retryAfterText = "retry_after_text" // as the service wrote it: seconds or a date
	retryAfterNum  = "retry_after"      // seconds
)

// wrapFilters are off until a route turns them on. Answers pass the last one
// first.
func (b *builder) wrapFilters() []*hcmv3.HttpFilter {
	for _, host := range b.edge.VirtualHosts {
		for _, r := range host.Routes {
			if r.WrapErrors {
				return []*hcmv3.HttpFilter{
					b.disabled(wrapFilter, &customv3.CustomResponse{}),
					b.disabled(retryAfterFilter, &metadatav3.Config{}),
				}
			}
		}
	}
	return nil
}

func (b *builder) disabled(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name:       name,
		Disabled:   true,
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.pack(config)},
	}
}

// wrapErrors turns the filters on for a route.
func (b *builder) wrapErrors() map[string]*anypb.Any {
	keep := func(key string, kind metadatav3.Config_ValueType) *metadatav3.Config_Rule {
		return &metadatav3.Config_Rule{
			Header:          "retry-after",
			OnHeaderPresent: &metadatav3.Config_KeyValuePair{MetadataNamespace: wrapNamespace, Key: key, Type: kind},
		}
	}
	return map[string]*anypb.Any{
		wrapFilter: b.enabled(&customv3.CustomResponse{CustomResponseMatcher: b.bareErrors()}),
		retryAfterFilter: b.enabled(&metadatav3.Config{ResponseRules: []*metadatav3.Config_Rule{
			keep(retryAfterText, metadatav3.Config_STRING), keep(retryAfterNum, metadatav3.Config_NUMBER),
		}}),
	}
}

func (b *builder) enabled(config proto.Message) *anypb.Any {
	return b.pack(&routev3.FilterConfig{Config: b.pack(config)})
}

// bareErrors takes the answers from 500 on that are no problem document, but
// for gRPC callers', whose errors are in trailers.
func (b *builder) bareErrors() *matcherxds.Matcher {
	not := func(input proto.Message, prefix string) *matcherxds.Matcher_MatcherList_Predicate {
		return &matcherxds.Matcher_MatcherList_Predicate{MatchType: &matcherxds.Matcher_MatcherList_Predicate_NotMatcher{
			NotMatcher: b.single(input, &matcherxds.StringMatcher{
				MatchPattern: &matcherxds.StringMatcher_Prefix{Prefix: prefix}, IgnoreCase: true,
			}),
		}}
	}
	const contentType = "content-type"
	return &matcherxds.Matcher{MatcherType: &matcherxds.Matcher_MatcherList_{MatcherList: &matcherxds.Matcher_MatcherList{
		Matchers: []*matcherxds.Matcher_MatcherList_FieldMatcher{{
			Predicate: &matcherxds.Matcher_MatcherList_Predicate{MatchType: &matcherxds.Matcher_MatcherList_Predicate_AndMatcher{
				AndMatcher: &matcherxds.Matcher_MatcherList_Predicate_PredicateList{Predicate: []*matcherxds.Matcher_MatcherList_Predicate{
					b.single(&envoymatcherv3.HttpResponseStatusCodeClassMatchInput{}, &matcherxds.StringMatcher{
						MatchPattern: &matcherxds.StringMatcher_Exact{Exact: "5xx"},
					}),
					not(&envoymatcherv3.HttpResponseHeaderMatchInput{HeaderName: contentType}, problem.ContentType),
					not(&envoymatcherv3.HttpRequestHeaderMatchInput{HeaderName: contentType}, "application/grpc"),
				}},
			}},
			OnMatch: &matcherxds.Matcher_OnMatch{OnMatch: &matcherxds.Matcher_OnMatch_Action{Action: b.extensionOf("wrap", &localv3.LocalResponsePolicy{
				ResponseHeadersToAdd: []*corev3.HeaderValueOption{
					setHeader("retry-after", "%DYNAMIC_METADATA("+wrapNamespace+":"+retryAfterText+")%"),
				},
			})}},
		}},
	}}}
}

func (b *builder) single(input proto.Message, match *matcherxds.StringMatcher) *matcherxds.Matcher_MatcherList_Predicate {
	return &matcherxds.Matcher_MatcherList_Predicate{MatchType: &matcherxds.Matcher_MatcherList_Predicate_SinglePredicate_{
		SinglePredicate: &matcherxds.Matcher_MatcherList_Predicate_SinglePredicate{
			Input:   b.extensionOf("input", input),
			Matcher: &matcherxds.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: match},
		},
	}}
}

func (b *builder) extensionOf(name string, config proto.Message) *xdscorev3.TypedExtensionConfig {
	return &xdscorev3.TypedExtensionConfig{Name: name, TypedConfig: b.pack(config)}
}
