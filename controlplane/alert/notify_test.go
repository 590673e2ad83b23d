package alert_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/testenv/monitoring"
)

const soon = 15 * time.Second // on a loaded machine

func eventually(t testing.TB, holds func() (bool, string)) {
	t.Helper()
	deadline, tick := time.Now().Add(soon), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		ok, why := holds()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", soon, why)
		}
		<-tick.C
	}
}

// clock is a time that only tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// waits are what was asked for between tries; none of them takes time.
type waits struct {
	mu  sync.Mutex
	all []time.Duration
}

func (w *waits) wait(_ context.Context, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, d)
}

func (w *waits) list() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Duration(nil), w.all...)
}

func notifying(t *testing.T, now func() time.Time, wait func(context.Context, time.Duration)) alert.NotifyConfig {
	t.Helper()
	client := alert.NewClient()
	t.Cleanup(client.CloseIdleConnections)
	return alert.NotifyConfig{Log: slog.New(slog.DiscardHandler), Now: now, Client: client, Wait: wait}
}

// run runs something until the test's end, or until stop.
func run(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

// request is what a server got.
type request struct {
	path   string
	header http.Header
	body   []byte
}

// inbox answers as it is told, and keeps what it got.
type inbox struct {
	*httptest.Server

	mu     sync.Mutex
	got    []request
	answer func(n int, w http.ResponseWriter) // n counts from 1; nil: 200
}

func newInbox(t *testing.T, answer func(n int, w http.ResponseWriter)) *inbox {
	t.Helper()
	in := &inbox{answer: answer}
	in.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		in.mu.Lock()
		in.got = append(in.got, request{r.URL.Path, r.Header, body})
		n := len(in.got)
		in.mu.Unlock()
		if in.answer != nil {
			in.answer(n, w)
		}
	}))
	t.Cleanup(in.Close)
	return in
}

func (in *inbox) all() []request {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]request(nil), in.got...)
}

func (in *inbox) await(t *testing.T, n int) []request {
	t.Helper()
	eventually(t, func() (bool, string) { return len(in.all()) >= n, fmt.Sprintf("%d of %d requests", len(in.all()), n) })
	return in.all()
}

func firing(tier string) alert.Alert {
	return alert.Alert{
		Name: alert.ErrorBudgetBurn, State: alert.Firing, Severity: alert.Page, Began: start, Since: start.Add(time.Second),
		Labels: map[string]string{alert.LabelSLO: "pay", alert.LabelService: "shop", alert.LabelTier: tier}, Summary: "burns", Action: "look",
	}
}

func resolved(a alert.Alert, at time.Time) alert.Alert {
	a.State, a.Since = alert.Resolved, at
	return a
}

var secret = []byte("0123456789abcdef0123456789abcdef")

// The example of the Standard Webhooks specification's own libraries.
func TestSign(t *testing.T) {
	t.Parallel()
	key, err := alert.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
	require.NoError(t, err)
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
		alert.Sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)))
	for _, bad := range []string{"", "whsec_", "whsec_short", "not base64 !!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!", "whsec_AAAA"} {
		_, err := alert.ParseSecret(bad)
		require.Error(t, err, bad)
	}
}

func TestAWebhookGetsSignedMessages(t *testing.T) {
	t.Parallel()
	in := newInbox(t, nil)
	clock := &clock{now: start.Add(time.Minute)}
	w := alert.NewWebhooks(notifying(t, clock.Now, alert.Sleep), []alert.Webhook{{URL: in.URL + "/hook?key=1", Secret: secret}, {URL: in.URL + "/plain"}})
	run(t, w.Run)
	a := firing("fast")
	w.Send([]alert.Alert{a})
	in.await(t, 2)
	w.Send([]alert.Alert{a, resolved(a, start.Add(time.Hour))}) // the first once more, as after a crash
	var hook, plain []request
	for _, r := range in.await(t, 6) {
		if r.path == "/hook" {
			hook = append(hook, r)
		} else {
			plain = append(plain, r)
		}
	}
	require.Len(t, hook, 3)
	require.Len(t, plain, 3)
	require.Empty(t, plain[0].header.Get("webhook-signature"))
	for _, r := range hook {
		require.Equal(t, "application/json", r.header.Get("content-type"))
		require.Equal(t, fmt.Sprint(clock.Now().Unix()), r.header.Get("webhook-timestamp"))
		require.Equal(t, alert.Sign(secret, r.header.Get("webhook-id"), r.header.Get("webhook-timestamp"), r.body), r.header.Get("webhook-signature"))
	}
	require.Equal(t, hook[0].header.Get("webhook-id"), hook[1].header.Get("webhook-id"), "the same change has the same id")
	require.NotEqual(t, hook[0].header.Get("webhook-id"), hook[2].header.Get("webhook-id"))
	var m alert.Message
	require.NoError(t, json.Unmarshal(hook[2].body, &m))
	require.Equal(t, "alert.resolved", m.Type)
	require.Equal(t, start.Add(time.Hour), m.Timestamp)
	require.Equal(t, "look", m.Data.Action)
	eventually(t, func() (bool, string) { return w.Stats()[0].Taken == 3, fmt.Sprint(w.Stats()) })
	require.NotContains(t, w.Stats()[0].Target, "key")
}

func TestAWebhookIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer        func(n int, w http.ResponseWriter)
		tries         int
		taken, failed uint64
		waits         []time.Duration
	}{
		"until it answers": {func(n int, w http.ResponseWriter) {
			if n < 4 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}, 4, 1, 0, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}},
		"when it wants": {func(n int, w http.ResponseWriter) {
			if n < 2 {
				w.Header().Set("Retry-After", "30")
				w.WriteHeader(http.StatusTooManyRequests)
			}
		}, 2, 1, 0, []time.Duration{30 * time.Second}},
		"not where it refuses for good": {func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusGone) }, 1, 0, 1, nil},
		"not elsewhere": {func(_ int, w http.ResponseWriter) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, 1, 0, 1, nil},
		"not for ever": {func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }, alert.TriesLimit, 0, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, waits := newInbox(t, c.answer), &waits{}
			w := alert.NewWebhooks(notifying(t, time.Now, waits.wait), []alert.Webhook{{URL: in.URL}})
			run(t, w.Run)
			w.Send([]alert.Alert{firing("fast")})
			eventually(t, func() (bool, string) {
				s := w.Stats()[0]
				return s.Taken == c.taken && s.Failed == c.failed, fmt.Sprint(s)
			})
			require.Len(t, in.all(), c.tries)
			if c.waits != nil {
				require.Equal(t, c.waits, waits.list())
			}
			require.Len(t, waits.list(), c.tries-1)
		})
	}
}

// One that hangs delays neither the others nor who sends; what it misses is
// counted, the oldest first.
func TestASlowWebhookDelaysNobody(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := newInbox(t, func(int, http.ResponseWriter) { <-release })
	fast := newInbox(t, nil)
	w := alert.NewWebhooks(notifying(t, time.Now, alert.Sleep), []alert.Webhook{{URL: slow.URL}, {URL: fast.URL}})
	stop := run(t, w.Run)
	w.Send([]alert.Alert{firing("fast")})
	slow.await(t, 1)
	fast.await(t, 1)
	const more = alert.QueueLimit + 10
	started := time.Now()
	for range more {
		w.Send([]alert.Alert{firing("slow")})
	}
	require.Less(t, time.Since(started), 5*time.Second)
	require.EqualValues(t, 10, w.Stats()[0].Dropped)
	fast.await(t, 2)
	close(release)
	eventually(t, func() (bool, string) { s := w.Stats()[0]; return s.Taken == alert.QueueLimit+1, fmt.Sprint(s) })
	stop()
}

// What waits when the control plane ends is tried once more.
func TestTheLastMessagesLeaveAtTheEnd(t *testing.T) {
	t.Parallel()
	in := newInbox(t, func(n int, w http.ResponseWriter) {
		if n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	waiting := make(chan struct{})
	w := alert.NewWebhooks(notifying(t, time.Now, func(ctx context.Context, _ time.Duration) { close(waiting); <-ctx.Done() }), []alert.Webhook{{URL: in.URL}})
	stop := run(t, w.Run)
	w.Send([]alert.Alert{firing("fast"), firing("slow")})
	<-waiting
	stop()
	require.EqualValues(t, 2, w.Stats()[0].Taken)
}

// A message that fails must not tell the log where it went: the URL may hold a
// secret.
func TestAWebhooksURLIsNotLogged(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	cfg := notifying(t, time.Now, func(context.Context, time.Duration) {})
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	w := alert.NewWebhooks(cfg, []alert.Webhook{{URL: "http://127.0.0.1:1/T0K3N?key=T0K3N"}})
	stop := run(t, w.Run)
	w.Send([]alert.Alert{firing("fast")})
	eventually(t, func() (bool, string) { return w.Stats()[0].Failed == 1, "" })
	stop()
	require.Contains(t, log.String(), "http://127.0.0.1:1")
	require.NotContains(t, log.String(), "T0K3N")
}

// An Alertmanager hears at once of what changes, and of the rest before it
// expires there; one that is away is tried again with what is true by then.
func TestAnAlertmanagerIsTold(t *testing.T) {
	t.Parallel()
	in := newInbox(t, func(n int, w http.ResponseWriter) {
		if n == 1 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	clock, waits := &clock{now: start}, &waits{}
	a := alert.NewAlertmanagers(notifying(t, clock.Now, waits.wait), []string{"http://127.0.0.1:1", in.URL + "/am/"}, "http://127.0.0.1:9900/")
	run(t, a.Run)
	type posted struct {
		Labels       map[string]string
		Annotations  map[string]string
		StartsAt     time.Time
		EndsAt       time.Time
		GeneratorURL string
	}
	read := func(r request) (all []posted) {
		require.Equal(t, "/am/api/v2/alerts", r.path)
		require.NoError(t, json.Unmarshal(r.body, &all))
		return all
	}
	fast := firing("fast")
	a.Send([]alert.Alert{fast})
	in.await(t, 1)
	eventually(t, func() (bool, string) { return a.Stats()[1].Failed == 1, "" })
	a.Send([]alert.Alert{fast})
	got := read(in.await(t, 2)[1])
	require.Equal(t, []posted{{
		Labels:      map[string]string{"alertname": "ErrorBudgetBurn", "severity": "page", "source": "seawall", "slo": "pay", "service": "shop", "burn_tier": "fast"},
		Annotations: map[string]string{"summary": "burns", "action": "look"},
		StartsAt:    start, EndsAt: start.Add(alert.ExpireAfter), GeneratorURL: "http://127.0.0.1:9900/",
	}}, got)
	eventually(t, func() (bool, string) { return a.Stats()[1].Taken == 1, "" })

	clock.add(alert.ResendEvery - time.Second)
	a.Send([]alert.Alert{fast}) // nothing new, and not due
	slow := firing("slow")
	a.Send([]alert.Alert{fast, slow})
	require.Len(t, read(in.await(t, 3)[2]), 2)
	eventually(t, func() (bool, string) { return a.Stats()[1].Taken == 3, "" })
	clock.add(alert.ResendEvery)
	a.Send([]alert.Alert{fast, slow})
	require.Equal(t, clock.Now().Add(alert.ExpireAfter), read(in.await(t, 4)[3])[0].EndsAt, "told again before it expires")
	eventually(t, func() (bool, string) { return a.Stats()[1].Taken == 5, "" })
	a.Send([]alert.Alert{resolved(fast, clock.Now()), slow})
	require.Equal(t, clock.Now(), read(in.await(t, 5)[4])[0].EndsAt)
	require.Zero(t, a.Stats()[0].Taken, "one that is away stands in nobody's way")
	require.NotZero(t, a.Stats()[0].Failed)
}

// The real one takes what we send, inhibits the slower tier by the rules that we
// render, tells its receivers, and takes back what is resolved.
func TestARealAlertmanager(t *testing.T) {
	t.Parallel()
	in := newInbox(t, nil)
	am := monitoring.StartAlertmanager(t, `
route: {receiver: us, group_wait: 1s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: us, webhook_configs: [{url: "`+in.URL+`", send_resolved: true}]}]
inhibit_rules:
- source_matchers: ['alertname="ErrorBudgetBurn"', 'burn_tier="fast"']
  target_matchers: ['alertname="ErrorBudgetBurn"', 'burn_tier=~"medium|slow|chronic"']
  equal: [slo, service]
`)
	a := alert.NewAlertmanagers(notifying(t, time.Now, alert.Sleep), []string{am.URL}, "http://127.0.0.1:9900/")
	run(t, a.Run)
	fast, slow := firing("fast"), firing("slow")
	fast.Began, slow.Began = time.Now(), time.Now()
	slow.Severity = alert.Ticket
	a.Send([]alert.Alert{fast, slow})
	inhibited := func(tier string, want bool) func() (bool, string) { // it takes Alertmanager a moment
		return func() (bool, string) {
			all, err := am.Alerts()
			for _, one := range all {
				if one.Labels["burn_tier"] == tier {
					return (len(one.Status.InhibitedBy) > 0) == want, fmt.Sprint(one)
				}
			}
			return false, fmt.Sprint(all, err)
		}
	}
	eventually(t, inhibited("slow", true))
	eventually(t, inhibited("fast", false))
	told := func(status string) func() (bool, string) {
		return func() (bool, string) {
			for _, r := range in.all() {
				if strings.Contains(string(r.body), `"status":"`+status+`"`) && strings.Contains(string(r.body), `"burn_tier":"fast"`) {
					return status == "resolved" || !strings.Contains(string(r.body), `"burn_tier":"slow"`), "the inhibited one was told too"
				}
			}
			return false, fmt.Sprintf("%d messages", len(in.all()))
		}
	}
	eventually(t, told("firing"))
	a.Send([]alert.Alert{resolved(fast, time.Now()), slow})
	eventually(t, told("resolved"))
}
