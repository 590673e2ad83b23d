package translate

import (
	"slices"

	wasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"

	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// capabilities are what a VM may call and what is called of it, by the names of
// the ABI and of WASI: all that the module imports and exports, and nothing
// else (TestCapabilitiesAreTheModules).
var capabilities = []string{
	"args_get", "args_sizes_get", "clock_time_get", "environ_get", "environ_sizes_get", "fd_write", "poll_oneoff", "proc_exit", "random_get", "sched_yield",

	"proxy_continue_stream", "proxy_define_metric", "proxy_dequeue_shared_queue", "proxy_enqueue_shared_queue", "proxy_get_buffer_bytes",
	"proxy_get_current_time_nanoseconds", "proxy_get_header_map_value", "proxy_get_metric", "proxy_get_property", "proxy_get_shared_data",
	"proxy_http_call", "proxy_increment_metric", "proxy_log", "proxy_record_metric", "proxy_register_shared_queue", "proxy_replace_header_map_value",
	"proxy_resolve_shared_queue", "proxy_send_local_response", "proxy_set_effective_context", "proxy_set_property", "proxy_set_shared_data", "proxy_set_tick_period_milliseconds",

	"proxy_on_configure", "proxy_on_delete", "proxy_on_http_call_response", "proxy_on_queue_ready", "proxy_on_request_headers",
	"proxy_on_response_trailers", "proxy_on_tick", "proxy_on_vm_start",
}

// requestBody is what the filter needs to hear of where a route gives bodies
// less time than Envoy gives all.
var requestBody = []string{"proxy_on_request_body", "proxy_on_request_trailers"}

// responseHeaders is what only the attempt role needs to hear of. Each request
// of an edge pays for it, so other edges go without.
const responseHeaders = "proxy_on_response_headers"

// restriction is the allow-list of the edge's VMs. It is part of a VM's
// identity: an edge whose first or last cluster with an attempt role, or route
// that times bodies, comes or goes gets new VMs, which find the records of the
// old ones.
func (b *builder) restriction() *wasmv3.CapabilityRestrictionConfig {
	allowed := map[string]*wasmv3.SanitizationConfig{}
	for _, name := range Capabilities(attempts(b.edge), b.edge.HTTP.ShorterBodies) {
		allowed[name] = &wasmv3.SanitizationConfig{}
	}
	return &wasmv3.CapabilityRestrictionConfig{AllowedCapabilities: allowed}
}

// Capabilities is the allow-list of an edge's VMs, with or without clusters
// that have an attempt role, and routes that time bodies.
func Capabilities(attempts, bodies bool) []string {
	allowed := slices.Clone(capabilities)
	if attempts {
		allowed = append(allowed, responseHeaders)
	}
	if bodies {
		allowed = append(allowed, requestBody...)
	}
	return allowed
}

func attempts(edge ir.Edge) bool {
	for _, c := range edge.Clusters {
		if c.Attempts {
			return true
		}
	}
	return false
}
