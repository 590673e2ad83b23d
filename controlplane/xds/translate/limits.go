package translate

import (
	bodysizev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/body_size_limit/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Filters that an edge has only where its policy asks for them.
const (
	probeFilter = "envoy.filters.http.health_check"
	bodyFilter  = "envoy.filters.http.body_size_limit"
)

// probes answers 200, and 503 once Envoy drains, so that a load balancer turns
// away in time. It stands before our filter, which probe routes leave out, and
// is off everywhere else.
func (b *builder) probes() []*hcmv3.HttpFilter {
	for _, host := range b.edge.VirtualHosts {
		for _, r := range host.Routes {
			if r.Probe {
				return []*hcmv3.HttpFilter{b.disabled(probeFilter, &healthv3.HealthCheck{PassThroughMode: wrapperspb.Bool(false)})}
			}
		}
	}
	return nil
}

// bodyLimit looks at content-length first and then counts what comes; nothing
// is buffered. It stands behind our filter, so that what it refuses is counted.
func (b *builder) bodyLimit() []*hcmv3.HttpFilter {
	limit := b.edge.HTTP.MaxBodyBytes
	if limit == 0 {
		return nil
	}
	return []*hcmv3.HttpFilter{{
		Name:       bodyFilter,
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.pack(&bodysizev3.BodySizeLimit{MaxRequestBytes: wrapperspb.UInt64(uint64(limit))})},
	}}
}
