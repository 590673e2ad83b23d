// Package monitoring runs a real Prometheus and a real Alertmanager, of the
// Debian packages prometheus and prometheus-alertmanager, for tests.
package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/capture"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

const (
	startLimit = 30 * time.Second // on a loaded machine
	poll       = 20 * time.Millisecond
)

// SwitchEnv is the variable that, set to "off", skips every test that needs one
// of the programs.
const SwitchEnv = "SEAWALL_PROMETHEUS"

// Program is the path of prometheus, promtool, prometheus-alertmanager or amtool,
// or ends the test: skipped and counted where SEAWALL_PROMETHEUS=off, else failed
// with what to do.
func Program(t testing.TB, name string) string {
	t.Helper()
	if os.Getenv(SwitchEnv) == "off" {
		realenvoy.CountNotRun(t)
		t.Skip("scenario not run: " + SwitchEnv + "=off")
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("this test needs %s: apt-get install prometheus prometheus-alertmanager; or run with %s=off", name, SwitchEnv)
	}
	return path
}

// Server is a running Prometheus or Alertmanager.
type Server struct{ URL string }

// StartAlertmanager runs an Alertmanager with that configuration, alone.
func StartAlertmanager(t testing.TB, config string) *Server {
	t.Helper()
	dir := t.TempDir()
	file := write(t, dir, "alertmanager.yml", config)
	return start(t, "prometheus-alertmanager", "--config.file="+file, "--storage.path="+filepath.Join(dir, "data"), "--cluster.listen-address=")
}

// StartPrometheus runs a Prometheus with that configuration; files are beside
// it, by name.
func StartPrometheus(t testing.TB, config string, files map[string][]byte) *Server {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, dir, name, string(text))
	}
	file := write(t, dir, "prometheus.yml", config)
	return start(t, "prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"))
}

// Get reads a JSON document of the server.
func (s *Server) Get(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s %s", path, resp.Status, raw)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(raw, into)
}

// Alert is one that an Alertmanager has.
type Alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Status      struct {
		State       string   `json:"state"`
		InhibitedBy []string `json:"inhibitedBy"`
	} `json:"status"`
}

// Alerts are those that are active in an Alertmanager, inhibited ones included.
func (s *Server) Alerts() (all []Alert, err error) {
	err = s.Get("/api/v2/alerts", &all)
	return all, err
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func start(t testing.TB, program string, args ...string) *Server {
	t.Helper()
	path := Program(t, program)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := ln.Addr().String()
	require.NoError(t, ln.Close())

	var log capture.Output
	cmd := exec.Command(path, append(args, "--web.listen-address="+address)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	// It must not outlive the tests, however they end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	exited, started := make(chan struct{}), make(chan error, 1)
	go func() {
		// The parent that Pdeathsig means is a thread: it must live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(exited)
	}()
	require.NoError(t, <-started)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		http.DefaultClient.CloseIdleConnections()
		if t.Failed() {
			t.Logf("the log of %s:\n%s", program, log.String())
		}
	})
	s := &Server{URL: "http://" + address}
	deadline := time.Now().Add(startLimit)
	for s.Get("/-/ready", nil) != nil {
		select {
		case <-exited:
			t.Fatalf("%s ended during its start:\n%s", program, log.String())
		case <-time.After(poll):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready within %s:\n%s", program, startLimit, log.String())
		}
	}
	return s
}
