package host

import (
	"maps"
	"sync"
)

// Metric kinds, which are also the low bits of metric ids (wasm.h).
const (
	metricCounter   = 0
	metricGauge     = 1
	metricHistogram = 2
	metricTypeMask  = 3
	metricIncrement = 4
)

// Metric is one process-wide metric.
type Metric struct {
	Kind  string // counter | gauge | histogram
	Value uint64 // histogram: the sum of what was recorded
	Count uint64 // histogram: how often
}

type metricKey struct {
	kind uint32
	name string
}

// metricStore is the process's stats: one value per name and kind, whatever
// VM defines it; ids belong to VMs and are new with each definition.
type metricStore struct {
	mu     sync.Mutex
	values map[metricKey]*Metric
	hidden func(name string) bool // stats_matcher: counts, but reads 0
}

func newMetricStore(hidden func(string) bool) *metricStore {
	return &metricStore{values: map[metricKey]*Metric{}, hidden: hidden}
}

var metricKinds = [...]string{"counter", "gauge", "histogram"}

func (s *metricStore) define(k metricKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values[k] == nil {
		s.values[k] = &Metric{Kind: metricKinds[k.kind]}
	}
}

// add changes a counter or a gauge by offset, as Context::incrementMetric.
func (s *metricStore) add(k metricKey, offset int64) status {
	if k.kind == metricHistogram || k.kind == metricCounter && offset <= 0 {
		return statusBadArgument
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isHidden(k.name) {
		s.values[k].Value += uint64(offset)
	}
	return statusOK
}

// count adds 1 to a counter that the process itself keeps.
func (s *metricStore) count(name string) {
	k := metricKey{metricCounter, name}
	s.define(k)
	s.add(k, 1)
}

// record adds to a counter, sets a gauge, or records in a histogram.
func (s *metricStore) record(k metricKey, value uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isHidden(k.name) {
		return
	}
	m := s.values[k]
	switch k.kind {
	case metricCounter:
		m.Value += value
	case metricGauge:
		m.Value = value
	default:
		m.Value += value
		m.Count++
	}
}

func (s *metricStore) get(k metricKey) (uint64, status) {
	if k.kind == metricHistogram {
		return 0, statusBadArgument
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[k].Value, statusOK
}

func (s *metricStore) isHidden(name string) bool { return s.hidden != nil && s.hidden(name) }

func (s *metricStore) all() map[string]Metric {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]Metric, len(s.values))
	for k, m := range maps.All(s.values) {
		out[k.name] = *m
	}
	return out
}
