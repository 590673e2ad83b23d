package host

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"
)

// CEL attributes reach a guest as bytes: strings as they are, numbers and
// durations (ns) as 8 bytes little endian (serializeValue in context.cc).
func propInt(x int64) ([]byte, bool)      { return binary.LittleEndian.AppendUint64(nil, uint64(x)), true }
func propString(s string) ([]byte, bool)  { return []byte(s), true }
func propTime(t time.Time) ([]byte, bool) { return propInt(t.UnixNano()) }
func propHeader(hs Headers, n string) ([]byte, bool) {
	v, ok := hs.lookup(n)
	return []byte(v), ok
}

func (v *vm) proxyGetProperty(a []uint64) status {
	path, ok := v.bytes(a[0], a[1])
	if !ok {
		return statusInvalidMemory
	}
	value, ok := v.effectiveContext().property(strings.Split(strings.TrimSuffix(string(path), "\x00"), "\x00"))
	if !ok {
		return statusNotFound
	}
	return v.give(value, a[2], a[3])
}

func (v *vm) proxySetProperty(a []uint64) status {
	path, ok := v.bytes(a[0], a[1])
	value, ok2 := v.bytes(a[2], a[3])
	if !ok || !ok2 {
		return statusInvalidMemory
	}
	s := v.effectiveContext().stream
	if s == nil || s.logging { // the access log sees a stream that can no longer be changed
		return statusNotFound
	}
	s.state[string(path)] = value
	return statusOK
}

// property is what Envoy 1.40 says at that path. node.*, route_name and
// cluster_name at the top level do not exist there (FACTS, filter 7).
func (c *wasmContext) property(path []string) ([]byte, bool) {
	switch path[0] {
	case "plugin_name":
		return propString(c.plugin.name)
	case "plugin_root_id":
		return propString(c.plugin.rootID)
	case "plugin_vm_id":
		return propString(c.vm.key.vmID)
	}
	if len(path) == 3 && path[0] == "xds" && path[1] == "node" {
		switch path[2] {
		case "id":
			return propString(c.vm.h.cfg.Node.ID)
		case "cluster":
			return propString(c.vm.h.cfg.Node.Cluster)
		}
		return nil, false
	}
	s := c.stream
	if s == nil {
		return nil, false
	}
	if len(path) == 1 {
		value, ok := s.state[path[0]]
		return value, ok
	}
	if s.edge != nil && (path[0] == "upstream" || path[0] == "response") {
		s = s.edge // there is one stream info
	}
	switch path[0] {
	case "xds":
		return s.xdsProperty(path[1])
	case "request":
		return s.requestProperty(path[1:])
	case "response":
		return s.responseProperty(path[1:])
	case "metadata":
		return s.metadata(path[1:])
	case "upstream":
		return s.upstreamProperty(path[1])
	case "source":
		if path[1] == "address" {
			return propString("127.0.0.1:40000")
		}
	case "connection":
		if path[1] == "id" {
			return propInt(1)
		}
	}
	return nil, false
}

func (s *Stream) xdsProperty(name string) ([]byte, bool) {
	if s.req.NoRoute {
		return nil, false
	}
	switch name {
	case "route_name":
		return propString(s.req.Route) // "" is a route without a name: found, and empty
	case "cluster_name":
		if s.req.Cluster != "" {
			return propString(s.req.Cluster)
		}
	}
	return nil, false
}

func (s *Stream) requestProperty(path []string) ([]byte, bool) {
	if len(path) == 2 && path[0] == "headers" {
		if !s.reqVisible && !s.logging {
			return nil, false
		}
		return propHeader(s.reqHeaders, path[1])
	}
	switch path[0] { // of the stream, whether or not its headers can be seen
	case "time":
		return propTime(s.startedAt)
	case "duration":
		if s.duration < 0 {
			return nil, false // not over yet
		}
		return propInt(int64(s.duration))
	case "protocol":
		return propString("HTTP/1.1")
	case "size":
		return propInt(int64(len(s.req.Body)))
	}
	if !s.reqVisible && !s.logging {
		return nil, false
	}
	switch path[0] {
	case "id":
		return propHeader(s.reqHeaders, "x-request-id")
	case "path":
		return propHeader(s.reqHeaders, ":path")
	case "url_path":
		p, _, _ := strings.Cut(s.reqHeaders.Get(":path"), "?")
		return propString(p)
	case "method":
		return propHeader(s.reqHeaders, ":method")
	case "host":
		return propHeader(s.reqHeaders, ":authority")
	case "scheme":
		return propHeader(s.reqHeaders, ":scheme")
	case "total_size":
		return propInt(int64(s.reqHeaders.byteSize() + len(s.req.Body)))
	}
	return nil, false
}

func (s *Stream) responseProperty(path []string) ([]byte, bool) {
	if len(path) == 2 && path[0] == "headers" {
		return propHeader(s.respHeaders, path[1])
	}
	switch path[0] {
	case "code":
		if s.code == 0 {
			return nil, false
		}
		return propInt(int64(s.code))
	case "flags":
		if s.hideFlags {
			return nil, false
		}
		return propInt(int64(s.flags))
	case "code_details":
		if s.details == nil {
			return nil, false
		}
		return propString(*s.details)
	case "size":
		return propInt(int64(len(s.respBody)))
	case "grpc_status":
		return s.grpcStatus()
	case "backend_latency":
		if s.backend < 0 {
			return nil, false
		}
		return propInt(int64(s.backend))
	}
	return nil, false
}

// metadata is what the listener's header_to_metadata filter has made of the
// response's headers. It lives with the stream, longer than they do.
func (s *Stream) metadata(path []string) ([]byte, bool) {
	if len(path) != 3 || path[0] != "filter_metadata" {
		return nil, false
	}
	for _, r := range s.w.t.h.cfg.HeaderMetadata {
		if r.Namespace == path[1] && r.Key == path[2] {
			return propHeader(s.respHeaders, r.Header)
		}
	}
	return nil, false
}

func (s *Stream) upstreamProperty(name string) ([]byte, bool) {
	switch {
	case name == "request_attempt_count": // always there, 0 before the router
		if s.upstream {
			return propInt(int64(max(s.tries, 1)))
		}
		return propInt(0)
	case !s.upstream:
		return nil, false
	}
	switch name {
	case "address":
		return propString("127.0.0.1:9001")
	case "transport_failure_reason":
		return propString(s.transportFailure)
	}
	return nil, false
}

// grpcStatus is Grpc::Common::getGrpcStatus: trailers, headers, else inferred
// from the HTTP status, so that every answered request has one.
func (s *Stream) grpcStatus() ([]byte, bool) {
	known := []Headers{s.respTrailers, s.respHeaders}
	if s.ended && !s.logging { // in on_delete they are gone
		known = nil
	}
	for _, hs := range known {
		if v, ok := hs.lookup("grpc-status"); ok {
			n, err := strconv.ParseUint(v, 10, 16)
			if err != nil {
				return propInt(-1) // InvalidCode
			}
			return propInt(int64(n))
		}
	}
	if s.code == 0 {
		return nil, false
	}
	return propInt(int64(grpcOfHTTP(s.code)))
}

// grpcOfHTTP is Envoy's httpToGrpcStatus, where 200 is UNKNOWN as well.
func grpcOfHTTP(code int) int32 {
	switch code {
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
