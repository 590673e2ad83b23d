package host

// Header maps and buffers of the ABI (WasmHeaderMapType, WasmBufferType).
const (
	mapRequestHeaders   = 0
	mapRequestTrailers  = 1
	mapResponseHeaders  = 2
	mapResponseTrailers = 3
	mapCallHeaders      = 6
	mapCallTrailers     = 7
	mapMax              = 8

	bufferRequestBody  = 0
	bufferResponseBody = 1
	bufferCallBody     = 4
	bufferVMConfig     = 6
	bufferPluginConfig = 7
	bufferMax          = 8
)

// headerMap is the map that a guest may read now, nil where there is none: in
// response callbacks the request is gone, in on_log both are back.
func (c *wasmContext) headerMap(kind uint64, write bool) *Headers {
	root := c.root()
	switch kind {
	case mapCallHeaders:
		if root.answer != nil && !write {
			return &root.answer.Headers
		}
	case mapCallTrailers:
		if root.answer != nil && !write && root.answer.Trailers != nil {
			return &root.answer.Trailers
		}
	}
	s := c.stream
	if s == nil {
		return nil
	}
	switch kind {
	case mapRequestHeaders:
		if s.reqVisible || s.logging && !write {
			return &s.reqHeaders
		}
	case mapResponseHeaders:
		if s.respVisible || s.logging && !write && s.respHeaders != nil {
			return &s.respHeaders
		}
	case mapResponseTrailers:
		if (s.trailersVisible || s.logging && !write) && s.respTrailers != nil {
			return &s.respTrailers
		}
	}
	return nil
}

func (v *vm) mapArg(kind uint64, write bool) (*Headers, bool) {
	if uint32(kind) > mapMax {
		return nil, false
	}
	hs := v.effectiveContext().headerMap(uint64(uint32(kind)), write)
	return hs, hs != nil
}

func (v *vm) proxyGetHeader(a []uint64) status {
	hs, ok := v.mapArg(a[0], false)
	if !ok {
		return statusBadArgument
	}
	name, ok := v.bytes(a[1], a[2])
	if !ok {
		return statusInvalidMemory
	}
	value, ok := hs.lookup(string(name))
	if !ok {
		return statusNotFound
	}
	return v.give([]byte(value), a[3], a[4])
}

// proxyGetHeaders of a map that is not there is an empty answer, not an error.
func (v *vm) proxyGetHeaders(a []uint64) status {
	if uint32(a[0]) > mapMax {
		return statusBadArgument
	}
	hs, ok := v.mapArg(a[0], false)
	if !ok || len(*hs) == 0 {
		return v.give(nil, a[1], a[2])
	}
	return v.give(marshalPairs(*hs), a[1], a[2])
}

func (v *vm) proxyGetHeadersSize(a []uint64) status {
	hs, ok := v.mapArg(a[0], false)
	if !ok {
		return statusBadArgument
	}
	return ok32(v, a[1], uint32(hs.byteSize()))
}

func (v *vm) changeHeader(a []uint64, change func(hs Headers, name, value string) Headers) status {
	hs, ok := v.mapArg(a[0], true)
	if !ok {
		return statusBadArgument
	}
	name, ok := v.bytes(a[1], a[2])
	var value []byte
	if ok && len(a) > 3 {
		value, ok = v.bytes(a[3], a[4])
	}
	if !ok {
		return statusInvalidMemory
	}
	*hs = change(*hs, string(name), string(value))
	return statusOK
}

func (v *vm) proxyAddHeader(a []uint64) status     { return v.changeHeader(a, Headers.with) }
func (v *vm) proxyReplaceHeader(a []uint64) status { return v.changeHeader(a, Headers.replaced) }
func (v *vm) proxyRemoveHeader(a []uint64) status {
	return v.changeHeader(a, func(hs Headers, name, _ string) Headers { return hs.without(name) })
}

func (v *vm) proxySetHeaders(a []uint64) status {
	hs, ok := v.mapArg(a[0], true)
	if !ok {
		return statusBadArgument
	}
	b, ok := v.bytes(a[1], a[2])
	if !ok {
		return statusInvalidMemory
	}
	*hs = parsePairs(b)
	return statusOK
}

// buffer is the bytes of a buffer, nil and false where there is no such buffer
// now: a plugin's configuration can be read in on_configure only.
func (v *vm) buffer(kind uint64) ([]byte, bool) {
	c := v.effectiveContext()
	switch uint32(kind) {
	case bufferVMConfig:
		return []byte(v.key.vmConfig), true
	case bufferPluginConfig:
		if c.configured == nil {
			return nil, false
		}
		return c.configured.config, true
	case bufferCallBody:
		if c.root().answer == nil {
			return nil, false
		}
		return c.root().answer.Body, true
	case bufferRequestBody:
		if c.stream != nil && c.stream.bodyVisible {
			return c.stream.reqBody, true
		}
	case bufferResponseBody:
		if c.stream != nil && c.stream.respBodyVisible {
			return c.stream.respBody, true
		}
	}
	return nil, false
}

func (v *vm) proxyGetBuffer(a []uint64) status {
	if uint32(a[0]) > bufferMax {
		return statusBadArgument
	}
	b, ok := v.buffer(a[0])
	if !ok {
		return statusNotFound
	}
	start, length := uint64(uint32(a[1])), uint64(uint32(a[2]))
	if start+length > 1<<32-1 {
		return statusBadArgument
	}
	end := min(start+length, uint64(len(b)))
	if start >= end {
		return v.give(nil, a[3], a[4])
	}
	return v.give(b[start:end], a[3], a[4])
}

func (v *vm) proxyGetBufferStatus(a []uint64) status {
	if uint32(a[0]) > bufferMax {
		return statusBadArgument
	}
	b, ok := v.buffer(a[0])
	if !ok {
		return statusNotFound
	}
	return mem(v.put32(a[1], uint32(len(b))) && v.put32(a[2], 0))
}

// proxySetBuffer changes bodies as Envoy's Buffer::copyFrom: prepend, replace
// all, or append.
func (v *vm) proxySetBuffer(a []uint64) status {
	if uint32(a[0]) > bufferMax {
		return statusBadArgument
	}
	old, ok := v.buffer(a[0])
	if !ok {
		return statusNotFound
	}
	data, ok := v.bytes(a[3], a[4])
	if !ok {
		return statusInvalidMemory
	}
	start, length := int(uint32(a[1])), int(uint32(a[2]))
	var next []byte
	switch {
	case start == 0 && length == 0:
		next = append(data, old...)
	case start == 0 && length >= len(old):
		next = data
	case start >= len(old) && start > 0:
		next = append(append([]byte(nil), old...), data...)
	default:
		return statusBadArgument
	}
	s := v.effectiveContext().stream
	switch uint32(a[0]) {
	case bufferRequestBody:
		s.reqBody = next
	case bufferResponseBody:
		s.respBody = next
	default:
		return statusBadArgument
	}
	return statusOK
}

// proxySendLocalResponse answers a stream after the callback has returned.
// Outside a stream it does nothing, successfully.
func (v *vm) proxySendLocalResponse(a []uint64) status {
	details, ok := v.bytes(a[1], a[2])
	body, ok2 := v.bytes(a[3], a[4])
	pairs, ok3 := v.bytes(a[5], a[6])
	if !ok || !ok2 || !ok3 {
		return statusInvalidMemory
	}
	reply := &LocalReply{
		Status: int(uint32(a[0])), Headers: parsePairs(pairs), Body: body,
		GRPCStatus: int32(uint32(a[7])), Details: string(details),
	}
	c := v.effectiveContext()
	if s := c.stream; s != nil {
		v.after = append(v.after, func() { s.localReply(reply) })
	}
	v.stopped = true
	return statusOK
}

func (v *vm) proxyContinueStream(a []uint64) status {
	s := v.effectiveContext().stream
	switch uint32(a[0]) {
	case 0:
		if s != nil {
			v.after = append(v.after, s.resumeRequest)
		}
	case 1:
		if s != nil {
			v.after = append(v.after, s.resumeResponse)
		}
	default:
		return statusBadArgument
	}
	return statusOK
}

func (v *vm) proxyCloseStream(a []uint64) status {
	if uint32(a[0]) > 3 {
		return statusBadArgument
	}
	if s := v.effectiveContext().stream; s != nil && uint32(a[0]) <= 1 {
		v.after = append(v.after, s.reset)
	}
	return statusOK
}
