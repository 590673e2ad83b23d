package envoy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connmonitorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapmonitorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	// ClusterXDS is the static cluster of the control plane's xDS server.
	ClusterXDS = "seawall-xds"
	// ClusterTelemetry is the static cluster that the filter posts batches to.
	// It must never carry the filter itself.
	ClusterTelemetry = "seawall-telemetry"

	defaultMaxConnections = 10_000
	defaultMaxHeapBytes   = 1 << 30
	httpOptionsKey        = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
)

// TLS is what a connection to the control plane is secured with. Verification
// cannot be switched off. Files are read by Envoy.
type TLS struct {
	CAFile     string // trusted roots, PEM; required
	CertFile   string // client certificate chain, PEM; "" = none
	KeyFile    string // its key, PEM
	ServerName string // SNI, and the DNS name the server's certificate must have; "" = SPIFFEID is required
	SPIFFEID   string // the exact URI the server's certificate must have; "" = ServerName alone
}

// BootstrapConfig is what Envoy must know before xDS tells it the rest.
type BootstrapConfig struct {
	NodeID  string // unique in the fleet; required
	Cluster string // node.cluster, by which an Edge selects its nodes; required

	XDS       string // host:port of the xDS server; required
	XDSTLS    *TLS   // nil: plain text, allowed on loopback only
	Telemetry string // host:port of the telemetry address; required
	// TelemetryTLS as XDSTLS.
	TelemetryTLS *TLS

	// Workers, FilterDir, Filters and Version go into node.metadata.seawall:
	// the control plane pushes a plan only to nodes that have its module.
	Workers   int      // worker threads; at least 1
	FilterDir string   // absolute folder of the filter-<sha256>.wasm files
	Filters   []string // sha256 of each
	Version   string   // of Seawall

	AdminPort      int    // on 127.0.0.1; 0 = a free one
	MaxConnections uint64 // downstream connections over all listeners; 0 = 10,000
	MaxHeapBytes   uint64 // heap at which Envoy refuses requests rather than be killed; 0 = 1 GiB
}

// Bootstrap returns Envoy's bootstrap as JSON. It is a pure function: equal
// configurations give equal bytes, so their hash tells whether a running Envoy
// is the one that is wanted. A plain-text address off loopback is an error.
func Bootstrap(cfg BootstrapConfig) ([]byte, error) {
	b, err := bootstrapProto(cfg)
	if err != nil {
		return nil, err
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("bootstrap of node %q: %w", cfg.NodeID, err)
	}
	// protojson puts random spaces; the bytes must be stable.
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return nil, fmt.Errorf("bootstrap of node %q: %w", cfg.NodeID, err)
	}
	compact := bytes.Clone(out.Bytes())
	out.Reset()
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("bootstrap of node %q: %w", cfg.NodeID, err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func (cfg *BootstrapConfig) defaults() error {
	switch {
	case cfg.NodeID == "":
		return errors.New("bootstrap: a node id is required")
	case cfg.Cluster == "":
		return errors.New("bootstrap: a node cluster is required")
	case cfg.Workers < 1:
		return fmt.Errorf("bootstrap: %d workers; at least 1 is needed", cfg.Workers)
	case cfg.AdminPort < 0 || cfg.AdminPort > 65535:
		return fmt.Errorf("bootstrap: admin port %d is not a port", cfg.AdminPort)
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = defaultMaxConnections
	}
	if cfg.MaxHeapBytes == 0 {
		cfg.MaxHeapBytes = defaultMaxHeapBytes
	}
	return nil
}

func bootstrapProto(cfg BootstrapConfig) (*bootstrapv3.Bootstrap, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	p := &packer{}
	xds, err := controlCluster(p, ClusterXDS, "xDS", cfg.XDS, cfg.XDSTLS, true)
	if err != nil {
		return nil, err
	}
	telemetry, err := controlCluster(p, ClusterTelemetry, "telemetry", cfg.Telemetry, cfg.TelemetryTLS, false)
	if err != nil {
		return nil, err
	}
	meta, err := nodeMetadata(cfg)
	if err != nil {
		return nil, err
	}
	b := &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: cfg.NodeID, Cluster: cfg.Cluster, Metadata: meta},
		Admin: &bootstrapv3.Admin{
			Address: socketAddress("127.0.0.1", uint32(cfg.AdminPort)),
			// The connection limit below must not lock us out of the admin.
			IgnoreGlobalConnLimit: true,
		},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: adsConfig(),
			CdsConfig: overADS(),
			LdsConfig: overADS(),
		},
		StaticResources:    &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{xds, telemetry}},
		StatsConfig:        statsConfig(),
		StatsFlushInterval: durationpb.New(time.Second),
		LayeredRuntime:     regexBound(),
		OverloadManager:    overloadManager(p, cfg),
	}
	if p.err != nil {
		return nil, fmt.Errorf("bootstrap of node %q: %w", cfg.NodeID, p.err)
	}
	if err := b.ValidateAll(); err != nil {
		return nil, fmt.Errorf("bootstrap of node %q: %w", cfg.NodeID, err)
	}
	return b, nil
}

// maxProgramSize is the largest regular expression that Envoy takes, in RE2's
// instructions.
const maxProgramSize = 100_000

// regexBound lets in the expressions that policies may have (512 bytes): Envoy's
// own bound of 100 instructions refuses a list of ten methods.
func regexBound() *bootstrapv3.LayeredRuntime {
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name: "seawall",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{
			"re2.max_program_size.error_level": structpb.NewNumberValue(maxProgramSize),
		}}},
	}}}
}

// nodeMetadata is what the xDS server reads about this node.
func nodeMetadata(cfg BootstrapConfig) (*structpb.Struct, error) {
	filters := make([]any, len(cfg.Filters))
	for i, f := range cfg.Filters {
		filters[i] = f
	}
	s, err := structpb.NewStruct(map[string]any{"seawall": map[string]any{
		"workers":   cfg.Workers,
		"filterDir": cfg.FilterDir,
		"filters":   filters,
		"version":   cfg.Version,
	}})
	if err != nil {
		return nil, fmt.Errorf("bootstrap of node %q: metadata: %w", cfg.NodeID, err)
	}
	return s, nil
}

// adsConfig is delta: the state-of-the-world protocol turns a NACK into a false
// ACK. The back-off is ours because the default leaves an edge for 25 s without
// its restarted control plane.
func adsConfig() *corev3.ApiConfigSource {
	return &corev3.ApiConfigSource{
		ApiType:                   corev3.ApiConfigSource_DELTA_GRPC,
		TransportApiVersion:       corev3.ApiVersion_V3,
		SetNodeOnFirstMessageOnly: true,
		GrpcServices: []*corev3.GrpcService{{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: ClusterXDS,
				RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
					BaseInterval: durationpb.New(250 * time.Millisecond),
					MaxInterval:  durationpb.New(2 * time.Second),
				}},
			}},
		}},
	}
}

func overADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

// controlCluster is one of the two ways to the control plane.
func controlCluster(p *packer, name, what, address string, tls *TLS, http2 bool) (*clusterv3.Cluster, error) {
	host, port, loopback, err := splitAddress(what, address)
	if err != nil {
		return nil, err
	}
	if !loopback && tls == nil {
		return nil, fmt.Errorf("%s address %s is not on loopback: plain text is refused there; give TLS files, or use a loopback address", what, address)
	}
	c := &clusterv3.Cluster{
		Name:                 name,
		ConnectTimeout:       durationpb.New(time.Second),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socketAddress(host, port)}},
			}}}},
		},
	}
	if net.ParseIP(host) == nil {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
	}
	options := &httpv3.HttpProtocolOptions{}
	if http2 {
		// A control plane that hangs, or a path that swallows packets, is noticed
		// after 13 s rather than never.
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
				ConnectionKeepalive: &corev3.KeepaliveSettings{Interval: durationpb.New(10 * time.Second), Timeout: durationpb.New(3 * time.Second)},
			}},
		}}
	} else {
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
		}}
		options.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(30 * time.Second)}
	}
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsKey: p.pack(options)}
	if tls != nil {
		socket, err := transportSocket(p, what, tls, http2)
		if err != nil {
			return nil, err
		}
		c.TransportSocket = socket
	}
	return c, nil
}

func transportSocket(p *packer, what string, tls *TLS, http2 bool) (*corev3.TransportSocket, error) {
	switch {
	case tls.CAFile == "":
		return nil, fmt.Errorf("TLS to the %s address: a CA file is required", what)
	case tls.ServerName == "" && tls.SPIFFEID == "":
		return nil, fmt.Errorf("TLS to the %s address: a server name or a SPIFFE id to verify is required", what)
	case (tls.CertFile == "") != (tls.KeyFile == ""):
		return nil, fmt.Errorf("TLS to the %s address: certificate and key come together", what)
	}
	san := &tlsv3.SubjectAltNameMatcher{
		SanType: tlsv3.SubjectAltNameMatcher_DNS,
		Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: tls.ServerName}},
	}
	if tls.SPIFFEID != "" {
		san.SanType = tlsv3.SubjectAltNameMatcher_URI
		san.Matcher = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: tls.SPIFFEID}}
	}
	common := &tlsv3.CommonTlsContext{
		// Both ends of the range: Envoy's client default maximum is 1.2.
		TlsParams: &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa:                 fileSource(tls.CAFile),
			MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{san},
		}},
	}
	if http2 {
		common.AlpnProtocols = []string{"h2"}
	}
	if tls.CertFile != "" {
		common.TlsCertificates = []*tlsv3.TlsCertificate{{CertificateChain: fileSource(tls.CertFile), PrivateKey: fileSource(tls.KeyFile)}}
	}
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: p.pack(&tlsv3.UpstreamTlsContext{Sni: tls.ServerName, CommonTlsContext: common})},
	}, nil
}

// overloadManager is Envoy's own list for an edge: refuse rather than be
// killed, and never run out of descriptors.
func overloadManager(p *packer, cfg BootstrapConfig) *overloadv3.OverloadManager {
	const heap = "envoy.resource_monitors.fixed_heap"
	above := func(action string, value float64) *overloadv3.OverloadAction {
		return &overloadv3.OverloadAction{Name: action, Triggers: []*overloadv3.Trigger{{
			Name:         heap,
			TriggerOneof: &overloadv3.Trigger_Threshold{Threshold: &overloadv3.ThresholdTrigger{Value: value}},
		}}}
	}
	return &overloadv3.OverloadManager{
		RefreshInterval: durationpb.New(250 * time.Millisecond),
		ResourceMonitors: []*overloadv3.ResourceMonitor{
			{
				Name:       heap,
				ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: p.pack(&heapmonitorv3.FixedHeapConfig{MaxHeapSizeBytes: cfg.MaxHeapBytes})},
			},
			{
				Name:       "envoy.resource_monitors.global_downstream_max_connections",
				ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: p.pack(&connmonitorv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: int64(cfg.MaxConnections)})},
			},
		},
		Actions: []*overloadv3.OverloadAction{
			above("envoy.overload_actions.disable_http_keepalive", 0.92),
			above("envoy.overload_actions.shrink_heap", 0.95),
			above("envoy.overload_actions.stop_accepting_requests", 0.98),
		},
	}
}

// statsConfig turns the dimensions that the filter writes into its metric
// names (".service=S.route=R.result=good") into labels.
func statsConfig() *metricsv3.StatsConfig {
	cfg := &metricsv3.StatsConfig{}
	for _, tag := range metricTags() {
		cfg.StatsTags = append(cfg.StatsTags, &metricsv3.TagSpecifier{
			TagName:  tag.name,
			TagValue: &metricsv3.TagSpecifier_Regex{Regex: tag.regex},
		})
	}
	return cfg
}

type metricTag struct{ name, regex string }

// metricTags are Envoy's tag extractors: the first group is cut out of the
// name, the second is the label's value.
func metricTags() []metricTag {
	var tags []metricTag
	for _, key := range []string{"service", "route", "priority", "result", "state", "decision", "pool"} {
		tags = append(tags, metricTag{
			name:  key,
			regex: `^wasmcustom\.seawall\.[^=]+(?:=[^=]*)*?(\.` + key + `=([^.]*))`,
		})
	}
	return tags
}

// splitAddress reads host:port. "localhost" becomes 127.0.0.1.
func splitAddress(what, address string) (host string, port uint32, loopback bool, err error) {
	bad := func(why string) error {
		return fmt.Errorf("%s address %q: %s; give host:port, such as 127.0.0.1:9901", what, address, why)
	}
	h, p, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, false, bad("not host:port")
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 {
		return "", 0, false, bad("the port is not a number from 1 to 65535")
	}
	if h == "" {
		return "", 0, false, bad("the host is missing")
	}
	if h == "localhost" {
		h = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(h); err == nil {
		if ip.IsUnspecified() {
			return "", 0, false, bad("nobody can connect to it")
		}
		return ip.Unmap().String(), uint32(n), ip.Unmap().IsLoopback(), nil
	}
	return h, uint32(n), false, nil
}

func socketAddress(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func fileSource(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}

// packer packs protos into Any and keeps the first error.
type packer struct{ err error }

func (p *packer) pack(m proto.Message) *anypb.Any {
	if v, ok := m.(interface{ ValidateAll() error }); ok && p.err == nil {
		p.err = v.ValidateAll()
	}
	a, err := anypb.New(m)
	if err != nil && p.err == nil {
		p.err = err
	}
	return a
}
