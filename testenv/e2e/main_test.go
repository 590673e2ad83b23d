//go:build linux

package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/seawall-mesh/seawall/filter/module"
)

// reaperEnv makes this test binary the reaper of the folder that it names.
const reaperEnv = "SEAWALL_E2E_REAPER"

// long makes the tests that shake something do so as long as issues 5 and 9 want.
var long = flag.Bool("long", false, "shake for minutes what is shaken for seconds otherwise")

// seawallBinary is what the tests run, built once.
var seawallBinary string

func TestMain(m *testing.M) {
	if root := os.Getenv(reaperEnv); root != "" {
		reap(root)
		return
	}
	os.Exit(run(m)) //nolint:forbidigo // as TestMain must, to report a failure before the tests
}

func run(m *testing.M) (code int) {
	fail := func(format string, args ...any) int {
		fmt.Fprintf(os.Stderr, "e2e: "+format+"\n", args...)
		return 1
	}
	if _, _, err := module.Load(); err != nil {
		return fail("%v (or just `make wasm`)", err)
	}
	root, err := os.MkdirTemp("", "seawall-e2e-")
	if err != nil {
		return fail("%v", err)
	}
	stopReaper, err := startReaper(root)
	if err != nil {
		return fail("reaper: %v", err)
	}
	defer stopReaper()

	seawallBinary = filepath.Join(root, "seawall")
	// As `make build` does, but for the symbols.
	build := exec.Command("go", "build", "-trimpath", "-o", seawallBinary, "../../controlplane/cmd/seawall")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fail("building seawall: %v\n%s", err, out)
	}
	// t.TempDir lies below root too: whatever a test leaves, the reaper finds.
	if err := os.Setenv("TMPDIR", root); err != nil {
		return fail("%v", err)
	}
	// Most of a test's time is waiting for another process.
	flag.Parse()
	if !slices.ContainsFunc(os.Args, func(a string) bool { return strings.Contains(a, "test.parallel") }) {
		if err := flag.Set("test.parallel", "4"); err != nil {
			return fail("%v", err)
		}
	}
	return m.Run()
}

// startReaper starts a process that waits for this one to end, in whatever
// way, and then ends what the tests have left running (an Envoy outlives the
// control plane that started it, by design) and removes the folder.
func startReaper(root string) (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), reaperEnv+"="+root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}, nil
}

func reap(root string) {
	_, _ = io.Copy(io.Discard, os.Stdin)
	// A control plane that is still there would start its Envoy again: twice.
	for range 2 {
		for _, pid := range processesBelow(root) {
			if pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	_ = os.RemoveAll(root)
}

// processesBelow lists the processes whose command line names something below
// root, a folder that only these tests know.
func processesBelow(root string) []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, []byte(strings.TrimSuffix(root, "/")+"/")) {
			pids = append(pids, pid)
		}
	}
	return pids
}
