package plugin

import "github.com/seawall-mesh/seawall/filter/contract"

// Host is what the plugin needs of the proxy. Its calls are only valid within
// a callback. Slices that it returns are valid until the callback returns, and
// must not be changed.
type Host interface {
	// Now is the wall clock, in Unix ns.
	Now() int64
	// Random is 64 random bits of cryptographic quality.
	Random() uint64
	// Log writes one line to the proxy's log.
	Log(level Level, message string)

	// Property is a property of the stream or the node. The path's parts are
	// joined by NUL.
	Property(path string) (value []byte, ok bool)
	// RequestHeader is a header of the stream's request, by its lower-case
	// name.
	RequestHeader(name string) (value []byte, ok bool)
	// ResponseTrailer is a trailer of the stream's response. Only in
	// ResponseTrailers.
	ResponseTrailer(name string) (value []byte, ok bool)
	// SetRequestHeader replaces a header of the stream's request, which must not
	// be sent on yet.
	SetRequestHeader(name string, value []byte)
	// ResponseHeader is a header of the response that the callback is about.
	ResponseHeader(name string) (value []byte, ok bool)
	// SetResponseHeader replaces one.
	SetResponseHeader(name string, value []byte)
	// SetProperty leaves a value, under a name without NUL, that the other streams
	// of the same request see as a property.
	SetProperty(name string, value []byte)
	// Enter makes another context of this VM, a stream's or a plan's, the one
	// that the calls after it are about, until the callback returns. false: it is
	// gone.
	Enter(context uint32) bool
	// Resume sends on the request that RequestHeaders has paused.
	Resume()
	// Respond answers the stream's request in place of the upstream. Over
	// gRPC, grpcStatus and the body as message are used.
	Respond(r Response)

	// SharedGet reads a record that all workers see, and its version for
	// SharedSet.
	SharedGet(key string) (value []byte, version uint32, ok bool)
	// SharedSet writes a record if its version is still the one given, or, with
	// Absent, if there is none. It reports whether it did.
	SharedSet(key string, value []byte, version uint32) bool

	// DefineMetric gives the handle of a process-wide metric.
	DefineMetric(kind MetricKind, name string) (Metric, bool)
	// MetricAdd adds to a counter or a gauge.
	MetricAdd(m Metric, delta int64)
	// MetricSet sets a gauge.
	MetricSet(m Metric, value uint64)
	// MetricGet reads a counter or a gauge.
	MetricGet(m Metric) uint64

	// OpenQueue makes this VM the one that gets what is put into the queue of a
	// name, as QueueReady of the plan context of this callback.
	OpenQueue(name string) (Queue, bool)
	// FindQueue is another VM's queue, if it was ever opened. vmID is
	// plugin_vm_id.
	FindQueue(vmID, name string) (Queue, bool)
	// Enqueue puts a message into a queue.
	Enqueue(q Queue, message []byte)
	// Dequeue takes the next message, if there is one.
	Dequeue(q Queue) (message []byte, ok bool)

	// SetTick asks for a tick each ms milliseconds, of the plan context of this
	// callback.
	SetTick(ms uint32)
	// Post sends a JSON document to a path of a cluster; the answer comes as
	// CallDone with the same token. Only in Tick.
	Post(p Post) (token uint32, ok bool)
	// PostStatus is the status of the answer. Only in CallDone; 0: there was
	// no answer.
	PostStatus() int
}

// Absent is the version of a record that must not exist yet.
const Absent = 0xFFFFFFFF

// Level is a log level.
type Level uint8

// The levels, numbered as the proxy does.
const (
	Info  Level = 2
	Warn  Level = 3
	Error Level = 4
)

// MetricKind is the kind of a metric.
type MetricKind uint8

// The kinds, numbered as the proxy does.
const (
	Counter MetricKind = 0
	Gauge   MetricKind = 1
)

// Metric is the handle of a metric.
type Metric uint32

// Queue is the handle of a queue between VMs.
type Queue uint32

// Response is an answer in place of the upstream's.
type Response struct {
	Status  int
	Details string // for the access log
	Headers [][2]string
	Body    []byte
	GRPC    int32 // grpc-status for gRPC callers, -1: by Status
}

// Post is a POST of a JSON document.
type Post struct {
	Cluster, Authority, Path string
	Body                     []byte
	TimeoutMS                uint32
}

// The properties that the plugin reads.
const (
	propRouteName  = "xds\x00route_name"
	propRootID     = "plugin_root_id"
	propVMID       = "plugin_vm_id"
	propNodeID     = "xds\x00node\x00id"
	propCode       = "response\x00code"
	propFlags      = "response\x00flags"
	propDetails    = "response\x00code_details"
	propGRPCStatus = "metadata\x00filter_metadata\x00" + contract.GRPCStatusNamespace + "\x00" + contract.GRPCStatusKey
	propDuration   = "request\x00duration"
	// The time between the first byte sent to the upstream and the last that
	// came back, of the last try.
	propBackendLatency = "response\x00backend_latency"
	headerRequestID    = "x-request-id"
	headerType         = "content-type"
	trailerGRPCStatus  = "grpc-status"
)

// integer reads a number property: 8 bytes, little-endian.
func integer(b []byte, ok bool) (int64, bool) {
	if !ok || len(b) != 8 {
		return 0, false
	}
	return int64(uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56), true
}
