//go:build linux

package realenvoy

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/seawall-mesh/seawall/testenv/host"
)

type object = map[string]any

const (
	wasmType     = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"
	hcmType      = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	routerType   = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
	stringType   = "type.googleapis.com/google.protobuf.StringValue"
	statsLogType = "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config"
	earlyType    = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"

	// Headers that the test's client and upstream speak by.
	routeHeader   = "x-test-route"   // picks the route
	clusterHeader = "x-test-cluster" // picks the cluster
	idHeader      = "x-test-id"      // tells the upstream which request it is

	pollShort = 2 * time.Millisecond

	// LateTimeout is the route's timeout of requests to the cluster "late".
	LateTimeout = 50 * time.Millisecond
)

func stringValue(b []byte) object { return object{"@type": stringType, "value": string(b)} }

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s" }

// bootstrap is the edge as the control plane makes it (translate), as far as
// filters can tell: the same header rules, timeouts and balancing.
func (h *Host) bootstrap(dir string) object {
	clusters := []any{
		cluster("upstream", h.gate.addr()),
		cluster("refused", refusing()),
		object{"name": "empty", "connect_timeout": "1s", "load_assignment": object{"cluster_name": "empty"}},
	}
	full := cluster("full", h.gate.addr())
	full["circuit_breakers"] = object{"thresholds": []any{object{"max_requests": 0, "max_connections": 0, "max_pending_requests": 0}}}
	clusters = append(clusters, full)
	http2 := cluster("http2", h.gate.addr())
	http2["typed_extension_protocol_options"] = object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
		"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
		"explicit_http_config": object{"http2_protocol_options": object{}},
	}}
	clusters = append(clusters, http2)
	for name, addr := range h.calls {
		clusters = append(clusters, cluster(name, addr))
	}
	boot := object{
		"admin": object{"address": socket("127.0.0.1:0")},
		"node":  object{"id": h.cfg.Node.ID, "cluster": h.cfg.Node.Cluster},
		"static_resources": object{
			"listeners": []any{h.listener(dir)},
			"clusters":  clusters,
		},
	}
	if h.cfg.HideMetrics != "" {
		boot["stats_config"] = object{"stats_matcher": object{"exclusion_list": object{"patterns": []any{
			object{"prefix": "wasmcustom." + h.cfg.HideMetrics},
		}}}}
	}
	return boot
}

func (h *Host) listener(dir string) object {
	manager := object{
		"@type": hcmType, "stat_prefix": "edge", "codec_type": "AUTO",
		"generate_request_id": true,
		"stream_idle_timeout": "300s",
		"early_header_mutation_extensions": []any{object{
			"name": "envoy.http.early_header_mutation.header_mutation",
			"typed_config": object{"@type": earlyType, "mutations": []any{
				object{"remove_on_match": object{"key_matcher": object{"prefix": "x-envoy-"}}},
			}},
		}},
		"route_config": object{"virtual_hosts": []any{
			object{"name": "nowhere", "domains": []any{noRouteHost}},
			object{"name": "all", "domains": []any{"*"}, "routes": h.routes()},
		}},
		"http_filters": []any{
			object{"name": "seawall", "config_discovery": object{
				"config_source": object{"path_config_source": object{"path": dir + "/filter.json"}},
				"type_urls":     []any{wasmType},
			}},
			object{"name": "router", "typed_config": object{"@type": routerType, "suppress_envoy_headers": !h.cfg.ExpectedTimeouts}},
		},
	}
	if len(h.cfg.HeaderMetadata) > 0 {
		manager["http_filters"] = append([]any{headerMetadata(h.cfg.HeaderMetadata)}, manager["http_filters"].([]any)...)
	}
	if h.cfg.EndCounter != "" {
		manager["access_log"] = []any{endCounter(h.cfg.EndCounter)}
	}
	return object{
		"name": "edge", "address": socket("127.0.0.1:0"),
		"filter_chains":             []any{object{"filters": []any{object{"name": "hcm", "typed_config": manager}}}},
		"enable_reuse_port":         false,
		"connection_balance_config": object{"exact_balance": object{}},
	}
}

func endCounter(name string) object {
	status := func(op string, value int) object {
		return object{"status_code_filter": object{"comparison": object{"op": op, "value": object{"default_value": value, "runtime_key": "test.none"}}}}
	}
	return object{
		"name":         "ends",
		"filter":       object{"or_filter": object{"filters": []any{status("LE", 199), status("GE", 400), object{"response_flag_filter": object{}}}}},
		"typed_config": object{"@type": statsLogType, "stats_scope": object{"prefix": "wasmcustom"}, "counters": []any{object{"stat": object{"name": name}, "value_fixed": 1}}},
	}
}

func headerMetadata(rules []host.HeaderMetadata) object {
	var out []any
	for _, r := range rules {
		out = append(out, object{"header": r.Header, "on_header_present": object{"metadata_namespace": r.Namespace, "key": r.Key, "type": "STRING"}})
	}
	return object{"name": "metadata", "typed_config": object{
		"@type":          "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
		"response_rules": out,
	}}
}

// noRouteHost is the :authority for which there is no route.
const noRouteHost = "nowhere.test"

func (h *Host) routes() []any {
	var out []any
	for _, r := range append(h.cfg.Routes, Route{}) {
		action := object{"cluster_header": clusterHeader, "timeout": seconds(r.Timeout)}
		if r.IdleTimeout > 0 {
			action["idle_timeout"] = seconds(r.IdleTimeout)
		}
		match := object{"prefix": "/"}
		route := object{"match": match, "route": action}
		if r.Name != "" {
			route["name"] = r.Name
			match["headers"] = []any{object{"name": routeHeader, "string_match": object{"exact": r.Name}}}
		}
		out = append(out, late(route), route)
	}
	direct := object{
		"match":           object{"prefix": "/", "headers": []any{object{"name": clusterHeader, "string_match": object{"exact": "direct"}}}},
		"direct_response": object{"status": 404},
	}
	return append([]any{direct}, out...)
}

// late is a route's twin for requests to "late".
func late(route object) object {
	match := maps.Clone(route["match"].(object))
	headers, _ := match["headers"].([]any)
	match["headers"] = append(slices.Clip(headers), object{"name": clusterHeader, "string_match": object{"exact": "late"}})
	twin := maps.Clone(route)
	twin["match"], twin["route"] = match, object{"cluster": "upstream", "timeout": seconds(LateTimeout)}
	return twin
}

func cluster(name, addr string) object {
	return object{
		"name": name, "connect_timeout": "1s",
		"load_assignment": object{"cluster_name": name, "endpoints": []any{object{"lb_endpoints": []any{
			object{"endpoint": object{"address": socket(addr)}},
		}}}},
	}
}

func socket(addr string) object {
	hostname, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(fmt.Sprintf("address %q: %v", addr, err)) // from net.Listener: has a port
	}
	n, _ := strconv.Atoi(port)
	return object{"socket_address": object{"address": hostname, "port_value": n}}
}

// refusing is an address that nobody listens at.
func refusing() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:1"
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
