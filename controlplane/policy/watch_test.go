package policy

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testDebounce = 20 * time.Millisecond

// watched is a running Watch and what it said.
type watched struct {
	dir   string
	calls atomic.Int32
	log   *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startWatch watches paths below a fresh directory that prepare has filled, and
// waits until the watch stands.
func startWatch(t *testing.T, prepare func(dir string), paths ...string) *watched {
	t.Helper()
	w := &watched{dir: t.TempDir(), log: &lockedBuffer{}}
	prepare(w.dir)
	full := make([]string, len(paths))
	for i, p := range paths {
		full[i] = filepath.Join(w.dir, p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Watch(ctx, slog.New(slog.NewTextHandler(w.log, nil)), testDebounce, full, func() { w.calls.Add(1) })
	}()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
	w.expect(t, 1) // it calls once when it stands
	return w
}

// expect waits until so many calls were made.
func (w *watched) expect(t *testing.T, calls int32) {
	t.Helper()
	require.Eventually(t, func() bool { return w.calls.Load() >= calls }, 5*time.Second, 2*time.Millisecond, "calls: %d, want %d; log: %s", w.calls.Load(), calls, w.log)
}

// quiet holds that nothing is called; a change of another file, which is,
// proves that the events before it were seen.
func (w *watched) quietAfter(t *testing.T, disturb func(), probe string) {
	t.Helper()
	before := w.calls.Load()
	disturb()
	require.Never(t, func() bool { return w.calls.Load() > before }, 4*testDebounce, testDebounce/2)
	put(t, filepath.Join(w.dir, probe), "b: 2\n")
	w.expect(t, before+1)
}

func put(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
}

func TestWatchSees(t *testing.T) {
	t.Parallel()
	// Kubernetes: a.yaml → ..data/a.yaml, ..data → ..1, and the swap of ..data.
	configMap := func(t *testing.T) func(dir string) {
		return func(dir string) {
			put(t, filepath.Join(dir, "p/..1/a.yaml"), "a: 1\n")
			put(t, filepath.Join(dir, "p/..2/a.yaml"), "a: 2\n")
			require.NoError(t, os.Symlink("..1", filepath.Join(dir, "p/..data")))
			require.NoError(t, os.Symlink("..data/a.yaml", filepath.Join(dir, "p/a.yaml")))
		}
	}
	swap := func(t *testing.T) func(dir string) {
		return func(dir string) {
			require.NoError(t, os.Symlink("..2", filepath.Join(dir, "p/..data_tmp")))
			require.NoError(t, os.Rename(filepath.Join(dir, "p/..data_tmp"), filepath.Join(dir, "p/..data")))
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "p/..1")))
		}
	}
	plain := func(t *testing.T) func(dir string) {
		return func(dir string) { put(t, filepath.Join(dir, "p/a.yaml"), "a: 1\n") }
	}
	cases := map[string]struct {
		path    string
		prepare func(*testing.T) func(dir string)
		change  func(*testing.T) func(dir string)
	}{
		"a write in place": {"p", plain, func(t *testing.T) func(string) {
			return func(dir string) { put(t, filepath.Join(dir, "p/a.yaml"), "a: 2\n") }
		}},
		"a write of the same size to a named file": {"p/a.yaml", plain, func(t *testing.T) func(string) {
			return func(dir string) { put(t, filepath.Join(dir, "p/a.yaml"), "a: 3\n") }
		}},
		"a replacement by renaming": {"p", plain, func(t *testing.T) func(string) {
			return func(dir string) {
				put(t, filepath.Join(dir, "p/.a.yaml.swp"), "a: 2\n")
				require.NoError(t, os.Rename(filepath.Join(dir, "p/.a.yaml.swp"), filepath.Join(dir, "p/a.yaml")))
			}
		}},
		"a named file replaced by renaming": {"p/a.yaml", plain, func(t *testing.T) func(string) {
			return func(dir string) {
				put(t, filepath.Join(dir, "p/new"), "a: 2\n")
				require.NoError(t, os.Rename(filepath.Join(dir, "p/new"), filepath.Join(dir, "p/a.yaml")))
			}
		}},
		"a removal": {"p", plain, func(t *testing.T) func(string) {
			return func(dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "p/a.yaml"))) }
		}},
		"a new subdirectory with a file in it": {"p", plain, func(t *testing.T) func(string) {
			return func(dir string) { put(t, filepath.Join(dir, "p/v1.2/deep/b.yml"), "b: 1\n") }
		}},
		"a directory moved in": {"p", plain, func(t *testing.T) func(string) {
			return func(dir string) {
				put(t, filepath.Join(dir, "outside/b.yaml"), "b: 1\n")
				require.NoError(t, os.Rename(filepath.Join(dir, "outside"), filepath.Join(dir, "p/inside")))
			}
		}},
		"the watched directory replaced": {"p", plain, func(t *testing.T) func(string) {
			return func(dir string) {
				require.NoError(t, os.RemoveAll(filepath.Join(dir, "p")))
				put(t, filepath.Join(dir, "p/c.yaml"), "c: 1\n")
			}
		}},
		"a ConfigMap's swap in a directory":      {"p", configMap, swap},
		"a ConfigMap's swap behind a named file": {"p/a.yaml", configMap, swap},
		"a write to the target of a link": {"p", func(t *testing.T) func(string) {
			return func(dir string) {
				put(t, filepath.Join(dir, "elsewhere/a.yaml"), "a: 1\n")
				require.NoError(t, os.Mkdir(filepath.Join(dir, "p"), 0o755))
				require.NoError(t, os.Symlink("../elsewhere/a.yaml", filepath.Join(dir, "p/a.yaml")))
			}
		}, func(t *testing.T) func(string) {
			return func(dir string) { put(t, filepath.Join(dir, "elsewhere/a.yaml"), "a: 2\n") }
		}},
		"a file that becomes readable by its name": {"p", func(t *testing.T) func(string) {
			return func(dir string) { put(t, filepath.Join(dir, "p/a.yaml.off"), "a: 1\n") }
		}, func(t *testing.T) func(string) {
			return func(dir string) {
				require.NoError(t, os.Rename(filepath.Join(dir, "p/a.yaml.off"), filepath.Join(dir, "p/a.yaml")))
			}
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWatch(t, c.prepare(t), c.path)
			c.change(t)(w.dir)
			w.expect(t, 2)
			require.Empty(t, w.log.String())
		})
	}
}

func TestWatchSeesWhatComesAfterAChange(t *testing.T) {
	t.Parallel()
	w := startWatch(t, func(dir string) { put(t, filepath.Join(dir, "p/a.yaml"), "a: 1\n") }, "p")
	for i := range int32(3) { // each round puts a directory into the one of the round before
		name := filepath.Join(w.dir, "p/"+"sub/sub/sub/"[:4*(i+1)]+"b.yaml")
		put(t, name, "b: 1\n")
		w.expect(t, w.calls.Load()+1)
		before := w.calls.Load()
		put(t, name, "b: 2\n")
		w.expect(t, before+1)
	}
}

func TestWatchIgnores(t *testing.T) {
	t.Parallel()
	cases := map[string]func(t *testing.T, dir string){
		"hidden and temporary files of editors": func(t *testing.T, dir string) {
			for _, name := range []string{".a.yaml.swp", "4913", "a.yaml~", "#a.yaml#", ".#a.yaml"} {
				put(t, filepath.Join(dir, "p", name), "x")
			}
			require.NoError(t, os.Remove(filepath.Join(dir, "p/4913")))
		},
		"tests of policies": func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "p/a_test.yaml"), "tests: []\n")
		},
		"hidden directories": func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "p/.git/x.yaml"), "x: 1\n")
		},
		"neighbours of the watched directory": func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "q/x.yaml"), "x: 1\n")
			put(t, filepath.Join(dir, "x.yaml"), "x: 1\n")
		},
	}
	for name, disturb := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWatch(t, func(dir string) { put(t, filepath.Join(dir, "p/a.yaml"), "a: 1\n") }, "p")
			w.quietAfter(t, func() { disturb(t, w.dir) }, "p/a.yaml")
		})
	}
}

// TestWatchDebounces holds that a burst is one change, and that a directory
// which never rests is read all the same.
func TestWatchDebounces(t *testing.T) {
	t.Parallel()
	w := startWatch(t, func(dir string) { put(t, filepath.Join(dir, "p/a.yaml"), "a: 1\n") }, "p")
	deadline := time.Now().Add(3 * maxDebounces * testDebounce)
	writes := int32(0)
	for time.Now().Before(deadline) {
		put(t, filepath.Join(w.dir, "p/a.yaml"), "a: 2\n")
		writes++
	}
	calls := w.calls.Load() - 1
	require.GreaterOrEqual(t, calls, int32(1), "never at rest, never read")
	require.LessOrEqual(t, calls, int32(12), "%d writes", writes)
}
