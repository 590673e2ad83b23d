//go:build linux

package realenvoy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
)

// HostConfig is a Host's. Wasm is required, the rest has defaults. What it
// shares with host.Config has the same meaning.
type HostConfig struct {
	Wasm    []byte
	Workers int // 2

	VMID                   string // "seawall", as are the plugin's name and root id
	VMConfig, PluginConfig []byte
	// HeadersStopIteration is allow_on_headers_stop_iteration, see host.Config.
	HeadersStopIteration bool
	Node                 host.Node // "test-node", "test-cluster"
	Policy               host.Policy
	ReloadBackoff        time.Duration // 1 s

	// Routes are the names that Request.Route may have.
	Routes []Route
	// ExpectedTimeouts has the router tell the upstream how long it gives it, in
	// x-envoy-expected-rq-timeout-ms (and clients in other x-envoy- headers).
	// The control plane's edge does not.
	ExpectedTimeouts bool
	// Clusters are where calls out may go, beside "refused", which nobody
	// listens at.
	Clusters map[string]host.CallHandler
	// HideMetrics is a stats_matcher: metrics with this prefix read 0 for ever.
	HideMetrics string
	// EndCounter and HeaderMetadata are as in host.Config.
	EndCounter     string
	HeaderMetadata []host.HeaderMetadata
}

// Route is a route of the edge. The name "" is the one that is there anyway,
// without timeouts.
type Route struct {
	Name        string
	Timeout     time.Duration // 0: none
	IdleTimeout time.Duration // 0: that of the listener, 5 min
}

// Host is a real Envoy with the surface of host.Host, as far as that can be
// had: it runs one module as HTTP filter before an upstream whose answers the
// test gives. What cannot be had is in the package's documentation.
type Host struct {
	t       testing.TB
	cfg     HostConfig
	envoy   *Envoy
	edge    string // address
	log     string // path of Envoy's log
	logMu   sync.Mutex
	logRead int64
	lines   map[string][]string // by vm_id
	workers []*Worker

	gate  *gate
	calls map[string]string // addresses by cluster

	pushMu   sync.Mutex
	rejected uint64
	streams  int
	pushed   int
	vmID     string
}

// NewHost starts an Envoy with a plugin configuration. As with host.New, one
// that the plugin refuses is a host.ErrRejected, but the Envoy is there then
// and waits for a better one by Push.
func NewHost(t testing.TB, cfg HostConfig) (*Host, error) {
	t.Helper()
	if cfg.Workers == 0 {
		cfg.Workers = 2
	}
	for _, d := range []struct {
		s   *string
		def string
	}{{&cfg.VMID, "seawall"}, {&cfg.Node.ID, "test-node"}, {&cfg.Node.Cluster, "test-cluster"}, {(*string)(&cfg.Policy), string(host.FailReload)}} {
		if *d.s == "" {
			*d.s = d.def
		}
	}
	if cfg.ReloadBackoff == 0 {
		cfg.ReloadBackoff = time.Second
	}
	Binary(t) // ends the test here where there is none
	h := &Host{t: t, cfg: cfg, gate: newGate(t), vmID: cfg.VMID, calls: map[string]string{}, lines: map[string][]string{}}
	for name, handler := range cfg.Clusters {
		h.calls[name] = callServer(t, name, handler).Listener.Addr().String()
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "plugin.wasm"), cfg.Wasm, 0o644))
	h.write(dir, Update{
		Update: host.Update{VMID: cfg.VMID, PluginConfig: cfg.PluginConfig}, HeadersStopIteration: cfg.HeadersStopIteration,
	})
	boot, err := json.Marshal(h.bootstrap(dir))
	require.NoError(t, err)
	h.envoy = Start(t, Config{Static: string(boot), Workers: cfg.Workers, DataDir: dir})
	h.log = filepath.Join(dir, "envoy.log")
	h.envoy.WaitLive()
	h.edge = h.envoy.Address("edge")
	verdict := h.awaitVerdict(0)
	for i := range cfg.Workers {
		h.workers = append(h.workers, newWorker(h, i))
	}
	return h, verdict
}

// Envoy is the process.
func (h *Host) Envoy() *Envoy { return h.envoy }

// Worker is a client of the i-th worker thread, from 0.
func (h *Host) Worker(i int) *Worker { return h.workers[i] }

// Workers is how many there are.
func (h *Host) Workers() int { return h.cfg.Workers }

// Update is a configuration push.
type Update struct {
	host.Update
	Policy host.Policy // "": HostConfig's
	// HeadersStopIteration is allow_on_headers_stop_iteration.
	HeadersStopIteration bool
}

// Push applies a configuration and waits for Envoy's verdict: host.ErrRejected
// is a NACK. nil says, as in host.Host, only that the canary liked it.
func (h *Host) Push(u Update) error {
	h.t.Helper()
	h.pushMu.Lock()
	defer h.pushMu.Unlock()
	var before verdicts
	require.Eventually(h.t, func() bool {
		v, err := h.verdicts()
		before = v
		return err == nil
	}, startTimeout, pollShort, "envoy's admin does not answer")
	h.write(h.envoy.Dir(), u)
	return h.awaitVerdict(before.ok + before.rejected)
}

type verdicts struct{ ok, rejected uint64 }

func (h *Host) verdicts() (verdicts, error) {
	var v verdicts
	stats, err := h.envoy.Admin().Stats(context.Background(), `extension_config_discovery\.http_filter\.seawall\.`)
	if err != nil {
		return v, err
	}
	for name, n := range stats {
		switch name[strings.LastIndex(name, ".")+1:] {
		case "update_success":
			v.ok = n
		case "update_rejected":
			v.rejected = n
		}
	}
	return v, nil
}

// awaitVerdict waits for one more verdict than there were.
func (h *Host) awaitVerdict(seen uint64) error {
	h.t.Helper()
	var now verdicts
	rejectedBefore := h.rejected
	require.Eventually(h.t, func() bool {
		v, err := h.verdicts() // a busy admin answers the next time
		now = v
		return err == nil && now.ok+now.rejected > seen
	}, startTimeout, pollShort, "envoy says nothing of the configuration")
	h.rejected = now.rejected
	if now.rejected > rejectedBefore {
		return fmt.Errorf("%w seawall", host.ErrRejected)
	}
	return nil
}

// write puts the filter's configuration where Envoy watches for it, as a whole.
func (h *Host) write(dir string, u Update) {
	h.t.Helper()
	if u.VMID != "" {
		h.vmID = u.VMID
	}
	policy := u.Policy
	if policy == "" {
		policy = h.cfg.Policy
	}
	h.pushed++
	doc := object{
		"version_info": fmt.Sprint(h.pushed),
		"resources": []any{object{
			"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
			"name":  "seawall",
			"typed_config": object{
				"@type": wasmType,
				"config": object{
					"name": "seawall", "root_id": "seawall",
					"configuration":  stringValue(u.PluginConfig),
					"failure_policy": string(policy),
					"reload_config": object{"backoff": object{
						"base_interval": seconds(h.cfg.ReloadBackoff), "max_interval": seconds(h.cfg.ReloadBackoff),
					}},
					"allow_on_headers_stop_iteration": u.HeadersStopIteration,
					"vm_config": object{
						"vm_id": h.vmID, "runtime": "envoy.wasm.runtime.v8",
						"code":          object{"local": object{"filename": filepath.Join(dir, "plugin.wasm")}},
						"configuration": stringValue(h.cfg.VMConfig),
					},
				},
			},
		}},
	}
	raw, err := json.Marshal(doc)
	require.NoError(h.t, err)
	tmp := filepath.Join(dir, "filter.tmp")
	require.NoError(h.t, os.WriteFile(tmp, raw, 0o644))
	require.NoError(h.t, os.Rename(tmp, filepath.Join(dir, "filter.json")))
}

// Metrics are the counters and gauges that plugins defined, by name (without
// wasmcustom.), whichever vm_id defined them.
func (h *Host) Metrics() map[string]uint64 {
	h.t.Helper()
	stats, err := h.envoy.Admin().Stats(context.Background(), "^wasmcustom\\.")
	require.NoError(h.t, err)
	out := map[string]uint64{}
	for name, n := range maps.All(stats) {
		out[strings.TrimPrefix(name, "wasmcustom.")] = n
	}
	return out
}

var pluginLine = regexp.MustCompile(`\[wasm\].*? wasm log (?:seawall )+(\S+): (.*)`)

// Logs are what VMs with that vm_id logged, oldest first. Lines say neither
// which VM nor when.
func (h *Host) Logs(vmID string) []string {
	h.t.Helper()
	h.logMu.Lock()
	defer h.logMu.Unlock()
	f, err := os.Open(h.log)
	require.NoError(h.t, err)
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.NewSectionReader(f, h.logRead, 1<<30))
	require.NoError(h.t, err)
	raw = raw[:bytes.LastIndexByte(raw, '\n')+1] // a line may be half written
	h.logRead += int64(len(raw))
	for line := range strings.Lines(string(raw)) {
		if m := pluginLine.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			h.lines[m[1]] = append(h.lines[m[1]], m[2])
		}
	}
	return slices.Clone(h.lines[vmID])
}

func (h *Host) dial() net.Conn {
	h.t.Helper()
	conn, err := net.DialTimeout("tcp", h.edge, 5*time.Second)
	require.NoError(h.t, err)
	h.t.Cleanup(func() { _ = conn.Close() })
	return conn
}
