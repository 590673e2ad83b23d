package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// pair is a certificate and its key, in PEM.
func pair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}, &x509.Certificate{}, private.Public(), private)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

const tlsEdge = `apiVersion: seawall.io/v1alpha1
kind: Edge
metadata: {name: e}
spec: {listeners: [{port: 8443, tls: {certFile: CERT, keyFile: KEY}}]}
---
`

// TestCertificateFiles: what listeners name is looked at when the policy is
// loaded.
func TestCertificateFiles(t *testing.T) {
	t.Parallel()
	cert, key := pair(t)
	_, otherKey := pair(t)
	cases := map[string]struct {
		cert, key string // names
		findings  []string
		loads     bool
	}{
		"relative to the policy":      {"edge.crt", "edge.key", nil, true},
		"the key of another":          {"edge.crt", "other.key", []string{diag.BadCertificate}, false},
		"exchanged":                   {"edge.key", "edge.crt", []string{diag.BadCertificate}, false},
		"neither is here":             {"/nonexistent/a.crt", "/nonexistent/a.key", []string{diag.FileNotHere, diag.FileNotHere}, true},
		"a device, which never ends":  {"/dev/zero", "edge.key", []string{diag.FileNotHere}, true},
		"a folder":                    {"/", "edge.key", []string{diag.FileNotHere}, true},
		"larger than any certificate": {"large.crt", "edge.key", []string{diag.FileNotHere}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			put(t, dir+"/edge.crt", cert)
			put(t, dir+"/edge.key", key)
			put(t, dir+"/other.key", otherKey)
			put(t, dir+"/large.crt", strings.Repeat("x", maxCertBytes+1))
			put(t, dir+"/a.yaml", strings.NewReplacer("CERT", c.cert, "KEY", c.key).Replace(tlsEdge)+serviceNamed("a"))
			set, findings, err := Load(dir)
			require.NoError(t, err)
			var codes []string
			for _, d := range findings {
				codes = append(codes, d.Code)
			}
			require.Equal(t, c.findings, codes)
			require.Equal(t, c.loads, set != nil)
			if c.loads {
				tls := set.Edges[0].Spec.Listeners[0].TLS
				require.True(t, filepath.IsAbs(tls.CertFile) && filepath.IsAbs(tls.KeyFile))
			}
		})
	}
}
