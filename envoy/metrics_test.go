//go:build linux

package envoy_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	wasmfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	wasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/envoy"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

// The bootstrap's tag extractors, in Envoy itself: the names that the filter
// gives its metrics come out as labels.
func TestMetricNamesBecomeLabels(t *testing.T) {
	code := gaugeModule([]gauge{
		{"seawall.requests.service=payments.route=charge.result=good", 7},
		{"seawall.requests.service=payments.route=charge.result=bad", 2},
		{"seawall.requests.service=payments.route=.result=bad", 3},
		{"seawall.breaker_state.service=payments.route=charge.state=half-open", 1},
		{"seawall.epoch.4", 5},
		{"seawall.panics", 6},
	})
	sum := sha256.Sum256(code)
	m := envoy.Module{Bytes: code, SHA256: hex.EncodeToString(sum[:])}
	data := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(data, "filters"), 0o755))
	filter := &hcmv3.HttpFilter{Name: "seawall", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, &wasmfilterv3.Wasm{Config: &wasmv3.PluginConfig{
		Name: "seawall",
		Vm: &wasmv3.PluginConfig_VmConfig{VmConfig: &wasmv3.VmConfig{
			Runtime: "envoy.wasm.runtime.v8",
			Code: &corev3.AsyncDataSource{Specifier: &corev3.AsyncDataSource_Local{Local: &corev3.DataSource{
				Specifier: &corev3.DataSource_Filename{Filename: filepath.Join(data, "filters", envoy.ModuleFile(m.SHA256))},
			}}},
		}},
	}})}}
	up := newUpstream(t)
	l := realenvoy.Launch(t, envoy.Config{
		DataDir: data, Module: m,
		Bootstrap: envoy.BootstrapConfig{NodeID: "edge-1", Cluster: "edge", XDS: serveADS(t, "edge-1", up, filter), Telemetry: "127.0.0.1:9"},
	})
	requireOK(t, ready(t, l))

	_, body, err := l.Admin().Get(context.Background(), "/stats/prometheus?filter=seawall")
	require.NoError(t, err)
	var got []string
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "seawall_") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	require.ElementsMatch(t, []string{
		`seawall_requests{service="payments",route="charge",result="good"} 7`,
		`seawall_requests{service="payments",route="charge",result="bad"} 2`,
		`seawall_requests{service="payments",route="",result="bad"} 3`,
		`seawall_breaker_state{service="payments",route="charge",state="half-open"} 1`,
		`seawall_epoch_4{} 5`,
		`seawall_panics{} 6`,
	}, got)
}

type gauge struct {
	name  string
	value byte // below 64
}

// gaugeModule assembles a Wasm module that, when its VM starts, sets gauges.
func gaugeModule(gauges []gauge) []byte {
	const (
		i32, i64   = 0x7f, 0x7e
		text, ret  = 1024, 16 // where names lie, and where a metric's id is written
		end, drop  = 0x0b, 0x1a
		call, load = 0x10, 0x28
	)
	fn := func(params, results []byte) []byte { return cat([]byte{0x60}, vec(params), vec(results)) }
	types := list(
		fn([]byte{i32, i32, i32, i32}, []byte{i32}), // proxy_define_metric
		fn([]byte{i32, i64}, []byte{i32}),           // proxy_record_metric
		fn(nil, nil),                                // proxy_abi_version_0_2_1
		fn([]byte{i32}, []byte{i32}),                // proxy_on_memory_allocate
		fn([]byte{i32, i32}, []byte{i32}),           // proxy_on_vm_start
		fn([]byte{i32, i32}, nil),                   // proxy_on_context_create
	)
	imports := list(
		cat(vec([]byte("env")), vec([]byte("proxy_define_metric")), []byte{0, 0}),
		cat(vec([]byte("env")), vec([]byte("proxy_record_metric")), []byte{0, 1}),
	)
	export := func(name string, kind, index byte) []byte { return cat(vec([]byte(name)), []byte{kind, index}) }
	exports := list(
		export("memory", 2, 0), export("proxy_abi_version_0_2_1", 0, 2), export("proxy_on_memory_allocate", 0, 3),
		export("proxy_on_vm_start", 0, 4), export("proxy_on_context_create", 0, 5),
	)
	var names, start []byte
	num := func(n int) []byte { return cat([]byte{0x41}, sleb(n)) }
	for _, g := range gauges {
		start = cat(start, num(1), num(text+len(names)), num(len(g.name)), num(ret), []byte{call, 0, drop},
			num(ret), []byte{load, 2, 0, 0x42, g.value, call, 1, drop})
		names = append(names, g.name...)
	}
	body := func(code []byte) []byte { return vec(cat([]byte{0}, code, []byte{end})) }
	section := func(id byte, content []byte) []byte { return cat([]byte{id}, vec(content)) }
	return cat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, types),
		section(2, imports),
		section(3, vec([]byte{2, 3, 4, 5})),
		section(5, list([]byte{0, 2})), // two pages
		section(7, exports),
		section(10, list(body(nil), body(num(32768)), body(cat(start, num(1))), body(nil))),
		section(11, list(cat([]byte{0}, num(text), []byte{end}, vec(names)))),
	)
}

func cat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func vec(b []byte) []byte { return append(uleb(len(b)), b...) }

func list(items ...[]byte) []byte { return append(uleb(len(items)), cat(items...)...) }

func uleb(n int) []byte {
	var out []byte
	for ; n >= 0x80; n >>= 7 {
		out = append(out, byte(n)|0x80)
	}
	return append(out, byte(n))
}

func sleb(n int) []byte {
	var out []byte
	for ; n >= 0x40; n >>= 7 {
		out = append(out, byte(n)|0x80)
	}
	return append(out, byte(n)&0x7f)
}
