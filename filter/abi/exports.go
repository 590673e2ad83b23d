//go:build wasip1

package abi

import "github.com/seawall-mesh/seawall/filter/plugin"

// vm is the plugin of this Wasm VM. The callbacks have no receiver, so it is
// the one global that the ABI forces on us.
var vm *plugin.VM

// Serve makes p the receiver of the proxy's callbacks. It is to be called once,
// from init.
func Serve(p *plugin.VM) { vm = p }

// Actions that callbacks return.
const (
	actionContinue = 0
	actionPause    = 1
)

//go:wasmexport proxy_abi_version_0_2_1
func proxyABIVersion() {}

//go:wasmexport proxy_on_vm_start
func proxyOnVMStart(_, size uint32) uint32 {
	begin()
	return truth(vm.Start(config(bufferVMConfig, size)))
}

//go:wasmexport proxy_on_configure
func proxyOnConfigure(root, size uint32) uint32 {
	begin()
	return truth(vm.Configure(root, config(bufferPluginConfig, size)))
}

//go:wasmexport proxy_on_request_headers
func proxyOnRequestHeaders(id, _, end uint32) uint32 {
	begin()
	pause := vm.RequestHeaders(id)
	if end == 0 {
		vm.AwaitBody(id)
	}
	if pause {
		return actionPause
	}
	return actionContinue
}

//go:wasmexport proxy_on_request_body
func proxyOnRequestBody(id, _, end uint32) uint32 {
	if end != 0 {
		vm.RequestBody(id)
	}
	return actionContinue
}

//go:wasmexport proxy_on_request_trailers
func proxyOnRequestTrailers(id, _ uint32) uint32 {
	vm.RequestBody(id)
	return actionContinue
}

//go:wasmexport proxy_on_response_headers
func proxyOnResponseHeaders(id, _, _ uint32) uint32 {
	begin()
	vm.ResponseHeaders(id)
	return actionContinue
}

//go:wasmexport proxy_on_response_trailers
func proxyOnResponseTrailers(id, _ uint32) uint32 {
	begin()
	vm.ResponseTrailers(id)
	return actionContinue
}

//go:wasmexport proxy_on_delete
func proxyOnDelete(id uint32) {
	begin()
	vm.StreamDone(id)
}

//go:wasmexport proxy_on_queue_ready
func proxyOnQueueReady(_, queue uint32) {
	begin()
	vm.QueueReady(plugin.Queue(queue))
}

//go:wasmexport proxy_on_tick
func proxyOnTick(root uint32) {
	begin()
	vm.Tick(root)
}

//go:wasmexport proxy_on_http_call_response
func proxyOnHTTPCallResponse(_, token, _, _, _ uint32) {
	begin()
	vm.CallDone(token)
}

func truth(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
