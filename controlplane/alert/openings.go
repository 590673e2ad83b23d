package alert

import (
	"time"

	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

const (
	// openingsKept bounds the times that are kept of one breaker in one Envoy, and
	// breakersKept the breakers.
	openingsKept = 100
	breakersKept = 100_000

	// eventsRead is how many events are read at a time.
	eventsRead = 1000
)

// openings remembers when breakers opened lately. Events are not kept over a
// restart, so flapping is seen anew from there.
type openings struct {
	last  uint64 // ID of the newest event that was read
	times map[opened][]time.Time
}

type opened struct{ service, route, node string }

// read takes in the events since the last time.
func (o *openings) read(list func(after uint64, limit int) []telemetry.Event) {
	for {
		page := list(o.last, eventsRead)
		for _, e := range page {
			o.last = e.ID
			if e.Kind == "breaker" && e.Data["to"] == "open" {
				o.add(opened{e.Service, e.Route, e.Node}, e.At)
			}
		}
		if len(page) < eventsRead {
			return
		}
	}
}

func (o *openings) add(k opened, at time.Time) {
	if o.times == nil {
		o.times = map[opened][]time.Time{}
	}
	times, known := o.times[k]
	if !known && len(o.times) >= breakersKept {
		return
	}
	if times = append(times, at); len(times) > openingsKept {
		times = times[1:]
	}
	o.times[k] = times
}

// count is how often each breaker opened in FlappingWindow before now, in the
// Envoy where that was most often.
func (o *openings) count(now time.Time) map[telemetry.Route]int {
	most := map[telemetry.Route]int{}
	for k, times := range o.times {
		n := 0
		for _, at := range times {
			if now.Sub(at) < FlappingWindow {
				n++
			}
		}
		if n == 0 {
			delete(o.times, k)
			continue
		}
		r := telemetry.Route{Service: k.service, Route: k.route}
		most[r] = max(most[r], n)
	}
	return most
}
