package server

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/xds/translate"
)

const (
	// maxRouted is how many earlier Edges a node's routes may come from at
	// once; more than one only where Envoy is slow to acknowledge.
	maxRouted = 4
	// maxRev bounds the vm_ids that healing goes through in one node's life.
	maxRev = 1000
	// maxText bounds what is kept of Envoy's words.
	maxText = 4096
	// maxFilters and maxWorkers bound what a node may claim of itself.
	maxFilters = 64
	maxWorkers = 1024
	// settleFor is how long after a reconnect the request for the plan may
	// take: an Envoy asks for all it had at once, types in any order.
	settleFor = 5 * time.Second
)

// phase is how far a node is on its way to its target; see doc.go.
type phase int

const (
	phaseIdle     phase = iota // at its target, or without one
	phaseAll                   // a new process: everything at once
	phasePlan                  // ECDS
	phaseClusters              // CDS, EDS, SDS
	phaseRoutes                // LDS, RDS
	phaseRemovals              // what is left over
	phaseRejected              // the plan was rejected, and there is no earlier one to go back to
)

// metadata is what the launcher wrote into node.metadata.seawall.
type metadata struct {
	workers int // 0: unknown
	dir     string
	filters []string
	version string
}

func readMetadata(n *corev3.Node) metadata {
	f := n.GetMetadata().GetFields()["seawall"].GetStructValue().GetFields()
	m := metadata{dir: f["filterDir"].GetStringValue(), version: clip(f["version"].GetStringValue(), 64)}
	if w := f["workers"].GetNumberValue(); w >= 1 && w <= maxWorkers {
		m.workers = int(w)
	}
	for _, v := range f["filters"].GetListValue().GetValues() {
		if len(m.filters) < maxFilters {
			m.filters = append(m.filters, clip(v.GetStringValue(), 64))
		}
	}
	return m
}

// module finds the module on the node, else says why it cannot be used.
func (m metadata) module(sha256 string) (translate.Module, string) {
	if !slices.Contains(m.filters, sha256) {
		return translate.Module{}, fmt.Sprintf("module %s not on node; it keeps what it has", clip(sha256, 12))
	}
	if !filepath.IsAbs(m.dir) || len(m.dir) > 1024 {
		return translate.Module{}, "node metadata seawall.filterDir is not an absolute path; it keeps what it has"
	}
	return translate.Module{Path: filepath.Join(m.dir, "filter-"+sha256+".wasm"), SHA256: sha256, VMID: translate.VMID}, ""
}

// rejection is what a node refused of one type and has not taken since.
type rejection struct {
	versions map[string]string // name → version; "" for a removal
	message  string            // Envoy's text
	at       time.Time
	tries    int
	retryAt  time.Time // not before
	held     bool      // not to be sent again for now
}

func (r *rejection) blocks(name, version string) bool {
	if !r.held {
		return false
	}
	v, has := r.versions[name]
	return has && v == version
}

// node is one Envoy by its id, across streams and restarts of the process.
type node struct {
	id  string
	cfg *Config

	mu      sync.Mutex
	cluster string
	meta    metadata
	gone    bool    // forgotten; its id has, or will have, another node
	stream  *stream // nil: not connected
	seen    time.Time
	edge    string // selected, "" for none
	block   string // why it gets nothing at all
	note    string // why its Edge is not the newest

	want   *generation // nil: to be left alone
	run    *generation // being, or having been, rolled out
	good   *generation // acknowledged whole
	refuse *generation // rejected plan: not to be begun again
	fresh  bool        // the process has nothing and was sent nothing
	routed []ir.Edge   // whose routes it may have, oldest first; none where unknown
	before []ir.Edge   // routed of the process before, until it is sure that it was another
	phase  phase
	since  time.Time // of the phase
	views  [kindCount]view
	reject [kindCount]rejection
	last   map[fleet.Kind]fleet.Resource // as shown, kept while it is away

	heal  healing
	notes []note // to be told once the lock is free
}

// note is something to log and to tell Config.OnEvent.
type note struct {
	level slog.Level
	event Event
}

func (n *node) tell(now time.Time, level slog.Level, kind, message string) {
	n.notes = append(n.notes, note{level, Event{At: now, Kind: kind, Node: n.id, Edge: n.edge, Message: message}})
}

// attach begins a stream. resumed is whether the process has something.
func (n *node) attach(now time.Time, st *stream, resumed bool) {
	n.stream, n.seen = st, now
	if resumed {
		return
	}
	// A new process. A plan that the one before rejected is not tried on it
	// where there is a good one: it would start without any.
	for k := range kindCount {
		if k != ecds {
			n.reject[k] = rejection{}
		}
	}
	n.heal.rev, n.heal.ackedAt, n.heal.healed = 1, time.Time{}, nil
	n.before = lastRouted(append(n.before, n.routed...))
	module, why := n.meta.module(n.cfg.FilterSHA256)
	if n.refuse != nil && n.good != nil && why == "" && n.good.module.Path == module.Path {
		n.run = n.good
		n.showAll(n.good)
		n.routed = []ir.Edge{n.good.edge}
		n.enter(phaseAll, now)
		return
	}
	n.reject[ecds], n.refuse = rejection{}, nil
	n.fresh, n.run, n.routed, n.phase, n.views = true, nil, nil, phaseIdle, [kindCount]view{}
}

// lastRouted keeps the first, which is what the node has acknowledged, and the
// last ones, which it may have taken since.
func lastRouted(edges []ir.Edge) []ir.Edge {
	if len(edges) <= maxRouted {
		return slices.Clone(edges)
	}
	return append([]ir.Edge{edges[0]}, edges[len(edges)-maxRouted+1:]...)
}

// resume takes back that the process is new: it had no clusters, which it asks
// for first, but it has something else.
func (n *node) resume(now time.Time) {
	n.stream.resumed = true
	if n.refuse != nil && n.good != nil {
		n.routed, n.views = n.before, [kindCount]view{}
		n.fallBack(now)
		return
	}
	n.fresh, n.run, n.routed, n.phase, n.views = false, nil, n.before, phaseIdle, [kindCount]view{}
}

// retarget finds out what the node is to run.
func (n *node) retarget(now time.Time, m *fleetModel) {
	if m == nil {
		return // before the first model
	}
	var want *generation
	var name, block, note string
	switch e, why := m.pick(n.cluster, n.id); {
	case e == nil:
		block = why
	case len(e.edge.Listeners) == 0:
		name, block = e.edge.Name, e.note
	default:
		name, note = e.edge.Name, e.note
		module, why := n.meta.module(n.cfg.FilterSHA256)
		if why != "" {
			block = why
			break
		}
		g, err := e.generation(module, n.heal.rev)
		if err != nil {
			block = err.Error()
			break
		}
		want = g
	}
	changed := block != n.block || note != n.note
	n.want, n.edge, n.block, n.note = want, name, block, note
	if why := cmp.Or(block, note); changed && why != "" {
		n.tell(now, slog.LevelWarn, EventHeldBack, why)
	}
}

// advance goes through all phases that are done.
func (n *node) advance(now time.Time) {
	for n.step(now) {
	}
	if n.stream != nil {
		n.stream.poke()
	}
}

func (n *node) step(now time.Time) bool {
	if n.stream == nil || n.want == nil {
		return false
	}
	if n.want != n.run && n.want != n.refuse && n.mayBegin(now) {
		n.begin(now)
		return true
	}
	if n.run == nil {
		return false
	}
	if staged := n.phase == phasePlan || n.phase == phaseClusters || n.phase == phaseRoutes; staged && n.starting(now) {
		n.showAll(n.run)
		n.routed = []ir.Edge{n.run.edge}
		n.enter(phaseAll, now)
		return true
	}
	switch n.phase {
	case phaseAll:
		if n.settled(cds, eds, sds, ecds, lds, rds) {
			n.finish(now)
		}
	case phasePlan:
		if n.planSettled(now) {
			n.show(false, cds, eds, sds)
			n.enter(phaseClusters, now)
			return true
		}
	case phaseClusters:
		if n.settled(cds, eds) {
			n.show(true, lds)
			n.show(false, rds)
			n.routed = lastRouted(append(n.routed, n.run.edge))
			n.enter(phaseRoutes, now)
			return true
		}
	case phaseRoutes:
		if n.settled(lds, rds) {
			n.routed = []ir.Edge{n.run.edge}
			n.show(true, cds, eds, sds, rds)
			n.enter(phaseRemovals, now)
			return true
		}
	case phaseRemovals:
		if n.settled(cds, eds, sds, rds) {
			n.finish(now)
		}
	case phaseIdle, phaseRejected:
	}
	return false
}

// starting is whether no listener is up: nothing can be broken, and Envoy may
// wait for something that is not to come any more.
func (n *node) starting(now time.Time) bool {
	s := &n.stream.subs[lds]
	if s.asked {
		return len(s.known) == 0 && s.pending == nil
	}
	return !n.stream.resumed || now.Sub(n.stream.openedAt) >= settleFor
}

func (n *node) enter(p phase, now time.Time) { n.phase, n.since = p, now }

// mayBegin is whether the way to the present target may be left for another
// one: where nothing but the plan was touched, where it ended, or where it is
// stuck. Else it is finished first, which takes milliseconds.
func (n *node) mayBegin(now time.Time) bool {
	if n.run == nil || n.phase == phaseIdle || n.phase == phasePlan || n.phase == phaseRejected {
		return true
	}
	for k := range kindCount {
		if len(n.reject[k].versions) > 0 {
			return true
		}
	}
	return now.Sub(n.since) > n.cfg.StageTimeout
}

func (n *node) begin(now time.Time) {
	n.run = n.want
	if n.fresh {
		n.fresh = false
		n.showAll(n.run)
		n.routed = []ir.Edge{n.run.edge}
		n.enter(phaseAll, now)
		return
	}
	n.reject[ecds], n.refuse = rejection{}, nil
	n.stage(now)
}

// stage starts on the way to run.
func (n *node) stage(now time.Time) {
	plan, err := n.run.stagedPlan(n.routed)
	if err != nil {
		// The plain plan is as good, but for requests in flight on routes that
		// go: those are counted without a route.
		n.tell(now, slog.LevelError, EventHeldBack, err.Error())
		plan = n.run.sets[ecds]
	}
	for k := range kindCount {
		n.views[k].removals = false
	}
	n.views[ecds].set = plan
	n.enter(phasePlan, now)
}

// fallBack goes back to what was good, which costs nothing where the node has
// not been shown more than a plan, and it refused that.
func (n *node) fallBack(now time.Time) {
	n.fresh, n.run = false, n.good
	n.stage(now)
}

// finish ends the way: the node has all of it and nothing else.
func (n *node) finish(now time.Time) {
	n.good, n.before = n.run, nil
	for k := range kindCount {
		n.views[k].removals = true
	}
	n.enter(phaseIdle, now)
}

func (n *node) show(removals bool, which ...kind) {
	for _, k := range which {
		n.views[k] = view{n.run.sets[k], removals}
	}
}

func (n *node) showAll(g *generation) {
	for k := range kindCount {
		n.views[k] = view{g.sets[k], true}
	}
}

func (n *node) settled(which ...kind) bool {
	for _, k := range which {
		if !n.stream.subs[k].asked && len(n.views[k].set.names) > 0 {
			return false
		}
		if !n.stream.subs[k].has(n.views[k].set, n.views[k].removals) {
			return false
		}
	}
	return true
}

// planSettled is whether the routes may follow the plan: it is acknowledged,
// or nobody asks for one (no listener is up yet).
func (n *node) planSettled(now time.Time) bool {
	s := &n.stream.subs[ecds]
	if !s.asked {
		return !n.stream.resumed || now.Sub(n.stream.openedAt) >= settleFor
	}
	return s.hasAsked(n.views[ecds].set)
}

func (n *node) onAck(now time.Time, k kind) {
	p := n.stream.subs[k].ack()
	r := &n.reject[k]
	for name, version := range p.versions {
		// A node that goes back to its last good plan has still refused the other.
		if k != ecds || r.versions[name] == version {
			delete(r.versions, name)
		}
	}
	for _, name := range p.removed {
		delete(r.versions, name)
	}
	if len(r.versions) == 0 {
		*r = rejection{}
	}
	if k == ecds {
		n.heal.ackedAt = now
	}
}

func (n *node) onNack(now time.Time, k kind, text string) {
	p := n.stream.subs[k].nack(k)
	r := &n.reject[k]
	if r.versions == nil {
		r.versions = map[string]string{}
	}
	for name, version := range r.versions { // forget what is no longer meant
		if set := n.views[k].set; set != nil && (set.byName[name] == nil) != (version == "") {
			delete(r.versions, name)
		}
	}
	maps.Copy(r.versions, p.versions)
	for _, name := range p.removed {
		r.versions[name] = ""
	}
	r.message, r.at, r.held = clip(text, maxText), now, true
	r.tries++
	r.retryAt = now.Add(backoff(n.cfg.RetryAfter, r.tries))
	n.tell(now, slog.LevelWarn, EventRejected, fmt.Sprintf("%s rejected: %s", k, r.message))
	if k != ecds || (n.phase != phasePlan && n.phase != phaseAll) || !n.views[ecds].shows(p.versions) {
		return // not of the plan that it is on the way to now
	}
	if n.refuse == nil { // else what it was to fall back to is refused as well
		n.refuse = n.run
	}
	if n.good != nil && n.good != n.run {
		n.fallBack(now)
		return
	}
	n.enter(phaseRejected, now)
}

// retry lets what was rejected be sent again. The plan is not: Envoy takes the
// same bytes for no change the second time, and acknowledges what it refused.
func (n *node) retry(now time.Time) (retried []kind) {
	for k := range kindCount {
		r := &n.reject[k]
		if k != ecds && r.held && !now.Before(r.retryAt) {
			r.held = false
			retried = append(retried, k)
		}
	}
	return retried
}

// backoff doubles with each try, up to five minutes.
func backoff(base time.Duration, tries int) time.Duration {
	const longest = 5 * time.Minute
	for range tries - 1 {
		if base >= longest {
			break
		}
		base *= 2
	}
	return min(base, longest)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n]
}
