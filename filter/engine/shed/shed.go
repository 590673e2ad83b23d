package shed

import "math/bits"

// Class is how important a request is; the numbers are contract.Priority's.
type Class uint8

// The classes, most important first.
const (
	Critical Class = iota
	High
	Medium
	Low

	// Classes is their number.
	Classes = int(Low) + 1
)

// Signal is what load means.
type Signal uint8

// The signals.
const (
	Inflight Signal = iota // requests in flight against Params.Max
	Adaptive               // requests in flight against State.Limit
	Reported               // what the service reports of itself
)

const (
	ppm   = 1_000_000
	milli = 1_000 // limits and work in flight are counted in thousandths of a request

	// MaxLimit is the greatest limit, in requests.
	MaxLimit = 1_000_000
)

// Params is how a service sheds.
type Params struct {
	Signal       Signal
	Min, Max     uint32          // bounds of the limit, in requests, 1 to MaxLimit; Max is the limit of Inflight
	ThresholdPPM [Classes]uint32 // load from which on a class is dropped, 0 = never; Critical's is not looked at
}

// Request is what a decision is about.
type Request struct {
	Class    Class
	Inflight uint32 // requests of the service that are out, this one not counted
	Random   uint64 // 64 random bits
}

// Decision says whether a request is dropped, and at which load.
type Decision struct {
	Shed         bool
	LoadPPM      uint32 // at most MaxUint32
	RetryAfterNS int64  // dropped: when to try again, from now; 1 s to maxRetry, spread by Request.Random
}

// A client that is told to come back is told more time the higher the load is.
const (
	minRetryNS = 1e9
	maxRetryNS = 30e9
)

// Admit decides on one request at now (Unix ns). It changes nothing.
func (s *State) Admit(p *Params, now int64, r Request) Decision {
	if p.Signal == Reported {
		return s.admitReported(p, now, r)
	}
	limit := s.limit(p)
	out := uint64(r.Inflight) * milli * ppm // 2^32 · 10^9 is less than 2^63
	d := Decision{LoadPPM: uint32(min(out/uint64(limit), 1<<32-1))}
	if threshold := p.threshold(r.Class); threshold != 0 && out >= uint64(limit)*threshold {
		d.drop(r.Random)
	}
	return d
}

// Calm reports whether no class at all would be dropped with so many requests
// in flight: then a VM need not know a request's class.
func (s *State) Calm(p *Params, now int64, inflight uint32) bool {
	for c := High; c <= Low; c++ {
		// The random bits under which a share admits least.
		if s.Admit(p, now, Request{Class: c, Inflight: inflight, Random: ^uint64(0)}).Shed {
			return false
		}
	}
	return true
}

func (s *State) admitReported(p *Params, now int64, r Request) Decision {
	if age := now - s.Since; age > staleNS || age < -staleNS {
		return Decision{} // nobody has looked for long, or the clock was set
	}
	d := Decision{LoadPPM: s.LoadPPM}
	if p.threshold(r.Class) == 0 {
		return d
	}
	hi, _ := bits.Mul64(r.Random, ppm)
	if hi >= uint64(ppm-s.DropPPM[r.Class.known()]) {
		d.drop(r.Random)
	}
	return d
}

func (d *Decision) drop(random uint64) {
	d.Shed = true
	spread := min(uint64(d.LoadPPM)*(minRetryNS/ppm), maxRetryNS-minRetryNS)
	hi, _ := bits.Mul64(random<<32|random>>32, spread) // other bits than those that chose
	d.RetryAfterNS = minRetryNS + int64(hi)
}

// known takes what is no class for the least important one.
func (c Class) known() Class { return min(c, Low) }

// threshold is from which load on a class is dropped, in ppm, 0 = never.
func (p *Params) threshold(c Class) uint64 {
	if c == Critical {
		return 0
	}
	return uint64(p.ThresholdPPM[c.known()])
}

// limit is the limit in force, in thousandths.
func (s *State) limit(p *Params) uint32 {
	most := min(max(p.Max, 1), MaxLimit) * milli
	if p.Signal != Adaptive || s.Limit == 0 {
		return most
	}
	return p.clamp(s.Limit)
}

// clamp brings a limit, in thousandths, into its bounds.
func (p *Params) clamp(limit uint32) uint32 {
	most := min(max(p.Max, 1), MaxLimit)
	least := min(max(p.Min, 1), most)
	return min(max(limit, least*milli), most*milli)
}
