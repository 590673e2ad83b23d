//go:build wasip1 && trapdoor

package main

import (
	"strings"
	"sync"

	"github.com/seawall-mesh/seawall/filter/abi"
	"github.com/seawall-mesh/seawall/filter/plugin"
)

// This build, which only tests make, has a trapdoor: a request can let the VM
// die that serves it, as for want of memory. Header x-trapdoor says where:
//
//	headers      before anything is done for the request
//	written      once the record of a pool has been written next, for whichever
//	             request: it says what the VM has not heard of yet
//	done         when the request has ended, before that is settled
func init() { abi.Serve(plugin.New(&trapdoor{})) }

const (
	headerTrapdoor = "x-trapdoor"
	recordsOfPools = "sw1/q/"
)

// trapdoor is the proxy, as far as it lets the VM live.
type trapdoor struct {
	abi.Host
	written bool // is where to die
}

// Now is the first that the filter asks in a callback.
func (t *trapdoor) Now() int64 {
	where, _ := t.RequestHeader(headerTrapdoor)
	switch string(where) {
	case "headers":
		die()
	case "written":
		t.written = true
	}
	return t.Host.Now()
}

// Property is asked for the response's code once the request has ended.
func (t *trapdoor) Property(path string) ([]byte, bool) {
	if path == "response\x00code" {
		if where, _ := t.RequestHeader(headerTrapdoor); string(where) == "done" {
			die()
		}
	}
	return t.Host.Property(path)
}

func (t *trapdoor) SharedSet(key string, value []byte, version uint32) bool {
	ok := t.Host.SharedSet(key, value, version)
	if ok && t.written && strings.HasPrefix(key, recordsOfPools) {
		die()
	}
	return ok
}

// die ends the VM in a way that recover does not catch.
func die() {
	var m sync.Mutex
	m.Unlock()
}
