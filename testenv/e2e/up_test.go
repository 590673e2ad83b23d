//go:build linux

package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/capture"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

const (
	poll       = 10 * time.Millisecond
	startLimit = 60 * time.Second // a loaded machine compiles the module slowly
	stopLimit  = 10 * time.Second // DESIGN section 5
	soon       = 20 * time.Second // anything that should come to be within 3 s
)

// addresses are where an `up` serves.
type addresses struct{ listen, admin, xds, telemetry string }

// upConfig says how to run `seawall up`.
type upConfig struct {
	policy    string    // text of the one policy file
	workers   int       // 0 = 2
	data      string    // "" = a new folder
	policies  string    // "" = a new folder with policy in it
	addresses addresses // zero = free ports
	binary    string    // "" = seawallBinary
	alone     bool      // run `seawall serve`, which has no data plane
	config    string    // file of --config; "" = none
}

// up is a running `seawall up`.
type up struct {
	t   testing.TB
	cfg upConfig
	addresses

	cmd            *exec.Cmd
	stdout, stderr *capture.Output
	exited         chan struct{} // closed when the process is gone
}

// startUp runs `seawall up` and returns once the policy is served.
func startUp(t testing.TB, cfg upConfig) *up {
	t.Helper()
	u := launchUp(t, cfg)
	u.awaitServed()
	return u
}

// launchUp runs `seawall up` and does not wait. Whatever happens, it and its
// Envoy are gone when the test ends.
func launchUp(t testing.TB, cfg upConfig) *up {
	t.Helper()
	if cfg.data == "" {
		cfg.data = filepath.Join(t.TempDir(), "data")
	}
	if cfg.policies == "" {
		cfg.policies = t.TempDir()
		writePolicy(t, cfg.policies, cfg.policy)
	}
	if cfg.workers == 0 {
		cfg.workers = 2
	}
	u := &up{t: t, cfg: cfg}
	t.Cleanup(func() {
		u.cleanUp()
		if t.Failed() {
			t.Logf("the end of its log:\n%s\nthe end of envoy's log:\n%s",
				lastLines(u.stderr.String(), 40), lastLines(readFile(filepath.Join(u.cfg.data, "envoy", "envoy.log")), 15))
		}
	})
	u.launch()
	return u
}

// again runs another `up` over the same folders and on the same addresses.
func (u *up) again() {
	u.t.Helper()
	u.cfg.addresses = u.addresses
	u.launch()
	u.awaitServed()
}

func (u *up) launch() {
	u.t.Helper()
	a := u.cfg.addresses
	for _, address := range []*string{&a.listen, &a.admin, &a.xds, &a.telemetry} {
		if *address == "" {
			*address = "127.0.0.1:0"
		}
	}
	u.stdout, u.stderr = &capture.Output{}, &capture.Output{}
	args := []string{"up", "--workers", strconv.Itoa(u.cfg.workers)}
	if u.cfg.alone {
		args = []string{"serve"}
	}
	if u.cfg.config != "" {
		args = append(args, "--config", u.cfg.config)
	}
	u.cmd, u.exited = startSeawall(u.t, u.cfg.binary, seawallEnv(u.t), u.stdout, u.stderr, append(args,
		"-p", u.cfg.policies, "--data", u.cfg.data,
		"--listen", a.listen, "--admin", a.admin, "--xds", a.xds, "--telemetry", a.telemetry)...)
}

// seawallEnv is the environment of a seawall that is to use the tests' Envoy.
func seawallEnv(t testing.TB) []string {
	t.Helper()
	return append(os.Environ(), "ENVOY="+realenvoy.Binary(t).Path)
}

// startSeawall starts a binary ("" = seawallBinary) in a process group of its
// own. When the test binary dies it is asked to stop, and drains its Envoy.
func startSeawall(t testing.TB, binary string, env []string, stdout, stderr *capture.Output, args ...string) (*exec.Cmd, chan struct{}) {
	t.Helper()
	cmd := exec.Command(cmp.Or(binary, seawallBinary), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	exited := make(chan struct{})
	started := make(chan error, 1)
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
	return cmd, exited
}

var bannerPattern = regexp.MustCompile(`(?s)data plane  http://(\S+)/\n.*admin +http://(\S+)/ .*xDS +(\S+)\n.*telemetry +(\S+)\n`)

// awaitServed waits for the addresses that `up` prints once its policy is
// served.
func (u *up) awaitServed() {
	u.t.Helper()
	deadline := time.After(startLimit)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if m := bannerPattern.FindStringSubmatch(u.stdout.String()); m != nil {
			u.addresses = addresses{listen: m[1], admin: m[2], xds: m[3], telemetry: m[4]}
			return
		}
		select {
		case <-u.exited:
			u.t.Fatalf("up ended during its start: %s", u.cmd.ProcessState)
		case <-deadline:
			u.t.Fatalf("up does not serve within %s", startLimit)
		case <-tick.C:
		}
	}
}

// kill ends the control plane as `kill -9` does. Its Envoy lives on.
func (u *up) kill() {
	u.t.Helper()
	require.NoError(u.t, u.cmd.Process.Kill())
	<-u.exited
}

// stop asks the control plane to end, and requires that it does so in time and
// well, with its Envoy.
func (u *up) stop() {
	u.t.Helper()
	envoy := u.envoyPID()
	require.NoError(u.t, u.cmd.Process.Signal(syscall.SIGTERM))
	u.requireStopped(envoy)
}

func (u *up) requireStopped(envoy int) {
	u.t.Helper()
	started := time.Now()
	select {
	case <-u.exited:
	case <-time.After(3 * stopLimit):
		u.t.Fatal("up does not end")
	}
	require.Less(u.t, time.Since(started), stopLimit, "up takes too long to end")
	require.Equal(u.t, 0, u.cmd.ProcessState.ExitCode(), "exit code")
	require.False(u.t, alive(envoy), "envoy outlives an orderly end")
	require.Empty(u.t, processesBelow(u.cfg.data), "processes that are left over")
}

// cleanUp ends all processes over the data folder, however they came there.
func (u *up) cleanUp() {
	if u.cmd == nil {
		return
	}
	_ = u.cmd.Process.Kill()
	<-u.exited
	for _, pid := range processesBelow(u.cfg.data) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for deadline := time.Now().Add(5 * time.Second); len(processesBelow(u.cfg.data)) > 0 && time.Now().Before(deadline); {
		<-time.After(poll)
	}
}

// envoyPID is the process that DATA/envoy/state.json names, 0 for none.
func (u *up) envoyPID() int {
	var state struct {
		PID int `json:"pid"`
	}
	raw, err := os.ReadFile(filepath.Join(u.cfg.data, "envoy", "state.json"))
	if err != nil || json.Unmarshal(raw, &state) != nil {
		return 0
	}
	return state.PID
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// ready is what /readyz answers, 0 for nothing.
func (u *up) ready() int {
	resp, err := http.Get("http://" + u.admin + "/readyz")
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// metrics is what the control plane shows Prometheus.
func (u *up) metrics() string {
	u.t.Helper()
	resp, err := http.Get("http://" + u.admin + "/metrics")
	require.NoError(u.t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(u.t, errors.Join(err, resp.Body.Close()))
	return string(text)
}

// seawall runs a command against this control plane and returns what it wrote.
func (u *up) seawall(args ...string) (stdout string, code int) {
	u.t.Helper()
	var out, errOut bytes.Buffer
	cmd := exec.Command(seawallBinary, append(args, "--admin", u.admin)...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		require.NoError(u.t, err)
	}
	return out.String() + errOut.String(), cmd.ProcessState.ExitCode()
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func readFile(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}
