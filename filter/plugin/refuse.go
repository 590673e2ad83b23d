package plugin

import (
	"strconv"
	"strings"

	"github.com/seawall-mesh/seawall/filter/problem"
)

// gRPC statuses of refusals.
const (
	grpcDeadline    = 4 // DEADLINE_EXCEEDED
	grpcExhausted   = 8 // RESOURCE_EXHAUSTED
	grpcInternal    = 13
	grpcUnavailable = 14
)

// refuseOpen answers for an open breaker.
func (vm *VM) refuseOpen(r *route, retryAfterNS int64) {
	seconds := max(retryAfterNS/1e9+min(retryAfterNS%1e9, 1), 1) // rounded up
	vm.refuse(problem.BreakerOpen, "the circuit breaker of "+r.service+"/"+r.name+" is open", seconds, grpcUnavailable)
}

// refuse answers with a problem document, or, over gRPC, with a status and a
// short text: Envoy makes grpc-message of the body.
func (vm *VM) refuse(slug, detail string, retryAfter int64, grpc int32) {
	id, _ := vm.host.RequestHeader(headerRequestID)
	doc := problem.New(vm.plan.problemBase, slug, detail, string(id))
	doc.RetryAfter = int(retryAfter)
	headers := make([][2]string, 0, 4)
	body := []byte(detail)
	if kind, _ := vm.host.RequestHeader(headerType); !strings.HasPrefix(string(kind), "application/grpc") {
		headers = append(headers, [2]string{headerType, problem.ContentType})
		body = problem.AppendJSON(nil, &doc)
	}
	if retryAfter > 0 {
		headers = append(headers, [2]string{"retry-after", strconv.FormatInt(retryAfter, 10)})
	}
	if slug != problem.FilterFault {
		headers = append(headers, [2]string{"x-seawall-decision", slug})
	}
	if len(id) > 0 {
		headers = append(headers, [2]string{headerRequestID, string(id)})
	}
	vm.host.Respond(Response{Status: doc.Status, Details: "seawall_" + slug, Headers: headers, Body: body, GRPC: grpc})
}
