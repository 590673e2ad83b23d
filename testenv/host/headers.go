package host

import (
	"encoding/binary"
	"strings"
)

// Header is one header, its name in lower case.
type Header struct{ Name, Value string }

// Headers is a header map in order of arrival; names may repeat.
type Headers []Header

// H makes Headers of alternating names and values. It panics on an odd number,
// which is a mistake in the calling test.
func H(pairs ...string) Headers {
	if len(pairs)%2 != 0 {
		panic("host.H wants names and values in pairs")
	}
	hs := make(Headers, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		hs = append(hs, Header{Name: strings.ToLower(pairs[i]), Value: pairs[i+1]})
	}
	return hs
}

// Get is the first value of a name, which is all that a guest can read of a
// repeated header by name; "" where there is none.
func (hs Headers) Get(name string) string {
	v, _ := hs.lookup(name)
	return v
}

// Has reports whether the name occurs.
func (hs Headers) Has(name string) bool {
	_, ok := hs.lookup(name)
	return ok
}

func (hs Headers) lookup(name string) (string, bool) {
	name = strings.ToLower(name)
	for _, h := range hs {
		if h.Name == name {
			return h.Value, true
		}
	}
	return "", false
}

func (hs Headers) with(name, value string) Headers {
	return append(hs, Header{Name: strings.ToLower(name), Value: value})
}

func (hs Headers) without(name string) Headers {
	name = strings.ToLower(name)
	out := hs[:0:0]
	for _, h := range hs {
		if h.Name != name {
			out = append(out, h)
		}
	}
	return out
}

// replaced sets the first occurrence in its place and drops the others, as
// HeaderMap::setCopy does.
func (hs Headers) replaced(name, value string) Headers {
	name = strings.ToLower(name)
	out := hs[:0:0]
	done := false
	for _, h := range hs {
		if h.Name != name {
			out = append(out, h)
		} else if !done {
			done = true
			out = append(out, Header{Name: name, Value: value})
		}
	}
	if !done {
		out = append(out, Header{Name: name, Value: value})
	}
	return out
}

func (hs Headers) clone() Headers { return append(Headers(nil), hs...) }

func (hs Headers) byteSize() int {
	n := 0
	for _, h := range hs {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

// Limits of PairsUtil::toPairs (limits.h).
const (
	maxPairsBytes = 1 << 20
	maxPairs      = 1024
)

// marshalPairs is the ABI's encoding of a map: count, then all lengths, then
// all bytes, each name and value closed by NUL.
func marshalPairs(hs Headers) []byte {
	size := 4
	for _, h := range hs {
		size += 8 + len(h.Name) + 1 + len(h.Value) + 1
	}
	b := make([]byte, 0, size)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(hs)))
	for _, h := range hs {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(h.Name)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(h.Value)))
	}
	for _, h := range hs {
		b = append(b, h.Name...)
		b = append(b, 0)
		b = append(b, h.Value...)
		b = append(b, 0)
	}
	return b
}

// parsePairs is the inverse. Like Envoy it makes nothing of what is malformed.
func parsePairs(b []byte) Headers {
	if len(b) > maxPairsBytes || len(b) < 4 {
		return nil
	}
	n := int(binary.LittleEndian.Uint32(b))
	if n > maxPairs || len(b) < 4+8*n {
		return nil
	}
	lens, pos := b[4:4+8*n], 4+8*n
	take := func(size int) (string, bool) {
		if size < 0 || size >= len(b)-pos || b[pos+size] != 0 {
			return "", false
		}
		s := string(b[pos : pos+size])
		pos += size + 1
		return s, true
	}
	hs := make(Headers, 0, n)
	for i := range n {
		name, ok := take(int(binary.LittleEndian.Uint32(lens[8*i:])))
		if !ok {
			return nil
		}
		value, ok := take(int(binary.LittleEndian.Uint32(lens[8*i+4:])))
		if !ok {
			return nil
		}
		hs = append(hs, Header{Name: strings.ToLower(name), Value: value})
	}
	return hs
}
