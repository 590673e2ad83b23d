package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// resendEvery is how often an Alertmanager is told of what has not changed.
	resendEvery = time.Minute

	// expireAfter is when an Alertmanager takes an alert as resolved that it
	// hears no more of: a few messages may be lost, and a control plane that is
	// gone does not ring for ever.
	expireAfter = 4 * resendEvery

	// awayWait bounds the wait for one that is away: a page must not wait longer
	// once it is back.
	awayWait = 10 * time.Second

	// postLimit is how many alerts one request carries.
	postLimit = 256
)

// Source is the label that tells the control plane's own alerts from those of
// Prometheus rules, which have the same names: where both are sent, neither
// resolves the other's.
const (
	LabelSource = "source"
	Source      = "seawall"
)

// Alertmanagers tells Alertmanagers, each on its own, so that one that is away
// delays no other. They are replicas: each is told everything.
type Alertmanagers struct {
	cfg       NotifyConfig
	generator string
	peers     []*peer
}

// peer is one Alertmanager.
type peer struct {
	url    string
	wake   chan struct{}
	sent   atomic.Uint64 // alerts that it took
	failed atomic.Uint64 // requests that failed

	mu     sync.Mutex // guards what follows
	latest []Alert
}

// NewAlertmanagers makes it for base URLs. generator is the URL that alerts link
// to, of the admin address.
func NewAlertmanagers(cfg NotifyConfig, urls []string, generator string) *Alertmanagers {
	a := &Alertmanagers{cfg: cfg, generator: generator}
	for _, u := range urls {
		a.peers = append(a.peers, &peer{url: strings.TrimSuffix(u, "/") + "/api/v2/alerts", wake: make(chan struct{}, 1)})
	}
	return a
}

// Send replaces what the Alertmanagers are to know: all that fires, and what
// has ended lately. It does not wait.
func (a *Alertmanagers) Send(all []Alert) {
	for _, p := range a.peers {
		p.mu.Lock()
		p.latest = all
		p.mu.Unlock()
		select {
		case p.wake <- struct{}{}:
		default: // it has yet to look at the one before, and sees this one too
		}
	}
}

// Sent is what a receiver has taken and what failed, for metrics.
type Sent struct {
	Target                 string // scheme and host
	Taken, Failed, Dropped uint64
}

// Stats is one Sent per Alertmanager.
func (a *Alertmanagers) Stats() []Sent {
	out := make([]Sent, 0, len(a.peers))
	for _, p := range a.peers {
		out = append(out, Sent{Target: target(p.url), Taken: p.sent.Load(), Failed: p.failed.Load()})
	}
	return out
}

// Run tells them until ctx ends. What fires then is resolved by the
// Alertmanagers when it expires, unless another control plane goes on.
func (a *Alertmanagers) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, p := range a.peers {
		wg.Go(func() { a.tell(ctx, p) })
	}
	wg.Wait()
	return nil
}

func (a *Alertmanagers) tell(ctx context.Context, p *peer) {
	var told string // what it knows
	var at time.Time
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		p.mu.Lock()
		all := p.latest
		p.mu.Unlock()
		now := a.cfg.Now()
		what := digest(all)
		if what == told && (len(all) == 0 || now.Sub(at) < resendEvery) {
			continue
		}
		err := a.push(ctx, p, all, now)
		if err == nil {
			if failures > 0 {
				a.cfg.Log.Info("alertmanager is told again", "target", target(p.url))
			}
			told, at, failures = what, now, 0
			continue
		}
		if ctx.Err() != nil {
			return
		}
		p.failed.Add(1)
		if failures++; failures == 1 {
			a.cfg.Log.Error("alertmanager cannot be told just now", "target", target(p.url), "error", err)
		}
		// The next Send after it tries again, with what is true by then.
		a.cfg.Wait(ctx, min(backoff(failures, err), awayWait))
	}
}

// digest is what an Alertmanager should hear of at once when it changes.
func digest(all []Alert) string {
	var b strings.Builder
	for i := range all {
		fmt.Fprintf(&b, "%s\x02%s\x02%d\n", all[i].Key(), all[i].State, all[i].Since.UnixNano())
	}
	return b.String()
}

// posted is one member of POST /api/v2/alerts.
type posted struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

func (a *Alertmanagers) push(ctx context.Context, p *peer, all []Alert, now time.Time) error {
	for part := range slices.Chunk(all, postLimit) {
		out := make([]posted, 0, len(part))
		for i := range part {
			out = append(out, a.posted(&part[i], now))
		}
		body, err := json.Marshal(out)
		if err != nil {
			return err
		}
		if err := a.cfg.post(ctx, p.url, http.Header{}, body); err != nil {
			return err
		}
		p.sent.Add(uint64(len(part)))
	}
	return nil
}

func (a *Alertmanagers) posted(alert *Alert, now time.Time) posted {
	out := posted{
		Labels:      map[string]string{LabelName: alert.Name, LabelSeverity: string(alert.Severity), LabelSource: Source},
		Annotations: map[string]string{"summary": alert.Summary, "action": alert.Action},
		StartsAt:    alert.Began, EndsAt: now.Add(expireAfter), GeneratorURL: a.generator,
	}
	maps.Copy(out.Labels, alert.Labels)
	if alert.State == Resolved {
		out.EndsAt = alert.Since
	}
	return out
}

// backoff doubles with each failure, and is what the receiver asks for where
// that is longer.
func backoff(failures int, err error) time.Duration {
	wait := min(firstWait<<min(failures-1, 10), longWait)
	if r, ok := errors.AsType[*refusal](err); ok {
		wait = max(wait, r.later)
	}
	return wait
}

// target is a URL without its path and query, which may hold a secret.
func target(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "?"
	}
	return u.Scheme + "://" + u.Host
}

func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
