//go:build linux

package realenvoy_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

const static = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}
static_resources:
  listeners:
  - name: edge
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          access_log:
          - name: stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format: {text_format_source: {inline_string: "%REQ(:PATH)% %RESPONSE_CODE%\n"}}
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 202}}]}
          http_filters:
          - {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
`

func status(url string) (int, error) {
	c := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func TestStatic(t *testing.T) {
	e := realenvoy.Start(t, realenvoy.Config{Static: static})
	e.WaitLive()
	url := "http://" + e.Address("edge") + "/path"
	got, err := status(url)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, got)
	require.EqualValues(t, 1, e.Stat("http.edge.downstream_rq_total"))
	require.Zero(t, e.Stat("no.such.stat"))

	t.Run("paused it answers nothing, resumed it does", func(t *testing.T) {
		e.Pause()
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_, _, err := e.Admin().Ready(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		e.Resume()
		got, err := status(url)
		require.NoError(t, err)
		require.Equal(t, http.StatusAccepted, got)
	})
	t.Run("its access log can be read", func(t *testing.T) {
		require.Eventually(t, func() bool { return strings.Count(e.AccessLog(), "/path 202\n") == 2 }, 20*time.Second, 20*time.Millisecond)
	})
	t.Run("killed it is gone", func(t *testing.T) {
		e.Kill()
		_, err := status(url)
		require.Error(t, err)
	})
}

// With SEAWALL_ENVOY=off a scenario is skipped and leaves its name for the
// count at the end of `make test`.
func TestSwitchedOffIsCounted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "not-run")
	t.Setenv(realenvoy.SwitchEnv, "off")
	t.Setenv(realenvoy.NotRunEnv, file)
	reached := false
	t.Run("scenario", func(t *testing.T) {
		realenvoy.Start(t, realenvoy.Config{Static: static})
		reached = true
	})
	require.False(t, reached)
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "TestSwitchedOffIsCounted/scenario\n", string(raw))
}
