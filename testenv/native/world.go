package native

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seawall-mesh/seawall/filter/plugin"
	"github.com/seawall-mesh/seawall/testenv/scenario"
)

// ErrRejected is that the plugin refuses a plan.
var ErrRejected = errors.New("plan refused")

// The names that Seawall's own configuration uses.
const (
	vmID   = "seawall"
	rootID = "seawall"
)

// Config is a World's.
type Config struct {
	Workers int
	Plan    []byte
	Node    string
	Seed    uint64
	// HideMetrics is a stats_matcher: metrics read 0 for ever.
	HideMetrics bool
	Attempts    bool // the plugin is in the upstream chain too
}

// World is an Envoy's worth of plugin VMs in virtual time.
type World struct {
	events
	cfg     Config
	start   int64
	stepped int64 // by Step, in all
	rng     *rand.Rand
	shared  map[string]record
	version uint32
	handles map[string]plugin.Metric
	values  []uint64
	queues  []*queue
	threads []*thread // the main thread's first
	good    map[string]bool
	plane   scenario.ControlPlane
	logs    []string
}

type record struct {
	value   []byte
	version uint32
}

type queue struct {
	name   string
	items  [][]byte
	reader *root
}

// thread is one of Envoy's threads: its VM, and what new streams run on.
type thread struct {
	w        *World
	vm       *vm
	current  *root
	attempt  *root // of the upstream chain
	plan     []byte
	lastLoad int64
}

var _ scenario.World = (*World)(nil)

// New starts a World at the same time as testenv/host does.
func New(cfg Config) (*World, error) {
	w := &World{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 7)), shared: map[string]record{},
		handles: map[string]plugin.Metric{}, good: map[string]bool{},
	}
	w.now = time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC).UnixNano()
	w.start = w.now
	for range max(cfg.Workers, 1) + 1 {
		w.threads = append(w.threads, &thread{w: w})
	}
	if ok, err := w.Push(cfg.Plan); err != nil || !ok {
		return nil, errors.Join(err, ErrRejected)
	}
	return w, nil
}

// Push tries a plan in a VM of its own, and then gives it to all threads.
func (w *World) Push(plan []byte) (bool, error) {
	good, known := w.good[string(plan)]
	if !known {
		canary := newVM(w, nil)
		good = canary.open(plan) != nil
		w.good[string(plan)] = good
	}
	if !good {
		return false, nil
	}
	for _, t := range w.threads {
		if err := t.load(plan); err != nil {
			return false, err
		}
	}
	return true, nil
}

// load puts a plan in force on a thread. One that a stream still holds is taken
// up again without a word to the plugin, as Envoy does.
func (t *thread) load(plan []byte) error {
	if t.vm == nil || t.vm.dead {
		t.vm = newVM(t.w, t)
		if t.w.cfg.Attempts {
			t.attempt = t.vm.openAttempt()
		}
	}
	next := t.vm.rootOf(plan)
	if next == nil {
		if next = t.vm.open(plan); next == nil {
			return fmt.Errorf("a worker refuses what the canary took")
		}
	}
	next.refs++
	old := t.current
	t.current, t.plan, t.lastLoad = next, plan, t.w.now
	if old != nil {
		old.release()
	}
	return nil
}

// Until lets time pass.
func (w *World) Until(d time.Duration) error {
	if d < w.Now() {
		return fmt.Errorf("time %s has passed: the steps before took until %s", d, w.Now())
	}
	w.advance(w.now + int64(d-w.Now()))
	return nil
}

// Step sets the clock forward or back.
func (w *World) Step(d time.Duration) error {
	w.step(int64(d))
	w.stepped += int64(d)
	return nil
}

// Now is the time since the start.
func (w *World) Now() time.Duration { return time.Duration(w.now - w.start - w.stepped) }

// Epoch is time 0 in Unix ns.
func (w *World) Epoch() int64 { return w.start }

// Workers is how many there are.
func (w *World) Workers() int { return len(w.threads) - 1 }

// Trap lets a worker's VM die.
func (w *World) Trap(worker int) error {
	w.threads[worker+1].vm.dead = true
	return nil
}

// Telemetry sets how batches fare.
func (w *World) Telemetry(mode string) error { w.plane.Set(mode); return nil }

// Bodies are the batches so far.
func (w *World) Bodies() []scenario.Delivery { return w.plane.Deliveries() }

// Logs are the lines that the plugin has logged, the newest last.
func (w *World) Logs() []string { return w.logs }

// Close does nothing: there is nothing to give back.
func (w *World) Close() error { return nil }
