package host

import (
	"errors"
	"fmt"
	"time"
)

// Update is a configuration push, as one ECDS update brings it. The module and
// the VM configuration stay those of Config.
type Update struct {
	VMID         string // "": as before; another one makes new VMs with empty shared data
	PluginConfig []byte
}

// plugin is one configuration of the plugin.
type plugin struct {
	key          string
	name, rootID string
	config       []byte
}

// base is what one VM key has once per process: the verdict of its canaries,
// and whether it is spoilt.
type base struct {
	failed error
	canary map[string]bool
}

// thread is one of Envoy's threads with the VMs that it owns.
type thread struct {
	h        *Host
	kind     Kind
	index    int
	vms      map[vmKey]*vm      // alive ones
	all      []*vm              // also dead ones that streams still hold
	handles  map[string]*handle // alive ones, by vm key and plugin key
	handle   *handle            // what new streams use; nil: the filter is bypassed
	lastLoad time.Time

	attempt     *handle // what new tries use; nil: there is no upstream filter
	attemptLoad time.Time

	trapAt     func(Crossing) bool
	interleave func(Crossing)
}

// handle is a plugin in a VM. The thread holds one reference, each stream
// another; the last one to go shuts the plugin down.
type handle struct {
	key    string
	t      *thread
	vm     *vm
	root   *wasmContext
	plugin *plugin
	refs   int
}

// Worker is one worker thread.
type Worker struct{ t *thread }

// Index is its number, from 0.
func (w *Worker) Index() int { return w.t.index }

// Bypassed reports that the filter is missing on this worker, so that requests
// pass unseen.
func (w *Worker) Bypassed() bool { return w.t.handle == nil }

// Dead is why the worker's VM is dead, nil while it lives.
func (w *Worker) Dead() error {
	if w.t.handle == nil {
		return nil
	}
	return w.t.handle.vm.failed
}

// MemoryBytes is how much linear memory the worker's VM has.
func (w *Worker) MemoryBytes() uint32 {
	if w.t.handle == nil || w.t.handle.vm.closed {
		return 0
	}
	return w.t.handle.vm.mod.Memory().Size()
}

// Kill lets the worker's VM die now, as by a trap in its tick.
func (w *Worker) Kill() {
	if w.t.handle != nil && w.t.handle.vm.failed == nil {
		w.t.handle.vm.fail("proxy_on_tick", errInjected)
	}
}

// TrapAt asks f before every callback and host call of this worker's VMs; where
// it says true the VM traps there. nil ends that.
func (w *Worker) TrapAt(f func(Crossing) bool) { w.t.trapAt = f }

// Interleave runs f before each shared-data access of this worker's VMs, which
// is where another worker's callback can come between. nil ends that.
func (w *Worker) Interleave(f func(Crossing)) { w.t.interleave = f }

func (h *Host) newThread(kind Kind, index int) *thread {
	return &thread{h: h, kind: kind, index: index, vms: map[vmKey]*vm{}, handles: map[string]*handle{}}
}

// Push applies a configuration: first in a canary VM, whose refusal is an
// ErrRejected and changes nothing; then on every thread. As in Envoy, nil says
// only that the canary liked it (an ACK): a worker that then fails to start it
// bypasses the filter.
func (h *Host) Push(u Update) error {
	if u.VMID == "" {
		u.VMID = h.update.VMID
	}
	key := vmKey{u.VMID, string(h.cfg.VMConfig), h.cfg.Module.sha256}
	p := &plugin{
		name: h.cfg.PluginName, rootID: h.cfg.RootID, config: append([]byte(nil), u.PluginConfig...),
		key: h.cfg.RootID + "||" + string(u.PluginConfig),
	}
	b := h.bases[key]
	if b == nil {
		b = &base{canary: map[string]bool{}}
		h.bases[key] = b
	}
	if b.failed != nil {
		return fmt.Errorf("%w %s: this vm_id is spoilt: %w", ErrRejected, p.name, b.failed)
	}
	if err := h.canary(b, key, p); err != nil {
		return fmt.Errorf("%w %s: %w", ErrRejected, p.name, err)
	}
	h.update = u
	for _, t := range h.threads() {
		next := t.load(b, key, p)
		old := t.handle
		t.handle, t.lastLoad = next, h.now()
		if old != nil {
			old.release()
		}
	}
	if h.cfg.AttemptConfig != nil {
		return h.pushAttempt(b, key)
	}
	return nil
}

// canary starts the configuration in a VM of its own. A verdict is kept: a
// configuration that comes back is not tried again.
func (h *Host) canary(b *base, key vmKey, p *plugin) error {
	if good, known := b.canary[p.key]; known {
		if good {
			return nil
		}
		return errors.New("refused before")
	}
	v, err := h.newVM(nil, KindCanary, key)
	if err != nil {
		return err
	}
	defer v.close() // no on_done, no on_delete
	root, ok := v.start(p)
	if !ok {
		return orErr(v.failed, "on_vm_start said no")
	}
	if !v.configure(root, p) || v.failed != nil {
		b.canary[p.key] = false
		return orErr(v.failed, "on_configure said no")
	}
	b.canary[p.key] = true
	return nil
}

func orErr(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

// load is getOrCreateThreadLocalPlugin. A configuration whose context is still
// alive on this thread (a stream in flight holds it) is taken up again without
// a single callback. Failure spoils the base: nil.
func (t *thread) load(b *base, key vmKey, p *plugin) *handle {
	hkey := fmt.Sprintf("%q||%s", key, p.key)
	if hd := t.handles[hkey]; hd != nil {
		hd.refs++
		return hd
	}
	v := t.vms[key]
	if v == nil {
		var err error
		if v, err = t.h.newVM(t, t.kind, key); err != nil {
			b.failed = err
			return nil
		}
		t.vms[key] = v
		t.h.life.Lock()
		t.all = append(t.all, v)
		t.h.life.Unlock()
	}
	root, ok := v.start(p)
	if !ok {
		b.failed = orErr(v.failed, "on_vm_start failed on a worker")
		return nil
	}
	if !v.configure(root, p) {
		b.failed = orErr(v.failed, "on_configure failed on a worker")
		return nil
	}
	hd := &handle{key: hkey, t: t, vm: v, root: root, plugin: p, refs: 1}
	if v.failed == nil {
		t.handles[hkey] = hd
	}
	return hd
}

// forget drops a dead VM from what new plugins may use.
func (t *thread) forget(v *vm) {
	if t.vms[v.key] == v {
		delete(t.vms, v.key)
	}
	for k, hd := range t.handles {
		if hd.vm == v {
			delete(t.handles, k)
		}
	}
}

func (hd *handle) release() {
	hd.refs--
	if hd.refs > 0 {
		return
	}
	if hd.t.handles[hd.key] == hd {
		delete(hd.t.handles, hd.key)
	}
	hd.vm.shutdown(hd.plugin.key)
	hd.t.h.reap(hd.vm)
}

// reap closes a VM that nothing uses any more, and with the last VM of a
// vm_id its shared data.
func (h *Host) reap(v *vm) {
	if v.thread == nil || len(v.pendingDone) > 0 && v.failed == nil {
		return
	}
	if v.failed == nil && len(v.roots) > 0 {
		return
	}
	for _, hd := range []*handle{v.thread.handle, v.thread.attempt} {
		if hd != nil && hd.vm == v {
			return
		}
	}
	for _, c := range v.contexts {
		if c.stream != nil && !c.stream.ended {
			return
		}
	}
	v.thread.forget(v)
	h.life.Lock()
	defer h.life.Unlock()
	for i, x := range v.thread.all {
		if x == v {
			v.thread.all = append(v.thread.all[:i], v.thread.all[i+1:]...)
			break
		}
	}
	v.close()
	for _, t := range h.threads() {
		if t.handle != nil && t.handle.vm.key.vmID == v.key.vmID {
			return
		}
		for _, x := range t.all {
			if x.key.vmID == v.key.vmID {
				return
			}
		}
	}
	h.shared.drop(v.key.vmID)
}

// forStream is PluginConfig::createContext: the plugin for a new stream, after
// a reload of a dead VM where the policy and the back-off allow. A nil handle
// is a bypass, false a dead VM.
func (t *thread) forStream() (*handle, bool) {
	hd := t.handle
	if hd == nil {
		return nil, false
	}
	if hd.vm.failed == nil {
		return hd, true
	}
	h := t.h
	switch h.cfg.Policy {
	case FailOpen:
		return nil, false
	case FailReload:
		backoff := h.cfg.ReloadBackoff + h.jitter(h.cfg.ReloadBackoff/2)
		if h.now().Sub(t.lastLoad) < backoff {
			h.stats.reloadBackoffs.Add(1)
			return hd, false
		}
		t.lastLoad = h.now()
		next := t.load(h.bases[hd.vm.key], hd.vm.key, hd.plugin)
		if next == nil || next.vm.failed != nil {
			h.stats.reloadFailures.Add(1)
			return hd, false
		}
		h.stats.reloads.Add(1)
		h.life.Lock()
		t.handle = next
		h.life.Unlock()
		hd.release()
		return next, true
	default:
		return hd, false
	}
}
