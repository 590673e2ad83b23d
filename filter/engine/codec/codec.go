// Package codec is the byte form of a breaker's State, as it stands in Envoy's
// shared data between workers and across builds of the filter.
//
// A record has a fixed layout, little-endian:
//
//	 0  schema (1)
//	 1  kind
//	 2  cause
//	 3  number of probe places that follow the header, 0 to 32
//	 4  failures     uint32
//	 8  identity     8 bytes
//	16  gen          uint64
//	24  since        int64
//	32  retry at     int64
//	40  recovery     int64
//	48  successes    uint32
//	52  serial
//	53  probe places uint32 each
//
// Builds of several versions share records while a module is replaced, so a
// layout that changes gets a new schema, and a new key.
package codec

import "github.com/seawall-mesh/seawall/filter/engine/breaker"

// Schema is the version of the layout.
const Schema = 1

// MaxLen is the length of the longest record, in bytes.
const MaxLen = header + 4*breaker.MaxProbes

const header = 53

// Identity names the parameters that a State belongs to.
type Identity [8]byte

// Append appends the record of s.
func Append(dst []byte, id Identity, s *breaker.State) []byte {
	places := breaker.MaxProbes
	for places > 0 && s.Probes[places-1] == 0 {
		places--
	}
	dst = append(dst, Schema, byte(s.Kind), s.Cause, byte(places))
	dst = put32(dst, s.Failures)
	dst = append(dst, id[:]...)
	dst = put64(dst, s.Gen)
	dst = put64(dst, uint64(s.Since))
	dst = put64(dst, uint64(s.RetryAt))
	dst = put64(dst, uint64(s.Recovery))
	dst = put32(dst, s.Successes)
	dst = append(dst, s.Serial)
	for _, p := range s.Probes[:places] {
		dst = put32(dst, uint32(p))
	}
	return dst
}

// Parse reads a record. ok is false where the bytes are none: of another
// schema or length, or with values that Append never writes.
func Parse(b []byte) (id Identity, s breaker.State, ok bool) {
	if len(b) < header || b[0] != Schema || int(b[3]) > breaker.MaxProbes || len(b) != header+4*int(b[3]) || b[1] > byte(breaker.HalfOpen) {
		return id, s, false
	}
	s.Kind, s.Cause = breaker.Kind(b[1]), b[2]
	s.Failures = get32(b[4:])
	copy(id[:], b[8:])
	s.Gen = get64(b[16:])
	s.Since = int64(get64(b[24:]))
	s.RetryAt = int64(get64(b[32:]))
	s.Recovery = int64(get64(b[40:]))
	s.Successes = get32(b[48:])
	s.Serial = b[52]
	places := int(b[3])
	for i := range places {
		s.Probes[i] = breaker.Probe(get32(b[header+4*i:]))
	}
	if s.Recovery < 0 || (places > 0 && s.Probes[places-1] == 0) {
		return Identity{}, breaker.State{}, false
	}
	return id, s, true
}

func put32(dst []byte, n uint32) []byte {
	return append(dst, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
}

func put64(dst []byte, n uint64) []byte {
	return put32(put32(dst, uint32(n)), uint32(n>>32))
}

func get32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func get64(b []byte) uint64 { return uint64(get32(b)) | uint64(get32(b[4:]))<<32 }
