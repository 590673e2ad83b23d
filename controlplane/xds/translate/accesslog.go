package translate

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stats/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// accessLogFields is one line of the access log. The query is left out: it is
// where tokens travel. A filter's own answer has no upstream and no details; it
// is told by its decision.
var accessLogFields = map[string]string{
	"timestamp":     "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
	"level":         "info",
	"logger":        "seawall.access",
	"message":       "request",
	"requestId":     `%COALESCE({"operators": [{"command": "REQ", "param": "X-REQUEST-ID"}, {"command": "RESP", "param": "X-REQUEST-ID"}]})%`,
	"method":        "%REQ(:METHOD)%",
	"host":          "%REQ(:AUTHORITY)%",
	"path":          "%PATH(NQ:PATH)%",
	"protocol":      "%PROTOCOL%",
	"client":        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
	"userAgent":     "%REQ(USER-AGENT)%",
	"status":        "%RESPONSE_CODE%",
	"grpcStatus":    "%GRPC_STATUS_NUMBER%",
	"flags":         "%RESPONSE_FLAGS%",
	"details":       "%RESPONSE_CODE_DETAILS%",
	"decision":      "%RESP(X-SEAWALL-DECISION)%",
	"degraded":      "%RESP(X-SEAWALL-DEGRADED)%",
	"route":         "%ROUTE_NAME%",
	"cluster":       "%UPSTREAM_CLUSTER%",
	"upstream":      "%UPSTREAM_HOST%",
	"attempts":      "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
	"durationMs":    "%DURATION%",
	"upstreamMs":    "%RESPONSE_DURATION%",
	"bytesReceived": "%BYTES_RECEIVED%",
	"bytesSent":     "%BYTES_SENT%",
}

// accessLog writes JSON lines to Envoy's stdout.
func (b *builder) accessLog() *accesslogv3.AccessLog {
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.stdout",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: b.pack(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: jsonFormat(accessLogFields)},
				OmitEmptyValues: true,
			}},
		})},
	}
}

// endSignal counts requests that end otherwise than by an answer of 200 to 399,
// in a counter that the filter reads (contract.Plan.EndSignal): Envoy keeps one
// counter per full name, whoever asks for it. The extension is marked as work
// in progress for what clients could make of its tags; this counter has none.
func (b *builder) endSignal() *accesslogv3.AccessLog {
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.stats",
		Filter: anyOf(
			statusFilter(accesslogv3.ComparisonFilter_LE, 199),
			statusFilter(accesslogv3.ComparisonFilter_GE, 400),
			&accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{}}},
		),
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: b.pack(&statsv3.Config{
			StatsScope: &typev3.Scope{Prefix: "wasmcustom"}, // under which Envoy keeps the metrics of filters
			Counters: []*statsv3.Config_Counter{{
				Stat: &statsv3.Config_Stat{Name: contract.EndSignalMetric}, ValueFixed: wrapperspb.UInt64(1),
			}},
		})},
	}
}

func jsonFormat(fields map[string]string) *structpb.Struct {
	s := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(fields))}
	for name, format := range fields {
		s.Fields[name] = structpb.NewStringValue(format)
	}
	return s
}
