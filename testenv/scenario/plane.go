package scenario

import (
	"strconv"
	"sync"
	"time"
)

// ControlPlane takes batches, as the script's `telemetry` steps have it. The
// zero value is up. It may be used by several goroutines.
type ControlPlane struct {
	mu         sync.Mutex
	mode       string
	deliveries []Delivery
}

// PlaneAnswer is what comes back for a batch.
type PlaneAnswer struct {
	Status int // 0: connection refused
	Delay  time.Duration
	Hang   bool // no answer ever
}

// Set sets how batches fare from now on: one of the words of `telemetry`.
func (p *ControlPlane) Set(mode string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
}

// Take is a POST of a batch to a path. An answer takes 10 ms.
func (p *ControlPlane) Take(path string, body []byte) PlaneAnswer {
	p.mu.Lock()
	defer p.mu.Unlock()
	answer := PlaneAnswer{Status: 200, Delay: 10 * time.Millisecond}
	accepted := false
	switch p.mode {
	case "up", "":
		accepted = true
	case "lost":
		accepted, answer = true, PlaneAnswer{Hang: true}
	case "down":
		return PlaneAnswer{}
	case "hang":
		return PlaneAnswer{Hang: true}
	default:
		answer.Status, _ = strconv.Atoi(p.mode)
	}
	if path != "/v1/batches" {
		return PlaneAnswer{Status: 404}
	}
	p.deliveries = append(p.deliveries, Delivery{Body: append([]byte(nil), body...), Accepted: accepted})
	return answer
}

// Deliveries are the batches that came so far, accepted or not, in order.
func (p *ControlPlane) Deliveries() []Delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Delivery(nil), p.deliveries...)
}
