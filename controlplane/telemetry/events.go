package telemetry

import (
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// eventLimit is how many events are kept.
const eventLimit = 10_000

// Event is something that happened in a data plane: a member of GET events.
type Event struct {
	ID      uint64         `json:"id"` // ascends, also over restarts of the control plane
	At      time.Time      `json:"at"` // by the filter's clock
	Kind    string         `json:"kind"`
	Service string         `json:"service"`
	Route   string         `json:"route"`
	Node    string         `json:"node"`
	Data    map[string]any `json:"data"` // from, to, cause, gen: those that the kind has
}

// Events are the kept events with an ID above after, oldest first, at most
// limit. The newest 10,000 are kept.
func (i *Ingest) Events(after uint64, limit int) []Event { return i.events.list(after, limit) }

// events is a ring.
type events struct {
	mu      sync.Mutex
	ring    []kept
	next    int    // where the next one goes, once the ring is full
	lastID  uint64 // of the newest
	dropped uint64
}

type kept struct {
	id    uint64
	node  string
	event contract.Event
}

// init starts IDs at the time in µs: later than all of an earlier process, as
// long as that saw less than a million events a second, and exact in a
// JavaScript number.
func (s *events) init(now time.Time) { s.lastID = uint64(max(0, now.UnixMicro())) }

func (s *events) droppedCount() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

func (s *events) add(b *contract.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range b.Events {
		s.put(b.Node, e)
	}
}

// tell adds an event that is ours.
func (s *events) tell(node string, e contract.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(node, e)
}

func (s *events) put(node string, e contract.Event) {
	s.lastID++
	k := kept{s.lastID, node, e}
	if len(s.ring) < eventLimit {
		s.ring = append(s.ring, k)
		return
	}
	s.ring[s.next] = k
	s.next = (s.next + 1) % eventLimit
	s.dropped++
}

func (s *events) list(after uint64, limit int) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []Event{}
	if len(s.ring) == 0 {
		return all
	}
	// IDs in the ring have no holes, so the place of the first is known.
	oldest := s.ring[s.next%len(s.ring)].id
	skip := 0
	if after >= oldest {
		skip = int(min(after-oldest+1, uint64(len(s.ring))))
	}
	for n := skip; n < len(s.ring) && len(all) < limit; n++ {
		all = append(all, event(s.ring[(s.next+n)%len(s.ring)]))
	}
	return all
}

func event(k kept) Event {
	e := k.event
	data := map[string]any{}
	for name, value := range map[string]string{"from": e.From, "to": e.To, "cause": e.Cause} {
		if value != "" {
			data[name] = value
		}
	}
	if e.Gen != 0 {
		data["gen"] = e.Gen
	}
	return Event{
		ID: k.id, At: time.Unix(0, e.AtNS).UTC(), Kind: e.Kind,
		Service: e.Service, Route: e.Route, Node: k.node, Data: data,
	}
}
