package envoy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one Envoy, our child or not. A pidfd names it, so that no signal
// can reach a stranger with a reused pid.
type process struct {
	id     identity
	fd     int
	exited chan struct{} // closed once it is gone

	mu     sync.Mutex
	reason string // how it ended, where that can be known
	closed bool
}

// tryLockFile opens path and takes its exclusive lock, or says errLocked. The
// lock goes with the file; it is not inherited by children.
func tryLockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	return f, nil
}

// spawn starts cmd in a session of its own, so that neither a terminal's ^C nor
// our own death reaches it.
func spawn(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// Not reaped yet, so the pid is surely its own, even if it has ended already:
	// then it is a zombie, whose end must be told like any other.
	p, err := attach(cmd.Process.Pid, readIdentity)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	go func() {
		err := cmd.Wait()
		reason := "exit status 0"
		if err != nil {
			reason = err.Error()
		}
		p.finish(reason)
	}()
	return p, nil
}

// open attaches to a process that is not our child, if it is still the one
// that id names and runs exe.
func openProcess(id identity, exe string) (*process, error) {
	now, err := identify(id.PID)
	if err != nil {
		return nil, err
	}
	if now != id {
		return nil, errGone
	}
	if link, err := os.Readlink(procPath(id.PID, "exe")); err != nil || !sameExe(link, exe) {
		return nil, errGone
	}
	p, err := attach(id.PID, identify)
	if err != nil {
		return nil, err
	}
	if p.id != id { // gone and reused between the two looks
		p.finish("")
		return nil, errGone
	}
	go p.poll()
	return p, nil
}

// sameExe compares /proc/PID/exe with a path; a binary that was replaced since
// is marked by the kernel.
func sameExe(link, exe string) bool {
	link = strings.TrimSuffix(link, " (deleted)")
	if resolved, err := filepath.EvalSymlinks(exe); err == nil && link == resolved {
		return true
	}
	return link == exe
}

func attach(pid int, look func(int) (identity, error)) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil, errGone
		}
		return nil, fmt.Errorf("pidfd of process %d: %w", pid, err)
	}
	id, err := look(pid)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &process{id: id, fd: fd, exited: make(chan struct{})}, nil
}

// poll waits for the end of a process that is not our child.
func (p *process) poll() {
	for {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 200)
		if err != nil && !errors.Is(err, unix.EINTR) {
			p.finish("poll: " + err.Error())
			return
		}
		if n > 0 {
			p.finish("exit status unknown (not our child)")
			return
		}
		if p.isClosed() {
			return
		}
	}
}

func (p *process) finish(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	p.reason = reason
	_ = unix.Close(p.fd)
	close(p.exited)
}

func (p *process) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *process) exitReason() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reason
}

func (p *process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errGone
	}
	if err := unix.PidfdSendSignal(p.fd, sig, nil, 0); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return errGone
		}
		return fmt.Errorf("signal to process %d: %w", p.id.PID, err)
	}
	return nil
}

// terminate ends the process: SIGTERM, then SIGKILL after exitGrace or when ctx
// is over, whichever is first.
func (p *process) terminate(ctx context.Context) error {
	if err := p.signal(unix.SIGTERM); err != nil && !errors.Is(err, errGone) {
		return err
	}
	_ = p.signal(unix.SIGCONT) // a stopped process cannot act on SIGTERM
	grace := time.NewTimer(exitGrace)
	defer grace.Stop()
	select {
	case <-p.exited:
		return nil
	case <-grace.C:
	case <-ctx.Done():
	}
	return p.kill()
}

func (p *process) kill() error {
	if err := p.signal(unix.SIGKILL); err != nil && !errors.Is(err, errGone) {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("process %d does not end after SIGKILL", p.id.PID)
	}
}

func procPath(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}

// identify reads what makes a pid unique. A zombie is gone.
func identify(pid int) (identity, error) {
	id, state, err := readStat(pid)
	if err == nil && (state == 'Z' || state == 'X') {
		return identity{}, errGone
	}
	return id, err
}

// readIdentity is identify for a child of ours that nobody has reaped: a zombie
// still counts.
func readIdentity(pid int) (identity, error) {
	id, _, err := readStat(pid)
	return id, err
}

func readStat(pid int) (identity, byte, error) {
	raw, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return identity{}, 0, errGone
	}
	state, start, ok := parseStat(raw)
	if !ok {
		return identity{}, 0, fmt.Errorf("process %d: /proc/%d/stat is not understood", pid, pid)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return identity{}, 0, fmt.Errorf("process %d: %w", pid, err)
	}
	return identity{PID: pid, StartTick: start, BootID: strings.TrimSpace(string(boot))}, state, nil
}

// parseStat reads state (field 3) and start time (field 22) of /proc/PID/stat.
// The command in field 2 may hold spaces and parentheses.
func parseStat(raw []byte) (state byte, start uint64, ok bool) {
	end := bytes.LastIndexByte(raw, ')')
	if end < 0 {
		return 0, 0, false
	}
	fields := bytes.Fields(raw[end+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return 0, 0, false
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return 0, 0, false
	}
	return fields[0][0], start, true
}

// processesWith finds the processes that were started with `--config-path
// config`: an Envoy over our folder of which no state was written, because the
// launcher died in between.
func processesWith(config string) []identity {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []identity
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		raw, err := os.ReadFile(procPath(pid, "cmdline"))
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
		i := slices.Index(args, "--config-path")
		if i < 0 || i+1 >= len(args) || args[i+1] != config {
			continue
		}
		if id, err := identify(pid); err == nil {
			found = append(found, id)
		}
	}
	return found
}

// exeOf is the path of a process's binary, "" where it cannot be read.
func exeOf(pid int) string {
	link, err := os.Readlink(procPath(pid, "exe"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(link, " (deleted)")
}

// descriptorLimit is the number of files that Envoy may have open: it raises
// its soft limit to the hard one itself.
func descriptorLimit() uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return l.Max
}
