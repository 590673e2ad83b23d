package problem

// DefaultBase is the prefix of a problem's type unless `problemTypeBase` says
// otherwise.
const DefaultBase = "https://seawall-mesh.github.io/problems/"

// ContentType is the media type of problem documents.
const ContentType = "application/problem+json"

// Type is one entry of the registry: what all documents of the type have in
// common, and what its page says.
type Type struct {
	Slug      string // last part of the type's URI
	Title     string
	Status    int  // HTTP status that it comes with
	GRPC      int  // grpc-status that gRPC callers get; 0: none are told of it
	Retryable bool // whether the same request may succeed later
	Meaning   string
	Action    string // what the caller, or who runs the edge, can do
}

// The slugs of Seawall's own answers.
const (
	Shed            = "shed"
	BreakerOpen     = "breaker-open"
	BulkheadFull    = "bulkhead-full"
	BulkheadTimeout = "bulkhead-timeout"
	Deadline        = "deadline"
	FilterFault     = "filter-fault"
)

// The slugs of Envoy's own answers.
const (
	NoRoute           = "no-route"
	NoHealthyUpstream = "no-healthy-upstream"
	ConnectFailure    = "connect-failure"
	UpstreamReset     = "upstream-reset"
	UpstreamProtocol  = "upstream-protocol"
	Overflow          = "overflow"
	Overload          = "overload"
	Timeout           = "timeout"
	NoCluster         = "no-cluster"
	DNSFailure        = "dns-failure"
	BadRequest        = "bad-request"
	RequestTimeout    = "request-timeout"
	PayloadTooLarge   = "payload-too-large"
	HeadersTooLarge   = "headers-too-large"
	UpgradeRefused    = "upgrade-refused"
	Internal          = "proxy-error"
)

// The slugs of a service's own errors, told by the edge in its place where
// wrapUpstreamErrors says so.
const (
	UpstreamError       = "upstream-error"
	UpstreamUnavailable = "upstream-unavailable"
)

// Codes of gRPC, where UNAVAILABLE is what clients try again by themselves.
const (
	deadline      = 4
	denied        = 7
	exhausted     = 8
	unimplemented = 12
	internal      = 13
	unavailable   = 14
)

// registry is sorted by slug; a test says so.
var registry = [...]Type{
	{BadRequest, "Bad request", 400, internal, false, "The request was not valid HTTP, or broke a rule of the edge, and was not sent on.", "Correct the request: its path, its host or its headers."},
	{BreakerOpen, "Circuit breaker open", 503, unavailable, true, "Calls of this kind have just failed one after another, so the edge answers at once instead of calling the service.", "Wait for retry_after seconds and try again; `seawall breakers` shows what tripped it."},
	{BulkheadFull, "Bulkhead full", 503, exhausted, true, "All permits of the pool are taken and its queue is full.", "Wait for retry_after seconds and try again, with fewer calls at once."},
	{BulkheadTimeout, "Bulkhead wait too long", 503, exhausted, true, "The request waited in the pool's queue as long as it may and no permit came free, or it would have had to wait longer than that.", "Wait for retry_after seconds and try again, with fewer calls at once."},
	{ConnectFailure, "No connection to the service", 503, unavailable, true, "The edge could not connect to the service.", "Try again later; check that the service runs and that its endpoints are right."},
	{Deadline, "Deadline exceeded", 504, deadline, false, "The time that the caller gave was over, or would have been, before the service could be called.", "Give the call more time, or find where it was spent."},
	{DNSFailure, "Service name not resolved", 503, unavailable, true, "The service's name could not be resolved.", "Try again later; check the service's dns name in its policy."},
	{FilterFault, "Fault in the edge filter", 500, internal, true, "The edge's filter hit a fault of its own, and its failureMode is closed.", "Try again; please report the log line of the fault."},
	{HeadersTooLarge, "Request headers too large", 431, exhausted, false, "The request's headers are larger than the edge accepts.", "Send fewer or smaller headers."},
	{NoCluster, "No such service", 503, unavailable, true, "The route points to a service that the edge does not have.", "Look at `seawall nodes`: a push may have been refused."},
	{NoHealthyUpstream, "No healthy endpoint", 503, unavailable, true, "None of the service's endpoints is healthy.", "Try again later; check the service's health and outlier ejection."},
	{NoRoute, "No such route", 404, unimplemented, false, "No policy has a route for this host, path and method.", "Check the URL; `seawall match` says which policy would take a request."},
	{Overflow, "Too many connections or requests", 503, exhausted, true, "A limit of the edge for this service was reached (connections, requests or retries).", "Try again with fewer calls at once; the limits are in the service's policy."},
	{Overload, "Edge overloaded", 503, exhausted, true, "The edge itself was short of resources and dropped the request.", "Try again later; give the edge more memory or more instances."},
	{PayloadTooLarge, "Request body too large", 413, exhausted, false, "The request's body is larger than the edge accepts.", "Send a smaller body; the limit is maxBody in the Edge policy."},
	{Internal, "Proxy error", 500, unavailable, true, "The edge could not finish the request.", "Try again; the edge's access log has the cause under the request id."},
	{RequestTimeout, "Request too slow", 408, deadline, true, "The client took too long to send its request.", "Send the request faster, or raise timeout.body in the policy."},
	{Shed, "Load shed", 503, exhausted, true, "The edge is under load and drops requests of this priority.", "Wait for retry_after seconds and try again."},
	{Timeout, "Service too slow", 504, deadline, true, "The service did not answer within the route's timeout.", "Try again if the request may be repeated; the limits are in the route's timeout."},
	{UpgradeRefused, "Upgrade refused", 403, denied, false, "The request asks for a protocol upgrade that the route does not allow.", "Name the protocol in the route's upgrades."},
	{UpstreamError, "Service error", 500, internal, false, "The service answered with an error of its own (a status from 500 on), which the edge tells in its place.", "Look for the request id in the service's log; the same request will most likely fail again."},
	{UpstreamProtocol, "Service broke the protocol", 502, unavailable, true, "The service's answer was not valid HTTP.", "Try again if the request may be repeated; check the service's protocol in its policy."},
	{UpstreamReset, "Service closed the connection", 503, unavailable, true, "The service reset the request before it had answered.", "Try again if the request may be repeated; check the service's log."},
	{UpstreamUnavailable, "Service unavailable", 503, unavailable, true, "The service answered that it, or what it depends on, is not available now (502, 503 or 504), which the edge tells in its place.", "Try again if the request may be repeated, after retry_after seconds where that is given."},
}

// Types returns the registry, sorted by slug, as a copy.
func Types() []Type { return append([]Type(nil), registry[:]...) }

// Lookup finds a type by its slug.
func Lookup(slug string) (Type, bool) {
	for i := range registry {
		if registry[i].Slug == slug {
			return registry[i], true
		}
	}
	return Type{}, false
}
