package translate

import (
	"errors"
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// Names that Envoy's resources, the bootstrap and the filter agree on.
const (
	FilterName       = "seawall"           // HTTP filter, ECDS resource and plugin
	VMID             = "seawall"           // vm_id of the first VM; healing moves on to seawall-r2, …
	RouteConfigName  = "seawall"           // the only RDS resource
	StatPrefix       = "seawall"           // of the HTTP connection managers: http.seawall.downstream_rq_active
	XDSCluster       = "seawall-xds"       // in the bootstrap
	TelemetryCluster = "seawall-telemetry" // in the bootstrap
)

// Module is the filter module of one node.
type Module struct {
	Path   string // absolute path of the .wasm on the node
	SHA256 string // of the file, 64 hex digits
	VMID   string // "" = VMID
}

// Resources are the protos of one Edge. Names are unique within a slice and
// sorted.
type Resources struct {
	Listeners  []types.Resource // *listenerv3.Listener
	Routes     []types.Resource // *routev3.RouteConfiguration
	Clusters   []types.Resource // *clusterv3.Cluster
	Endpoints  []types.Resource // *endpointv3.ClusterLoadAssignment
	Secrets    []types.Resource // *tlsv3.Secret
	Extensions []types.Resource // *corev3.TypedExtensionConfig, the ECDS resource FilterName
}

// Build translates edge for a node that has the module m. Only Extensions, the
// fallback inside Listeners and Clusters with Attempts depend on m. An error names the resource and
// means that the Edge was not made by package compile.
func Build(edge ir.Edge, m Module) (*Resources, error) {
	b := builder{edge: edge, module: m}
	r := &Resources{
		Listeners:  b.listeners(),
		Routes:     []types.Resource{b.routeConfig()},
		Secrets:    b.secrets(),
		Extensions: []types.Resource{b.extension()},
	}
	r.Clusters, r.Endpoints = b.clusters()
	if b.err != nil {
		return nil, fmt.Errorf("edge %s: %w", edge.Name, b.err)
	}
	for _, list := range [][]types.Resource{r.Listeners, r.Routes, r.Clusters, r.Endpoints, r.Secrets, r.Extensions} {
		if err := validate(list); err != nil {
			return nil, fmt.Errorf("edge %s: %w", edge.Name, err)
		}
	}
	return r, nil
}

// builder carries the input and the first error: packing a message cannot fail
// for valid input, so the code that builds reads without error checks.
type builder struct {
	edge   ir.Edge
	module Module
	static bool // everything stands in the bootstrap
	err    error
}

// pack checks m and wraps it. Bytes are deterministic: they are compared by
// Envoy and by the control plane to tell whether something changed.
func (b *builder) pack(m proto.Message) *anypb.Any {
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			b.fail(fmt.Errorf("%s: %w", m.ProtoReflect().Descriptor().FullName(), err))
		}
	}
	packed := &anypb.Any{}
	if err := anypb.MarshalFrom(packed, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		b.fail(fmt.Errorf("%s: %w", m.ProtoReflect().Descriptor().FullName(), err))
	}
	return packed
}

func (b *builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func validate(list []types.Resource) error {
	var problems []error
	for _, r := range list {
		if v, ok := r.(interface{ ValidateAll() error }); ok {
			if err := v.ValidateAll(); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", r.ProtoReflect().Descriptor().FullName(), err))
			}
		}
	}
	return errors.Join(problems...)
}

// ads is the source of everything that is not in the message itself.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

func socketAddress(address string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       address,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func nanos(ns int64) *durationpb.Duration { return durationpb.New(time.Duration(ns)) }

func seconds(s int64) *durationpb.Duration { return &durationpb.Duration{Seconds: s} }

func u32(v uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(v) }

func yes() *wrapperspb.BoolValue { return wrapperspb.Bool(true) }
