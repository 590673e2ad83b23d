package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// contentHash is 16 hex digits over the canonical JSON of the set: sorted
// objects, sorted map keys, defaults filled in, values in one spelling.
func (s *Set) contentHash() string {
	c := *s
	c.Hash = ""
	text, err := json.Marshal(&c)
	if err != nil {
		panic(fmt.Sprintf("policy: the set is not JSON: %v", err)) // no such type is in it
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
