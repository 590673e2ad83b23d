package envoy

import (
	"errors"
	"time"
)

// errGone is what a look at a process says that is not there any more.
var errGone = errors.New("no such process")

// identity tells one process from every other, also from a later one that was
// given the same pid.
type identity struct {
	PID       int    `json:"pid"`
	StartTick uint64 `json:"startTick"` // of /proc/PID/stat: clock ticks since boot
	BootID    string `json:"bootId"`    // of this boot of the machine
}

// exitGrace is how long a process may take from SIGTERM to its end before it
// is killed. Envoy needs one to two seconds.
const exitGrace = 2500 * time.Millisecond
