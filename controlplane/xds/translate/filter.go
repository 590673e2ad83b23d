package translate

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	wasmfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	wasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// wasmTypeURL is the only type that the ECDS resource may have.
const wasmTypeURL = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"

// extension is the ECDS resource: the filter with the plan in force.
func (b *builder) extension() *corev3.TypedExtensionConfig {
	vmID := b.module.VMID
	if vmID == "" {
		vmID = VMID
	}
	return &corev3.TypedExtensionConfig{
		Name:        FilterName,
		TypedConfig: b.pack(b.wasm(vmID, b.edge.Filter.PlanHash, b.edge.Filter.PlanJSON)),
	}
}

// fallback is the filter of a node that has never accepted a plan, kept inside
// the listener. Without it such a node would answer 500 to everything. It
// depends on neither plan nor vm_id, so that pushing those leaves listeners as
// they are, and it is made only where it is needed.
func (b *builder) fallback() *wasmfilterv3.Wasm {
	return b.wasm(VMID, "safe", b.edge.Filter.SafeJSON)
}

// wasm is the filter. Whatever makes up the VM's identity (vm_id, code,
// configuration) stays the same from plan to plan: Envoy then keeps the VM, and
// breakers keep their state.
func (b *builder) wasm(vmID, planName string, plan []byte) *wasmfilterv3.Wasm {
	return &wasmfilterv3.Wasm{Config: &wasmv3.PluginConfig{
		Name: FilterName,
		// Reverting an edit makes Envoy go back to the earlier plan's context
		// without telling the filter, which sees it by this name.
		RootId:        FilterName + "-" + planName,
		Configuration: b.pack(wrapperspb.String(string(plan))),
		Vm: &wasmv3.PluginConfig_VmConfig{VmConfig: &wasmv3.VmConfig{
			VmId:    vmID,
			Runtime: "envoy.wasm.runtime.v8",
			Code: &corev3.AsyncDataSource{Specifier: &corev3.AsyncDataSource_Local{Local: &corev3.DataSource{
				Specifier: &corev3.DataSource_Filename{Filename: b.module.Path},
			}}},
			Configuration: b.pack(wrapperspb.String(b.module.SHA256)),

			CapabilityRestrictionConfig: b.restriction(),
		}},
		// A VM that trapped comes back with the next request after the back-off;
		// the other policies leave the worker answering 503 until a push.
		FailurePolicy: wasmv3.FailurePolicy_FAIL_RELOAD,
		ReloadConfig: &wasmv3.ReloadConfig{Backoff: &corev3.BackoffStrategy{
			BaseInterval: seconds(1),
			MaxInterval:  seconds(1),
		}},
		// allow_on_headers_stop_iteration stays off: a request that waits in a
		// pool's queue must wait with its body. With it on, the first bytes of the
		// body would send the headers on, unless the filter buffered the body,
		// which ends in a 413 once it is larger than the buffer.
	}}
}
