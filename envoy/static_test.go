//go:build linux

package envoy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/envoy"
	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

// validate runs `envoy --mode validate` in dir, which starts the Wasm plugin
// too.
func validate(t *testing.T, dir, file string) {
	t.Helper()
	bin := realenvoy.Binary(t)
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin.Path, "--mode", "validate", "--config-path", file, "--log-level", "warning")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NotContains(t, string(out), "deprecated")
}

// filterModule is the built filter where there is one, else a stand-in that
// starts with any configuration.
func filterModule(t *testing.T) []byte {
	t.Helper()
	if code, err := os.ReadFile(filepath.Join("..", "bin", "filter.wasm")); err == nil {
		return code
	}
	t.Log("bin/filter.wasm is not built (make wasm): a stand-in is started instead")
	return gaugeModule(nil)
}

func TestStaticExample(t *testing.T) {
	raw, err := os.ReadFile("static.yaml")
	require.NoError(t, err)

	t.Run("its plan is one that the filter reads", func(t *testing.T) {
		path, err := yaml.PathString("$.static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.config.configuration.value")
		require.NoError(t, err)
		var text string
		require.NoError(t, path.Read(bytes.NewReader(raw), &text))
		plan, err := contract.ParsePlan([]byte(text))
		require.NoError(t, err)
		require.Equal(t, "payments/charge", plan.Routes[0].Name)
		require.NotNil(t, plan.Routes[0].Breaker)
	})
	t.Run("its tags are those of the bootstrap", func(t *testing.T) {
		boot, err := envoy.Bootstrap(envoy.BootstrapConfig{NodeID: "n", Cluster: "c", Workers: 1, XDS: "127.0.0.1:1", Telemetry: "127.0.0.1:2"})
		require.NoError(t, err)
		require.Equal(t, tagsOf(t, boot), tagsOf(t, raw))
	})
	t.Run("envoy takes it", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "filter.wasm"), filterModule(t), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "static.yaml"), raw, 0o600))
		validate(t, dir, "static.yaml")
	})
}

func tagsOf(t *testing.T, doc []byte) any {
	t.Helper()
	var got struct {
		Stats struct {
			Tags []struct {
				Name  string `yaml:"tag_name"`
				Regex string `yaml:"regex"`
			} `yaml:"stats_tags"`
		} `yaml:"stats_config"`
	}
	require.NoError(t, yaml.Unmarshal(doc, &got))
	require.NotEmpty(t, got.Stats.Tags)
	return got
}

func TestEnvoyTakesTheTLSBootstrap(t *testing.T) {
	dir := t.TempDir()
	cert, key := selfSigned(t, dir)
	tls := &envoy.TLS{CAFile: cert, CertFile: cert, KeyFile: key, ServerName: "cp.seawall", SPIFFEID: "spiffe://seawall/cp"}
	raw, err := envoy.Bootstrap(envoy.BootstrapConfig{
		NodeID: "n", Cluster: "c", Workers: 1,
		XDS: "cp.example:9901", XDSTLS: tls, Telemetry: "192.0.2.7:9902", TelemetryTLS: tls,
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bootstrap.json"), raw, 0o600))
	validate(t, dir, "bootstrap.json")
}

func selfSigned(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"cp.seawall"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &priv.PublicKey, priv)
	require.NoError(t, err)
	raw, err := x509.MarshalECPrivateKey(priv)
	require.NoError(t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), 0o600))
	return cert, key
}
