package envoy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"
)

const (
	defaultLogLimit  = 16 << 20
	defaultDrainTime = 2 * time.Second
	// Compiling no module yet, Envoy opens its admin within 0.2 s; the rest is a
	// loaded machine.
	adminWait = 30 * time.Second
	pollEvery = 25 * time.Millisecond
)

// Config says what Envoy to run and over which folder.
type Config struct {
	Log     *slog.Logger // required
	Binary  Binary       // from Find
	DataDir string       // everything of the run lies under it; required
	Module  Module       // the filter; written to DATA/filters

	// Bootstrap names the node and the control plane. Workers (0 = one per CPU)
	// is respected; FilterDir and Filters are filled in by Start.
	Bootstrap BootstrapConfig

	// Listen are the addresses that the edge's listeners will open. Start checks
	// that they are free: Envoy itself would share a port with another Envoy and
	// halve its traffic without a word.
	Listen []string

	LogLevel  string        // of Envoy: trace to critical; "" = warning, and info for what the filter says
	LogLimit  int64         // bytes of envoy.log and of access.log before they are cut; 0 = 16 MiB
	DrainTime time.Duration // how long clients are asked to leave before ports close; 0 = 2 s; whole seconds, at most 4 s
	Lock      *DataLock     // from LockData, where the caller took it already; nil = Start takes it
}

// State is what the launcher is doing.
type State string

// The states of a Launcher.
const (
	Starting   State = "starting"   // the process runs, its admin does not answer yet
	Running    State = "running"    // the process runs; see Ready for whether it serves
	Restarting State = "restarting" // it ended by itself and is about to be started again
	Stopping   State = "stopping"   // Stop drains it
	Stopped    State = "stopped"    // Stop is through
)

// Status is a launcher's state at one moment.
type Status struct {
	State    State
	PID      int       // 0 = no process
	Admin    string    // host:port, "" while unknown
	Version  string    // of Envoy
	Adopted  bool      // the process was started by an earlier launcher
	Since    time.Time // when the process was started
	Restarts int       // after exits that nobody asked for
	LastExit string    // how it last ended by itself, "" = never
}

// Launcher runs one Envoy. Its methods may be called from any goroutine.
type Launcher struct {
	cfg     Config
	log     *slog.Logger
	files   layout
	hash    string
	args    []string
	access  logFile
	ownLock *DataLock // nil where the caller holds it

	stopOnce sync.Once
	stopErr  error
	stopping chan struct{} // closed when Stop begins
	cancel   context.CancelFunc
	ctx      context.Context //nolint:containedctx // the life of the supervisor, ended by Stop
	wg       sync.WaitGroup  // the tail
	done     chan struct{}   // closed when the supervisor has returned
	tailStop chan struct{}

	tailMu sync.Mutex
	tail   tail

	mu     sync.Mutex
	status Status
	admin  *Admin
	proc   *process
}

// Start runs an Envoy over cfg.DataDir and returns once its admin answers (not
// yet LIVE: see Ready). If one that an earlier launcher left behind is there,
// it is adopted if it is the very one that cfg asks for, else drained and
// stopped first; there are never two. ctx bounds the start alone: Envoy runs
// and is supervised until Stop.
func Start(ctx context.Context, cfg Config) (*Launcher, error) {
	l, err := prepare(&cfg)
	if err != nil {
		return nil, err
	}
	if err := l.begin(ctx); err != nil {
		l.cancel()
		if l.ownLock != nil {
			l.ownLock.Release()
		}
		return nil, err
	}
	return l, nil
}

func (cfg *Config) defaults() error {
	if cfg.Binary.Path == "" {
		return errors.New("launcher: an envoy binary is required")
	}
	if cfg.DataDir == "" {
		return errors.New("launcher: a data folder is required")
	}
	abs, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return fmt.Errorf("data folder %s: %w", cfg.DataDir, err)
	}
	cfg.DataDir = abs
	if cfg.Bootstrap.Workers == 0 {
		cfg.Bootstrap.Workers = runtime.NumCPU()
	}
	if cfg.LogLimit == 0 {
		cfg.LogLimit = defaultLogLimit
	}
	if cfg.DrainTime == 0 {
		cfg.DrainTime = defaultDrainTime
	}
	if cfg.DrainTime < time.Second || cfg.DrainTime > 4*time.Second || cfg.DrainTime%time.Second != 0 {
		return fmt.Errorf("launcher: drain time %s is not a whole number of seconds from 1 to 4", cfg.DrainTime)
	}
	if cfg.Bootstrap.MaxConnections == 0 {
		// Each request may take a descriptor on either side.
		if limit := descriptorLimit(); limit > 0 {
			cfg.Bootstrap.MaxConnections = min(defaultMaxConnections*5, max(limit/2, 200)-100)
		}
	}
	return nil
}

// prepare takes the folder and writes what Envoy will read, but touches no
// process.
func prepare(cfg *Config) (*Launcher, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	files := layout{data: cfg.DataDir}
	cfg.Bootstrap.FilterDir = files.filters()
	cfg.Bootstrap.Filters = []string{cfg.Module.SHA256}
	bootstrap, err := Bootstrap(cfg.Bootstrap)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Launcher{
		cfg: *cfg, log: cfg.Log, files: files,
		stopping: make(chan struct{}), done: make(chan struct{}), tailStop: make(chan struct{}),
		ctx: ctx, cancel: cancel,
		access: logFile{path: files.access(), limit: cfg.LogLimit},
		tail:   tail{file: logFile{path: files.log(), limit: cfg.LogLimit}, log: cfg.Log},
		status: Status{State: Starting, Version: cfg.Binary.Version},
	}
	l.args = arguments(*cfg, files)
	l.hash = runHash(bootstrap, cfg.Binary, l.args)
	if cfg.Lock == nil {
		if l.ownLock, err = LockData(cfg.DataDir); err != nil {
			cancel()
			return nil, err
		}
	}
	if err := l.writeFiles(bootstrap); err != nil {
		cancel()
		if l.ownLock != nil {
			l.ownLock.Release()
		}
		return nil, err
	}
	return l, nil
}

func (l *Launcher) writeFiles(bootstrap []byte) error {
	for _, dir := range l.files.all() {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return dataError(l.cfg.DataDir, err)
		}
	}
	if err := l.files.writable(); err != nil {
		return dataError(l.cfg.DataDir, err)
	}
	if err := writeModule(l.files.filters(), l.cfg.Module); err != nil {
		return fmt.Errorf("data folder %s: %w", l.cfg.DataDir, err)
	}
	if err := writeFileAtomic(l.files.bootstrap(), bootstrap, 0o640); err != nil {
		return dataError(l.cfg.DataDir, err)
	}
	return nil
}

// arguments is Envoy's command line. No hot restart: it needs shared memory
// and a parent, and a push needs neither.
func arguments(cfg Config, files layout) []string {
	args := []string{
		"--config-path", files.bootstrap(),
		"--concurrency", strconv.Itoa(cfg.Bootstrap.Workers),
		"--disable-hot-restart",
		"--admin-address-path", files.adminFile(),
		"--drain-time-s", strconv.Itoa(int(cfg.DrainTime / time.Second)),
		"--drain-strategy", "immediate",
		"--log-format", logFormat,
	}
	if cfg.LogLevel != "" {
		return append(args, "--log-level", cfg.LogLevel)
	}
	return append(args, "--log-level", "warning", "--component-log-level", "wasm:info")
}

// runHash says whether a running Envoy is the one that is wanted.
func runHash(bootstrap []byte, bin Binary, args []string) string {
	h := sha256.New()
	h.Write(bootstrap)
	for _, s := range append([]string{bin.Path, bin.SHA256}, args...) {
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(s))
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// begin adopts or starts, then supervises.
func (l *Launcher) begin(ctx context.Context) error {
	p, err := l.takeOver(ctx)
	if err != nil {
		return err
	}
	if p == nil {
		if p, err = l.startFirst(ctx); err != nil {
			return err
		}
	}
	l.wg.Add(1)
	go l.tailLoop(l.tailStop)
	go l.supervise(p)
	return nil
}

func (l *Launcher) startFirst(ctx context.Context) (*process, error) {
	if err := checkListen(ctx, l.cfg.Listen); err != nil {
		return nil, err
	}
	if err := pruneModules(l.files.filters(), l.cfg.Module.SHA256); err != nil {
		l.log.Warn("old filter modules are not removed", "dir", l.files.filters(), "error", err)
	}
	// What an earlier Envoy left in the log has been told, or nobody asked.
	l.tail.offset = l.tail.file.size()
	p, err := l.launch()
	if err != nil {
		return nil, err
	}
	if err := l.awaitAdmin(ctx, p); err != nil {
		_ = p.kill()
		l.files.forget()
		return nil, err
	}
	l.log.Info("envoy started", "pid", p.id.PID, "version", l.cfg.Binary.Version, "admin", l.Status().Admin, "workers", l.cfg.Bootstrap.Workers)
	return p, nil
}

// Status returns the launcher's state.
func (l *Launcher) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Admin returns a client for the admin of the process that runs now. It is nil
// while there is none, and another after a restart.
func (l *Launcher) Admin() *Admin {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.admin
}

// Ready waits until Envoy is LIVE: it has its listeners from the control plane.
// When ctx ends first, the error says what Envoy waits for.
func (l *Launcher) Ready(ctx context.Context) error {
	state := "not started"
	for {
		if a := l.Admin(); a != nil {
			live, s, err := a.Ready(ctx)
			if err == nil && live {
				return nil
			}
			if err == nil {
				state = s
			}
		}
		select {
		case <-ctx.Done():
			hint := ""
			if state == "PRE_INITIALIZING" || state == "INITIALIZING" {
				hint = ", waiting for its configuration from " + l.cfg.Bootstrap.XDS
			}
			return fmt.Errorf("%s: %w", withLast("envoy is not ready ("+state+hint+")", l.lastError()), ctx.Err())
		case <-l.stopping:
			return errors.New("envoy is not ready: it is being stopped")
		case <-time.After(pollEvery):
		}
	}
}
