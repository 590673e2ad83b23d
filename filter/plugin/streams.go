package plugin

import (
	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine"
)

// stream is what is remembered of a request between its start and its end.
type stream struct {
	id       uint32 // the context's, 0: the place is free
	refused  contract.Outcome
	ticketed bool // ticket holds, else the stream belongs to what its VM knew at seq
	routed   bool // route is known, nil: the name is empty
	trailed  bool // grpc holds
	endless  bool // it might have gone on: how long it lasted says nothing
	grpc     int64
	route    *route
	seq      uint64 // number of its admission in this VM
	start    int64  // Unix ns
	sent     int64  // when it went on after waiting, 0: at start
	visit    *visit // nil: its route has no pool and no deadline
	tries    *tries // nil: the attempt role has seen none
	ticket   engine.Ticket
}

// maxStreams bounds the table. Envoy runs out of memory long before; a stream
// beyond it is admitted, and counted when it ends.
const maxStreams = 1 << 20

// streams is a table of streams by context id, with linear probing. Ids come
// in sequence, so a place is nearly always the first tried.
type streams struct {
	places []stream // a power of two
	n      int
}

// put makes a place for id, or returns nil where there is no room.
func (t *streams) put(id uint32) *stream {
	if t.n*2 >= len(t.places) && !t.grow() {
		return nil
	}
	mask := uint32(len(t.places) - 1)
	for i := id & mask; ; i = (i + 1) & mask {
		switch t.places[i].id {
		case 0:
			t.n++
			t.places[i] = stream{id: id}
			return &t.places[i]
		case id:
			t.places[i] = stream{id: id}
			return &t.places[i]
		}
	}
}

// get finds id's stream, nil where there is none. The pointer holds until the
// next put or take.
func (t *streams) get(id uint32) *stream {
	if len(t.places) == 0 || id == 0 {
		return nil
	}
	mask := uint32(len(t.places) - 1)
	for i := id & mask; t.places[i].id != 0; i = (i + 1) & mask {
		if t.places[i].id == id {
			return &t.places[i]
		}
	}
	return nil
}

// take removes id's stream and returns it.
func (t *streams) take(id uint32) (stream, bool) {
	if len(t.places) == 0 || id == 0 {
		return stream{}, false
	}
	mask := uint32(len(t.places) - 1)
	for i := id & mask; t.places[i].id != 0; i = (i + 1) & mask {
		if t.places[i].id == id {
			found := t.places[i]
			t.remove(i, mask)
			return found, true
		}
	}
	return stream{}, false
}

// remove frees place i and moves back what was pushed beyond it, so that no
// tombstone is needed.
func (t *streams) remove(i, mask uint32) {
	t.n--
	for j := i; ; {
		j = (j + 1) & mask
		if t.places[j].id == 0 {
			break
		}
		home := t.places[j].id & mask
		if (j-home)&mask >= (j-i)&mask { // i lies between home and j
			t.places[i] = t.places[j]
			i = j
		}
	}
	t.places[i] = stream{}
}

func (t *streams) grow() bool {
	if len(t.places) >= 2*maxStreams {
		return false
	}
	old := t.places
	t.places, t.n = make([]stream, max(64, 2*len(old))), 0
	for i := range old {
		if old[i].id != 0 {
			*t.put(old[i].id) = old[i]
		}
	}
	return true
}
