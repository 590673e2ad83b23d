package envoy

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
)

var update = flag.Bool("update", false, "rewrite golden files")

func bootConfig() BootstrapConfig {
	return BootstrapConfig{
		NodeID: "edge-1", Cluster: "edge", XDS: "127.0.0.1:9901", Telemetry: "127.0.0.1:9902",
		Workers: 2, FilterDir: "/data/filters", Filters: []string{"ab12"}, Version: "0.1.0",
	}
}

func TestBootstrapGolden(t *testing.T) {
	tls := &TLS{CAFile: "/pki/ca.pem", CertFile: "/pki/edge.pem", KeyFile: "/pki/edge.key", ServerName: "cp.seawall", SPIFFEID: "spiffe://seawall/cp"}
	remote := bootConfig()
	remote.XDS, remote.XDSTLS = "cp.example:9901", tls
	remote.Telemetry, remote.TelemetryTLS = "192.0.2.7:9902", &TLS{CAFile: "/pki/ca.pem", ServerName: "cp.seawall"}
	for name, cfg := range map[string]BootstrapConfig{"loopback": bootConfig(), "tls": remote} {
		t.Run(name, func(t *testing.T) {
			got, err := Bootstrap(cfg)
			require.NoError(t, err)
			again, err := Bootstrap(cfg)
			require.NoError(t, err)
			require.Equal(t, string(got), string(again))
			path := filepath.Join("testdata", "bootstrap", name+".json")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, got, 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err, "run with -update")
			require.Equal(t, string(want), string(got))
			var b bootstrapv3.Bootstrap
			require.NoError(t, protojson.Unmarshal(got, &b))
			require.NoError(t, b.ValidateAll())
		})
	}
}

func TestBootstrapRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*BootstrapConfig)
		says   string
	}{
		"no node id":            {func(c *BootstrapConfig) { c.NodeID = "" }, "node id"},
		"no cluster":            {func(c *BootstrapConfig) { c.Cluster = "" }, "node cluster"},
		"no workers":            {func(c *BootstrapConfig) { c.Workers = 0 }, "workers"},
		"xds far, no TLS":       {func(c *BootstrapConfig) { c.XDS = "10.0.0.1:9901" }, "plain text is refused"},
		"xds by name, no TLS":   {func(c *BootstrapConfig) { c.XDS = "cp:9901" }, "plain text is refused"},
		"telemetry far, no TLS": {func(c *BootstrapConfig) { c.Telemetry = "[2001:db8::1]:9902" }, "telemetry address [2001:db8::1]:9902 is not on loopback"},
		"unspecified":           {func(c *BootstrapConfig) { c.XDS = "0.0.0.0:9901" }, "nobody can connect"},
		"no host":               {func(c *BootstrapConfig) { c.XDS = ":9901" }, "the host is missing"},
		"no port":               {func(c *BootstrapConfig) { c.XDS = "127.0.0.1" }, "not host:port"},
		"port 0":                {func(c *BootstrapConfig) { c.XDS = "127.0.0.1:0" }, "1 to 65535"},
		"TLS without CA":        {func(c *BootstrapConfig) { c.XDSTLS = &TLS{ServerName: "x"} }, "CA file"},
		"TLS without name":      {func(c *BootstrapConfig) { c.XDSTLS = &TLS{CAFile: "x"} }, "server name"},
		"TLS without key":       {func(c *BootstrapConfig) { c.XDSTLS = &TLS{CAFile: "x", ServerName: "x", CertFile: "x"} }, "come together"},
		"admin port":            {func(c *BootstrapConfig) { c.AdminPort = 70000 }, "not a port"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := bootConfig()
			c.change(&cfg)
			_, err := Bootstrap(cfg)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestLoopbackNames(t *testing.T) {
	for _, address := range []string{"localhost:9901", "127.0.0.1:9901", "127.8.8.8:9901", "[::1]:9901", "[::ffff:127.0.0.1]:9901"} {
		t.Run(address, func(t *testing.T) {
			_, _, loopback, err := splitAddress("xDS", address)
			require.NoError(t, err)
			require.True(t, loopback)
		})
	}
}

// extract does what Envoy does with tag extractors: all match the whole name,
// the second group is the value, the first is cut out.
func extract(name string) (rest string, labels map[string]string) {
	labels = map[string]string{}
	cut := make([]bool, len(name))
	for _, tag := range metricTags() {
		m := regexp.MustCompile(tag.regex).FindStringSubmatchIndex(name)
		if m == nil {
			continue
		}
		labels[tag.name] = name[m[4]:m[5]]
		for i := m[2]; i < m[3]; i++ {
			cut[i] = true
		}
	}
	for i := range name {
		if !cut[i] {
			rest += name[i : i+1]
		}
	}
	return rest, labels
}

func TestMetricTags(t *testing.T) {
	for name, c := range map[string]struct {
		rest   string
		labels map[string]string
	}{
		"wasmcustom.seawall.requests.service=payments.route=charge.result=good":      {"wasmcustom.seawall.requests", map[string]string{"service": "payments", "route": "charge", "result": "good"}},
		"wasmcustom.seawall.requests.service=payments.route=.result=bad":             {"wasmcustom.seawall.requests", map[string]string{"service": "payments", "route": "", "result": "bad"}},
		"wasmcustom.seawall.breaker_state.service=a-b.route=service.state=half-open": {"wasmcustom.seawall.breaker_state", map[string]string{"service": "a-b", "route": "service", "state": "half-open"}},
		"wasmcustom.seawall.requests.service=route.route=result.result=shed":         {"wasmcustom.seawall.requests", map[string]string{"service": "route", "route": "result", "result": "shed"}},
		"wasmcustom.seawall.epoch.7":                                                 {"wasmcustom.seawall.epoch.7", map[string]string{}},
		"wasmcustom.seawall.panics":                                                  {"wasmcustom.seawall.panics", map[string]string{}},
		"wasmcustom.other.requests.service=x":                                        {"wasmcustom.other.requests.service=x", map[string]string{}},
		"cluster.service=x.upstream_rq_total":                                        {"cluster.service=x.upstream_rq_total", map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			rest, labels := extract(name)
			require.Equal(t, c.rest, rest)
			require.Equal(t, c.labels, labels)
		})
	}
}
