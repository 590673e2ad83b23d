// Package module embeds the compiled filter, so that one binary carries the
// data plane's code too. It imports the standard library only; the control
// plane and the tests get the module from here, never from the filter's
// packages.
package module

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
)

//go:embed dist
var dist embed.FS

// ErrMissing says that the binary was built without the filter.
var ErrMissing = errors.New("this build has no filter.wasm: build it with `make build`")

// Load returns the module's bytes and their sha256 in hex, which is its
// identity everywhere: in its file name, in node metadata and in batches.
func Load() (wasm []byte, sha256hex string, err error) {
	wasm, err = dist.ReadFile("dist/filter.wasm")
	if err != nil {
		return nil, "", ErrMissing
	}
	sum := sha256.Sum256(wasm)
	return wasm, hex.EncodeToString(sum[:]), nil
}
