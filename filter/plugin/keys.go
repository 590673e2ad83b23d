package plugin

const headerMethod = ":method"

// stampKey gives an unsafe request that comes without a key one of its own,
// before the router sees it: so it is the same on every try. A key that the
// client sent is kept as it is. An empty one is none.
func (vm *VM) stampKey(r *route) {
	if key, _ := vm.host.RequestHeader(r.keyHeader); len(key) > 0 {
		return
	}
	if method, _ := vm.host.RequestHeader(headerMethod); repeatable(method) {
		return // twice is as good as once
	}
	var key [36]byte
	vm.host.SetRequestHeader(r.keyHeader, appendUUID(key[:0], vm.host.Random(), vm.host.Random()))
}

// repeatable reports whether two requests with a method do what one does
// (RFC 9110, section 9.2.2).
func repeatable(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// appendUUID appends a UUID of version 4 made of 128 random bits.
func appendUUID(dst []byte, high, low uint64) []byte {
	high = high&^0xf000 | 0x4000 // version
	low = low&^(3<<62) | 2<<62   // variant
	for i := range 32 {
		switch i {
		case 8, 12, 16, 20:
			dst = append(dst, '-')
		}
		word := high
		if i >= 16 {
			word = low
		}
		dst = append(dst, "0123456789abcdef"[word>>(60-4*(i&15))&15])
	}
	return dst
}
