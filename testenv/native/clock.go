package native

import "container/heap"

// event is something that happens at a time; equal times run in order of
// arrival.
type event struct {
	at  int64 // Unix ns
	seq uint64
	run func()
}

type events struct {
	now  int64
	seq  uint64
	heap eventHeap
}

func (q *events) after(ns int64, run func()) {
	q.seq++
	heap.Push(&q.heap, event{q.now + ns, q.seq, run})
}

// advance runs what is due until a time.
func (q *events) advance(until int64) {
	for len(q.heap) > 0 && q.heap[0].at <= until {
		e := heap.Pop(&q.heap).(event)
		q.now = max(q.now, e.at)
		e.run()
	}
	q.now = until
}

// step sets the clock; timers keep their distance.
func (q *events) step(ns int64) {
	q.now += ns
	for i := range q.heap {
		q.heap[i].at += ns
	}
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || (h[i].at == h[j].at && h[i].seq < h[j].seq)
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
