package plugin

import (
	"strconv"

	"github.com/seawall-mesh/seawall/filter/problem"
)

// refuseOpen answers for an open breaker.
func (vm *VM) refuseOpen(r *route, retryAfterNS int64) {
	seconds := max(retryAfterNS/1e9+min(retryAfterNS%1e9, 1), 1) // rounded up
	vm.refuse(problem.BreakerOpen, "the circuit breaker of "+r.service+"/"+r.name+" is open", seconds)
}

// refuse answers with a problem document, or, over gRPC, with a status and a
// short text: Envoy makes grpc-message of the body.
func (vm *VM) refuse(slug, detail string, retryAfter int64) {
	id, _ := vm.host.RequestHeader(headerRequestID)
	vm.answer(slug, detail, retryAfter, string(id), vm.isGRPC())
}

func (vm *VM) answer(slug, detail string, retryAfter int64, id string, grpc bool) {
	kind, _ := problem.Lookup(slug)
	doc := problem.New(vm.plan.problemBase, slug, detail, id)
	doc.RetryAfter = int(retryAfter)
	headers := make([][2]string, 0, 4)
	body := []byte(detail)
	if !grpc {
		headers = append(headers, [2]string{headerType, problem.ContentType})
		body = problem.AppendJSON(nil, &doc)
	}
	if retryAfter > 0 {
		headers = append(headers, [2]string{"retry-after", strconv.FormatInt(retryAfter, 10)})
	}
	if slug != problem.FilterFault && slug != problem.RequestTimeout {
		headers = append(headers, [2]string{"x-seawall-decision", slug})
	}
	if len(id) > 0 {
		headers = append(headers, [2]string{headerRequestID, id})
	}
	vm.host.Respond(Response{Status: doc.Status, Details: "seawall_" + slug, Headers: headers, Body: body, GRPC: int32(kind.GRPC)})
}
