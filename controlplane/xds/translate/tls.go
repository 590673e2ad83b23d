package translate

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

func (b *builder) downstreamTLS(t *ir.ListenerTLS) *corev3.TransportSocket {
	return b.tlsSocket(&tlsv3.DownstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsParams: tlsVersions(),
		TlsCertificates: []*tlsv3.TlsCertificate{{
			CertificateChain: file(t.CertFile),
			PrivateKey:       file(t.KeyFile),
		}},
		AlpnProtocols: []string{"h2", "http/1.1"},
	}})
}

func (b *builder) upstreamTLS(c ir.Cluster) *corev3.TransportSocket {
	common := &tlsv3.CommonTlsContext{
		TlsParams: tlsVersions(),
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: file(c.TLS.CAFile),
			MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
				SanType: tlsv3.SubjectAltNameMatcher_DNS,
				Matcher: exactMatch(c.TLS.ServerName),
			}},
		}},
	}
	if c.Protocol == ir.HTTP2 {
		common.AlpnProtocols = []string{"h2"}
	}
	return b.tlsSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: c.TLS.ServerName})
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
