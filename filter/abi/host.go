//go:build wasip1

package abi

import (
	"strconv"
	"unsafe"

	"github.com/seawall-mesh/seawall/filter/plugin"
)

// Host is the proxy that runs this module.
type Host struct{}

var _ plugin.Host = Host{}

// Where host calls put what they return. They are globals, because a stack may
// move while the host calls back for memory.
var (
	outPtr  unsafe.Pointer
	outSize uint32
	outCAS  uint32
	outID   uint32
	outU64  uint64
)

func out() []byte {
	if outSize == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(outPtr), outSize)
}

func ptr(s string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
}

func bytesPtr(b []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b))
}

// Now is the proxy's wall clock in Unix ns.
func (Host) Now() int64 {
	proxyGetTime(unsafe.Pointer(&outU64))
	return int64(outU64)
}

// Random is 64 random bits from the proxy.
func (Host) Random() uint64 {
	wasiRandomGet(unsafe.Pointer(&outU64), 8)
	return outU64
}

// Log writes a line to the proxy's log.
func (Host) Log(level plugin.Level, message string) {
	p, n := ptr(message)
	proxyLog(uint32(level), p, n)
}

// Property reads a property; its path's parts are joined by NUL.
func (Host) Property(path string) ([]byte, bool) {
	p, n := ptr(path)
	if proxyGetProperty(p, n, unsafe.Pointer(&outPtr), unsafe.Pointer(&outSize)) != statusOK {
		return nil, false
	}
	return out(), true
}

// RequestHeader reads a header of the request.
func (Host) RequestHeader(name string) ([]byte, bool) { return header(mapRequestHeaders, name) }

// ResponseTrailer reads a trailer of the response.
func (Host) ResponseTrailer(name string) ([]byte, bool) { return header(mapResponseTrailers, name) }

func header(kind uint32, name string) ([]byte, bool) {
	p, n := ptr(name)
	if proxyGetHeader(kind, p, n, unsafe.Pointer(&outPtr), unsafe.Pointer(&outSize)) != statusOK {
		return nil, false
	}
	return out(), true
}

// SetRequestHeader replaces a header of the request.
func (Host) SetRequestHeader(name string, value []byte) {
	p, n := ptr(name)
	v, size := bytesPtr(value)
	proxyReplaceHeader(mapRequestHeaders, p, n, v, size)
}

// ResponseHeader reads a header of the response.
func (Host) ResponseHeader(name string) ([]byte, bool) { return header(mapResponseHeaders, name) }

// SetResponseHeader replaces a header of the response.
func (Host) SetResponseHeader(name string, value []byte) {
	p, n := ptr(name)
	v, size := bytesPtr(value)
	proxyReplaceHeader(mapResponseHeaders, p, n, v, size)
}

// SetProperty leaves a value on the request.
func (Host) SetProperty(name string, value []byte) {
	p, n := ptr(name)
	v, size := bytesPtr(value)
	proxySetProperty(p, n, v, size)
}

// Enter makes another context the one that the calls after it are about.
func (Host) Enter(context uint32) bool { return proxySetEffectiveContext(context) == statusOK }

// Resume sends on the request of the context that was entered.
func (Host) Resume() { proxyContinueStream(streamRequest) }

// OpenQueue makes this VM the reader of a queue.
func (Host) OpenQueue(name string) (plugin.Queue, bool) {
	p, n := ptr(name)
	ok := proxyRegisterQueue(p, n, unsafe.Pointer(&outID)) == statusOK
	return plugin.Queue(outID), ok
}

// FindQueue is a queue that some VM has opened.
func (Host) FindQueue(vmID, name string) (plugin.Queue, bool) {
	id, idSize := ptr(vmID)
	p, n := ptr(name)
	ok := proxyResolveQueue(id, idSize, p, n, unsafe.Pointer(&outID)) == statusOK
	return plugin.Queue(outID), ok
}

// Enqueue puts a message into a queue.
func (Host) Enqueue(q plugin.Queue, message []byte) {
	p, n := bytesPtr(message)
	proxyEnqueue(uint32(q), p, n)
}

// Dequeue takes a message out of a queue.
func (Host) Dequeue(q plugin.Queue) ([]byte, bool) {
	if proxyDequeue(uint32(q), unsafe.Pointer(&outPtr), unsafe.Pointer(&outSize)) != statusOK {
		return nil, false
	}
	return out(), true
}

// Respond answers the request.
func (Host) Respond(r plugin.Response) {
	details, detailsSize := ptr(r.Details)
	body, bodySize := bytesPtr(r.Body)
	pairs := appendPairs(nil, r.Headers)
	headers, headersSize := bytesPtr(pairs)
	proxySendLocalResponse(uint32(r.Status), details, detailsSize, body, bodySize, headers, headersSize, r.GRPC)
}

// SharedGet reads a record of the shared data, and its cas value.
func (Host) SharedGet(key string) ([]byte, uint32, bool) {
	p, n := ptr(key)
	if proxyGetShared(p, n, unsafe.Pointer(&outPtr), unsafe.Pointer(&outSize), unsafe.Pointer(&outCAS)) != statusOK {
		return nil, 0, false
	}
	return out(), outCAS, true
}

// SharedSet writes a record if its cas value is still the one given.
func (Host) SharedSet(key string, value []byte, version uint32) bool {
	p, n := ptr(key)
	v, size := bytesPtr(value)
	return proxySetShared(p, n, v, size, version) == statusOK
}

// DefineMetric gives the handle of a metric.
func (Host) DefineMetric(kind plugin.MetricKind, name string) (plugin.Metric, bool) {
	p, n := ptr(name)
	ok := proxyDefineMetric(uint32(kind), p, n, unsafe.Pointer(&outID)) == statusOK
	return plugin.Metric(outID), ok
}

// MetricAdd adds to a metric.
func (Host) MetricAdd(m plugin.Metric, delta int64) { proxyIncrementMetric(uint32(m), delta) }

// MetricSet sets a gauge.
func (Host) MetricSet(m plugin.Metric, value uint64) { proxyRecordMetric(uint32(m), value) }

// MetricGet reads a metric, 0 where there is none.
func (Host) MetricGet(m plugin.Metric) uint64 {
	if proxyGetMetric(uint32(m), unsafe.Pointer(&outU64)) != statusOK {
		return 0
	}
	return outU64
}

// SetTick asks for ticks.
func (Host) SetTick(ms uint32) { proxySetTickPeriod(ms) }

// Post sends a JSON document to a cluster.
func (Host) Post(p plugin.Post) (uint32, bool) {
	cluster, clusterSize := ptr(p.Cluster)
	pairs := appendPairs(nil, [][2]string{
		{":method", "POST"}, {":path", p.Path}, {":authority", p.Authority}, {":scheme", "http"}, {"content-type", "application/json"},
	})
	headers, headersSize := bytesPtr(pairs)
	body, bodySize := bytesPtr(p.Body)
	trailers, trailersSize := bytesPtr(noPairs[:])
	ok := proxyHTTPCall(cluster, clusterSize, headers, headersSize, body, bodySize, trailers, trailersSize, p.TimeoutMS, unsafe.Pointer(&outID)) == statusOK
	return outID, ok
}

var noPairs [4]byte

// PostStatus is the status of the answer that CallDone is about.
func (Host) PostStatus() int {
	value, ok := header(mapCallHeaders, ":status")
	if !ok {
		return 0
	}
	status, err := strconv.Atoi(string(value))
	if err != nil {
		return 0
	}
	return status
}

// config copies a configuration out of the proxy.
func config(kind, size uint32) []byte {
	if size == 0 {
		return nil
	}
	if proxyGetBuffer(kind, 0, size, unsafe.Pointer(&outPtr), unsafe.Pointer(&outSize)) != statusOK {
		return nil
	}
	return append([]byte(nil), out()...)
}
