package translate

import (
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/seawall-mesh/seawall/filter/problem"
)

// reply is a kind of answers that Envoy gives by itself, and the problem that
// they are told as. The first reply that takes an answer wins. Envoy's own text
// is never passed on: it names our inside.
type reply struct {
	slug       string   // of filter/problem
	wrapped    bool     // a service's own answer that is to be told as ours
	flags      []string // any of these response flags; empty = asked by status
	from, to   uint32   // statuses, both included; 0 = open
	retryAfter int      // seconds; 0 = not said
}

// requestID is the request's, or, where it broke off before it got one, a new
// one.
const requestID = `%COALESCE({"operators": [{"command": "REQ", "param": "X-REQUEST-ID"}, "UNIQUE_ID"]})%`

// replies go from the particular to the general: flags first, since one status
// has many causes. Of an answer with several flags the one that says most about
// its end is listed first.
var replies = []reply{
	{slug: problem.UpstreamUnavailable, wrapped: true, from: 502, to: 504},
	{slug: problem.UpstreamError, wrapped: true, from: 500},
	{slug: problem.NoRoute, flags: []string{"NR"}},
	{slug: problem.NoCluster, flags: []string{"NC"}},
	{slug: problem.DNSFailure, flags: []string{"DF"}},
	{slug: problem.Overload, flags: []string{"OM", "DO", "UDO"}, retryAfter: 1},
	{slug: problem.NoHealthyUpstream, flags: []string{"UH"}},
	{slug: problem.Timeout, flags: []string{"UT", "UMSDR", "DT"}},
	{slug: problem.UpstreamProtocol, flags: []string{"UPE"}},
	{slug: problem.ConnectFailure, flags: []string{"UF"}},
	{slug: problem.UpstreamReset, flags: []string{"UC", "UR", "LR"}},
	{slug: problem.Overflow, flags: []string{"UO"}, retryAfter: 1}, // beside another: the retry budget left what had failed as it was
	{slug: problem.UpgradeRefused, from: 403, to: 403},
	{slug: problem.NoRoute, from: 404, to: 404},
	{slug: problem.RequestTimeout, from: 408, to: 408},
	{slug: problem.PayloadTooLarge, from: 413, to: 413},
	{slug: problem.HeadersTooLarge, from: 431, to: 431},
	{slug: problem.BadRequest, from: 400, to: 499},
	{slug: problem.Timeout, from: 504, to: 504},
	{slug: problem.Internal, from: 500},
}

// ownReply is true for answers that the filter wrote itself: those pass
// through untouched. Envoy gives each answer of its own a code detail; the
// filter's are named seawall_…, and a plugin that names none has none.
const ownReply = `!has(response.code_details) || response.code_details.startsWith("seawall_")`

// wrappedReply is true for what custom_response made of a service's answer (see
// wrapErrors): its detail is there, and empty.
const wrappedReply = `has(response.code_details) && response.code_details == ""`

// localReplies makes every answer of Envoy's a problem document, and for gRPC
// callers, to whom the body is told as grpc-message, its title. Redirects get
// the request's id alone.
func (b *builder) localReplies() *hcmv3.LocalReplyConfig {
	config := &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{
		{Filter: b.holds(ownReply)},
		{Filter: b.filter(reply{from: 300, to: 399}), HeadersToAdd: reply{}.headers()},
	}}
	for _, r := range replies {
		kind, ok := problem.Lookup(r.slug)
		if !ok {
			b.fail(fmt.Errorf("problem %q is not registered", r.slug))
			return nil
		}
		config.Mappers = append(config.Mappers,
			&hcmv3.ResponseMapper{
				Filter:             allOf(grpcCaller(), b.filter(r)),
				BodyFormatOverride: &corev3.SubstitutionFormatString{Format: textFormat(kind.Title)},
				HeadersToAdd:       append(r.headers(), setHeader("grpc-status", fmt.Sprint(kind.GRPC))),
			},
			&hcmv3.ResponseMapper{
				Filter: b.filter(r),
				BodyFormatOverride: &corev3.SubstitutionFormatString{
					Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: r.document(b.edge.ProblemTypeBase, kind)},
					ContentType:     problem.ContentType,
					OmitEmptyValues: true,
				},
				HeadersToAdd: r.headers(),
			})
	}
	return config
}

// document has the members of problem.Document. What happened is told as the
// registry does: Envoy's own words name our inside.
func (r reply) document(base string, kind problem.Type) *structpb.Struct {
	doc := &structpb.Struct{Fields: map[string]*structpb.Value{
		"type":      structpb.NewStringValue(base + kind.Slug),
		"title":     structpb.NewStringValue(kind.Title),
		"status":    structpb.NewStringValue("%RESPONSE_CODE%"), // becomes a number
		"detail":    structpb.NewStringValue(kind.Meaning),
		"instance":  structpb.NewStringValue("%RESP(X-REQUEST-ID)%"),
		"retryable": structpb.NewBoolValue(kind.Retryable),
	}}
	switch {
	case r.wrapped:
		doc.Fields["retry_after"] = structpb.NewStringValue("%DYNAMIC_METADATA(" + wrapNamespace + ":" + retryAfterNum + ")%")
	case r.retryAfter > 0:
		doc.Fields["retry_after"] = structpb.NewNumberValue(float64(r.retryAfter))
	}
	return doc
}

func (r reply) headers() []*corev3.HeaderValueOption {
	headers := []*corev3.HeaderValueOption{setHeader("x-request-id", requestID)}
	if r.retryAfter > 0 {
		headers = append(headers, setHeader("retry-after", fmt.Sprint(r.retryAfter)))
	}
	return headers
}

func setHeader(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

func (b *builder) filter(r reply) *accesslogv3.AccessLogFilter {
	if r.wrapped {
		r.wrapped = false
		return allOf(b.holds(wrappedReply), b.filter(r))
	}
	if len(r.flags) > 0 {
		return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: r.flags},
		}}
	}
	switch {
	case r.from == r.to:
		return statusFilter(accesslogv3.ComparisonFilter_EQ, r.from)
	case r.to == 0:
		return statusFilter(accesslogv3.ComparisonFilter_GE, r.from)
	default:
		return allOf(statusFilter(accesslogv3.ComparisonFilter_GE, r.from), statusFilter(accesslogv3.ComparisonFilter_LE, r.to))
	}
}

// holds is true where a CEL expression is.
func (b *builder) holds(expression string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name: "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{
				TypedConfig: b.pack(&celv3.ExpressionFilter{Expression: expression}),
			},
		},
	}}
}

func statusFilter(op accesslogv3.ComparisonFilter_Op, status uint32) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op: op,
			// The key is mandatory; nothing sets it.
			Value: &corev3.RuntimeUInt32{DefaultValue: status, RuntimeKey: "seawall.unused"},
		}},
	}}
}

// grpcCaller is true where Envoy answers as a gRPC service would, which for
// gRPC-Web it does not.
func grpcCaller() *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{
		HeaderFilter: &accesslogv3.HeaderFilter{Header: headerString("content-type", regexMatch(`application/grpc(?:\+.*)?`))},
	}}
}

func allOf(filters ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{
		AndFilter: &accesslogv3.AndFilter{Filters: filters},
	}}
}

func anyOf(filters ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_OrFilter{
		OrFilter: &accesslogv3.OrFilter{Filters: filters},
	}}
}

func textFormat(s string) *corev3.SubstitutionFormatString_TextFormatSource {
	return &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
		Specifier: &corev3.DataSource_InlineString{InlineString: s},
	}}
}
