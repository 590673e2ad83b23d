package translate

import (
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// grpcStatusFilter keeps the grpc-status of a response's headers, which an
// answer without a body has there, for our filter at the end of the stream
// (contract.GRPCStatusKey). Routes of gRPC services switch it on.
const grpcStatusFilter = "seawall-grpc-status"

func (b *builder) grpcStatus() *hcmv3.HttpFilter {
	return b.disabled(grpcStatusFilter, &metadatav3.Config{ResponseRules: []*metadatav3.Config_Rule{{
		Header: contract.GRPCStatusKey,
		OnHeaderPresent: &metadatav3.Config_KeyValuePair{
			MetadataNamespace: contract.GRPCStatusNamespace, Key: contract.GRPCStatusKey, Type: metadatav3.Config_STRING,
		},
	}}})
}
