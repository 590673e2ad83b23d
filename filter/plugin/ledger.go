package plugin

import "github.com/seawall-mesh/seawall/filter/contract"

// The bounds of what a VM keeps while nobody takes its batches.
const (
	maxRows     = 4096
	keptMinutes = 60 // kept apart; older ones merge into one coarse row per route
	maxStatuses = 16 // told apart per row and outcome
)

// bounds are the upper ends of the latency buckets.
type bounds struct{ us []int64 }

func newBounds(us []int64) *bounds { return &bounds{us: append([]int64(nil), us...)} }

func (b *bounds) same(us []int64) bool {
	if len(b.us) != len(us) {
		return false
	}
	for i := range us {
		if b.us[i] != us[i] {
			return false
		}
	}
	return true
}

// bucket is the index of the first bound that is not below d ns.
func (b *bounds) bucket(d int64) int {
	low, high := 0, len(b.us)
	for low < high {
		mid := (low + high) / 2
		if b.us[mid]*1000 < d {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// rowKey is what one row counts. Rows with other bounds are apart: a coarser
// histogram cannot be made finer.
type rowKey struct {
	service, route string
	priority       contract.Priority
	bounds         *bounds
	minute         int64 // Unix minute, coarse: of the coarse row
}

const coarse = -1

// row is a contract.Row being counted.
type row struct {
	key      rowKey
	minute   int64  // of a coarse row: the latest that was merged in
	attempts uint64 // that the upstream was sent
	counts   [contract.OutcomeCount]count
	statuses []statusCount
	good     []uint64 // latency, one more than bounds
	bad      []uint64
	aborted  []uint64
}

type count struct{ n, degraded uint64 }

type statusCount struct {
	count
	outcome contract.Outcome
	status  uint16
}

func newRow(key rowKey, minute int64) *row {
	n := len(key.bounds.us) + 1
	all := make([]uint64, 3*n)
	return &row{key: key, minute: minute, good: all[:n:n], bad: all[n : 2*n : 2*n], aborted: all[2*n:]}
}

// add counts one request. status is the one that was answered, for outcomes
// 4xx and 5xx; d is its latency in ns, negative where it has none.
func (r *row) add(o contract.Outcome, status uint16, d int64) {
	r.place(o, status).n++
	if d < 0 || o == contract.Injected {
		return
	}
	switch i := r.key.bounds.bucket(d); {
	case o.Good():
		r.good[i]++
	case o == contract.Aborted:
		r.aborted[i]++
	default:
		r.bad[i]++
	}
}

func (r *row) place(o contract.Outcome, status uint16) *count {
	if status == 0 || (o != contract.ClientError && o != contract.ServerError) {
		return &r.counts[o]
	}
	used := 0
	for i := range r.statuses {
		s := &r.statuses[i]
		if s.outcome != o {
			continue
		}
		if s.status == status {
			return &s.count
		}
		used++
	}
	if used == maxStatuses {
		return &r.counts[o]
	}
	r.statuses = append(r.statuses, statusCount{outcome: o, status: status})
	return &r.statuses[len(r.statuses)-1].count
}

// merge adds what from has counted.
func (r *row) merge(from *row) {
	r.minute = max(r.minute, from.minute)
	r.attempts += from.attempts
	for i := range from.counts {
		r.counts[i].n += from.counts[i].n
		r.counts[i].degraded += from.counts[i].degraded
	}
	for _, s := range from.statuses {
		to := r.place(s.outcome, s.status)
		to.n += s.n
		to.degraded += s.degraded
	}
	for i := range from.good {
		r.good[i] += from.good[i]
		r.bad[i] += from.bad[i]
		r.aborted[i] += from.aborted[i]
	}
}

func (r *row) total() (n uint64) {
	for i := range r.counts {
		n += r.counts[i].n
	}
	for i := range r.statuses {
		n += r.statuses[i].n
	}
	return n
}

// wire is the row as a batch has it.
func (r *row) wire() contract.Row {
	out := contract.Row{
		Minute: r.minute, Coarse: r.key.minute == coarse,
		Service: r.key.service, Route: r.key.route, Priority: r.key.priority.String(), Attempts: r.attempts,
		Good: r.buckets(r.good), Bad: r.buckets(r.bad), Aborted: r.buckets(r.aborted),
	}
	add := func(o contract.Outcome, status uint16, c count) {
		if n := c.n - c.degraded; n > 0 {
			out.Counts = append(out.Counts, contract.Count{Outcome: o.String(), Status: status, N: n})
		}
		if c.degraded > 0 {
			out.Counts = append(out.Counts, contract.Count{Outcome: o.String(), Status: status, Degraded: true, N: c.degraded})
		}
	}
	for i, c := range r.counts {
		add(contract.Outcome(i), 0, c)
	}
	for _, s := range r.statuses {
		add(s.outcome, s.status, s.count)
	}
	return out
}

func (r *row) buckets(counts []uint64) (out []contract.Bucket) {
	for i, n := range counts {
		if n == 0 {
			continue
		}
		le := int64(-1)
		if i < len(r.key.bounds.us) {
			le = r.key.bounds.us[i]
		}
		out = append(out, contract.Bucket{LeUS: le, N: n})
	}
	return out
}

// ledger is a bounded set of rows, oldest first. A pointer to one of its rows
// holds until gen changes.
type ledger struct {
	rows  []*row
	index map[rowKey]*row
	gen   uint64
	lost  uint64 // requests that were merged away or lost for want of room
	free  []*row // to be used again
}

const maxFree = 128

func newLedger() *ledger { return &ledger{index: map[rowKey]*row{}, gen: 1} }

// row is the row for a key, nil where there is no room.
func (l *ledger) row(key rowKey, minute int64) *row {
	if r := l.index[key]; r != nil {
		return r
	}
	if len(l.rows) >= maxRows {
		if key.minute == coarse {
			return nil
		}
		// Full: the minute is lost, the request is not.
		l.lost++
		key.minute = coarse
		return l.index[key]
	}
	r := l.fresh(key, minute)
	l.rows = append(l.rows, r)
	l.index[key] = r
	return r
}

func (l *ledger) fresh(key rowKey, minute int64) *row {
	n := len(l.free)
	if n == 0 || l.free[n-1].key.bounds != key.bounds {
		l.free = l.free[:0]
		return newRow(key, minute)
	}
	r := l.free[n-1]
	l.free = l.free[:n-1]
	clear(r.good)
	clear(r.bad)
	clear(r.aborted)
	*r = row{key: key, minute: minute, statuses: r.statuses[:0], good: r.good, bad: r.bad, aborted: r.aborted}
	return r
}

// absorb moves all rows of from into l.
func (l *ledger) absorb(from *ledger) {
	for _, r := range from.rows {
		if !l.insert(r) && len(from.free) < maxFree {
			from.free = append(from.free, r)
		}
	}
	l.lost += from.lost
	from.clear()
}

// insert takes the row, or merges what it has counted; it reports whether the
// row is now its own.
func (l *ledger) insert(r *row) bool {
	if have := l.index[r.key]; have != nil {
		have.merge(r)
		return false
	}
	if len(l.rows) < maxRows {
		l.rows = append(l.rows, r)
		l.index[r.key] = r
		return true
	}
	l.lost += r.total()
	key := r.key
	key.minute = coarse
	if have := l.index[key]; have != nil {
		have.merge(r)
	}
	return false
}

// fold merges minutes before oldest into one coarse row per route.
func (l *ledger) fold(oldest int64) {
	if len(l.rows) == 0 || !l.foldable(oldest) {
		return
	}
	rows := l.rows
	l.rows = nil
	clear(l.index)
	l.gen++
	for _, r := range rows {
		if r.key.minute != coarse && r.minute < oldest {
			r.key.minute = coarse
		}
		l.insert(r)
	}
}

func (l *ledger) foldable(oldest int64) bool {
	for _, r := range l.rows {
		if r.key.minute != coarse && r.minute < oldest {
			return true
		}
	}
	return false
}

// take removes and returns the oldest rows, at most n.
func (l *ledger) take(n int) []*row {
	n = min(n, len(l.rows))
	taken := append([]*row(nil), l.rows[:n]...)
	rest := copy(l.rows, l.rows[n:])
	clear(l.rows[rest:])
	l.rows = l.rows[:rest]
	for _, r := range taken {
		delete(l.index, r.key)
	}
	l.gen++
	return taken
}

func (l *ledger) clear() {
	clear(l.rows)
	l.rows = l.rows[:0]
	clear(l.index)
	l.gen++
	l.lost = 0
}

// ring keeps the newest events, and counts those that it lost.
type ring struct {
	items []contract.Event
	lost  uint64
}

const maxEvents = 512

func (r *ring) add(e contract.Event) {
	if len(r.items) == maxEvents {
		copy(r.items, r.items[1:])
		r.items = r.items[:maxEvents-1]
		r.lost++
	}
	r.items = append(r.items, e)
}

// absorb moves all events of from into r.
func (r *ring) absorb(from *ring) {
	for _, e := range from.items {
		r.add(e)
	}
	r.lost += from.lost
	from.items, from.lost = from.items[:0], 0
}

func (r *ring) take() []contract.Event {
	taken := append([]contract.Event(nil), r.items...)
	r.items = r.items[:0]
	return taken
}
