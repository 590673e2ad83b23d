package envoy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	backoffFirst = 200 * time.Millisecond
	backoffMax   = 5 * time.Second
	healthyAfter = 30 * time.Second
	// stallMax is how long an admin that is asked for the first time may take: V8
	// compiles for up to 2.6 s on the thread that answers.
	stallMax = 3500 * time.Millisecond
)

// ErrAddressInUse is what Start says, wrapped, where another process listens on
// one of the edge's addresses.
var ErrAddressInUse = errors.New("address already in use")

// backoff is how long to wait before the next start. Its zero value is fresh.
type backoff struct{ next time.Duration }

// after returns the wait for a process that ran so long: 0.2 s, doubling to
// 5 s, from the beginning after half a minute of health.
func (b *backoff) after(ran time.Duration) time.Duration {
	if b.next == 0 || ran >= healthyAfter {
		b.next = backoffFirst
	}
	d := b.next
	b.next = min(b.next*2, backoffMax)
	return d
}

// launch starts the process and writes its state before anything else can
// happen to us.
func (l *Launcher) launch() (*process, error) {
	if err := os.Remove(l.files.adminFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, dataError(l.cfg.DataDir, err)
	}
	stderr, err := l.tail.file.append()
	if err != nil {
		return nil, dataError(l.cfg.DataDir, err)
	}
	defer stderr.Close()
	stdout, err := l.access.append()
	if err != nil {
		return nil, dataError(l.cfg.DataDir, err)
	}
	defer stdout.Close()

	cmd := exec.Command(l.cfg.Binary.Path, l.args...) //nolint:noctx // must outlive us
	cmd.Dir = l.files.dir()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// Our environment may hold tokens; Envoy needs none of it.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TZ=UTC"}
	p, err := spawn(cmd)
	if err != nil {
		return nil, fmt.Errorf("envoy at %s cannot be started: %w", l.cfg.Binary.Path, reasonOf(err))
	}
	l.tailMu.Lock()
	l.tail.last = ""
	l.tailMu.Unlock()
	rec := l.record(p)
	if err := l.files.save(rec); err != nil {
		_ = p.kill()
		return nil, dataError(l.cfg.DataDir, err)
	}
	l.mu.Lock()
	l.proc, l.admin = p, nil
	l.status.State, l.status.PID, l.status.Admin, l.status.Adopted, l.status.Since = Starting, p.id.PID, "", false, rec.StartedAt
	l.mu.Unlock()
	return p, nil
}

func (l *Launcher) record(p *process) record {
	return record{
		identity: p.id, Exe: l.cfg.Binary.Path, RunHash: l.hash, NodeID: l.cfg.Bootstrap.NodeID,
		Workers: l.cfg.Bootstrap.Workers, Filter: l.cfg.Module.SHA256, Version: l.cfg.Binary.Version,
		DrainMS: l.cfg.DrainTime.Milliseconds(), StartedAt: time.Now().UTC(),
	}
}

// awaitAdmin waits until the process has opened its admin, and tells state.json.
func (l *Launcher) awaitAdmin(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	for {
		if addr := l.files.admin(); addr != "" {
			if a, err := NewAdmin(addr); err == nil {
				if _, _, err := a.Ready(ctx); err == nil {
					return l.nowRunning(p, a)
				}
			}
		}
		select {
		case <-p.exited:
			return fmt.Errorf("envoy ended during its start: %s", withLast(p.exitReason(), l.lastError()))
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", withLast("envoy does not open its admin address", l.lastError()), ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

func (l *Launcher) nowRunning(p *process, a *Admin) error {
	l.mu.Lock()
	rec := l.record(p)
	rec.StartedAt, rec.Admin = l.status.Since, a.Address()
	l.admin = a
	l.status.State, l.status.Admin = Running, a.Address()
	l.mu.Unlock()
	if err := l.files.save(rec); err != nil {
		return dataError(l.cfg.DataDir, err)
	}
	return nil
}

// supervise starts Envoy again whenever it ends by itself, until Stop.
func (l *Launcher) supervise(p *process) {
	defer close(l.done)
	var wait backoff
	for {
		reason := "not started"
		if p != nil {
			select {
			case <-l.stopping:
				return
			case <-p.exited:
			}
			reason = withLast(p.exitReason(), l.lastError())
		}
		if l.isStopping() {
			return
		}
		ran := time.Since(l.Status().Since)
		delay := wait.after(ran)
		l.exited(reason)
		l.log.Error("envoy ended and is started again", "reason", reason, "ran", ran.Round(time.Millisecond), "in", delay)
		select {
		case <-l.stopping:
			return
		case <-time.After(delay):
		}
		next, err := l.launch()
		if err != nil {
			l.log.Error("envoy cannot be started again", "error", err)
			p = nil
			continue
		}
		p = next
		if err := l.awaitAdmin(l.ctx, p); err != nil {
			if !l.isStopping() {
				l.log.Error("envoy does not come up again", "error", err)
				_ = p.kill() // the loop sees its end
			}
			continue
		}
		l.log.Info("envoy is back", "pid", p.id.PID, "admin", l.Status().Admin)
	}
}

func (l *Launcher) exited(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proc, l.admin = nil, nil
	l.status.State, l.status.PID, l.status.Admin, l.status.Adopted = Restarting, 0, "", false
	l.status.LastExit = reason
	l.status.Restarts++
}

func (l *Launcher) isStopping() bool {
	select {
	case <-l.stopping:
		return true
	default:
		return false
	}
}

// takeOver looks for Envoys of an earlier launcher over this folder. It returns
// the one to go on with, or nil once there is none left.
func (l *Launcher) takeOver(ctx context.Context) (*process, error) {
	rec, ok, err := l.files.load()
	if err != nil {
		l.log.Warn("the state of an earlier envoy cannot be read", "file", l.files.state(), "error", err)
	}
	if ok {
		p, err := openProcess(rec.identity, rec.Exe)
		switch {
		case err == nil:
			why := l.adopt(ctx, rec, p)
			if why == "" {
				return p, nil
			}
			if err := l.replace(ctx, rec, p, why); err != nil {
				return nil, err
			}
		case !errors.Is(err, errGone):
			return nil, fmt.Errorf("the envoy of an earlier run (process %d): %w", rec.PID, err)
		}
	}
	for _, id := range processesWith(l.files.bootstrap()) {
		p, err := openProcess(id, exeOf(id.PID))
		if err != nil {
			if errors.Is(err, errGone) {
				continue
			}
			return nil, fmt.Errorf("the envoy of an earlier run (process %d): %w", id.PID, err)
		}
		if err := l.replace(ctx, record{identity: id, Admin: l.files.admin(), DrainMS: defaultDrainTime.Milliseconds()}, p, "nothing is known about it"); err != nil {
			return nil, err
		}
	}
	l.files.forget()
	return nil, nil
}

// adopt takes the process over if it is the one that is wanted and answers, and
// returns "", or else why not. One that was left in the middle of its drain is
// not wanted.
func (l *Launcher) adopt(ctx context.Context, rec record, p *process) (why string) {
	if rec.RunHash != l.hash {
		return "its configuration is another"
	}
	addr := rec.Admin
	if addr == "" {
		addr = l.files.admin()
	}
	a, err := NewAdmin(addr)
	if err != nil {
		return "its admin address is not known"
	}
	ctx, cancel := context.WithTimeout(ctx, stallMax)
	defer cancel()
	node, err := a.NodeID(ctx)
	if err != nil {
		return "its admin does not answer"
	}
	if node != l.cfg.Bootstrap.NodeID {
		return "it is node " + node
	}
	if _, state, err := a.Ready(ctx); err != nil || state == "DRAINING" {
		return "it is draining"
	}
	l.tail.offset = l.tail.file.size()
	rec.Admin = addr
	if err := l.files.save(rec); err != nil {
		return "its state cannot be written: " + err.Error()
	}
	l.mu.Lock()
	l.proc, l.admin = p, a
	l.status.State, l.status.PID, l.status.Admin, l.status.Adopted, l.status.Since = Running, p.id.PID, addr, true, rec.StartedAt
	l.mu.Unlock()
	l.log.Info("adopted the envoy that an earlier run left behind", "pid", p.id.PID, "admin", addr, "since", rec.StartedAt)
	return ""
}

// replace drains and stops an Envoy that is not the one that is wanted.
func (l *Launcher) replace(ctx context.Context, rec record, p *process, why string) error {
	l.log.Info("draining the envoy that an earlier run left behind", "pid", p.id.PID, "because", why)
	a, err := NewAdmin(rec.Admin)
	if err != nil {
		a = nil
	}
	if _, err := end(ctx, l.log, p, a, time.Duration(rec.DrainMS)*time.Millisecond); err != nil {
		return fmt.Errorf("the envoy of an earlier run (process %d): %w", p.id.PID, err)
	}
	return nil
}

// checkListen says which of the addresses is taken. It listens without
// SO_REUSEPORT, unlike Envoy, and so sees another Envoy's listener too.
func checkListen(ctx context.Context, addresses []string) error {
	var errs []error
	for _, addr := range addresses {
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", addr)
		switch {
		case err == nil:
			_ = ln.Close()
		case errors.Is(err, syscall.EADDRINUSE):
			errs = append(errs, fmt.Errorf("%w: another process listens on %s; stop it, or listen elsewhere (--listen)", ErrAddressInUse, addr))
		default:
			if oe, ok := errors.AsType[*net.OpError](err); ok {
				err = oe.Err
			}
			errs = append(errs, fmt.Errorf("cannot listen on %s: %w", addr, err))
		}
	}
	return errors.Join(errs...)
}
