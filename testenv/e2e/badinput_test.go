//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/capture"
	"github.com/seawall-mesh/seawall/testenv/realenvoy"
)

// mistake is a start that cannot work. Its fields are filled in with what
// would; wrong spoils one of them.
type mistake struct {
	dir                           string // of the test
	policies, data                string
	listen, admin, xds, telemetry string
	envoy                         string
	more                          []string // arguments
	late                          bool     // found out when Envoy is about to start
	as                            *syscall.Credential
	name                          string
	wrong                         func(t *testing.T, m *mistake)
	says                          []string // in one line on stderr
	hint                          string   // in the hint, or in that line
	findings                      bool     // the line comes after findings with excerpts
	code                          int
}

// What a user may get wrong ends at once, with one line that says what and one
// that says what to do, the exit code of DESIGN section 5, and nothing left
// running.
func TestBadInput(t *testing.T) {
	t.Parallel()
	valid := shop{endpoints: []string{"127.0.0.1:9"}, routes: []route{{name: "charge"}}}.yaml()
	taken := func(address func(m *mistake) *string) func(*testing.T, *mistake) {
		return func(t *testing.T, m *mistake) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { _ = ln.Close() })
			*address(m) = ln.Addr().String()
			m.says = append(m.says, ln.Addr().String())
		}
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}

	for _, m := range []mistake{
		{name: "data plane port in use", wrong: taken(func(m *mistake) *string { return &m.listen }), late: true, hint: "--listen", code: 1},
		{name: "admin port in use", wrong: taken(func(m *mistake) *string { return &m.admin }), says: []string{"address already in use"}, hint: "--admin", code: 1},
		{name: "xDS port in use", wrong: taken(func(m *mistake) *string { return &m.xds }), says: []string{"address already in use"}, hint: "--xds", code: 1},
		{name: "telemetry port in use", wrong: taken(func(m *mistake) *string { return &m.telemetry }), says: []string{"address already in use"}, hint: "--telemetry", code: 1},
		{
			name:  "address of another machine",
			wrong: func(_ *testing.T, m *mistake) { m.admin = "0.0.0.0:0" },
			says:  []string{"0.0.0.0"}, hint: "127.0.0.1", code: 2,
		},
		{
			name:  "not an address",
			wrong: func(_ *testing.T, m *mistake) { m.xds = "9901" },
			says:  []string{"--xds", "9901"}, hint: "127.0.0.1:", code: 2,
		},
		{
			name:  "no such data plane",
			wrong: func(_ *testing.T, m *mistake) { m.more = []string{"--dataplane", "nginx"} },
			says:  []string{"nginx"}, hint: "envoy", code: 2,
		},
		{
			name:  "no policies",
			wrong: func(_ *testing.T, m *mistake) { m.policies = filepath.Join(m.dir, "nowhere") },
			says:  []string{"nowhere", "no such file"}, hint: "-p", code: 1,
		},
		{
			name: "unreadable policies", as: nobody,
			wrong: func(t *testing.T, m *mistake) { require.NoError(t, os.Chmod(m.policies, 0o700)) },
			says:  []string{"policies", "permission denied"}, hint: "-p", code: 1,
		},
		{
			name:  "empty policy folder",
			wrong: func(t *testing.T, m *mistake) { removePolicy(t, m.policies) },
			says:  []string{"policies"}, hint: "validate", findings: true, code: 1,
		},
		{
			name:  "broken YAML",
			wrong: func(t *testing.T, m *mistake) { writePolicy(t, m.policies, "kind: [\n") },
			says:  []string{"policies"}, hint: "validate", findings: true, code: 1,
		},
		{
			name: "no such endpoint field",
			wrong: func(t *testing.T, m *mistake) {
				writePolicy(t, m.policies, strings.Replace(valid, "port: 9}", "prot: 9}", 1))
			},
			says: []string{"policies"}, hint: "validate", findings: true, code: 1,
		},
		{
			name: "a secret in the configuration",
			wrong: func(t *testing.T, m *mistake) {
				file := filepath.Join(m.dir, "config.yaml")
				require.NoError(t, os.WriteFile(file, []byte("webhooks: [{url: http://h/, secret: hunter2}]\n"), 0o600))
				m.more = []string{"--config", file}
			},
			says: []string{"--config"}, hint: "without --config", findings: true, code: 1,
		},
		{
			name:  "no such configuration",
			wrong: func(_ *testing.T, m *mistake) { m.more = []string{"--config", filepath.Join(m.dir, "nowhere.yaml")} },
			says:  []string{"--config"}, hint: "without --config", findings: true, code: 1,
		},
		{
			name: "huge file",
			wrong: func(t *testing.T, m *mistake) {
				writePolicy(t, m.policies, valid+strings.Repeat("# nothing at all\n", 5<<20/17))
			},
			says: []string{"policies"}, hint: "validate", findings: true, code: 1,
		},
		{
			name: "binary file",
			wrong: func(t *testing.T, m *mistake) {
				writePolicy(t, m.policies, "\x7fELF\x02\x01\x01\x00"+strings.Repeat("\x00\xff", 1000))
			},
			says: []string{"policies"}, hint: "validate", findings: true, code: 1,
		},
		{
			name: "read-only data folder", as: nobody,
			wrong: func(t *testing.T, m *mistake) {
				require.NoError(t, os.Mkdir(m.data, 0o555))
			},
			says: []string{"data", "permission denied"}, hint: "--data", code: 1,
		},
		{
			name: "data folder below a file",
			wrong: func(t *testing.T, m *mistake) {
				require.NoError(t, os.WriteFile(m.data, nil, 0o644))
				m.data = filepath.Join(m.data, "deeper")
			},
			says: []string{"data", "not a directory"}, hint: "--data", code: 1,
		},
		{
			name: "broken database",
			wrong: func(t *testing.T, m *mistake) {
				require.NoError(t, os.Mkdir(m.data, 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(m.data, "telemetry.db"), []byte(strings.Repeat("not a database", 1000)), 0o644))
			},
			says: []string{"telemetry.db"}, hint: "telemetry.db", code: 1,
		},
		{
			name: "an Envoy that is too old",
			wrong: func(t *testing.T, m *mistake) {
				m.envoy = script(t, m.dir, `echo "$0  version: dcd329a2e95b54f754b17aceca3f72724294b502/1.36.2/Clean/RELEASE/BoringSSL"`)
			},
			says: []string{"1.36.2", "too old"}, hint: "ENVOY", code: 1,
		},
		{
			name:  "no Envoy there",
			wrong: func(_ *testing.T, m *mistake) { m.envoy = filepath.Join(m.dir, "envoy") },
			says:  []string{"no such file"}, hint: "ENVOY", code: 1,
		},
		{
			name:  "something else than Envoy",
			wrong: func(t *testing.T, m *mistake) { m.envoy = script(t, m.dir, "echo hello") },
			says:  []string{"Envoy"}, hint: "ENVOY", code: 1,
		},
		{
			name: "an Envoy that dies",
			wrong: func(t *testing.T, m *mistake) {
				m.envoy = script(t, m.dir, `[ "$1" = --version ] && echo "version: dcd329a2e95b54f754b17aceca3f72724294b502/1.40.0/Clean/RELEASE/BoringSSL" && exit; echo cannot >&2; exit 3`)
			},
			says: []string{"envoy ended during its start"}, code: 1,
		},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			if m.as != nil && os.Geteuid() != 0 {
				m.as = nil // modes bind us already
			}
			m.dir = readableDir(t)
			m.policies, m.data = filepath.Join(m.dir, "policies"), filepath.Join(m.dir, "data")
			m.listen, m.admin, m.xds, m.telemetry = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
			require.NoError(t, os.Mkdir(m.policies, 0o755))
			writePolicy(t, m.policies, valid)
			if m.as != nil {
				require.NoError(t, os.Mkdir(m.data, 0o777))
				require.NoError(t, os.Chmod(m.data, 0o777))
				if strings.Contains(m.name, "data") {
					require.NoError(t, os.Remove(m.data))
				}
			}
			m.wrong(t, &m)
			m.requireRefused(t)
		})
	}
}

func (m *mistake) requireRefused(t *testing.T) {
	t.Helper()
	if m.envoy == "" {
		// Found out before anybody looks for an Envoy.
		m.envoy = filepath.Join(m.dir, "none")
		if m.late {
			m.envoy = realenvoy.Binary(t).Path
		}
	}
	args := append([]string{
		"up", "-p", m.policies, "--data", m.data, "--listen", m.listen, "--admin", m.admin, "--xds", m.xds, "--telemetry", m.telemetry, "--log-level", "error",
	}, m.more...)
	cmd := exec.Command(seawallBinary, args...)
	var stdout, stderr capture.Output
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), "ENVOY="+m.envoy), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: m.as, Setpgid: true}
	require.NoError(t, cmd.Start())
	kill := time.AfterFunc(startLimit, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	require.True(t, kill.Stop(), "it does not end: %s", stderr.String())

	text := stderr.String()
	t.Log(text)
	require.Equal(t, m.code, cmd.ProcessState.ExitCode(), "exit code")
	require.Empty(t, stdout.String())
	require.NotContains(t, text, "goroutine ")
	require.NotContains(t, text, "panic")
	lines := slices.DeleteFunc(strings.Split(strings.TrimSuffix(text, "\n"), "\n"), func(line string) bool {
		return strings.HasPrefix(line, "{") // the log, such as what Envoy itself has said
	})
	last := len(lines) - 1
	if strings.HasPrefix(lines[last], "  hint: ") {
		last--
	}
	require.True(t, strings.HasPrefix(lines[last], "seawall: "), "the last line is not the error: %s", lines[last])
	if !m.findings {
		require.Zero(t, last, "more than one line")
		for _, s := range m.says {
			require.Contains(t, lines[0], s)
		}
	} else {
		for _, s := range m.says {
			require.Contains(t, text, s)
		}
	}
	require.Contains(t, strings.Join(lines[last:], "\n"), m.hint, "what to do")
	require.Less(t, len(text), 4000)
	require.Empty(t, processesBelow(m.dir), "processes that are left over")
}

// script is an executable that tests use as an Envoy.
func script(t testing.TB, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, "fake-envoy")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	return path
}

// readableDir is a temporary folder that other users may enter.
func readableDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	require.NoError(t, os.Chmod(os.TempDir(), 0o755))
	return dir
}

// A second `up` over the same data is turned away and does the first no harm.
func TestSecondUpOverTheSameData(t *testing.T) {
	t.Parallel()
	service := newUpstream(t)
	policy := shop{endpoints: []string{service.Addr()}, routes: []route{{name: "charge"}}}.yaml()
	u := startUp(t, upConfig{policy: policy})
	envoy := u.envoyPID()

	var stdout, stderr capture.Output
	cmd, exited := startSeawall(t, "", seawallEnv(t), &stdout, &stderr,
		"up", "-p", u.cfg.policies, "--data", u.cfg.data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--xds", "127.0.0.1:0", "--telemetry", "127.0.0.1:0")
	select {
	case <-exited:
	case <-time.After(startLimit):
		_ = cmd.Process.Kill()
		t.Fatal("the second one does not end")
	}
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Empty(t, stdout.String())
	require.Contains(t, stderr.String(), "in use by another seawall")
	require.Contains(t, stderr.String(), fmt.Sprintf("process %d", u.cmd.Process.Pid))
	require.Contains(t, stderr.String(), "--data")
	require.LessOrEqual(t, strings.Count(stderr.String(), "\n"), 2)

	require.True(t, alive(envoy))
	require.Equal(t, envoy, u.envoyPID())
	require.Equal(t, 200, newCaller(t, u.listen).call(t, "/charge").status)
	u.stop()
}
