package translate

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"google.golang.org/protobuf/proto"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// Certificates are secrets of their own, served over SDS: only then does Envoy
// read their files again when others are renamed over them, and neither
// listeners nor connections are touched. Without a control plane they stand
// where they are used.

func (b *builder) downstreamTLS(l ir.Listener) *corev3.TransportSocket {
	common := &tlsv3.CommonTlsContext{TlsParams: tlsVersions(), AlpnProtocols: []string{"h2", "http/1.1"}}
	if b.static {
		common.TlsCertificates = []*tlsv3.TlsCertificate{certificate(l.TLS)}
	} else {
		common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{secretFrom(listenerSecret(l))}
	}
	return b.tlsSocket(&tlsv3.DownstreamTlsContext{CommonTlsContext: common})
}

func (b *builder) upstreamTLS(c ir.Cluster) *corev3.TransportSocket {
	common := &tlsv3.CommonTlsContext{TlsParams: tlsVersions()}
	if b.static {
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: validation(c.TLS)}
	} else {
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{
			ValidationContextSdsSecretConfig: secretFrom(clusterSecret(c)),
		}
	}
	if c.Protocol == ir.HTTP2 {
		common.AlpnProtocols = []string{"h2"}
	}
	return b.tlsSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: c.TLS.ServerName})
}

// secrets are what the listeners and clusters name. A name outlives its files'
// names: Envoy keeps the old secret until it has read the new one.
func (b *builder) secrets() []types.Resource {
	var list []types.Resource
	for _, c := range b.edge.Clusters {
		if c.TLS != nil {
			list = append(list, &tlsv3.Secret{Name: clusterSecret(c), Type: &tlsv3.Secret_ValidationContext{ValidationContext: validation(c.TLS)}})
		}
	}
	for _, l := range b.edge.Listeners {
		if l.TLS != nil {
			list = append(list, &tlsv3.Secret{Name: listenerSecret(l), Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: certificate(l.TLS)}})
		}
	}
	return list
}

func clusterSecret(c ir.Cluster) string { return "ca/" + c.Name }

func listenerSecret(l ir.Listener) string { return "listener/" + l.Name }

func secretFrom(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: ads()}
}

func certificate(t *ir.ListenerTLS) *tlsv3.TlsCertificate {
	return &tlsv3.TlsCertificate{CertificateChain: file(t.CertFile), PrivateKey: file(t.KeyFile)}
}

func validation(t *ir.UpstreamTLS) *tlsv3.CertificateValidationContext {
	return &tlsv3.CertificateValidationContext{
		TrustedCa: file(t.CAFile),
		MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
			SanType: tlsv3.SubjectAltNameMatcher_DNS,
			Matcher: exactMatch(t.ServerName),
		}},
	}
}

// tlsVersions are said because Envoy's own default for clients ends at 1.2.
func tlsVersions() *tlsv3.TlsParameters {
	return &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
		TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
	}
}

func (b *builder) tlsSocket(config proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.pack(config)},
	}
}

func file(name string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
}
