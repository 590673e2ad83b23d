//go:build wasip1

package main

import (
	"encoding/binary"
	"unsafe"
)

//go:wasmimport env proxy_log
func hostLog(level uint32, msg *byte, n uint32) uint32

//go:wasmimport env proxy_get_shared_data
func hostGetShared(key *byte, n uint32, val unsafe.Pointer, size *uint32, cas *uint32) uint32

//go:wasmimport env proxy_set_shared_data
func hostSetShared(key *byte, n uint32, val *byte, size uint32, cas uint32) uint32

//go:wasmimport env proxy_get_property
func hostGetProperty(path *byte, n uint32, val unsafe.Pointer, size *uint32) uint32

//go:wasmimport env proxy_set_property
func hostSetProperty(path *byte, n uint32, val *byte, size uint32) uint32

//go:wasmimport env proxy_get_header_map_value
func hostGetHeader(kind uint32, key *byte, n uint32, val unsafe.Pointer, size *uint32) uint32

//go:wasmimport env proxy_add_header_map_value
func hostAddHeader(kind uint32, key *byte, n uint32, val *byte, size uint32) uint32

//go:wasmimport env proxy_replace_header_map_value
func hostReplaceHeader(kind uint32, key *byte, n uint32, val *byte, size uint32) uint32

//go:wasmimport env proxy_remove_header_map_value
func hostRemoveHeader(kind uint32, key *byte, n uint32) uint32

//go:wasmimport env proxy_get_header_map_pairs
func hostGetPairs(kind uint32, val unsafe.Pointer, size *uint32) uint32

//go:wasmimport env proxy_get_buffer_bytes
func hostGetBuffer(kind, start, max uint32, val unsafe.Pointer, size *uint32) uint32

//go:wasmimport env proxy_define_metric
func hostDefineMetric(kind uint32, name *byte, n uint32, id *uint32) uint32

//go:wasmimport env proxy_increment_metric
func hostIncrementMetric(id uint32, offset int64) uint32

//go:wasmimport env proxy_record_metric
func hostRecordMetric(id uint32, value uint64) uint32

//go:wasmimport env proxy_get_metric
func hostGetMetric(id uint32, value *uint64) uint32

//go:wasmimport env proxy_http_call
func hostCall(cluster *byte, n uint32, headers *byte, hn uint32, body *byte, bn uint32, trailers *byte, tn uint32, timeout uint32, token *uint32) uint32

//go:wasmimport env proxy_send_local_response
func hostReply(status uint32, details *byte, dn uint32, body *byte, bn uint32, headers *byte, hn uint32, grpc int32) uint32

//go:wasmimport env proxy_set_tick_period_milliseconds
func hostSetTick(ms uint32) uint32

//go:wasmimport env proxy_get_current_time_nanoseconds
func hostNow(t *uint64) uint32

//go:wasmimport env proxy_set_effective_context
func hostSetEffective(ctx uint32) uint32

//go:wasmimport env proxy_continue_stream
func hostContinue(kind uint32) uint32

//go:wasmimport env proxy_register_shared_queue
func hostRegisterQueue(name *byte, n uint32, token *uint32) uint32

//go:wasmimport env proxy_resolve_shared_queue
func hostResolveQueue(vm *byte, vn uint32, name *byte, n uint32, token *uint32) uint32

//go:wasmimport wasi_snapshot_preview1 random_get
func hostRandom(b *byte, n uint32) uint32

//go:wasmimport env proxy_enqueue_shared_queue
func hostEnqueue(token uint32, val *byte, size uint32) uint32

//go:wasmimport env proxy_dequeue_shared_queue
func hostDequeue(token uint32, val unsafe.Pointer, size *uint32) uint32

//go:wasmimport env proxy_call_foreign_function
func hostForeign(name *byte, n uint32, arg *byte, an uint32, val unsafe.Pointer, size *uint32) uint32

//go:wasmimport env proxy_done
func hostDone() uint32

var statusNames = map[uint32]string{
	0: "ok", 1: "notfound", 2: "badarg", 6: "badmem", 7: "empty", 8: "casmismatch", 10: "internal", 12: "unimplemented",
}

func name(st uint32) string { return statusNames[st] }

func logText(level uint32, s string) { hostLog(level, ptr(s), uint32(len(s))) }

func getShared(key string) (string, string, uint32) {
	var p *byte
	var n, cas uint32
	st := name(hostGetShared(ptr(key), uint32(len(key)), unsafe.Pointer(&p), &n, &cas))
	return text(p, n), st, cas
}

func setShared(key, val string, cas uint32) string {
	return name(hostSetShared(ptr(key), uint32(len(key)), ptr(val), uint32(len(val)), cas))
}

func property(path string) (string, string) {
	var p *byte
	var n uint32
	st := name(hostGetProperty(ptr(path), uint32(len(path)), unsafe.Pointer(&p), &n))
	return text(p, n), st
}

func setProperty(path, val string) string {
	return name(hostSetProperty(ptr(path), uint32(len(path)), ptr(val), uint32(len(val))))
}

func header(kind uint32, key string) (string, string) {
	var p *byte
	var n uint32
	st := name(hostGetHeader(kind, ptr(key), uint32(len(key)), unsafe.Pointer(&p), &n))
	return text(p, n), st
}

func changeHeader(how string, kind uint32, key, val string) string {
	f := hostAddHeader
	if how == "replace" {
		f = hostReplaceHeader
	}
	return name(f(kind, ptr(key), uint32(len(key)), ptr(val), uint32(len(val))))
}

func buffer(kind, start, max uint32) ([]byte, string) {
	var p *byte
	var n uint32
	st := name(hostGetBuffer(kind, start, max, unsafe.Pointer(&p), &n))
	return []byte(text(p, n)), st
}

func pairs(kind uint32) string {
	var p *byte
	var n uint32
	st := name(hostGetPairs(kind, unsafe.Pointer(&p), &n))
	if n == 0 {
		return st + ":"
	}
	b := []byte(text(p, n))
	count := int(binary.LittleEndian.Uint32(b))
	out, pos := st+":", 4+8*count
	for i := range count {
		kn, vn := int(binary.LittleEndian.Uint32(b[4+8*i:])), int(binary.LittleEndian.Uint32(b[8+8*i:]))
		out += string(b[pos:pos+kn]) + "=" + string(b[pos+kn+1:pos+kn+1+vn]) + ","
		pos += kn + vn + 2
	}
	return out
}

func pairsOf(kv ...string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(kv)/2))
	for i := 0; i < len(kv); i += 2 {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(kv[i])))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(kv[i+1])))
	}
	for _, s := range kv {
		b = append(append(b, s...), 0)
	}
	return b
}

func call(cluster string, timeout uint32, body string) string {
	return callWith(cluster, pairsOf(":method", "POST", ":path", "/p", ":authority", "a"), timeout, body)
}

func callWith(cluster string, headers []byte, timeout uint32, body string) string {
	var token uint32
	st := name(hostCall(ptr(cluster), uint32(len(cluster)), &headers[0], uint32(len(headers)),
		ptr(body), uint32(len(body)), nil, 0, timeout, &token))
	return st + ":" + id(token)
}

func reply(code uint32, body, hdr string) string {
	h := pairsOf("content-type", "application/problem+json", "x-dup", "a", "x-dup", "b")
	if hdr == "bare" {
		h = pairsOf("retry-after", "3")
	}
	return name(hostReply(code, nil, 0, ptr(body), uint32(len(body)), &h[0], uint32(len(h)), -1))
}
