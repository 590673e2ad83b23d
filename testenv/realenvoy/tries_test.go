//go:build linux

package realenvoy_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
	"github.com/seawall-mesh/seawall/testenv/hosttest"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

type object = map[string]any

// TestTries runs the cases about the upstream chain in one real Envoy.
func TestTries(t *testing.T) {
	module := filepath.Join(t.TempDir(), "probe.wasm")
	require.NoError(t, os.WriteFile(module, hosttest.Probe(t), 0o600))
	h := &trying{t: t}
	service := httptest.NewServer(h)
	t.Cleanup(service.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	text := func(s string) object {
		return object{"@type": "type.googleapis.com/google.protobuf.StringValue", "value": s}
	}
	probe := func(config string) object {
		return object{"name": "probe-" + config, "typed_config": object{
			"@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
			"config": object{
				"name": config, "root_id": config, "configuration": text(config), "failure_policy": "FAIL_RELOAD",
				"vm_config": object{"vm_id": "probe", "runtime": "envoy.wasm.runtime.v8", "code": object{"local": object{"filename": module}}},
			},
		}}
	}
	socket := func(addr string) object {
		_, port, err := net.SplitHostPort(addr)
		require.NoError(t, err)
		return object{"socket_address": object{"address": "127.0.0.1", "port_value": json.Number(port)}}
	}
	cluster := func(name, addr string) object {
		return object{
			"name": name, "connect_timeout": "1s",
			"load_assignment": object{"cluster_name": name, "endpoints": []any{object{"lb_endpoints": []any{object{"endpoint": object{"address": socket(addr)}}}}}},
			"typed_extension_protocol_options": object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": object{"http_protocol_options": object{}},
				"http_filters": []any{probe(hosttest.AttemptConfig), object{"name": "codec", "typed_config": object{
					"@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
				}}},
			}},
		}
	}
	retry := object{
		"retry_on": "reset,retriable-status-codes", "retriable_status_codes": []int{503}, "num_retries": hosttest.TryRetries,
		"retry_back_off": object{"base_interval": "0.01s", "max_interval": "0.01s"},
	}
	manager := object{
		"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "edge",
		"route_config": object{"virtual_hosts": []any{object{"name": "all", "domains": []any{"*"}, "routes": []any{object{
			"match": object{"prefix": "/"}, "route": object{"cluster_header": "x-test-cluster", "retry_policy": retry},
		}}}}},
		"http_filters": []any{probe("noop"), object{"name": "router", "typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}},
	}
	config, err := json.Marshal(object{
		"admin": object{"address": socket("127.0.0.1:0")},
		"static_resources": object{
			"clusters": []any{cluster("upstream", service.Listener.Addr().String()), cluster("refused", closed.Addr().String())},
			"listeners": []any{object{
				"name": "edge", "address": socket("127.0.0.1:0"),
				"filter_chains": []any{object{"filters": []any{object{"name": "hcm", "typed_config": manager}}}},
			}},
		},
	})
	require.NoError(t, err)
	e := realenvoy.Start(t, realenvoy.Config{Static: string(config), Workers: 1})
	e.WaitLive()
	h.edge = "http://" + e.Address("edge")
	hosttest.ExerciseTries(t, h)
}

// trying is a client and an upstream.
type trying struct {
	t    *testing.T
	edge string

	mu      sync.Mutex
	answers []string
	seen    []host.Headers
}

func (h *trying) Play(r host.Request, answers ...string) (host.Result, []host.Headers) {
	h.mu.Lock()
	h.answers, h.seen = answers, nil
	h.mu.Unlock()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.edge+"/", nil)
	require.NoError(h.t, err)
	req.Header.Set("x-test-cluster", "upstream")
	if r.Cluster != "" {
		req.Header.Set("x-test-cluster", r.Cluster)
	}
	for _, hd := range r.Headers {
		req.Header.Add(hd.Name, hd.Value)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(h.t, err)
	defer func() { _ = resp.Body.Close() }()
	result := host.Result{Status: resp.StatusCode, Headers: headersOf(resp.Header)}
	result.Body, err = io.ReadAll(resp.Body)
	require.NoError(h.t, err)
	h.mu.Lock()
	defer h.mu.Unlock()
	return result, h.seen
}

func (h *trying) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.seen = append(h.seen, headersOf(r.Header))
	answer := h.answers[0]
	if len(h.answers) > 1 {
		h.answers = h.answers[1:]
	}
	h.mu.Unlock()
	if answer == "reset" {
		panic(http.ErrAbortHandler)
	}
	status, err := strconv.Atoi(answer)
	if err != nil {
		h.t.Errorf("answer %q: %v", answer, err)
		status = http.StatusTeapot
	}
	w.WriteHeader(status)
}

func headersOf(from http.Header) (out host.Headers) {
	for name, values := range from {
		for _, v := range values {
			out = append(out, host.Header{Name: strings.ToLower(name), Value: v})
		}
	}
	return out
}
