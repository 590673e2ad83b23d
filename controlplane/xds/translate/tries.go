package translate

import (
	"fmt"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	headersv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// triesFilter stands in the upstream chain of every cluster that has a route
// with retries, where it sees each try, and does what the route says.
const triesFilter = "seawall-tries"

const (
	headerDeadline    = "x-seawall-deadline-ms"
	headerGRPCTimeout = "grpc-timeout"
	headerRetryAfter  = "retry-after"
	headerTimeLeft    = "x-envoy-expected-rq-timeout-ms"
	// headerRateLimited on an answer keeps the router from another try.
	headerRateLimited = "x-envoy-ratelimited"
)

// timeLeft is written by the router before each try: what is left of the
// request's time, or perTry where that is less. It is absent where there is no
// limit, and so is then what is made of it.
const timeLeft = "%REQ(" + headerTimeLeft + ")%"

// deadlineHeader tells the service how many ms it has. Where the filter has
// shortened the route's time, the router tells the shorter one.
func deadlineHeader() *corev3.HeaderValueOption {
	return header(headerDeadline, timeLeft, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
}

// tries is what the filter does on a route.
func tries(r ir.Route) *headersv3.HeaderMutationPerRoute {
	do := &headersv3.Mutations{RequestMutations: []*mutationv3.HeaderMutation{put(deadlineHeader())}}
	if r.GRPCTimeout {
		do.RequestMutations = append(do.RequestMutations,
			put(header(headerGRPCTimeout, timeLeft+"m", corev3.HeaderValueOption_OVERWRITE_IF_EXISTS)))
	}
	if r.Retry.RetryAfterMaxNS > 0 {
		do.ResponseMutations = []*mutationv3.HeaderMutation{put(header(headerRateLimited, tooLong(r), corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))}
	}
	return &headersv3.HeaderMutationPerRoute{Mutations: do}
}

// tooLong is "true" for an answer whose Retry-After cannot be waited for, and
// else nothing. By itself Envoy would ignore one that is longer than its limit,
// and try again at once, or sleep until the request's time is over.
func tooLong(r ir.Route) string {
	// Envoy waits up to half as long again.
	const wait = "int(response.headers['" + headerRetryAfter + "']) * 1500"
	reasons := []string{fmt.Sprintf("int(response.headers['%s']) > %d", headerRetryAfter, r.Retry.RetryAfterMaxNS/1_000_000_000)}
	switch {
	case r.PerTryTimeoutNS == 0:
		reasons = append(reasons, "'"+headerTimeLeft+"' in request.headers && "+wait+" >= int(request.headers['"+headerTimeLeft+"'])")
	case r.TimeoutNS > 0: // the router tells what the try has left, not the whole
		reasons = append(reasons, fmt.Sprintf("%s >= %d", wait, r.TimeoutNS/1_000_000))
	}
	return fmt.Sprintf("%%CEL('%s' in response.headers && (%s) ? 'true' : '')%%", headerRetryAfter, strings.Join(reasons, " || "))
}

func put(h *corev3.HeaderValueOption) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: h}}
}

func header(name, value string, action corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: action}
}
