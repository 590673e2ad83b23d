// Package codec is the byte form of a breaker's State, as it stands in Envoy's
// shared data between workers and across builds of the filter.
//
// A record has a fixed layout, little-endian:
//
//	 0  schema (2)
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
//	53  which windows follow the probe places: 1 failures, 2 slow calls
//	54  probe places uint32 each
//	    windows      since int64, then ten buckets: calls uint32, hits uint32
//
// Builds of several versions share records while a module is replaced, so a
// layout that changes gets a new schema, and a new key.
package codec

import (
	"github.com/seawall-mesh/seawall/filter/engine/breaker"
	"github.com/seawall-mesh/seawall/filter/engine/window"
)

// Schema is the version of the layout.
const Schema = 2

// MaxLen is the length of the longest record, in bytes.
const MaxLen = header + 4*breaker.MaxProbes + 2*windowLen

const (
	header       = 54
	windowLen    = 8 + 8*window.Buckets
	hasFailures  = 1
	hasSlowCalls = 2
)

// Identity names the parameters that a State belongs to.
type Identity [8]byte

// Append appends the record of s and w.
func Append(dst []byte, id Identity, s *breaker.State, w *breaker.Windows) []byte {
	places := breaker.MaxProbes
	for places > 0 && s.Probes[places-1] == 0 {
		places--
	}
	var windows byte
	if w.Failures != (window.Window{}) {
		windows |= hasFailures
	}
	if w.Slow != (window.Window{}) {
		windows |= hasSlowCalls
	}
	dst = append(dst, Schema, byte(s.Kind), s.Cause, byte(places))
	dst = put32(dst, s.Failures)
	dst = append(dst, id[:]...)
	dst = put64(dst, s.Gen)
	dst = put64(dst, uint64(s.Since))
	dst = put64(dst, uint64(s.RetryAt))
	dst = put64(dst, uint64(s.Recovery))
	dst = put32(dst, s.Successes)
	dst = append(dst, s.Serial, windows)
	for _, p := range s.Probes[:places] {
		dst = put32(dst, uint32(p))
	}
	if windows&hasFailures != 0 {
		dst = appendWindow(dst, &w.Failures)
	}
	if windows&hasSlowCalls != 0 {
		dst = appendWindow(dst, &w.Slow)
	}
	return dst
}

func appendWindow(dst []byte, w *window.Window) []byte {
	dst = put64(dst, uint64(w.Since))
	for _, c := range w.Counts {
		dst = put32(put32(dst, c.Calls), c.Hits)
	}
	return dst
}

// Parse reads a record. ok is false where the bytes are none: of another
// schema or length, or with values that Append never writes.
func Parse(b []byte) (id Identity, s breaker.State, w breaker.Windows, ok bool) {
	if len(b) < header || b[0] != Schema || b[1] > byte(breaker.HalfOpen) || int(b[3]) > breaker.MaxProbes || b[53] > hasFailures|hasSlowCalls {
		return id, s, w, false
	}
	places, windows := int(b[3]), b[53]
	rest := b[header:]
	if len(rest) != 4*places+windowLen*int(windows&1+windows>>1) {
		return id, s, w, false
	}
	copy(id[:], b[8:])
	s = breaker.State{
		Kind: breaker.Kind(b[1]), Cause: b[2], Failures: get32(b[4:]), Gen: get64(b[16:]), Since: int64(get64(b[24:])),
		RetryAt: int64(get64(b[32:])), Recovery: int64(get64(b[40:])), Successes: get32(b[48:]), Serial: b[52],
	}
	for i := range places {
		s.Probes[i] = breaker.Probe(get32(rest[4*i:]))
	}
	rest = rest[4*places:]
	ok = s.Recovery >= 0 && (places == 0 || s.Probes[places-1] != 0)
	if windows&hasFailures != 0 {
		ok = parseWindow(rest, &w.Failures) && ok
		rest = rest[windowLen:]
	}
	if windows&hasSlowCalls != 0 {
		ok = parseWindow(rest, &w.Slow) && ok
	}
	if !ok {
		return Identity{}, breaker.State{}, breaker.Windows{}, false
	}
	return id, s, w, true
}

// parseWindow reads a window that is not empty, with no more hits than calls.
func parseWindow(b []byte, w *window.Window) bool {
	w.Since = int64(get64(b))
	ok := true
	for i := range w.Counts {
		c := window.Count{Calls: get32(b[8+8*i:]), Hits: get32(b[12+8*i:])}
		w.Counts[i] = c
		ok = ok && c.Hits <= c.Calls
	}
	return ok && *w != (window.Window{})
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
