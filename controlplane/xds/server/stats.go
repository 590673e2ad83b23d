package server

import (
	"sync/atomic"

	"github.com/seawall-mesh/seawall/controlplane/fleet"
)

type counters struct{ pushes, acks, nacks, retries atomic.Uint64 }

// KindStats counts what happened with one type, since the server's start.
type KindStats struct {
	Pushes  uint64 // responses sent
	ACKs    uint64
	NACKs   uint64
	Retries uint64 // rejected resources released to be sent again
}

// Stats is for the process's own metrics.
type Stats struct {
	Kinds        map[fleet.Kind]KindStats
	Streams      int    // open now
	Heals        uint64 // moves to a new vm_id
	EdgesRefused uint64 // Edges of a model that could not be served
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	out := Stats{
		Kinds:   make(map[fleet.Kind]KindStats, kindCount),
		Streams: int(s.streams.Load()), Heals: s.heals.Load(), EdgesRefused: s.refused.Load(),
	}
	for k := range kindCount {
		c := &s.stats[k]
		out.Kinds[kinds[k].name] = KindStats{c.pushes.Load(), c.acks.Load(), c.nacks.Load(), c.retries.Load()}
	}
	return out
}
