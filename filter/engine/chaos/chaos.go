package chaos

import "math/bits"

// Fault is one fault of an experiment.
type Fault struct {
	Seed         uint64 // of the experiment, see Hash: cohorts of two experiments have nothing to do with each other
	PPM          int64  // share of the requests, 0 to 1,000,000
	NotAfterNS   int64  // Unix ns
	Tries        uint32 // how many tries of a request it hits, from the first, 0: all
	LatencyMinNS int64  // the try is held for a time between the two
	LatencyMaxNS int64  // 0: it is not held
	Status       uint16 // in place of the upstream's, 0: none
}

// Decision is what happens to one try. The zero value is nothing.
type Decision struct {
	Hit     bool
	DelayNS int64
	Status  uint16
}

// Decide says what f does to a try (from 1) at now (Unix ns) of the request
// with an id.
func Decide(f *Fault, now int64, id []byte, try uint32) Decision {
	if now >= f.NotAfterNS || (f.Tries > 0 && try > f.Tries) {
		return Decision{}
	}
	h := Hash(f.Seed, id)
	if place, _ := bits.Mul64(h, million); place >= uint64(max(f.PPM, 0)) {
		return Decision{}
	}
	d := Decision{Hit: true, Status: f.Status, DelayNS: max(f.LatencyMinNS, 0)}
	if spread := f.LatencyMaxNS - d.DelayNS; spread > 0 {
		// Not the bits that made the place: those are small in a small cohort.
		share, _ := bits.Mul64(uint64(spread)+1, mix(h+uint64(try)))
		d.DelayNS += int64(share)
	}
	return d
}

const million = 1_000_000

// Hash spreads b over 64 bits, for a seed.
func Hash(seed uint64, b []byte) uint64 {
	h := 14695981039346656037 ^ seed // FNV-1a
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64: FNV alone leaves the high bits of short
// ids alike.
func mix(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
