package codec

import "github.com/seawall-mesh/seawall/filter/engine/shed"

// The record of a service's load, little-endian:
//
//	 0  schema (1)
//	 1  high, busy, age
//	 4  number of slots that follow the header, 0 to 16
//	 5  reserved (0) 3 bytes
//	 8  since        int64
//	16  limit, before, work, out                 uint32 each
//	32  load         uint32, in ppm
//	36  share that is dropped, in ppm            uint32 each: high, medium, low
//	48  load at      int64
//	56  window: late, shed, reports, merges      uint32 each
//	72          late ns, load, out               uint64 each
//	96  slots, 21 bytes each: base ns uint64, seen, done uint32, done ns uint64
//
// Like a pool's it has no identity of parameters: what was learnt of a service
// is true whatever its policy says now, and a limit is brought into its bounds
// when it is used.

// ShedSchema is the version of a load record's layout.
const ShedSchema = 1

// MaxShedLen is the length of the longest load record, in bytes.
const MaxShedLen = shedHeader + shedSlotLen*shed.Slots

const (
	shedHeader  = 96
	shedSlotLen = 21
)

// AppendShed appends the record of s.
func AppendShed(dst []byte, s *shed.State) []byte {
	w := &s.Window
	slots := shed.Slots
	for slots > 0 && !slotUsed(s, slots-1) {
		slots--
	}
	dst = append(dst, ShedSchema, s.High, s.Busy, s.Age, byte(slots), 0, 0, 0)
	dst = put64(dst, uint64(s.Since))
	dst = put32(put32(put32(put32(dst, s.Limit), s.Before), s.Work), s.Out)
	dst = put32(dst, s.LoadPPM)
	dst = put32(put32(put32(dst, s.DropPPM[shed.High]), s.DropPPM[shed.Medium]), s.DropPPM[shed.Low])
	dst = put64(dst, uint64(s.LoadAt))
	dst = put32(put32(put32(put32(dst, w.Late), w.Shed), w.Reports), w.Merges)
	dst = put64(put64(put64(dst, w.LateNS), w.LoadPPM), w.Out)
	for i := range slots {
		dst = append(put64(dst, s.BaseNS[i]), s.Seen[i])
		dst = put64(put32(dst, w.Done[i]), w.DoneNS[i])
	}
	return dst
}

func slotUsed(s *shed.State, i int) bool {
	return s.BaseNS[i] != 0 || s.Seen[i] != 0 || s.Window.Done[i] != 0 || s.Window.DoneNS[i] != 0
}

// ParseShed reads a record into s. false where the bytes are none: of another
// schema or length, or with what no step makes; then s knows nothing.
func ParseShed(b []byte, s *shed.State) bool {
	*s = shed.State{}
	if len(b) < shedHeader || b[0] != ShedSchema || b[4] > shed.Slots || b[5]|b[6]|b[7] != 0 || len(b) != shedHeader+shedSlotLen*int(b[4]) {
		return false
	}
	w := &s.Window
	s.High, s.Busy, s.Age = b[1], b[2], b[3]
	s.Since = int64(get64(b[8:]))
	s.Limit, s.Before, s.Work, s.Out = get32(b[16:]), get32(b[20:]), get32(b[24:]), get32(b[28:])
	s.LoadPPM, s.LoadAt = get32(b[32:]), int64(get64(b[48:]))
	s.DropPPM = [shed.Classes]uint32{shed.High: get32(b[36:]), shed.Medium: get32(b[40:]), shed.Low: get32(b[44:])}
	w.Late, w.Shed, w.Reports, w.Merges = get32(b[56:]), get32(b[60:]), get32(b[64:]), get32(b[68:])
	w.LateNS, w.LoadPPM, w.Out = get64(b[72:]), get64(b[80:]), get64(b[88:])
	slots := int(b[4])
	for i := range slots {
		at := b[shedHeader+shedSlotLen*i:]
		s.BaseNS[i], s.Seen[i], w.Done[i], w.DoneNS[i] = get64(at), at[8], get32(at[9:]), get64(at[13:])
	}
	if !s.Valid() || (slots > 0 && !slotUsed(s, slots-1)) {
		*s = shed.State{}
		return false
	}
	return true
}
