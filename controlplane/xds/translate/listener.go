package translate

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// Limits that Envoy advises for a proxy at the edge
// (docs: configuration/best_practices/edge), where every client is a stranger.
const (
	connectionBufferBytes  = 32 << 10 // also the largest body that a retry can repeat
	h2MaxStreams           = 100
	h2StreamWindowBytes    = 64 << 10
	h2ConnectionWindow     = 1 << 20
	requestHeadersTimeoutS = 10   // from the first byte of a request to its last header
	streamIdleTimeoutS     = 300  // where the route says nothing else
	connectionIdleTimeoutS = 3600 // keep-alive
)

// clientHeaders are stripped before a request is routed: only Envoy and the
// filter may say these things.
var clientHeaders = []string{"x-seawall-", "x-envoy-"}

func (b *builder) listeners() []types.Resource {
	manager := b.connectionManager(b.discoveredFilter())
	manager.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
		ConfigSource:    ads(),
		RouteConfigName: RouteConfigName,
	}}
	packed := b.pack(manager)
	var list []types.Resource
	for _, l := range b.edge.Listeners {
		list = append(list, b.listener(l, packed))
	}
	return list
}

func (b *builder) listener(l ir.Listener, manager *anypb.Any) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:                          l.Name,
		Address:                       socketAddress(l.Address, l.Port),
		FilterChains:                  []*listenerv3.FilterChain{b.filterChain(l, manager)},
		PerConnectionBufferLimitBytes: u32(connectionBufferBytes),
		// With reuse_port a second data plane on the same port would be let in and
		// silently get half of the connections; so it must fail to bind. The one
		// shared socket is why connections are balanced over the workers.
		EnableReusePort: wrapperspb.Bool(false),
		ConnectionBalanceConfig: &listenerv3.Listener_ConnectionBalanceConfig{
			BalanceType: &listenerv3.Listener_ConnectionBalanceConfig_ExactBalance_{
				ExactBalance: &listenerv3.Listener_ConnectionBalanceConfig_ExactBalance{},
			},
		},
	}
}

func (b *builder) filterChain(l ir.Listener, manager *anypb.Any) *listenerv3.FilterChain {
	chain := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{
		Name:       "envoy.filters.network.http_connection_manager",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager},
	}}}
	if l.TLS != nil {
		chain.TransportSocket = b.downstreamTLS(l)
	}
	return chain
}

// connectionManager is the same for all listeners of the edge; the caller says
// where its routes come from. filters stand before the router.
func (b *builder) connectionManager(filters ...*hcmv3.HttpFilter) *hcmv3.HttpConnectionManager {
	filters = append(b.probes(), append(filters, b.grpcStatus())...)
	filters = append(filters, b.wrapFilters()...)
	filters = append(filters, b.bodyLimit()...)
	return &hcmv3.HttpConnectionManager{
		StatPrefix:  StatPrefix,
		CodecType:   hcmv3.HttpConnectionManager_AUTO,
		HttpFilters: append(filters, b.router()),

		// Our name where the upstream gave none; its own is left alone.
		ServerName:                 "seawall",
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_APPEND_IF_ABSENT,

		UseRemoteAddress:  yes(),
		XffNumTrustedHops: b.edge.HTTP.TrustedHops,
		// A stranger must not choose the id under which `seawall why` finds a
		// request; a proxy that we trust may.
		GenerateRequestId:            yes(),
		PreserveExternalRequestId:    b.edge.HTTP.TrustedHops > 0,
		AlwaysSetRequestIdInResponse: true,

		// What the router matches is what the upstream sees: no second reading of
		// /a/../b, //b or /a%2fb gets past a rule.
		NormalizePath:                yes(),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT,

		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:                  seconds(connectionIdleTimeoutS),
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
		},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			MaxConcurrentStreams:        u32(h2MaxStreams),
			InitialStreamWindowSize:     u32(h2StreamWindowBytes),
			InitialConnectionWindowSize: u32(h2ConnectionWindow),
		},
		RequestHeadersTimeout: seconds(requestHeadersTimeoutS),
		RequestTimeout:        nanos(b.edge.HTTP.RequestTimeoutNS),
		StreamIdleTimeout:     seconds(streamIdleTimeoutS),

		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{b.stripClientHeaders()},
		LocalReplyConfig:              b.localReplies(),
		AccessLog:                     []*accesslogv3.AccessLog{b.accessLog(), b.endSignal()},
	}
}

// discoveredFilter asks for the filter over ECDS. The listener waits for it
// (apply_default_config_without_warming stays off), so no request slips past
// the guards at start; the fallback answers only where Envoy has refused the
// first plan or got none within its 15 s.
func (b *builder) discoveredFilter() *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name: FilterName,
		ConfigType: &hcmv3.HttpFilter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
			ConfigSource:  ads(),
			TypeUrls:      []string{wasmTypeURL},
			DefaultConfig: b.pack(b.fallback()),
		}},
	}
}

func (b *builder) router() *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name: "envoy.filters.http.router",
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.pack(&routerv3.Router{
			// Off, for the router then tells each try how much time it has; what it
			// tells clients with it is removed (insideHeaders).
			SuppressEnvoyHeaders: false,
		})},
	}
}

func (b *builder) stripClientHeaders() *corev3.TypedExtensionConfig {
	var mutations []*mutationv3.HeaderMutation
	for _, prefix := range clientHeaders {
		mutations = append(mutations, &mutationv3.HeaderMutation{
			Action: &mutationv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
				KeyMatcher: &matcherv3.StringMatcher{
					MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix},
				},
			}},
		})
	}
	return &corev3.TypedExtensionConfig{
		Name:        "envoy.http.early_header_mutation.header_mutation",
		TypedConfig: b.pack(&earlyv3.HeaderMutation{Mutations: mutations}),
	}
}
