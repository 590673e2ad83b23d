package plugin

import "testing"

// A healthy request, without what the host's calls cost.
func BenchmarkHealthyRequest(b *testing.B) {
	w := newProxy(b).worker(testPlan())
	host := quickHost{worker: w, route: []byte("pay/charge"), code: number(200), flags: number(0)}
	w.vm.host = &host
	id := uint32(0)
	b.ReportAllocs()
	for range b.N {
		id++
		w.vm.RequestHeaders(id)
		w.vm.StreamDone(id)
	}
}

// quickHost answers at once what a healthy request asks.
type quickHost struct {
	*worker
	route, code, flags []byte
}

func (h *quickHost) Now() int64                { return h.now }
func (h *quickHost) MetricGet(m Metric) uint64 { return h.values[m] }

func (h *quickHost) Property(path string) ([]byte, bool) {
	switch path {
	case propRouteName:
		return h.route, true
	case propCode:
		return h.code, true
	case propFlags:
		return h.flags, true
	}
	return nil, false
}
