package compile

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

// reservedPrefix is kept for the clusters of Envoy's bootstrap: a service of
// the same name could not be pushed.
const reservedPrefix = "seawall-"

// systemCA is where Debian, Alpine and the images of Envoy keep what the system
// trusts.
const systemCA = "/etc/ssl/certs/ca-certificates.crt"

// Retry budget of a service without a policy: the defaults of
// policy.RetryBudget. Nothing retries there today; the cluster needs a value.
const (
	defaultBudgetPPM         = 200_000
	defaultBudgetConcurrency = 3
)

func compileCluster(s served) (ir.Cluster, error) {
	spec := s.service.Spec
	if strings.HasPrefix(s.name(), reservedPrefix) {
		return ir.Cluster{}, errors.New(`names that begin with "seawall-" are taken by Seawall's own clusters`)
	}
	c := ir.Cluster{
		Name:             s.name(),
		Protocol:         ir.HTTP1,
		ConnectTimeoutNS: int64(spec.ConnectTimeout),
		MaxConnections:   uint32(spec.Connections.Max),
		RetryBudget:      ir.RetryBudget{PercentPPM: defaultBudgetPPM, MinConcurrency: defaultBudgetConcurrency},
	}
	if spec.Protocol == policy.ProtocolHTTP2 || spec.Protocol == policy.ProtocolGRPC {
		c.Protocol = ir.HTTP2
	}
	if spec.DNS != nil {
		c.DNS = true
		c.Endpoints = []ir.Endpoint{{Address: spec.DNS.Name, Port: uint32(spec.DNS.Port)}}
	}
	for _, e := range spec.Endpoints {
		c.Endpoints = append(c.Endpoints, ir.Endpoint{Address: e.Address, Port: uint32(e.Port)})
		// EDS takes IP addresses only; a name among them makes Envoy resolve all.
		if _, err := netip.ParseAddr(e.Address); err != nil {
			c.DNS = true
		}
	}
	slices.SortFunc(c.Endpoints, func(a, b ir.Endpoint) int {
		if n := strings.Compare(a.Address, b.Address); n != 0 {
			return n
		}
		return int(a.Port) - int(b.Port)
	})
	c.Endpoints = slices.Compact(c.Endpoints)
	if o := spec.OutlierEjection; o != nil {
		c.Outlier = &ir.Outlier{
			Consecutive5xx: uint32(o.Consecutive5xx),
			BaseEjectionNS: int64(o.BaseEjection),
			MaxEjectedPPM:  int64(o.MaxEjected),
		}
	}
	if t := spec.TLS; t != nil {
		c.TLS = &ir.UpstreamTLS{CAFile: t.CA, ServerName: t.ServerName}
		if t.CA == policy.SystemCA {
			c.TLS.CAFile = systemCA
		}
	}
	if h := spec.HealthCheck; h != nil {
		c.HealthCheck = &ir.HealthCheck{
			Path: h.Path, IntervalNS: int64(h.Interval), Host: checkedHost(spec),
			GRPC: spec.Protocol == policy.ProtocolGRPC,
		}
	}
	if s.policy != nil {
		c.Attempts = slices.ContainsFunc(s.policy.Spec.Routes, s.countsAttempts)
		b := s.policy.Spec.RetryBudget
		c.RetryBudget = ir.RetryBudget{PercentPPM: int64(b.Percent), MinConcurrency: uint32(b.MinConcurrency)}
	}
	return c, nil
}

// checkedHost is the :authority of health checks: what requests mostly carry.
func checkedHost(s policy.ServiceSpec) string {
	if s.Rewrite != nil && s.Rewrite.Host != "" {
		return s.Rewrite.Host
	}
	if s.TLS != nil {
		return s.TLS.ServerName
	}
	hosts := slices.Sorted(slices.Values(s.Hosts))
	if len(hosts) == 0 || hosts[0] == anyHost {
		return ""
	}
	return hosts[0]
}
