package main

// The configurations are Envoy's own YAML, so that anyone can run them without
// Seawall.

const nativePair = `
          - name: envoy.filters.http.admission_control
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.admission_control.v3.AdmissionControl
              success_criteria: {http_criteria: {http_success_status: [{start: 100, end: 500}]}, grpc_criteria: {grpc_success_status: [0]}}
          - name: envoy.filters.http.fault
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault`

const wasmFilter = `
          - name: seawall
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config:
                name: seawall
                root_id: seawall
                failure_policy: FAIL_RELOAD
                configuration: {"@type": type.googleapis.com/google.protobuf.StringValue, value: %s}
                vm_config:
                  vm_id: seawall
                  runtime: envoy.wasm.runtime.v8
                  capability_restriction_config: {allowed_capabilities: %s}
                  configuration: {"@type": type.googleapis.com/google.protobuf.StringValue, value: "%s"}
                  code: {local: {filename: %s}}`

// attemptChain is a cluster's chain with the filter in its attempt role, in the
// VM of the listener's.
const attemptChain = `
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http_protocol_options: {}}
        http_filters:%s
          - name: envoy.filters.http.upstream_codec
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec}`

const edgeConfig = `
node: {id: bench, cluster: bench}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: {port}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge{accessLog}
          route_config:
            name: bench
            virtual_hosts:
            - name: bench
              domains: ["*"]
              routes: [{name: bench/r50, match: {prefix: /}, route: {cluster: upstream}{routeHeaders}}]
          http_filters:{filters}
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: upstream{limits}
    load_assignment: {cluster_name: upstream, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {upstreamPort}}}}}]}]}
  - name: seawall-telemetry
    load_assignment: {cluster_name: seawall-telemetry, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {sinkPort}}}}}]}]}
`

const endSignalLog = `
          access_log:
          - name: envoy.access_loggers.stats
            filter:
              or_filter:
                filters:
                - status_code_filter: {comparison: {op: GE, value: {default_value: 400, runtime_key: seawall.none}}}
                - status_code_filter: {comparison: {op: LE, value: {default_value: 199, runtime_key: seawall.none}}}
                - response_flag_filter: {}
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config
              stat_prefix: wasmcustom
              counters: [{stat: {name: seawall.other_ends}, value_fixed: 1}]`

// deadlineHeaders hands on what is left of the time, as every route of ours
// does.
const deadlineHeaders = `, request_headers_to_add: [{append_action: OVERWRITE_IF_EXISTS_OR_ADD, header: {key: x-seawall-deadline-ms, value: "%REQ(x-envoy-expected-rq-timeout-ms)%"}}]`

// benchPolicy is the beginning of the policies that `seawall up` runs here: a
// service at a port, and what is to come of its resilience policy.
const benchPolicy = `apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: bench}
spec: {hosts: [bench.local], endpoints: [{address: 127.0.0.1, port: %s}]}
---
apiVersion: seawall.io/v1alpha1
kind: ResiliencePolicy
metadata: {name: bench}
spec:
  service: bench
`

// queueLimits are Envoy's own way to say 5 at once and 10 waiting.
const queueLimits = `
    circuit_breakers: {thresholds: [{max_connections: 5, max_pending_requests: 10}]}`

const upstreamConfig = `
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: {port}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: upstream
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: '{"ok":true}'}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`
