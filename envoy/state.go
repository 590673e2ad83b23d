package envoy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// layout names what lies in a data folder.
type layout struct{ data string }

func (l layout) dir() string         { return filepath.Join(l.data, "envoy") }
func (l layout) filters() string     { return filepath.Join(l.data, "filters") }
func (l layout) bootstrap() string   { return filepath.Join(l.data, "envoy", "bootstrap.json") }
func (l layout) state() string       { return filepath.Join(l.data, "envoy", "state.json") }
func (l layout) adminFile() string   { return filepath.Join(l.data, "envoy", "admin-address") }
func (l layout) log() string         { return filepath.Join(l.data, "envoy", "envoy.log") }
func (l layout) access() string      { return filepath.Join(l.data, "envoy", "access.log") }
func (l layout) admin() string       { return readLine(l.adminFile()) }
func (l layout) all() []string       { return []string{l.dir(), l.filters()} }
func (l layout) forget()             { _ = os.Remove(l.state()) }
func (l layout) writable() error     { return probeWrite(l.dir()) }
func (l layout) save(s record) error { return saveRecord(l.state(), s) }

// record is what a later launcher must know about the Envoy of an earlier one.
type record struct {
	identity
	Exe       string    `json:"exe"`
	RunHash   string    `json:"runHash"` // of bootstrap, binary and arguments
	Admin     string    `json:"admin"`   // "" until it is known
	NodeID    string    `json:"nodeId"`
	Workers   int       `json:"workers"`
	Filter    string    `json:"filter"` // sha256
	Version   string    `json:"version"`
	DrainMS   int64     `json:"drainMs"`
	StartedAt time.Time `json:"startedAt"`
}

func saveRecord(path string, s record) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeFileAtomic(path, append(raw, '\n'), 0o640)
}

// load returns the record of the last Envoy. A file that is missing or broken
// is no record: processesWith finds the Envoy all the same.
func (l layout) load() (record, bool, error) {
	raw, err := os.ReadFile(l.state())
	if errors.Is(err, os.ErrNotExist) {
		return record{}, false, nil
	}
	if err != nil {
		return record{}, false, err
	}
	return parseRecord(raw)
}

func parseRecord(raw []byte) (record, bool, error) {
	var s record
	if err := json.Unmarshal(raw, &s); err != nil {
		return record{}, false, fmt.Errorf("envoy state: %w", err)
	}
	if s.PID <= 1 || s.StartTick == 0 || s.Exe == "" {
		return record{}, false, errors.New("envoy state: no process in it")
	}
	return s, true, nil
}

// LeftBehind reports whether an earlier run left an Envoy over a data folder: one
// that still runs, or one that ended without being drained.
func LeftBehind(dataDir string) bool {
	_, err := os.Stat(layout{dataDir}.state())
	return err == nil
}

func probeWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return err
	}
	_ = f.Close()
	return os.Remove(f.Name())
}

func readLine(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw[:min(len(raw), 256)]))
}
