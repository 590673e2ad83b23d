package envoy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// errLocked is what tryLockFile says where another process holds the lock.
var errLocked = errors.New("locked by another process")

// DataLock is the hold that one process has on a data folder.
type DataLock struct{ file *os.File }

// Release gives the data folder free. It may be called more than once.
func (l *DataLock) Release() { _ = l.file.Close() }

// LockData makes dir and takes it for this process: two control planes over
// one folder would each start an Envoy and each own the database. The error is
// one line that names the holder. The kernel lets go when the process dies.
func LockData(dir string) (*DataLock, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, dataError(dir, err)
	}
	f, err := tryLockFile(filepath.Join(dir, "lock"))
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("data folder %s is in use by another seawall%s: stop it, or give this one another folder (--data): %w", dir, holder(dir), errLocked)
	}
	if err != nil {
		return nil, dataError(dir, err)
	}
	// For the other's error message only; the lock is what counts.
	if err := f.Truncate(0); err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
		if err != nil {
			_ = f.Close()
			return nil, dataError(dir, err)
		}
	}
	return &DataLock{file: f}, nil
}

// IsLocked reports whether err says that another process holds the data folder.
func IsLocked(err error) bool { return errors.Is(err, errLocked) }

func dataError(dir string, err error) error {
	return fmt.Errorf("data folder %s cannot be written: %w; make it writable, or give another (--data)", dir, reasonOf(err))
}

func holder(dir string) string {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return ""
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return ""
	}
	if pid := strings.TrimSpace(string(raw)); pid != "" {
		return " (process " + pid + ")"
	}
	return ""
}
