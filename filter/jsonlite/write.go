package jsonlite

import (
	"strconv"
	"unicode/utf8"
)

const hex = "0123456789abcdef"

// AppendString appends s as a JSON string. Control characters and the line
// separators U+2028 and U+2029 are escaped, invalid UTF-8 becomes U+FFFD, so
// any bytes give a valid document.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				dst = append(dst, s[start:i]...)
				dst = append(dst, `\ufffd`...)
				start = i + size
			case r == '\u2028' || r == '\u2029':
				dst = append(dst, s[start:i]...)
				dst = append(dst, `\u202`...)
				dst = append(dst, hex[r&0xf])
				start = i + size
			}
			i += size
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// Object appends the members of one JSON object. Start it with Open, end it
// with Close; commas are its business.
type Object struct {
	dst   []byte
	first bool
}

// Open starts an object at the end of dst.
func Open(dst []byte) Object { return Object{dst: append(dst, '{'), first: true} }

// Close ends the object and returns the bytes so far.
func (o *Object) Close() []byte { return append(o.dst, '}') }

// Key appends a member's name and returns the bytes, to which the caller
// appends the value and which it hands back with Done.
func (o *Object) Key(name string) []byte {
	if !o.first {
		o.dst = append(o.dst, ',')
	}
	o.first = false
	o.dst = AppendString(o.dst, name)
	o.dst = append(o.dst, ':')
	return o.dst
}

// Done takes back the bytes after a value that the caller appended.
func (o *Object) Done(dst []byte) { o.dst = dst }

// String appends a string member.
func (o *Object) String(name, value string) { o.dst = AppendString(o.Key(name), value) }

// Int appends a number member.
func (o *Object) Int(name string, value int64) { o.dst = strconv.AppendInt(o.Key(name), value, 10) }

// Uint appends a number member.
func (o *Object) Uint(name string, value uint64) { o.dst = strconv.AppendUint(o.Key(name), value, 10) }

// Bool appends a true or false member.
func (o *Object) Bool(name string, value bool) { o.dst = strconv.AppendBool(o.Key(name), value) }
