package plugin

import "github.com/seawall-mesh/seawall/filter/contract"

// ending is how the proxy says that a stream ended.
type ending struct {
	code    int   // 0: no response was started
	flags   int64 // Envoy's response flags
	details string
	grpc    int64 // grpc-status, -1: not gRPC, or no answer
}

// Envoy's response flags (CoreResponseFlag in envoy/stream_info/stream_info.h),
// as property response.flags has them: a bit each.
const (
	flagNoHealthyUpstream     = 1 << 1  // UH
	flagUpstreamTimeout       = 1 << 2  // UT
	flagLocalReset            = 1 << 3  // LR
	flagUpstreamRemoteReset   = 1 << 4  // UR
	flagConnectionFailure     = 1 << 5  // UF
	flagConnectionTermination = 1 << 6  // UC
	flagOverflow              = 1 << 7  // UO
	flagFaultInjected         = 1 << 10 // FI
	flagDownstreamLeft        = 1 << 14 // DC
	flagMaxStreamDuration     = 1 << 19 // UMSDR
	flagDurationTimeout       = 1 << 22 // DT
	flagUpstreamProtocol      = 1 << 23 // UPE
	flagOverloadManager       = 1 << 25 // OM
	flagDNSFailure            = 1 << 26 // DF
	flagDropOverload          = 1 << 27 // DO
	flagDownstreamReset       = 1 << 28 // DR
	flagDropAll               = 1 << 29 // UDO
)

// causes maps Envoy's own reasons to outcomes, the most telling first: the
// flags of one reply can name its symptom too.
var causes = [...]struct {
	flags   int64
	outcome contract.Outcome
}{
	{flagFaultInjected, contract.Injected},
	{flagOverloadManager | flagDropOverload | flagDropAll, contract.Shed},
	{flagNoHealthyUpstream | flagConnectionFailure | flagDNSFailure, contract.ConnectFailure},
	{flagUpstreamTimeout | flagMaxStreamDuration | flagDurationTimeout, contract.Timeout},
	{flagConnectionTermination | flagUpstreamRemoteReset | flagLocalReset | flagUpstreamProtocol, contract.Reset},
	{flagOverflow, contract.BulkheadFull}, // beside another: the retry budget left what had failed as it was
}

// classify names the outcome of a stream that Seawall did not refuse, and says
// whether it was the upstream's answer that decided, rather than a reply of
// Envoy's.
func classify(e ending) (outcome contract.Outcome, upstream bool) {
	answered := e.details == "" || e.details == "via_upstream"
	if e.code == 0 {
		if e.flags&(flagDownstreamLeft|flagDownstreamReset) == 0 {
			if cause, ok := causeOf(e.flags); ok {
				return cause, false
			}
		}
		return contract.Aborted, false
	}
	if e.code == 101 {
		return contract.OK, true // whoever ends an upgraded connection breaks it
	}
	if !answered || e.details == "" {
		// A reset after the response was started leaves its good status.
		if cause, ok := causeOf(e.flags); ok {
			return cause, false
		}
	}
	if e.grpc >= 0 && (answered || e.code < 400) {
		return gRPCOutcome(e.grpc), answered // Envoy's own replies are 200 over gRPC, too
	}
	switch {
	case e.code >= 500:
		if !answered && e.code == 504 {
			return contract.Timeout, false // the stream's idle timeout has a flag of its own, others none
		}
		return contract.ServerError, answered
	case e.code >= 400:
		return contract.ClientError, answered
	}
	return contract.OK, answered
}

func causeOf(flags int64) (contract.Outcome, bool) {
	if flags == 0 {
		return 0, false
	}
	for _, c := range causes {
		if flags&c.flags != 0 {
			return c.outcome, true
		}
	}
	return 0, false
}

// gRPCOutcome maps a grpc-status as DESIGN section 1 does.
func gRPCOutcome(status int64) contract.Outcome {
	switch status {
	case 0:
		return contract.OK
	case 2, 13, 14, 15: // UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS
		return contract.ServerError
	case 4: // DEADLINE_EXCEEDED
		return contract.Timeout
	}
	return contract.ClientError
}

// parseGRPCStatus reads a grpc-status: what is no number is UNKNOWN.
func parseGRPCStatus(b []byte) int64 {
	const unknown = 2
	if len(b) == 0 || len(b) > 4 {
		return unknown
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return unknown
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// gRPCOfHTTP is the status of a gRPC call that was answered without one, as the
// protocol maps it (grpc/grpc, doc/http-grpc-status-mapping.md); -1: it was not
// answered.
func gRPCOfHTTP(code int) int64 {
	switch code {
	case 0:
		return -1
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429, 502, 503, 504:
		return 14
	}
	return 2
}
