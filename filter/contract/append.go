package contract

import "github.com/seawall-mesh/seawall/filter/jsonlite"

// AppendBatch appends b as the JSON that encoding/json reads back as the same
// Batch (text that is not UTF-8 as U+FFFD).
func AppendBatch(dst []byte, b *Batch) []byte {
	o := jsonlite.Open(dst)
	o.Int("schema", int64(b.Schema))
	o.String("node", b.Node)
	o.String("boot", b.Boot)
	o.String("vm", b.VM)
	o.Uint("seq", b.Seq)
	o.Int("atNs", b.AtNS)
	o.Int("bootNs", b.BootNS)
	o.String("plan", b.Plan)
	o.String("filter", b.Filter)
	o.Bool("served", b.Served)
	appendList(&o, "rows", b.Rows, appendRow)
	appendList(&o, "events", b.Events, appendEvent)
	appendList(&o, "breakers", b.Breakers, appendBreaker)
	appendList(&o, "pools", b.Pools, appendPool)
	o.Done(appendCounters(o.Key("counters"), &b.Counters))
	return o.Close()
}

func appendList[T any](o *jsonlite.Object, name string, items []T, item func([]byte, *T) []byte) {
	if len(items) == 0 {
		return
	}
	dst := append(o.Key(name), '[')
	for i := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = item(dst, &items[i])
	}
	o.Done(append(dst, ']'))
}

func appendRow(dst []byte, r *Row) []byte {
	o := jsonlite.Open(dst)
	o.Int("minute", r.Minute)
	if r.Coarse {
		o.Bool("coarse", true)
	}
	o.String("service", r.Service)
	o.String("route", r.Route)
	o.String("priority", r.Priority)
	if r.Attempts != 0 {
		o.Uint("attempts", r.Attempts)
	}
	if len(r.Counts) == 0 {
		o.Done(append(o.Key("counts"), "[]"...))
	}
	appendList(&o, "counts", r.Counts, appendCount)
	appendList(&o, "good", r.Good, appendBucket)
	appendList(&o, "bad", r.Bad, appendBucket)
	appendList(&o, "aborted", r.Aborted, appendBucket)
	return o.Close()
}

func appendCount(dst []byte, c *Count) []byte {
	o := jsonlite.Open(dst)
	o.String("outcome", c.Outcome)
	if c.Status != 0 {
		o.Uint("status", uint64(c.Status))
	}
	if c.Degraded {
		o.Bool("degraded", true)
	}
	if c.Synthetic {
		o.Bool("synthetic", true)
	}
	o.Uint("n", c.N)
	return o.Close()
}

func appendBucket(dst []byte, b *Bucket) []byte {
	o := jsonlite.Open(dst)
	o.Int("leUs", b.LeUS)
	o.Uint("n", b.N)
	return o.Close()
}

func appendEvent(dst []byte, e *Event) []byte {
	o := jsonlite.Open(dst)
	o.Int("atNs", e.AtNS)
	o.String("kind", e.Kind)
	optional(&o, "service", e.Service)
	optional(&o, "route", e.Route)
	optional(&o, "from", e.From)
	optional(&o, "to", e.To)
	optional(&o, "cause", e.Cause)
	if e.Gen != 0 {
		o.Uint("gen", e.Gen)
	}
	return o.Close()
}

func appendBreaker(dst []byte, b *BreakerState) []byte {
	o := jsonlite.Open(dst)
	o.String("service", b.Service)
	o.String("route", b.Route)
	o.String("state", b.State)
	o.Uint("gen", b.Gen)
	o.Int("sinceNs", b.SinceNS)
	if b.RetryAtNS != 0 {
		o.Int("retryAtNs", b.RetryAtNS)
	}
	optional(&o, "cause", b.Cause)
	if b.Forced {
		o.Bool("forced", true)
	}
	return o.Close()
}

func appendPool(dst []byte, s *PoolState) []byte {
	o := jsonlite.Open(dst)
	o.String("service", s.Service)
	o.String("pool", s.Pool)
	o.Uint("held", uint64(s.Held))
	o.Uint("waiting", uint64(s.Waiting))
	o.Uint("limit", uint64(s.Limit))
	o.Uint("granted", s.Granted)
	o.Uint("full", s.Full)
	o.Uint("timedOut", s.TimedOut)
	o.Int("maxWaitNs", s.MaxWaitNS)
	return o.Close()
}

func appendCounters(dst []byte, c *Counters) []byte {
	o := jsonlite.Open(dst)
	o.Uint("requests", c.Requests)
	o.Uint("unknownRoutes", c.UnknownRoutes)
	o.Uint("panics", c.Panics)
	o.Uint("casExhausted", c.CASExhausted)
	o.Uint("droppedRows", c.DroppedRows)
	o.Uint("droppedEvents", c.DroppedEvents)
	o.Uint("rejectedBatches", c.Rejected)
	o.Bool("epochFallback", c.EpochFallback)
	return o.Close()
}

func optional(o *jsonlite.Object, name, value string) {
	if value != "" {
		o.String(name, value)
	}
}
