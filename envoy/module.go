package envoy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Module is the filter's code.
type Module struct {
	Bytes  []byte
	SHA256 string // of Bytes, 64 hex digits
}

// ModuleFile is the name under which a module lies in a filter folder.
func ModuleFile(sha256 string) string { return "filter-" + sha256 + ".wasm" }

// writeModule puts the module into dir under its content's name. A file that is
// there already is checked, not trusted.
func writeModule(dir string, m Module) error {
	sum := sha256.Sum256(m.Bytes)
	if got := hex.EncodeToString(sum[:]); got != m.SHA256 {
		return fmt.Errorf("filter module: its checksum is %s, not %s", got, m.SHA256)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	path := filepath.Join(dir, ModuleFile(m.SHA256))
	if have, err := hashFile(path); err == nil && have == m.SHA256 {
		return nil
	}
	return writeFileAtomic(path, m.Bytes, 0o644)
}

// pruneModules removes the modules that no running Envoy can ask for.
func pruneModules(dir, keep string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if name == ModuleFile(keep) || !strings.HasPrefix(name, "filter-") || !strings.HasSuffix(name, ".wasm") {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
