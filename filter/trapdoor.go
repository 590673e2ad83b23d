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
//	unwritten    when the record of a pool is to be written next, for whichever
//	             request: what the VM was about to do has not happened
//	written      right after that: the VM has not heard of what has happened
func init() { abi.Serve(plugin.New(&trapdoor{})) }

const (
	headerTrapdoor = "x-trapdoor"
	recordsOfPools = "sw1/q/"
)

// trapdoor is the proxy, as far as it lets the VM live.
type trapdoor struct {
	abi.Host
	where string // to die, of those that are still to come
}

// Now is the first that the filter asks in a callback.
func (t *trapdoor) Now() int64 {
	if where, ok := t.RequestHeader(headerTrapdoor); ok {
		t.where = string(where)
	}
	if t.where == "headers" {
		die()
	}
	return t.Host.Now()
}

func (t *trapdoor) SharedSet(key string, value []byte, version uint32) bool {
	pool := strings.HasPrefix(key, recordsOfPools)
	if pool && t.where == "unwritten" {
		die()
	}
	ok := t.Host.SharedSet(key, value, version)
	if ok && pool && t.where == "written" {
		die()
	}
	return ok
}

// die ends the VM in a way that recover does not catch.
func die() {
	var m sync.Mutex
	m.Unlock()
}
