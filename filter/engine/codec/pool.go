package codec

import "github.com/seawall-mesh/seawall/filter/engine/bulkhead"

// The record of a pool, little-endian:
//
//	 0  schema (2)
//	 1  seen         of its pace
//	 2  permits      uint16, their number
//	 4  waiters      uint16, their number
//	 6  reserved (0) 2 bytes
//	 8  arrivals     uint64
//	16  mean         int64, of its pace, in ns
//	24  at           int64, of its pace
//	32  permits, 29 bytes each: owner uint64, stream uint32, claimed, expiry int64, hold int64
//	    waiters, 45 bytes each: owner uint64, stream uint32, priority, arrival uint64,
//	                            deadline int64, wait int64, hold int64
//
// Only what exists is in it, so it grows with use: 32 bytes for a pool at rest.
// It has no identity of parameters: who holds a permit holds it whatever the
// limit is now.

// PoolSchema is the version of a pool record's layout.
const PoolSchema = 2

// MaxPoolLen is the length of the longest pool record, in bytes.
const MaxPoolLen = poolHeader + permitLen*bulkhead.MaxPermits + waiterLen*bulkhead.MaxWaiters

const (
	poolHeader = 32
	permitLen  = 29
	waiterLen  = 45
)

// AppendPool appends the record of s. What is beyond the bounds of a State is
// left out; no step makes one.
func AppendPool(dst []byte, s *bulkhead.State) []byte {
	permits := s.Permits[:min(len(s.Permits), bulkhead.MaxPermits)]
	waiters := s.Waiters[:min(len(s.Waiters), bulkhead.MaxWaiters)]
	dst = append(dst, PoolSchema, s.Pace.Seen, byte(len(permits)), byte(len(permits)>>8), byte(len(waiters)), byte(len(waiters)>>8), 0, 0)
	dst = put64(put64(put64(dst, s.Arrivals), uint64(s.Pace.MeanNS)), uint64(s.Pace.At))
	for i := range permits {
		p := &permits[i]
		claimed := byte(0)
		if p.Claimed {
			claimed = 1
		}
		dst = append(put32(put64(dst, p.Owner), p.Stream), claimed)
		dst = put64(put64(dst, uint64(p.Expiry)), uint64(p.HoldNS))
	}
	for i := range waiters {
		w := &waiters[i]
		dst = append(put32(put64(dst, w.Owner), w.Stream), w.Priority)
		dst = put64(put64(dst, w.Arrival), uint64(w.Deadline))
		dst = put64(put64(dst, uint64(w.WaitNS)), uint64(w.HoldNS))
	}
	return dst
}

// ParsePool reads a record into s, and uses its slices again. false where the
// bytes are none: of another schema or length, or with what AppendPool never
// writes; then s is a pool that nobody uses.
func ParsePool(b []byte, s *bulkhead.State) bool {
	s.Reset()
	if len(b) < poolHeader || b[0] != PoolSchema || b[6]|b[7] != 0 {
		return false
	}
	permits, waiters := int(b[2])|int(b[3])<<8, int(b[4])|int(b[5])<<8
	if permits > bulkhead.MaxPermits || waiters > bulkhead.MaxWaiters || len(b) != poolHeader+permitLen*permits+waiterLen*waiters {
		return false
	}
	s.Arrivals = get64(b[8:])
	s.Pace = bulkhead.Pace{Seen: b[1], MeanNS: int64(get64(b[16:])), At: int64(get64(b[24:]))}
	b = b[poolHeader:]
	if !paced(&s.Pace) || !parsePermits(b[:permitLen*permits], s) || !parseWaiters(b[permitLen*permits:], s) {
		s.Reset()
		return false
	}
	return true
}

// paced reports whether calls can have taught p.
func paced(p *bulkhead.Pace) bool {
	if p.Seen == 0 {
		return *p == bulkhead.Pace{}
	}
	return p.Seen <= bulkhead.Enough && p.MeanNS >= 0
}

func parsePermits(b []byte, s *bulkhead.State) bool {
	for ; len(b) > 0; b = b[permitLen:] {
		p := bulkhead.Permit{Holder: holder(b), Claimed: b[12] == 1, Expiry: int64(get64(b[13:])), HoldNS: int64(get64(b[21:]))}
		if b[12] > 1 || p.HoldNS <= 0 {
			return false
		}
		s.Permits = append(s.Permits, p)
	}
	return true
}

func parseWaiters(b []byte, s *bulkhead.State) bool {
	for ; len(b) > 0; b = b[waiterLen:] {
		w := bulkhead.Waiter{
			Holder: holder(b), Priority: b[12], Arrival: get64(b[13:]),
			Deadline: int64(get64(b[21:])), WaitNS: int64(get64(b[29:])), HoldNS: int64(get64(b[37:])),
		}
		if w.HoldNS <= 0 || w.WaitNS < 0 || w.Arrival >= s.Arrivals {
			return false
		}
		if n := len(s.Waiters); n > 0 && !before(&s.Waiters[n-1], &w) {
			return false
		}
		s.Waiters = append(s.Waiters, w)
	}
	return true
}

func holder(b []byte) bulkhead.Holder {
	return bulkhead.Holder{Owner: get64(b), Stream: get32(b[8:])}
}

// before is the order of the queue.
func before(a, b *bulkhead.Waiter) bool {
	return a.Priority < b.Priority || (a.Priority == b.Priority && a.Arrival < b.Arrival)
}
