package jsonlite

import (
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds nesting, so that hostile input cannot exhaust the stack.
const maxDepth = 64

// SyntaxError says what was wrong with a document, and where.
type SyntaxError struct {
	Offset  int // bytes from the document's start
	Problem string
}

// Error reads "offset 12: not a string".
func (e *SyntaxError) Error() string {
	return "offset " + strconv.Itoa(e.Offset) + ": " + e.Problem
}

// Reader reads one JSON document from the front (RFC 8259, strictly). The
// first problem sticks: from then on every method returns its zero value, so a
// caller may read on and ask Err once.
//
//	r := jsonlite.NewReader(data)
//	for key, ok := r.Object(); ok; key, ok = r.Next() {
//		switch key {
//		case "name":
//			name = r.String()
//		default:
//			r.Skip()
//		}
//	}
type Reader struct {
	data  []byte
	pos   int
	depth int
	err   *SyntaxError
}

// NewReader reads data, which must not change while it does.
func NewReader(data []byte) *Reader { return &Reader{data: data} }

// Err is the first problem, nil if there was none.
func (r *Reader) Err() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

// Failed reports whether a problem was found.
func (r *Reader) Failed() bool { return r.err != nil }

func (r *Reader) fail(problem string) {
	if r.err == nil {
		r.err = &SyntaxError{Offset: r.pos, Problem: problem}
	}
}

// peek skips white space and returns the next byte, 0 at the end or after a
// problem.
func (r *Reader) peek() byte {
	if r.err != nil {
		return 0
	}
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\r', '\n':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

func (r *Reader) open(c byte, want string) bool {
	if r.peek() != c {
		r.fail("not " + want)
		return false
	}
	if r.depth++; r.depth > maxDepth {
		r.fail("nested too deeply")
		return false
	}
	r.pos++
	return true
}

func (r *Reader) close() {
	r.depth--
	r.pos++
}

// Object enters an object and returns its first member's name, or false if it
// is empty. The member's value must then be read or skipped.
func (r *Reader) Object() (string, bool) {
	if !r.open('{', "an object") {
		return "", false
	}
	if r.peek() == '}' {
		r.close()
		return "", false
	}
	return r.key()
}

// Next returns the object's next member's name, or false after the last.
func (r *Reader) Next() (string, bool) {
	switch r.peek() {
	case ',':
		r.pos++
		return r.key()
	case '}':
		r.close()
	default:
		r.fail("not a comma or the object's end")
	}
	return "", false
}

func (r *Reader) key() (string, bool) {
	name := r.String()
	if r.peek() != ':' {
		r.fail("not a colon")
	}
	r.pos++
	return name, r.err == nil
}

// Array enters an array; true means that an element follows, which must be
// read or skipped.
func (r *Reader) Array() bool {
	if !r.open('[', "an array") {
		return false
	}
	if r.peek() == ']' {
		r.close()
		return false
	}
	return r.err == nil
}

// More reports whether another element of the array follows.
func (r *Reader) More() bool {
	switch r.peek() {
	case ',':
		r.pos++
		return true
	case ']':
		r.close()
	default:
		r.fail("not a comma or the array's end")
	}
	return false
}

// Null consumes a null if one stands here.
func (r *Reader) Null() bool { return r.literal("null") }

func (r *Reader) literal(word string) bool {
	r.peek()
	if r.err != nil || len(r.data)-r.pos < len(word) || string(r.data[r.pos:r.pos+len(word)]) != word {
		return false
	}
	r.pos += len(word)
	return true
}

// Bool reads true or false.
func (r *Reader) Bool() bool {
	if r.literal("true") {
		return true
	}
	if !r.literal("false") {
		r.fail("not true or false")
	}
	return false
}

// Int reads a whole number of 64 bits; fractions, exponents and numbers beyond
// are problems.
func (r *Reader) Int() int64 {
	word, ok := r.number()
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		r.fail("not a whole number of 64 bits")
		return 0
	}
	return n
}

// number consumes a number as RFC 8259 spells it.
func (r *Reader) number() (string, bool) {
	r.peek()
	start, p := r.pos, r.pos
	digits := func() bool {
		from := p
		for p < len(r.data) && r.data[p] >= '0' && r.data[p] <= '9' {
			p++
		}
		return p > from
	}
	at := func(c byte) bool { return p < len(r.data) && r.data[p] == c }
	if at('-') {
		p++
	}
	lead := p
	if r.err != nil || !digits() || (r.data[lead] == '0' && p > lead+1) {
		r.fail("not a number")
		return "", false
	}
	if at('.') {
		if p++; !digits() {
			r.fail("not a number")
			return "", false
		}
	}
	if at('e') || at('E') {
		if p++; at('+') || at('-') {
			p++
		}
		if !digits() {
			r.fail("not a number")
			return "", false
		}
	}
	r.pos = p
	return string(r.data[start:p]), true
}

// String reads a string. Its text must be valid UTF-8; an escaped lone
// surrogate becomes U+FFFD.
func (r *Reader) String() string {
	if r.peek() != '"' {
		r.fail("not a string")
		return ""
	}
	start := r.pos + 1
	for p := start; p < len(r.data); p++ {
		switch c := r.data[p]; {
		case c == '"':
			if !utf8.Valid(r.data[start:p]) {
				r.fail("text that is not UTF-8")
				return ""
			}
			r.pos = p + 1
			return string(r.data[start:p])
		case c == '\\':
			return r.escaped(start, p)
		case c < 0x20:
			r.fail("control character in a string")
			return ""
		}
	}
	r.fail("string without an end")
	return ""
}

// escaped reads on from the first backslash, at p.
func (r *Reader) escaped(start, p int) string {
	out := append([]byte(nil), r.data[start:p]...)
	for p < len(r.data) {
		c := r.data[p]
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				r.fail("text that is not UTF-8")
				return ""
			}
			r.pos = p + 1
			return string(out)
		case c < 0x20:
			r.fail("control character in a string")
			return ""
		case c != '\\':
			out = append(out, c)
			p++
			continue
		}
		if p+1 >= len(r.data) {
			break
		}
		esc := r.data[p+1]
		p += 2
		switch esc {
		case '"', '\\', '/':
			out = append(out, esc)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			c, ok := r.hex4(p)
			if !ok {
				r.fail("bad \\u escape")
				return ""
			}
			p += 4
			if c >= 0xd800 && c < 0xdc00 && p+1 < len(r.data) && r.data[p] == '\\' && r.data[p+1] == 'u' {
				if low, ok := r.hex4(p + 2); ok && low >= 0xdc00 && low < 0xe000 {
					c = 0x10000 + (c-0xd800)<<10 + (low - 0xdc00)
					p += 6
				}
			}
			out = utf8.AppendRune(out, c) // lone surrogates become U+FFFD
		default:
			r.fail("unknown escape")
			return ""
		}
	}
	r.fail("string without an end")
	return ""
}

func (r *Reader) hex4(p int) (rune, bool) {
	if len(r.data)-p < 4 {
		return 0, false
	}
	var n rune
	for _, c := range r.data[p : p+4] {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 + rune(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 + rune(c-'a') + 10
		case c >= 'A' && c <= 'F':
			n = n<<4 + rune(c-'A') + 10
		default:
			return 0, false
		}
	}
	return n, true
}

// Skip passes over any value.
func (r *Reader) Skip() {
	switch r.peek() {
	case '{':
		for _, ok := r.Object(); ok; _, ok = r.Next() {
			r.Skip()
		}
	case '[':
		for ok := r.Array(); ok; ok = r.More() {
			r.Skip()
		}
	case '"':
		_ = r.String()
	case 't', 'f':
		r.Bool()
	case 'n':
		if !r.Null() {
			r.fail("not a value")
		}
	default:
		r.number()
	}
}

// End checks that nothing but white space follows.
func (r *Reader) End() {
	if r.peek() != 0 || (r.err == nil && r.pos < len(r.data)) {
		r.fail("something after the document's end")
	}
}

// Kind is the sort of value that stands next.
type Kind byte

// The kinds of values.
const (
	None Kind = iota // the end, or no value
	Text
	Number
	Truth // true or false
	Map   // an object
	List  // an array
	Other // null
)

// Kind looks at the next value without reading it.
func (r *Reader) Kind() Kind {
	switch r.peek() {
	case '"':
		return Text
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return Number
	case 't', 'f':
		return Truth
	case '{':
		return Map
	case '[':
		return List
	case 'n':
		return Other
	}
	return None
}

// Number reads any number; whole is false where it is not a whole one of 64
// bits.
func (r *Reader) Number() (n int64, whole bool) {
	word, ok := r.number()
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(word, 10, 64)
	return n, err == nil
}
