package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// Kind says on which thread, and to which end, a VM runs.
type Kind string

// The kinds of VM that run a plugin's code in Envoy.
const (
	KindWorker Kind = "worker" // sees streams
	KindMain   Kind = "main"   // ticks, sees no stream
	KindCanary Kind = "canary" // starts the plugin once, then is dropped without a word
)

// errInjected is the trap that a test asked for.
var errInjected = errors.New("injected trap")

// errRestricted is what a host call that is not allowed at that time traps
// with (WasmBase::startVm, WasmBase::allocMemory).
var errRestricted = errors.New("restricted_callback")

// vm is one instance of the module.
type vm struct {
	h      *Host
	thread *thread // nil: canary
	kind   Kind
	key    vmKey
	serial uint64

	ctx    context.Context
	mod    api.Module
	funcs  map[string]api.Function
	malloc api.Function
	rand   *rand.ChaCha8

	busy     sync.Mutex // held during a callback: a VM runs one at a time
	failed   error
	closed   bool
	nanoRead int64

	roots       map[string]*wasmContext // by plugin key
	pendingDone map[*wasmContext]bool
	contexts    map[uint32]*wasmContext
	nextContext uint32
	nextMetric  [3]uint32
	metrics     map[uint32]metricKey
	nextCall    uint32

	// State of the callback that runs now.
	current    *wasmContext
	effective  uint32
	restricted bool
	stopped    bool // a local reply was sent: whatever is returned, iteration stops
	after      []func()
}

// vmKey is what decides whether two plugins share a VM.
type vmKey struct{ vmID, vmConfig, module string }

// wasmContext is a root context (parent nil) or a stream context.
type wasmContext struct {
	vm     *vm
	id     uint32
	parent *wasmContext
	plugin *plugin
	stream *Stream

	created    bool
	configured *plugin // set while on_configure runs: the only time the configuration can be read
	calls      map[uint32]*pendingCall
	answer     *Answer // the answer that on_http_call_response looks at
	tick       time.Duration
	tickEpoch  uint64 // an armed timer of an older epoch is void
	destroyed  bool
}

func (c *wasmContext) root() *wasmContext {
	if c.parent != nil {
		return c.parent
	}
	return c
}

type vmCtxKey struct{}

// newVM instantiates the module and initialises it (the Go runtime starts and
// package init functions run). An error is a trap in there.
func (h *Host) newVM(t *thread, kind Kind, key vmKey) (*vm, error) {
	h.stats.vmsCreated.Add(1)
	v := &vm{
		h: h, thread: t, kind: kind, key: key, serial: h.stats.vmsCreated.Load(),
		funcs: map[string]api.Function{}, roots: map[string]*wasmContext{}, pendingDone: map[*wasmContext]bool{},
		contexts: map[uint32]*wasmContext{}, nextContext: 1, metrics: map[uint32]metricKey{},
		nextMetric: [3]uint32{metricCounter, metricGauge, metricHistogram},
	}
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], h.cfg.Seed)
	binary.LittleEndian.PutUint64(seed[8:], v.serial)
	v.rand = rand.NewChaCha8(seed)
	v.ctx = context.WithValue(h.ctx, vmCtxKey{}, v)
	mc := wazero.NewModuleConfig().WithName("").WithStartFunctions().
		WithRandSource(v.rand).
		WithWalltime(v.walltime, sys.ClockResolution(1)).
		WithNanotime(v.nanotime, sys.ClockResolution(1)).
		WithNanosleep(func(int64) {}).
		WithStdout(v.writer("info")).WithStderr(v.writer("error"))
	for _, kv := range h.cfg.Env {
		mc = mc.WithEnv(kv.Name, kv.Value)
	}
	mod, err := h.cfg.Module.runtime.InstantiateModule(v.ctx, h.cfg.Module.code, mc)
	if err != nil {
		return nil, fmt.Errorf("%s vm: %w", kind, err)
	}
	v.mod = mod
	if v.malloc = mod.ExportedFunction("malloc"); v.malloc == nil {
		v.malloc = mod.ExportedFunction("proxy_on_memory_allocate")
	}
	v.current = &wasmContext{vm: v} // context 0: neither a root nor a stream
	v.restricted = true
	defer func() { v.restricted, v.current = false, nil }()
	for _, name := range []string{"_initialize", "main", "__main_void"} { // a WASI reactor
		fn := mod.ExportedFunction(name)
		if fn == nil {
			if name == "_initialize" {
				break
			}
			continue
		}
		if _, err := fn.Call(v.ctx, make([]uint64, len(fn.Definition().ParamTypes()))...); err != nil {
			v.close()
			return nil, fmt.Errorf("%s vm: %s: %w", kind, name, err)
		}
		if name == "main" {
			break
		}
	}
	if mod.ExportedFunction("_initialize") == nil {
		if start := mod.ExportedFunction("_start"); start != nil { // a WASI command
			if _, err := start.Call(v.ctx); err != nil && !exitedCleanly(err) {
				v.close()
				return nil, fmt.Errorf("%s vm: _start: %w", kind, err)
			}
		}
	}
	return v, nil
}

func exitedCleanly(err error) bool {
	var exit *sys.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == 0
}

func (v *vm) walltime() (int64, int32) {
	now := v.h.now()
	return now.Unix(), int32(now.Nanosecond())
}

// nanotime creeps by 1 µs per reading in virtual time, so that a guest that
// waits for it to pass does get on.
func (v *vm) nanotime() int64 {
	v.nanoRead++
	return int64(v.h.now().Sub(v.h.started)) + int64(time.Second) + v.nanoRead*int64(time.Microsecond)
}

// has reports whether the module exports a callback. Envoy calls what there is.
func (v *vm) has(name string) bool { return v.mod.ExportedFunction(name) != nil }

// callback runs one exported callback on a context, then what it put off (a
// local reply, resuming a stream). ok is false when the VM is dead, before or
// after; res is 0 where the module does not export the callback.
func (v *vm) callback(c *wasmContext, name string, args ...uint64) (res uint64, stopped, ok bool) {
	if v.failed != nil {
		return 0, false, false
	}
	if !v.has(name) {
		return 0, false, true
	}
	if !v.busy.TryLock() {
		panic("host: a VM was entered while it runs a callback; Envoy never does that")
	}
	v.current, v.effective = c, 0
	res, err := v.invoke(name, args)
	stopped = v.stopped
	v.current, v.effective, v.stopped = nil, 0, false
	after := v.after
	v.after = nil
	v.busy.Unlock()
	if err != nil {
		v.fail(name, err)
		return 0, stopped, false
	}
	for _, f := range after {
		f()
	}
	return res, stopped, true
}

func (v *vm) invoke(name string, args []uint64) (uint64, error) {
	if trap := v.takeTrap(Crossing{Name: name, Callback: true}); trap {
		return 0, errInjected
	}
	fn := v.funcs[name]
	if fn == nil {
		fn = v.mod.ExportedFunction(name)
		v.funcs[name] = fn
	}
	res, err := fn.Call(v.ctx, args...)
	if err != nil {
		return 0, err
	}
	if len(res) == 0 {
		return 0, nil
	}
	return uint64(uint32(res[0])), nil
}

// takeTrap asks the test whether the VM shall die here.
func (v *vm) takeTrap(call Crossing) bool {
	return v.thread != nil && v.thread.trapAt != nil && v.thread.trapAt(call)
}

// fail marks the VM dead. Its thread may load another; streams in flight are
// answered 503, calls out are never answered, ticks stop.
func (v *vm) fail(callback string, err error) {
	v.failed = fmt.Errorf("%s: %w", callback, err)
	v.h.stats.traps.Add(1)
	v.h.logLine(v, "critical", "vm failed: "+v.failed.Error())
	if v.thread != nil {
		v.thread.forget(v)
	}
}

func (v *vm) close() {
	if v.closed || v.mod == nil {
		return
	}
	v.closed = true
	if err := v.mod.Close(v.h.ctx); err != nil {
		v.h.log.Warn("close vm", "err", err)
	}
}

// newContext makes a context in the host; the guest hears of it by onCreate.
func (v *vm) newContext(parent *wasmContext, p *plugin) *wasmContext {
	for v.contexts[v.nextContext] != nil {
		v.nextContext++
	}
	c := &wasmContext{vm: v, id: v.nextContext, parent: parent, plugin: p, calls: map[uint32]*pendingCall{}}
	v.nextContext++
	v.contexts[c.id] = c
	return c
}

func (c *wasmContext) onCreate() {
	if c.created {
		return
	}
	var parent uint64
	if c.parent != nil {
		parent = uint64(c.parent.id)
	}
	c.vm.callback(c, "proxy_on_context_create", uint64(c.id), parent)
	c.created = true
}

// destroy forgets a context. What it called out is cancelled: the peer may
// have got the call, but no answer is delivered (Context::~Context).
func (c *wasmContext) destroy() {
	c.destroyed = true
	delete(c.vm.contexts, c.id)
	for _, call := range c.calls {
		if !call.cancelled {
			call.cancelled = true
			c.vm.h.stats.callsCancelled.Add(1)
		}
	}
	c.tickEpoch++
}

// start is WasmBase::start: on_context_create and on_vm_start, the latter once
// per root context even in a VM that has long started.
func (v *vm) start(p *plugin) (*wasmContext, bool) {
	c, known := v.roots[p.key]
	if !known {
		c = v.newContext(nil, p)
		v.roots[p.key] = c
	}
	v.callback(c, "proxy_on_context_create", uint64(c.id), 0)
	c.created = true
	if !v.has("proxy_on_vm_start") {
		return c, v.failed == nil
	}
	res, _, ok := v.callback(c, "proxy_on_vm_start", uint64(c.id), uint64(len(v.key.vmConfig)))
	return c, known || ok && res != 0 // a second start's result is not looked at
}

// configure is ContextBase::onConfigure.
func (v *vm) configure(c *wasmContext, p *plugin) bool {
	if v.failed != nil {
		return true // sic; the caller sees that the VM is dead
	}
	if !v.has("proxy_on_configure") {
		return true
	}
	c.configured = p
	res, _, ok := v.callback(c, "proxy_on_configure", uint64(c.id), uint64(len(p.config)))
	c.configured = nil
	return ok && res != 0
}

// shutdown is WasmBase::startShutdown of one plugin: on_done, then on_delete,
// which waits for proxy_done where on_done says so.
func (v *vm) shutdown(pluginKey string) {
	c := v.roots[pluginKey]
	if c == nil {
		return
	}
	delete(v.roots, pluginKey)
	done := true
	if v.has("proxy_on_done") {
		res, _, ok := v.callback(c, "proxy_on_done", uint64(c.id))
		done = !ok || res != 0
	}
	if !done {
		v.pendingDone[c] = true
		return
	}
	v.callback(c, "proxy_on_delete", uint64(c.id))
	c.destroy()
}

// alloc asks the guest for memory, as every call that returns data does.
func (v *vm) alloc(size int) (uint32, bool) {
	was := v.restricted
	v.restricted = true
	res, err := v.malloc.Call(v.ctx, uint64(size))
	v.restricted = was
	if err != nil {
		panic(err) // a trap in the guest's allocator traps the whole call
	}
	if len(res) == 0 || uint32(res[0]) == 0 {
		return 0, false
	}
	return uint32(res[0]), true
}

// give hands bytes to the guest: pointer and size, 0 and 0 for none.
func (v *vm) give(b []byte, ptrPtr, sizePtr uint64) status {
	var ptr uint32
	if len(b) > 0 {
		p, ok := v.alloc(len(b))
		if !ok || !v.mod.Memory().Write(p, b) {
			return statusInvalidMemory
		}
		ptr = p
	}
	if !v.put32(ptrPtr, ptr) || !v.put32(sizePtr, uint32(len(b))) {
		return statusInvalidMemory
	}
	return statusOK
}

// bytes is a copy of guest memory.
func (v *vm) bytes(ptr, size uint64) ([]byte, bool) {
	b, ok := v.mod.Memory().Read(uint32(ptr), uint32(size))
	if !ok {
		return nil, false
	}
	return append([]byte(nil), b...), true
}

func (v *vm) put32(ptr uint64, x uint32) bool { return v.mod.Memory().WriteUint32Le(uint32(ptr), x) }
func (v *vm) put64(ptr uint64, x uint64) bool { return v.mod.Memory().WriteUint64Le(uint32(ptr), x) }

// effectiveContext is the context that a host call acts on.
func (v *vm) effectiveContext() *wasmContext {
	if v.effective != 0 {
		if c := v.contexts[v.effective]; c != nil {
			return c
		}
	}
	return v.current
}

func (v *vm) writer(level string) io.Writer { return logWriter{v, level} }

type logWriter struct {
	v     *vm
	level string
}

func (w logWriter) Write(p []byte) (int, error) {
	w.v.h.logLine(w.v, w.level, string(p))
	return len(p), nil
}
