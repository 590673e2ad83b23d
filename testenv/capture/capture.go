// Package capture collects what processes under test write. It imports nothing
// of the project; tests use it.
package capture

import (
	"bytes"
	"sync"
)

// Output is a bytes.Buffer that may be read while a process writes to it. The
// zero value is ready.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String is all that was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
