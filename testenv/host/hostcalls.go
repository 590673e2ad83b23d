package host

import (
	"context"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// status is a host call's result (WasmResult in proxy-wasm-cpp-host).
type status uint32

const (
	statusOK              status = 0
	statusNotFound        status = 1
	statusBadArgument     status = 2
	statusInvalidMemory   status = 6
	statusEmpty           status = 7
	statusCasMismatch     status = 8
	statusInternalFailure status = 10
	statusUnimplemented   status = 12
)

// Crossing is one call between host and guest, for tests that let the VM
// die or another worker run at that point.
type Crossing struct {
	Name     string // "proxy_set_shared_data", or of a callback "proxy_on_tick"
	Key      string // of a shared-data call
	Callback bool   // host to guest: the guest's code has not run yet
}

type hostFunc struct {
	name   string
	params string // "i" is i32, "l" is i64
	call   func(v *vm, a []uint64) status
}

// hostFuncs are the imports of module env, with their signatures from
// proxy-wasm-cpp-host exports.h.
var hostFuncs = []hostFunc{
	{"proxy_log", "iii", (*vm).proxyLog},
	{"proxy_get_log_level", "i", func(v *vm, a []uint64) status { return ok32(v, a[0], 2) }},
	{"proxy_get_current_time_nanoseconds", "i", func(v *vm, a []uint64) status {
		return mem(v.put64(a[0], uint64(v.h.now().UnixNano())))
	}},
	{"proxy_set_tick_period_milliseconds", "i", (*vm).proxySetTick},
	{"proxy_set_effective_context", "i", (*vm).proxySetEffectiveContext},
	{"proxy_done", "", (*vm).proxyDone},
	{"proxy_get_status", "iii", func(v *vm, a []uint64) status {
		if !v.put32(a[0], 0) {
			return statusInvalidMemory
		}
		return v.give(nil, a[1], a[2])
	}},
	{"proxy_call_foreign_function", "iiiiii", (*vm).proxyCallForeign},
	{"proxy_get_property", "iiii", (*vm).proxyGetProperty},
	{"proxy_set_property", "iiii", (*vm).proxySetProperty},
	{"proxy_get_buffer_bytes", "iiiii", (*vm).proxyGetBuffer},
	{"proxy_get_buffer_status", "iii", (*vm).proxyGetBufferStatus},
	{"proxy_set_buffer_bytes", "iiiii", (*vm).proxySetBuffer},
	{"proxy_get_header_map_value", "iiiii", (*vm).proxyGetHeader},
	{"proxy_get_header_map_pairs", "iii", (*vm).proxyGetHeaders},
	{"proxy_get_header_map_size", "ii", (*vm).proxyGetHeadersSize},
	{"proxy_add_header_map_value", "iiiii", (*vm).proxyAddHeader},
	{"proxy_replace_header_map_value", "iiiii", (*vm).proxyReplaceHeader},
	{"proxy_remove_header_map_value", "iii", (*vm).proxyRemoveHeader},
	{"proxy_set_header_map_pairs", "iii", (*vm).proxySetHeaders},
	{"proxy_send_local_response", "iiiiiiii", (*vm).proxySendLocalResponse},
	{"proxy_continue_stream", "i", (*vm).proxyContinueStream},
	{"proxy_close_stream", "i", (*vm).proxyCloseStream},
	{"proxy_get_shared_data", "iiiii", (*vm).proxyGetShared},
	{"proxy_set_shared_data", "iiiii", (*vm).proxySetShared},
	{"proxy_register_shared_queue", "iii", (*vm).proxyRegisterQueue},
	{"proxy_resolve_shared_queue", "iiiii", (*vm).proxyResolveQueue},
	{"proxy_enqueue_shared_queue", "iii", (*vm).proxyEnqueue},
	{"proxy_dequeue_shared_queue", "iii", (*vm).proxyDequeue},
	{"proxy_define_metric", "iiii", (*vm).proxyDefineMetric},
	{"proxy_increment_metric", "il", (*vm).proxyIncrementMetric},
	{"proxy_record_metric", "il", (*vm).proxyRecordMetric},
	{"proxy_get_metric", "ii", (*vm).proxyGetMetric},
	{"proxy_http_call", "iiiiiiiiii", (*vm).proxyHTTPCall},
	{"proxy_grpc_call", "iiiiiiiiiiii", unimplemented},
	{"proxy_grpc_stream", "iiiiiiiii", unimplemented},
	{"proxy_grpc_cancel", "i", unimplemented},
	{"proxy_grpc_close", "i", unimplemented},
	{"proxy_grpc_send", "iiii", unimplemented},
}

func unimplemented(*vm, []uint64) status { return statusUnimplemented }

func instantiateEnv(ctx context.Context, rt wazero.Runtime) error {
	b := rt.NewHostModuleBuilder("env")
	for _, f := range hostFuncs {
		params := make([]api.ValueType, len(f.params))
		for i, p := range f.params {
			params[i] = api.ValueTypeI32
			if p == 'l' {
				params[i] = api.ValueTypeI64
			}
		}
		n := len(params)
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(
			func(ctx context.Context, _ api.Module, stack []uint64) {
				v := ctx.Value(vmCtxKey{}).(*vm)
				if v.restricted && f.name != "proxy_log" {
					panic(errRestricted)
				}
				if f.name != "proxy_get_shared_data" && f.name != "proxy_set_shared_data" && v.takeTrap(Crossing{Name: f.name}) {
					panic(errInjected)
				}
				res := f.call(v, stack[:n])
				if cap(stack) > 0 {
					stack[:1][0] = uint64(res)
				}
			}), params, []api.ValueType{api.ValueTypeI32}).Export(f.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

func mem(ok bool) status {
	if ok {
		return statusOK
	}
	return statusInvalidMemory
}

func ok32(v *vm, ptr uint64, x uint32) status { return mem(v.put32(ptr, x)) }

var logLevels = [...]string{"trace", "debug", "info", "warn", "error", "critical"}

func (v *vm) proxyLog(a []uint64) status {
	if int(uint32(a[0])) >= len(logLevels) {
		return statusBadArgument
	}
	msg, ok := v.bytes(a[1], a[2])
	if ok {
		v.h.logLine(v, logLevels[uint32(a[0])], string(msg))
	}
	return mem(ok)
}

func (v *vm) proxySetTick(a []uint64) status {
	v.h.setTick(v.effectiveContext().root(), time.Duration(uint32(a[0]))*time.Millisecond)
	return statusOK
}

func (v *vm) proxySetEffectiveContext(a []uint64) status {
	if v.contexts[uint32(a[0])] == nil {
		return statusBadArgument
	}
	v.effective = uint32(a[0])
	return statusOK
}

func (v *vm) proxyDone([]uint64) status {
	c := v.effectiveContext()
	if !v.pendingDone[c] {
		return statusNotFound
	}
	delete(v.pendingDone, c)
	v.after = append(v.after, func() {
		v.callback(c, "proxy_on_delete", uint64(c.id))
		c.destroy()
		v.h.reap(v)
	})
	return statusOK
}

// proxyCallForeign knows clear_route_cache, which does nothing here: the test
// says which route a request has.
func (v *vm) proxyCallForeign(a []uint64) status {
	name, ok := v.bytes(a[0], a[1])
	if !ok {
		return statusInvalidMemory
	}
	if string(name) != "clear_route_cache" {
		return statusNotFound
	}
	for _, p := range a[4:6] {
		if uint32(p) != 0 && !v.put32(p, 0) {
			return statusInvalidMemory
		}
	}
	return statusOK
}

func (v *vm) proxyGetShared(a []uint64) status {
	key, ok := v.bytes(a[0], a[1])
	if !ok {
		return statusInvalidMemory
	}
	v.sharedAccess("proxy_get_shared_data", string(key))
	val, st := v.h.shared.get(v.key.vmID, string(key))
	if st != statusOK {
		return st
	}
	if st := v.give(val.value, a[2], a[3]); st != statusOK {
		return st
	}
	return ok32(v, a[4], val.cas)
}

func (v *vm) proxySetShared(a []uint64) status {
	key, ok := v.bytes(a[0], a[1])
	val, ok2 := v.bytes(a[2], a[3])
	if !ok || !ok2 {
		return statusInvalidMemory
	}
	v.sharedAccess("proxy_set_shared_data", string(key))
	return v.h.shared.set(v.key.vmID, string(key), val, uint32(a[4]))
}

// sharedAccess is where another worker may come between.
func (v *vm) sharedAccess(name, key string) {
	call := Crossing{Name: name, Key: key}
	if v.takeTrap(call) {
		panic(errInjected)
	}
	if v.thread != nil && v.thread.interleave != nil {
		v.thread.interleave(call)
	}
}

func (v *vm) proxyRegisterQueue(a []uint64) status {
	name, ok := v.bytes(a[0], a[1])
	if !ok {
		return statusInvalidMemory
	}
	t := v.thread
	if v.kind == KindCanary {
		t = v.h.main // where canaries live
	}
	token := v.h.shared.register(v.key.vmID, string(name), queueReader{t, v.key, v.effectiveContext().root().id})
	return ok32(v, a[2], token)
}

func (v *vm) proxyResolveQueue(a []uint64) status {
	vmID, ok := v.bytes(a[0], a[1])
	name, ok2 := v.bytes(a[2], a[3])
	if !ok || !ok2 {
		return statusInvalidMemory
	}
	if len(vmID) == 0 {
		vmID = []byte(v.key.vmID)
	}
	token, st := v.h.shared.resolve(string(vmID), string(name))
	if st != statusOK {
		return st
	}
	return ok32(v, a[4], token)
}

func (v *vm) proxyEnqueue(a []uint64) status {
	item, ok := v.bytes(a[1], a[2])
	if !ok {
		return statusInvalidMemory
	}
	reader, st := v.h.shared.enqueue(uint32(a[0]), item)
	if st == statusOK && reader.thread != nil {
		token := uint32(a[0])
		v.h.at(v.h.now(), func() { reader.wake(token) })
	}
	return st
}

// wake is one on_queue_ready for each item, also where another wake has taken
// the item already.
func (r queueReader) wake(token uint32) {
	if v := r.thread.vms[r.key]; v != nil {
		if c := v.contexts[r.context]; c != nil {
			v.callback(c, "proxy_on_queue_ready", uint64(c.id), uint64(token))
		}
	}
}

func (v *vm) proxyDequeue(a []uint64) status {
	item, st := v.h.shared.dequeue(uint32(a[0]))
	if st != statusOK {
		return st
	}
	return v.give(item, a[1], a[2])
}

// proxyDefineMetric gives a new id each time, of the one process-wide value.
func (v *vm) proxyDefineMetric(a []uint64) status {
	name, ok := v.bytes(a[1], a[2])
	if !ok {
		return statusInvalidMemory
	}
	kind := uint32(a[0])
	if kind > metricHistogram {
		return statusBadArgument
	}
	k := metricKey{kind, string(name)}
	v.h.metrics.define(k)
	v.nextMetric[kind] += metricIncrement
	id := v.nextMetric[kind]
	v.metrics[id] = k
	return ok32(v, a[3], id)
}

func (v *vm) proxyIncrementMetric(a []uint64) status {
	k, ok := v.metrics[uint32(a[0])]
	if !ok {
		return missingMetric(a[0])
	}
	return v.h.metrics.add(k, int64(a[1]))
}

func (v *vm) proxyRecordMetric(a []uint64) status {
	k, ok := v.metrics[uint32(a[0])]
	if !ok {
		return statusNotFound
	}
	v.h.metrics.record(k, a[1])
	return statusOK
}

func (v *vm) proxyGetMetric(a []uint64) status {
	k, ok := v.metrics[uint32(a[0])]
	if !ok {
		return missingMetric(a[0])
	}
	value, st := v.h.metrics.get(k)
	if st != statusOK {
		return st
	}
	return mem(v.put64(a[1], value))
}

func missingMetric(id uint64) status {
	if uint32(id)&metricTypeMask > metricGauge {
		return statusBadArgument
	}
	return statusNotFound
}
