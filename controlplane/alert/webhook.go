package alert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// queueLimit bounds what waits for one webhook; the oldest goes first.
	queueLimit = 1000

	// triesLimit is how often one message is tried: for a quarter of an hour.
	triesLimit = 20

	// lastLook is how long what still waits may take when the control plane ends.
	lastLook = 2 * time.Second

	secretPrefix = "whsec_"
)

// Webhook is where messages go, and the secret that signs them.
type Webhook struct {
	URL    string
	Secret []byte // nil: not signed
}

// ParseSecret reads a secret as Standard Webhooks writes it: base64 of 24 to 64
// bytes, with or without whsec_ in front.
func ParseSecret(text string) ([]byte, error) {
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(text), secretPrefix))
	if err != nil || len(secret) < 24 || len(secret) > 64 {
		// The text is not repeated: it is a secret.
		return nil, errors.New("not base64 of 24 to 64 bytes")
	}
	return secret, nil
}

// Webhooks tells webhooks of alerts that begin and end, one after the other,
// signed as https://www.standardwebhooks.com says.
type Webhooks struct {
	cfg   NotifyConfig
	hooks []*hook
}

type hook struct {
	Webhook
	wake chan struct{}

	mu                     sync.Mutex // guards what follows
	queue                  []message
	taken, failed, dropped uint64 // messages
}

type message struct {
	id   string
	body []byte
}

// NewWebhooks makes it.
func NewWebhooks(cfg NotifyConfig, hooks []Webhook) *Webhooks {
	w := &Webhooks{cfg: cfg}
	for _, h := range hooks {
		w.hooks = append(w.hooks, &hook{Webhook: h, wake: make(chan struct{}, 1)})
	}
	return w
}

// Message is the body of what a webhook gets.
type Message struct {
	Type      string    `json:"type"`      // alert.firing | alert.resolved
	Timestamp time.Time `json:"timestamp"` // when that happened
	Data      Alert     `json:"data"`
}

// Send queues alerts that began or ceased to fire. It does not wait.
func (w *Webhooks) Send(changed []Alert) {
	for i := range changed {
		a := changed[i]
		body, err := json.Marshal(Message{"alert." + string(a.State), a.Since, a})
		if err != nil {
			w.cfg.Log.Error("an alert cannot be written as JSON", "alert", a.Name, "error", err)
			continue
		}
		for _, h := range w.hooks {
			if h.push(message{a.id(), body}) {
				w.cfg.Log.Error("a webhook is too slow: its oldest message was dropped", "target", target(h.URL))
			}
		}
	}
}

// id is the same however often this change is sent, so that receivers can tell.
func (a *Alert) id() string {
	sum := sha256.Sum256([]byte(a.Key() + "\x02" + string(a.State) + "\x02" + strconv.FormatInt(a.Since.UnixNano(), 10)))
	return "msg_" + base32.StdEncoding.EncodeToString(sum[:15])
}

func (h *hook) push(m message) (dropped bool) {
	h.mu.Lock()
	if len(h.queue) >= queueLimit {
		h.queue = h.queue[1:]
		h.dropped++
		dropped = true
	}
	h.queue = append(h.queue, m)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return dropped
}

func (h *hook) pop() (message, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == 0 {
		return message{}, false
	}
	m := h.queue[0]
	h.queue = h.queue[1:]
	return m, true
}

func (h *hook) count(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.taken++
	} else {
		h.failed++
	}
}

// Stats is one Sent per webhook.
func (w *Webhooks) Stats() []Sent {
	out := make([]Sent, 0, len(w.hooks))
	for _, h := range w.hooks {
		h.mu.Lock()
		out = append(out, Sent{target(h.URL), h.taken, h.failed, h.dropped})
		h.mu.Unlock()
	}
	return out
}

// Run sends until ctx ends, then tries once what still waits.
func (w *Webhooks) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, h := range w.hooks {
		wg.Go(func() { w.deliver(ctx, h) })
	}
	wg.Wait()
	return nil
}

func (w *Webhooks) deliver(ctx context.Context, h *hook) {
	for ctx.Err() == nil {
		if m, ok := h.pop(); ok {
			w.one(ctx, h, m)
			continue
		}
		select {
		case <-ctx.Done():
		case <-h.wake:
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
	defer cancel()
	for last.Err() == nil {
		m, ok := h.pop()
		if !ok {
			return
		}
		h.count(w.try(last, h, m))
	}
}

// one sends a message until it is taken, refused for good, or too old.
func (w *Webhooks) one(ctx context.Context, h *hook, m message) {
	for tries := 1; ; tries++ {
		err := w.try(ctx, h, m)
		if ctx.Err() != nil && err != nil {
			h.mu.Lock()
			h.queue = append([]message{m}, h.queue...) // for the last look
			h.mu.Unlock()
			return
		}
		r, answered := errors.AsType[*refusal](err)
		if err == nil || tries == triesLimit || (answered && r.forGood()) {
			h.count(err)
			if err != nil {
				w.cfg.Log.Error("a webhook did not take a message", "target", target(h.URL), "id", m.id, "tries", tries, "error", err)
			}
			return
		}
		if tries == 1 {
			w.cfg.Log.Warn("a webhook is tried again", "target", target(h.URL), "id", m.id, "error", err)
		}
		w.cfg.Wait(ctx, backoff(tries, err))
	}
}

// try signs anew each time: receivers refuse what is minutes old.
func (w *Webhooks) try(ctx context.Context, h *hook, m message) error {
	header := http.Header{}
	at := strconv.FormatInt(w.cfg.Now().Unix(), 10)
	header.Set("webhook-id", m.id)
	header.Set("webhook-timestamp", at)
	if h.Secret != nil {
		header.Set("webhook-signature", Sign(h.Secret, m.id, at, m.body))
	}
	return w.cfg.post(ctx, h.URL, header, m.body)
}

// Sign is the webhook-signature of a message.
func Sign(secret []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
