package plugin

import "github.com/seawall-mesh/seawall/filter/contract"

// endSignal is Envoy's own sign that a request did not end well. Its listener
// logs each request that was answered otherwise than by 200 to 399, or has a
// response flag, into a counter; a metric is read at a tenth of what the two
// properties cost that say the same. Envoy writes its access logs just before
// it ends the filters of that same stream, so in StreamDone a counter that
// stands still since the last says: this one ended well. Other workers make it
// move too, which costs a needless look.
type endSignal struct {
	metric  Metric
	defined bool
	seen    uint64
}

// open defines the counter. Where metrics are hidden it would stand still for
// ever.
func (e *endSignal) open(host Host, hidden bool) {
	if hidden {
		return
	}
	if e.metric, e.defined = host.DefineMetric(Counter, contract.EndSignalMetric); e.defined {
		e.seen = host.MetricGet(e.metric)
	}
}

// quiet reports whether nothing has moved it since it was asked last.
func (e *endSignal) quiet(host Host) bool {
	n := host.MetricGet(e.metric)
	if n == e.seen {
		return true
	}
	e.seen = n
	return false
}
