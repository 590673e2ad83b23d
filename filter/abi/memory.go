//go:build wasip1

package abi

import "unsafe"

// The host puts data for us into memory that it asks us for, in the middle of
// a host call. What it gets is valid until the callback returns that made the
// call: the arena is taken from front to back and starts anew with the next
// callback. What does not fit is allocated, and kept from the garbage
// collector in spill.
const arenaSize = 64 << 10

var (
	arena     [arenaSize]byte
	arenaUsed uint32
	spill     [][]byte
)

// begin starts a callback's memory. Envoy never calls back while one of our
// callbacks runs, but for memory.
func begin() {
	arenaUsed = 0
	if spill != nil {
		spill = nil
	}
}

//go:wasmexport proxy_on_memory_allocate
func proxyOnMemoryAllocate(size uint32) unsafe.Pointer {
	if size <= arenaSize-arenaUsed {
		p := unsafe.Pointer(&arena[arenaUsed%arenaSize])
		arenaUsed += (size + 7) &^ 7
		if arenaUsed > arenaSize {
			arenaUsed = arenaSize
		}
		return p
	}
	buf := make([]byte, size)
	spill = append(spill, buf)
	return unsafe.Pointer(&buf[0])
}
