package plugin

import "strconv"

// The epochs tell a VM that shared records have changed since it read them.
// They only grow, and each is written after the record: compare-and-swap
// first, then raise.
const (
	shards     = 16     // a record's epoch, by the hash of its key: raised on each change
	admitEpoch = shards // raised when any breaker's position changes, or its run of failures begins
	epochs     = shards + 1
)

// epoch is a set of counters that all workers see. They are gauge metrics,
// which are process-wide and cost a ninth of a shared record to read. Where a
// stats_matcher hides our metrics a gauge reads 0 for ever, and shared records
// take their place.
type epoch struct {
	host   Host
	shared *records
	gauges [epochs]Metric
	hidden bool // shared records serve
	keys   [epochs]string
}

// open defines the gauges and tries one: raising the admission epoch makes
// others look at their records once more, no harm.
func (e *epoch) open(host Host, shared *records) {
	e.host, e.shared = host, shared
	for i := range e.gauges {
		name := "admit"
		if i < shards {
			name = strconv.Itoa(i)
		}
		e.keys[i] = "sw1/e/" + name
		m, ok := host.DefineMetric(Gauge, "seawall.epoch."+name)
		e.gauges[i] = m
		e.hidden = e.hidden || !ok
	}
	if !e.hidden {
		host.MetricAdd(e.gauges[admitEpoch], 1)
		e.hidden = host.MetricGet(e.gauges[admitEpoch]) == 0
	}
}

// read is the epoch's value now.
func (e *epoch) read(i int) uint64 {
	if !e.hidden {
		return e.host.MetricGet(e.gauges[i])
	}
	value, _, ok := e.shared.get(e.keys[i])
	if !ok {
		return 0
	}
	return get64(value)
}

// raise makes the epoch grow.
func (e *epoch) raise(i int) {
	if !e.hidden {
		e.host.MetricAdd(e.gauges[i], 1)
		return
	}
	for range maxTries {
		value, version, ok := e.shared.get(e.keys[i])
		if !ok {
			version = Absent
		}
		var next [8]byte
		put64(next[:], get64(value)+1)
		if _, ok := e.shared.set(e.keys[i], next[:], version); ok {
			return
		}
	}
}

// maxTries bounds each compare-and-swap loop.
const maxTries = 16

// shardOf spreads records over the epochs, so that a failing route does not
// make healthy ones re-read (FNV-1a).
func shardOf(key string) int {
	h := uint32(2166136261)
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return int((h ^ h>>16) % shards)
}

func put64(b []byte, n uint64) {
	for i := range 8 {
		b[i] = byte(n >> (8 * i))
	}
}

// get64 reads what put64 wrote, 0 where b is something else.
func get64(b []byte) (n uint64) {
	if len(b) < 8 {
		return 0
	}
	for i := range 8 {
		n |= uint64(b[i]) << (8 * i)
	}
	return n
}
