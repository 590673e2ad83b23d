//go:build !linux

package envoy

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// Envoy is supervised on Linux only (pidfd, /proc). Elsewhere the package
// compiles, so that the control plane does, and says so.
var errUnsupported = errors.New("supervising an envoy needs Linux; use --dataplane embedded here, or run `seawall edge` on Linux")

type process struct {
	id     identity
	exited chan struct{}
}

func tryLockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
}

func spawn(*exec.Cmd) (*process, error)              { return nil, errUnsupported }
func openProcess(identity, string) (*process, error) { return nil, errGone }
func (p *process) exitReason() string                { return "" }
func (p *process) signal(syscall.Signal) error       { return errUnsupported }
func (p *process) terminate(context.Context) error   { return errUnsupported }
func (p *process) kill() error                       { return errUnsupported }
func processesWith(string) []identity                { return nil }
func exeOf(int) string                               { return "" }
func descriptorLimit() uint64                        { return 0 }
