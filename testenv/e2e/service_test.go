//go:build linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// TestServiceDetails: what a Service says besides where it is.
func TestServiceDetails(t *testing.T) {
	t.Parallel()
	service, well, ill, flaky := newUpstream(t), newUpstream(t), newUpstream(t), newUpstream(t)
	ill.Set("/healthz", upstream.Behaviour{Status: 500})
	flaky.Set("/", upstream.Behaviour{Status: 503})
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Proto, " ", r.TLS.ServerName)
	}))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	pki := t.TempDir()
	ca := filepath.Join(pki, "ca.pem")
	right := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	_, wrong := newCertificate(t, "other.local")
	require.NoError(t, os.WriteFile(ca, right, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(pki, "renewed.pem"), wrong, 0o644))

	at := endpointsOf(service.Addr())
	tlsAt := endpointsOf(secure.Listener.Addr().String())
	const all = "routes: [{name: all}]"
	u := startUp(t, upConfig{policy: shop{endpoints: []string{service.Addr()}, routes: []route{{name: "plain"}}}.yaml() +
		anotherService("host", at+", rewrite: {host: api.prod}", all) +
		anotherService("prefix", at+", paths: [/v1, /old/v1], rewrite: {prefix: /api/v2}", `routes: [{name: item, match: {path: {template: "/v1/items/{id}"}}}, {name: all}]`) +
		anotherService("strip", at+", paths: [/strip], rewrite: {prefix: /}", all) +
		anotherService("below", at+", rewrite: {prefix: /base}", all) +
		anotherService("checked", endpointsOf(well.Addr(), ill.Addr())+", healthCheck: {path: /healthz, interval: 100ms}", all) +
		anotherService("ejecting", endpointsOf(well.Addr(), flaky.Addr())+", outlierEjection: {consecutive5xx: 3, baseEjection: 1h}", all) +
		// Go's test certificate names example.com.
		anotherService("tls", tlsAt+", tls: {ca: "+ca+", serverName: example.com}", all) +
		anotherService("tls2", tlsAt+", protocol: http2, tls: {ca: "+ca+", serverName: example.com}", all) +
		anotherService("misnamed", tlsAt+", tls: {ca: "+ca+", serverName: example.org}", all) +
		anotherService("distrusted", tlsAt+", tls: {ca: "+filepath.Join(pki, "renewed.pem")+", serverName: example.com}", all) +
		anotherService("system", tlsAt+", tls: {serverName: example.com}", all)})
	caller := func(t *testing.T, host string) *caller {
		c := newCaller(t, u.listen)
		c.method, c.body, c.host = http.MethodGet, "", host+".local"
		return c
	}

	t.Run("rewrite", func(t *testing.T) {
		for _, tc := range []struct{ name, host, path, seenHost, seenPath string }{
			{"nothing", "shop", "/plain/x", "shop.local", "/plain/x"},
			{"host", "host", "/a", "api.prod", "/a"},
			{"prefix", "prefix", "/v1/a?b=/v1", "prefix.local", "/api/v2/a?b=/v1"},
			{"the path itself", "prefix", "/v1", "prefix.local", "/api/v2"},
			{"another path of the service", "prefix", "/old/v1/a", "prefix.local", "/api/v2/a"},
			{"of the service, not of the route", "prefix", "/v1/items/7", "prefix.local", "/api/v2/items/7"},
			{"once", "prefix", "/v1/v1/v1", "prefix.local", "/api/v2/v1/v1"},
			{"away", "strip", "/strip/a/b", "strip.local", "/a/b"},
			{"away, nothing left", "strip", "/strip", "strip.local", "/"},
			{"to below", "below", "/a", "below.local", "/base/a"},
			{"to below, the root", "below", "/", "below.local", "/base/"},
		} {
			t.Run(tc.name, func(t *testing.T) {
				service.Forget()
				require.Equal(t, 200, caller(t, tc.host).call(t, tc.path).status)
				calls := service.Records()
				require.Len(t, calls, 1)
				require.Equal(t, tc.seenHost, calls[0].Host)
				require.Equal(t, tc.seenPath, calls[0].Path)
			})
		}
	})
	t.Run("health check", func(t *testing.T) {
		c := caller(t, "checked")
		eventually(t, soon, func() (bool, string) { // an endpoint is well until three checks say otherwise
			n, err := u.stat("cluster.checked.membership_healthy")
			return err == nil && n == 1, fmt.Sprintf("%d endpoints are well (%v)", n, err)
		})
		require.Equal(t, "checked.local", recorded(ill, "/healthz")[0].Host)
		for range 20 {
			require.Equal(t, 200, c.call(t, "/x").status)
		}
		require.Zero(t, ill.Calls("/x"), "calls for an endpoint that is not well")
		ill.Set("/healthz", upstream.Behaviour{})
		eventually(t, soon, func() (bool, string) {
			c.call(t, "/x")
			return ill.Calls("/x") > 0, "an endpoint that is well again gets no calls"
		})
	})
	t.Run("outlier ejection", func(t *testing.T) {
		c := caller(t, "ejecting")
		failed := 0
		for range 60 {
			if c.call(t, "/y").status == 503 {
				failed++
			}
		}
		require.Positive(t, failed)
		require.LessOrEqual(t, failed, 2*3+1, "calls for an endpoint that had failed three times in a row")
		before := flaky.Calls("/y")
		for range 20 {
			require.Equal(t, 200, c.call(t, "/y").status)
		}
		require.Equal(t, before, flaky.Calls("/y"))
	})
	t.Run("TLS", func(t *testing.T) {
		require.Equal(t, "HTTP/1.1 example.com", caller(t, "tls").call(t, "/").body)
		require.Equal(t, "HTTP/2.0 example.com", caller(t, "tls2").call(t, "/").body)
		for _, host := range []string{"misnamed", "distrusted", "system"} {
			a := caller(t, host).call(t, "/")
			require.Equal(t, 503, a.status, host)
			require.Equal(t, typeBase+"connect-failure", a.problem.Type, host)
		}
	})
	t.Run("a CA that is renewed", func(t *testing.T) {
		replaceFile(t, filepath.Join(pki, "renewed.pem"), right)
		eventually(t, soon, func() (bool, string) {
			a := caller(t, "distrusted").call(t, "/")
			return a.status == 200, fmt.Sprintf("it answers %d", a.status)
		})
	})
}

// newCertificate is one for a name, signed by itself, in PEM.
func newCertificate(t testing.TB, name string) (key, cert []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	sheet := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, sheet, sheet, private.Public(), private)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
