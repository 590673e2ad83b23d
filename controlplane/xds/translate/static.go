package translate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// StaticConfig is what a bootstrap without a control plane needs besides the
// resources of its Edge.
type StaticConfig struct {
	AdminAddress     string // IP address; "" = no admin interface
	AdminPort        uint32 // 0 = any free port
	TelemetryAddress string // IP address of the control plane's telemetry port
	TelemetryPort    uint32
	WithoutFilter    bool // leave the Wasm filter out, for a look at Envoy alone
}

// Static is the bootstrap of an Envoy that serves edge without a control
// plane: the resources of Build with routes, endpoints and the filter written
// into them. `envoy --mode validate` on it runs the plan in the real filter.
func Static(edge ir.Edge, m Module, c StaticConfig) (*bootstrapv3.Bootstrap, error) {
	b := builder{edge: edge, module: m, static: true}
	out := &bootstrapv3.Bootstrap{
		Node:            &corev3.Node{Id: edge.Name + "-static", Cluster: edge.Name},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{},
		// As in package envoy: Envoy's own bound refuses what policies may have.
		LayeredRuntime: &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
			Name: "seawall",
			LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{
				"re2.max_program_size.error_level": structpb.NewNumberValue(100_000),
			}}},
		}}},
	}
	if c.AdminAddress != "" {
		out.Admin = &bootstrapv3.Admin{Address: socketAddress(c.AdminAddress, c.AdminPort)}
	}
	var filters []*hcmv3.HttpFilter
	if c.WithoutFilter {
		b.edge.Clusters = slices.Clone(edge.Clusters)
		for i := range b.edge.Clusters {
			b.edge.Clusters[i].Attempts = false
		}
	} else {
		filters = append(filters, &hcmv3.HttpFilter{
			Name:       FilterName,
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.extension().TypedConfig},
		})
	}
	manager := b.connectionManager(filters...)
	manager.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: b.routeConfig()}
	packed := b.pack(manager)
	for _, l := range edge.Listeners {
		out.StaticResources.Listeners = append(out.StaticResources.Listeners, b.listener(l, packed))
	}
	for _, c := range edge.Clusters {
		assignment := loadAssignment(c)
		cluster := b.cluster(c, assignment)
		if !c.DNS {
			cluster.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
			cluster.EdsClusterConfig, cluster.LoadAssignment = nil, assignment
		}
		out.StaticResources.Clusters = append(out.StaticResources.Clusters, cluster)
	}
	out.StaticResources.Clusters = append(out.StaticResources.Clusters, b.telemetryCluster(c))
	if b.err != nil {
		return nil, fmt.Errorf("edge %s: %w", edge.Name, b.err)
	}
	if err := out.ValidateAll(); err != nil {
		return nil, fmt.Errorf("edge %s: %w", edge.Name, err)
	}
	return out, nil
}

func (b *builder) telemetryCluster(c StaticConfig) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 TelemetryCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       nanos(int64(time.Second)),
		LoadAssignment: loadAssignment(ir.Cluster{
			Name:      TelemetryCluster,
			Endpoints: []ir.Endpoint{{Address: c.TelemetryAddress, Port: c.TelemetryPort}},
		}),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpProtocolOptions: b.pack(protocolOptions(ir.HTTP1))},
	}
}

// JSON is m as Envoy reads it, indented and always in the same bytes.
func JSON(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	// protojson varies its white space on purpose.
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
