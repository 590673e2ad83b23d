package translate

import (
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	headersv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	upstreamcodecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

const httpProtocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// upstreamIdleTimeoutS closes idle upstream connections before common servers
// do (nginx: 75 s), so that a request seldom meets a connection that is just
// being closed from the other end.
const upstreamIdleTimeoutS = 30

// maxRequests is far above what connections let through: what may run at once
// is the business of pools and shedding.
const maxRequests = 1_000_000

// outlierIntervalS is how often ejected endpoints are looked at again.
const outlierIntervalS = 1

func (b *builder) clusters() (clusters, endpoints []types.Resource) {
	for _, c := range b.edge.Clusters {
		assignment := loadAssignment(c)
		clusters = append(clusters, b.cluster(c, assignment))
		if !c.DNS {
			endpoints = append(endpoints, assignment)
		}
	}
	return clusters, endpoints
}

func (b *builder) cluster(c ir.Cluster, assignment *endpointv3.ClusterLoadAssignment) *clusterv3.Cluster {
	out := &clusterv3.Cluster{
		Name:           c.Name,
		ConnectTimeout: nanos(c.ConnectTimeoutNS),
		// Round robin would start every worker at the first endpoint.
		LbPolicy: clusterv3.Cluster_LEAST_REQUEST,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     u32(c.MaxConnections),
			MaxPendingRequests: u32(c.MaxConnections),
			MaxRequests:        u32(maxRequests),
			RetryBudget: &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
				BudgetPercent:       &typev3.Percent{Value: percent(c.RetryBudget.PercentPPM)},
				MinRetryConcurrency: u32(c.RetryBudget.MinConcurrency),
			},
		}}},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpProtocolOptions: b.pack(b.upstreamOptions(c))},
	}
	if c.TLS != nil {
		out.TransportSocket = b.upstreamTLS(c)
	}
	if c.HealthCheck != nil {
		out.HealthChecks = []*corev3.HealthCheck{healthCheck(c)}
	}
	if c.DNS {
		out.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		out.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
		out.LoadAssignment = assignment
	} else {
		out.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		out.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()}
	}
	if o := c.Outlier; o != nil {
		out.OutlierDetection = &clusterv3.OutlierDetection{
			Consecutive_5Xx:          u32(o.Consecutive5xx),
			EnforcingConsecutive_5Xx: u32(100),
			Interval:                 seconds(outlierIntervalS),
			BaseEjectionTime:         nanos(o.BaseEjectionNS),
			MaxEjectionPercent:       u32(uint32((o.MaxEjectedPPM + 9_999) / 10_000)),
			// Envoy's other detectors are on by default; the policy names one.
			EnforcingSuccessRate:               u32(0),
			EnforcingConsecutiveGatewayFailure: u32(0),
			EnforcingFailurePercentage:         u32(0),
		}
	}
	return out
}

// upstreamOptions are the protocol and the filters that see each try.
func (b *builder) upstreamOptions(c ir.Cluster) *upstreamsv3.HttpProtocolOptions {
	out := protocolOptions(c.Protocol)
	if filters := b.upstreamFilters(c); len(filters) > 0 {
		out.HttpFilters = append(filters, &hcmv3.HttpFilter{
			Name:       "envoy.filters.http.upstream_codec",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.pack(&upstreamcodecv3.UpstreamCodec{})},
		})
	}
	return out
}

// upstreamFilters are those of one cluster, in the order in which a request
// passes them.
func (b *builder) upstreamFilters(c ir.Cluster) []*hcmv3.HttpFilter {
	var filters []*hcmv3.HttpFilter
	if b.retries(c.Name) {
		filters = append(filters, &hcmv3.HttpFilter{
			Name:       triesFilter,
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.pack(&headersv3.HeaderMutation{})},
		})
	}
	if c.Attempts {
		filters = append(filters, b.attemptFilter())
	}
	return filters
}

// retries reports whether a route to the cluster retries.
func (b *builder) retries(cluster string) bool {
	for _, host := range b.edge.VirtualHosts {
		for _, r := range host.Routes {
			if r.Cluster == cluster && r.Retry != nil {
				return true
			}
		}
	}
	return false
}

// Two checks bring an endpoint back, three take it out; Envoy takes the first
// one as it is.
const (
	healthyAfter   = 2
	unhealthyAfter = 3
	// healthTimeoutS bounds one check, and so does the interval.
	healthTimeoutS = 2
)

func healthCheck(c ir.Cluster) *corev3.HealthCheck {
	h := c.HealthCheck
	out := &corev3.HealthCheck{
		Interval: nanos(h.IntervalNS),
		// Envoy would ask a cluster without traffic once a minute only.
		NoTrafficInterval:  nanos(h.IntervalNS),
		Timeout:            nanos(min(h.IntervalNS, healthTimeoutS*1_000_000_000)),
		HealthyThreshold:   u32(healthyAfter),
		UnhealthyThreshold: u32(unhealthyAfter),
	}
	if h.GRPC {
		out.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{
			ServiceName: strings.TrimPrefix(h.Path, "/"), Authority: h.Host,
		}}
		return out
	}
	codec := typev3.CodecClientType_HTTP1
	if c.Protocol == ir.HTTP2 {
		codec = typev3.CodecClientType_HTTP2
	}
	out.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{
		Path: h.Path, Host: h.Host, CodecClientType: codec,
	}}
	return out
}

func protocolOptions(p ir.Protocol) *upstreamsv3.HttpProtocolOptions {
	explicit := &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig{}
	if p == ir.HTTP2 {
		explicit.ProtocolConfig = &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
		}
	} else {
		explicit.ProtocolConfig = &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
		}
	}
	return &upstreamsv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: seconds(upstreamIdleTimeoutS)},
		UpstreamProtocolOptions: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: explicit,
		},
	}
}

func loadAssignment(c ir.Cluster) *endpointv3.ClusterLoadAssignment {
	group := &endpointv3.LocalityLbEndpoints{}
	for _, e := range c.Endpoints {
		group.LbEndpoints = append(group.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: socketAddress(e.Address, e.Port),
			}},
		})
	}
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: c.Name,
		Endpoints:   []*endpointv3.LocalityLbEndpoints{group},
	}
}

// percent is exact: ppm are integers below 2^53.
func percent(ppm int64) float64 { return float64(ppm) / 10_000 }
