package envoy

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

const (
	// stopBudget is the longest that Stop takes, all told.
	stopBudget = 8 * time.Second
	// termReserve of it is kept for Envoy's own end after SIGTERM.
	termReserve = 1500 * time.Millisecond
	// settle is how long Envoy lives on after its last request: the filter posts
	// a batch every second, and the last one must leave.
	settle = 1500 * time.Millisecond
	// portClosed is how long after its drain time a listener may still accept.
	portClosed = 300 * time.Millisecond
	drainPoll  = 40 * time.Millisecond
)

// Stop drains Envoy, ends it, and gives the data folder free: clients are asked
// to leave, ports close, requests in flight get up to 5 s, the filter posts its
// last batch, then SIGTERM and at last SIGKILL. It takes at most 8 s, less if
// ctx ends (then without further draining). The control plane's xDS and
// telemetry addresses should serve until it returns. Later calls return the
// first one's result.
func (l *Launcher) Stop(ctx context.Context) error {
	l.stopOnce.Do(func() { l.stopErr = l.stop(ctx) })
	return l.stopErr
}

func (l *Launcher) stop(ctx context.Context) error {
	close(l.stopping)
	l.cancel()
	l.mu.Lock()
	l.status.State = Stopping
	l.mu.Unlock()

	// The supervisor may be in the middle of a start; it sees stopping.
	<-l.done

	l.mu.Lock()
	p, a := l.proc, l.admin
	l.mu.Unlock()
	var err error
	drained := false // one that has just ended by itself was not
	if p != nil {
		drained, err = end(ctx, l.log, p, a, l.cfg.DrainTime)
	}
	close(l.tailStop)
	l.wg.Wait()
	l.mu.Lock()
	l.proc, l.admin = nil, nil
	l.status.State, l.status.PID, l.status.Admin = Stopped, 0, ""
	l.mu.Unlock()
	if err == nil && drained {
		l.files.forget()
	}
	if l.ownLock != nil {
		l.ownLock.Release()
	}
	return err
}

// end drains a process and ends it. Without an admin that answers it goes
// straight to SIGTERM. drained is whether nothing it had counted is lost.
func end(ctx context.Context, log *slog.Logger, p *process, a *Admin, drainTime time.Duration) (drained bool, err error) {
	start := time.Now()
	deadline := start.Add(stopBudget)
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if a != nil {
		// The limit keeps SIGTERM's share of the budget; an early end of the
		// process is the end of draining.
		draining, stop := context.WithDeadline(ctx, deadline.Add(-termReserve))
		go func() {
			select {
			case <-p.exited:
				stop()
			case <-draining.Done():
			}
		}()
		err := drain(draining, a, drainTime, deadline.Add(-termReserve-settle))
		if err != nil && ctx.Err() == nil {
			log.Warn("envoy is stopped before it was fully drained", "pid", p.id.PID, "error", err)
		}
		drained = err == nil
		stop()
	}
	err = p.terminate(bounded)
	log.Info("envoy stopped", "pid", p.id.PID, "took", time.Since(start).Round(time.Millisecond))
	return drained, err
}

var errStillBusy = errors.New("requests are still in flight")

// drain asks clients to leave, closes the ports, waits until no request is in
// flight or until quietBy, and then until the last batch has left.
func drain(ctx context.Context, a *Admin, drainTime time.Duration, quietBy time.Time) error {
	first, cancel := context.WithTimeout(ctx, stallMax)
	defer cancel()
	if err := a.FailHealthcheck(first); err != nil {
		return err
	}
	was, err := a.Traffic(ctx)
	if err != nil {
		return err
	}
	// Nobody is connected: nobody needs to be asked to leave.
	open := drainTime + portClosed
	graceful := was.Connections > 0
	if !graceful {
		open = 0
	}
	if err := a.DrainListeners(ctx, graceful); err != nil {
		return err
	}
	began := time.Now()
	lastRequest := began
	for {
		now, err := a.Traffic(ctx)
		if err != nil {
			return err
		}
		if now.Requests > 0 || now.Total != was.Total {
			lastRequest = time.Now()
		}
		was = now
		if now.Requests == 0 && time.Since(began) >= open {
			break
		}
		if time.Now().After(quietBy) {
			_ = wait(ctx, settle) // what has ended so far is counted all the same
			return errStillBusy
		}
		if err := wait(ctx, drainPoll); err != nil {
			return err
		}
	}
	if was.Total == 0 {
		return nil // it never served anything, so there is no batch to wait for
	}
	return wait(ctx, time.Until(lastRequest.Add(settle)))
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
