package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// resync is how often the files are looked at without an event: network
	// file systems send none, and the kernel drops some under load.
	resync = 10 * time.Second
	// A directory that never comes to rest is read all the same after so many
	// debounce times.
	maxDebounces = 10
)

// Watch calls changed once it watches, so that no edit since the caller's load
// is missed, and then after each change to the policy files below paths, as
// soon as they have been quiet for debounce. It follows new subdirectories,
// files that are replaced by renaming (editors), and symbolic links that are
// swapped (Kubernetes' ..data). Files that Load leaves out are no change.
// changed runs in the caller's goroutine and should return soon. Watch returns
// when ctx ends, with its error.
func Watch(ctx context.Context, log *slog.Logger, debounce time.Duration, paths []string, changed func()) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch policies: %w", err)
	}
	defer notify.Close()
	w := &watch{log: log, notify: notify, paths: paths, complained: map[string]bool{}}
	before := w.look()
	changed()

	tick := time.NewTicker(resync)
	defer tick.Stop()
	quiet := time.NewTimer(debounce)
	quiet.Stop()
	defer quiet.Stop()
	var since time.Time // of the first event that is not answered yet
	touched := false    // an event named a file that is read
	stir := func() {
		now := time.Now()
		if since.IsZero() {
			since = now
		}
		quiet.Reset(min(debounce, max(0, time.Until(since.Add(maxDebounces*debounce)))))
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-notify.Events:
			if !ok {
				return errors.New("watch policies: the watcher has closed")
			}
			if w.matters(e.Name) {
				touched = touched || w.known[e.Name]
				stir()
			}
		case err, ok := <-notify.Errors:
			if !ok {
				return errors.New("watch policies: the watcher has closed")
			}
			w.complain("", err)
			stir()
		case <-tick.C:
			stir()
		case <-quiet.C:
			after := w.look()
			if touched || after != before {
				changed()
			}
			before, touched, since = after, false, time.Time{}
		}
	}
}

// watch is the state between two looks.
type watch struct {
	log        *slog.Logger
	notify     *fsnotify.Watcher
	paths      []string
	trees      map[string]bool // directories in which every event matters
	exact      map[string]bool // names that matter elsewhere
	known      map[string]bool // files that are read, under the names that events have
	complained map[string]bool
}

// look watches every directory that matters and returns a fingerprint of the
// files. It looks again while it finds new directories: a file may have come
// into one before it was watched.
func (w *watch) look() string {
	for {
		print, dirs := w.scan()
		before := len(w.notify.WatchList())
		for _, dir := range dirs {
			if err := w.notify.Add(dir); err != nil {
				w.complain(dir, err)
			}
		}
		if len(w.notify.WatchList()) <= before {
			w.forget(dirs)
			return print
		}
	}
}

// matters reports whether an event may be about a policy: the directories above
// and the targets of links are watched too, and may be busy with other things.
func (w *watch) matters(name string) bool {
	return w.trees[filepath.Dir(name)] || w.exact[name] || w.known[name]
}

// forget stops watching what no longer matters.
func (w *watch) forget(dirs []string) {
	wanted := make(map[string]bool, len(dirs))
	for _, dir := range dirs {
		wanted[dir] = true
	}
	for _, dir := range w.notify.WatchList() {
		if !wanted[dir] {
			_ = w.notify.Remove(dir) // it may be gone already
		}
	}
}

// complain logs each failure once: without the event, resync finds the change.
func (w *watch) complain(dir string, err error) {
	if key := dir + ": " + err.Error(); !w.complained[key] && len(w.complained) < 100 {
		w.complained[key] = true
		w.log.Warn("policy files are watched by polling", "path", dir, "every", resync, "error", err)
	}
}

// scan finds the files, the real directories whose events matter, and the
// fingerprint: names, real places, sizes and times.
func (w *watch) scan() (fingerprint string, dirs []string) {
	w.trees, w.exact, w.known = map[string]bool{}, map[string]bool{}, map[string]bool{}
	seen := map[string]bool{}
	hash := sha256.New()
	add := func(dir string) string {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil && !seen[real] {
			seen[real] = true
			dirs = append(dirs, real)
		}
		return real
	}
	for _, path := range w.paths {
		path, err := filepath.Abs(path)
		if err != nil {
			continue // the working directory is gone
		}
		above := add(filepath.Dir(path)) // the path itself may be replaced
		w.exact[filepath.Join(above, filepath.Base(path))] = true
		w.exact[filepath.Join(above, "..data")] = true // Kubernetes swaps this link
		found, err := find([]string{path})
		if err != nil {
			fmt.Fprintln(hash, path, err)
		}
		for _, dir := range found.dirs {
			w.trees[add(dir)] = true
		}
		for _, d := range found.out {
			fmt.Fprintln(hash, d.Pos, d.Message)
		}
		for _, f := range found.files {
			real, err := filepath.EvalSymlinks(f.name)
			if err != nil {
				fmt.Fprintln(hash, f.name, err)
				continue
			}
			add(filepath.Dir(real))
			w.known[real] = true
			if info, err := os.Stat(real); err == nil {
				fmt.Fprintln(hash, f.name, real, info.Size(), info.ModTime().UnixNano(), info.Mode())
			}
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), dirs
}
