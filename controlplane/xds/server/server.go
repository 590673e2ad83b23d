package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/xds/translate"
)

// Config is what a Server needs. Zero durations and numbers take the defaults
// in brackets.
type Config struct {
	Log          *slog.Logger
	Fleet        *fleet.Registry
	FilterSHA256 string // of the module that plans are compiled for, 64 hex digits; nodes without it are left alone

	Now     func() time.Time // [time.Now]
	Build   Builder          // [translate.Build]
	OnEvent func(Event)      // called outside all locks, from several goroutines; must not block; may be nil

	StageTimeout time.Duration // an update not acknowledged by then is shown as stuck and gives way to a newer one [5s]
	HealAfter    time.Duration // an acknowledged plan must be run by all workers by then [10s]
	RetryAfter   time.Duration // first wait before a rejected resource, other than a plan, is sent again; doubles up to 5 min [10s]
	ForgetAfter  time.Duration // a disconnected node is forgotten [1h]
	Tick         time.Duration // how often the above are looked at [250ms]
	MaxNodes     int           // [10,000]
}

func (c *Config) defaults() error {
	if c.Log == nil || c.Fleet == nil {
		return errors.New("xds server: Log and Fleet are required")
	}
	if c.FilterSHA256 == "" {
		return errors.New("xds server: FilterSHA256 is required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Build == nil {
		c.Build = translate.Build
	}
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{
		{&c.StageTimeout, 5 * time.Second},
		{&c.HealAfter, 10 * time.Second},
		{&c.RetryAfter, 10 * time.Second},
		{&c.ForgetAfter, time.Hour},
		{&c.Tick, 250 * time.Millisecond},
	} {
		if *d.value <= 0 {
			*d.value = d.or
		}
	}
	if c.MaxNodes <= 0 {
		c.MaxNodes = 10_000
	}
	return nil
}

// The kinds of Event.
const (
	EventConnected    = "node-connected"
	EventDisconnected = "node-disconnected"
	EventReplaced     = "node-replaced"  // a second stream of one node.id
	EventHeldBack     = "node-held-back" // it does not get the newest, or nothing
	EventRejected     = "push-rejected"  // Envoy refused an update
	EventHealed       = "node-healed"    // moved to a new vm_id
	EventEdgeRefused  = "edge-refused"   // an Edge of the model cannot be served
)

// Event is something that happened once.
type Event struct {
	At      time.Time
	Kind    string
	Node    string // node.id, "" for edge-refused
	Edge    string // "" for none
	Message string
}

// Server is a delta ADS server.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	cfg      Config
	model    atomic.Pointer[fleetModel]
	latest   atomic.Pointer[ir.Model] // set, not yet in force
	wake     chan struct{}
	stopping chan struct{}
	streams  atomic.Int64
	stats    [kindCount]counters
	heals    atomic.Uint64
	refused  atomic.Uint64

	mu    sync.Mutex
	nodes map[string]*node
}

// New returns a server that serves nothing until its first model. It panics on
// a Config that lacks what is required: that is a mistake in the program.
func New(cfg Config) *Server {
	if err := cfg.defaults(); err != nil {
		panic(err)
	}
	return &Server{cfg: cfg, wake: make(chan struct{}, 1), stopping: make(chan struct{}), nodes: map[string]*node{}}
}

// SetModel hands over a whole, resolved model; it never blocks. Of several set
// at once only the last is served. m must not be changed afterwards; nil is
// ignored.
func (s *Server) SetModel(m *ir.Model) {
	if m == nil {
		return
	}
	s.latest.Store(m)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Serve serves ln until ctx ends, then closes all streams and returns nil. It
// is called once, and takes ln over.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	g := grpc.NewServer(
		grpc.MaxRecvMsgSize(32<<20), // an Envoy's first message carries its whole extension list, twice 4 MiB is not rare in fleets
		grpc.MaxConcurrentStreams(16),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)

	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { s.work(ctx) })
	wg.Go(func() {
		<-ctx.Done()
		close(s.stopping)
		hard := time.AfterFunc(2*time.Second, g.Stop)
		defer hard.Stop()
		g.GracefulStop()
	})
	err := g.Serve(ln)
	if ctx.Err() != nil || err == nil {
		return nil
	}
	return fmt.Errorf("xds server on %s: %w", ln.Addr(), err)
}

// work puts models into force and minds the clock; the one goroutine that
// does either.
func (s *Server) work(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Tick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			if m := s.latest.Swap(nil); m != nil {
				s.apply(m)
			}
		case <-tick.C:
			s.tick()
		}
	}
}

func (s *Server) apply(m *ir.Model) {
	now := s.cfg.Now()
	next := nextModel(s.model.Load(), m, s.cfg.Build, s.cfg.FilterSHA256)
	s.model.Store(next)
	for _, e := range next.edges {
		if e.note != "" {
			s.refused.Add(1)
			s.emit(note{slog.LevelError, Event{At: now, Kind: EventEdgeRefused, Edge: e.edge.Name, Message: e.note}})
		}
	}
	for _, n := range s.all() {
		n.mu.Lock()
		n.retarget(now, next)
		n.advance(now)
		s.unlock(n)
	}
}

func (s *Server) tick() {
	now := s.cfg.Now()
	s.forget(now)
	for _, n := range s.all() {
		n.mu.Lock()
		if n.stream == nil {
			n.mu.Unlock()
			continue
		}
		changed := false
		for _, k := range n.retry(now) {
			s.stats[k].retries.Add(1)
			changed = true
		}
		if why := n.sick(now, func(plan string) fleet.WorkerVerdict {
			return s.cfg.Fleet.Workers(n.id, plan, s.cfg.FilterSHA256)
		}); why != "" && n.healUp(now, why) {
			s.heals.Add(1)
			n.retarget(now, s.model.Load())
			changed = true
		}
		if changed || n.want != n.run || n.phase != phaseIdle {
			n.advance(now)
			s.unlock(n)
			continue
		}
		n.mu.Unlock()
	}
}

// unlock shows the node as it now is, frees it, and tells what happened.
func (s *Server) unlock(n *node) {
	s.cfg.Fleet.SetXDS(n.id, n.state(s.cfg.Now()))
	notes := n.notes
	n.notes = nil
	n.mu.Unlock()
	for _, x := range notes {
		s.emit(x)
	}
}

func (s *Server) emit(x note) {
	s.cfg.Log.LogAttrs(context.Background(), x.level, x.event.Kind,
		slog.String("node", x.event.Node), slog.String("edge", x.event.Edge), slog.String("detail", x.event.Message))
	if s.cfg.OnEvent != nil {
		s.cfg.OnEvent(x.event)
	}
}

// node finds or makes a node's state.
func (s *Server) node(id string) (*node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[id]; n != nil {
		return n, nil
	}
	if len(s.nodes) >= s.cfg.MaxNodes && !s.makeRoom() {
		return nil, status.Errorf(codes.ResourceExhausted, "more than %d nodes", s.cfg.MaxNodes)
	}
	n := &node{id: id, cfg: &s.cfg, seen: s.cfg.Now(), heal: healing{rev: 1}}
	s.nodes[id] = n
	return n, nil
}

// makeRoom forgets the node that has been away the longest. s.mu is held; it
// is always taken before a node's lock.
func (s *Server) makeRoom() bool {
	var oldest *node
	var since time.Time
	for _, n := range s.nodes {
		n.mu.Lock()
		away, seen := n.stream == nil, n.seen
		n.mu.Unlock()
		if away && (oldest == nil || seen.Before(since)) {
			oldest, since = n, seen
		}
	}
	return oldest != nil && s.drop(oldest)
}

// forget forgets the nodes that have been away for too long.
func (s *Server) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		n.mu.Lock()
		old := n.stream == nil && now.Sub(n.seen) > s.cfg.ForgetAfter
		n.mu.Unlock()
		if old {
			s.drop(n)
		}
	}
}

// drop forgets a node unless a stream has just come. s.mu is held.
func (s *Server) drop(n *node) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stream != nil {
		return false
	}
	n.gone = true
	delete(s.nodes, n.id)
	return true
}

// all lists the nodes, sorted by id.
func (s *Server) all() []*node {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*node, 0, len(s.nodes))
	for _, n := range s.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *node) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return out
}
