package telemetry

import (
	"slices"
	"sync"
	"time"

	"github.com/seawall-mesh/seawall/filter/contract"
)

const (
	gapsKept = 24 * time.Hour
	gapLimit = 1000

	// livesLimit bounds the nodes whose process is remembered, vmsLimit the VMs
	// of one.
	livesLimit = 10_000
	vmsLimit   = 256

	// silentAfter is how far behind the newest batch of its process one of a VM
	// may be: a VM that is further behind has been replaced by another. All VMs
	// have spoken within that time.
	silentAfter = 10 * time.Second

	// onWay bounds the time from a request's end to its being stored, while the
	// control plane is there.
	onWay = 3 * time.Second
)

// gapEvent is the kind of the event that tells of a Gap.
const gapEvent = "telemetry-gap"

// Gap is a stretch of time that a node's counts may lack: its Envoy is another
// one since, and what the one before had counted and not sent is lost with it.
// One that was drained has sent all.
type Gap struct {
	Node  string    `json:"node"`
	From  time.Time `json:"from"`  // what ended earlier is counted
	Until time.Time `json:"until"` // the new Envoy began
}

// Gaps are those that were found since this process started, within a day,
// oldest first, at most 1,000.
func (i *Ingest) Gaps() []Gap { return i.gaps.since(i.now().Add(-gapsKept)) }

// Drained tells that the Envoy of a node, if there was one, has sent all: the
// next one leaves no gap.
func (i *Ingest) Drained(node string) { i.gaps.drained(node) }

// gaps finds out that a node's Envoy is another one, by the boots that its
// batches name.
type gaps struct {
	mu    sync.Mutex
	lives map[string]*life // by node
	found []Gap
}

// life is one Envoy process.
type life struct {
	boot   string // "": it was heard by an earlier process of ours
	bootNS int64
	first  time.Time // heard by us, by our clock
	heard  time.Time
	vms    map[string]word
	base   int64 // word.sent of the VMs that have yet to speak to us

	drained bool // it has sent all, and will say no more
}

// word is what a VM's newest batch says, in Unix ns.
type word struct {
	at   int64 // when it was made
	sent int64 // what ended before is in its batches
}

func (g *gaps) init() { g.lives = map[string]*life{} }

// learn takes in when each node was heard of before this process started.
func (g *gaps) learn(heard map[string]time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for node, at := range heard {
		if g.lives[node] == nil && len(g.lives) < livesLimit {
			g.lives[node] = &life{heard: at, base: at.Add(-onWay).UnixNano()}
		}
	}
}

func (g *gaps) drained(node string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lives[node] != nil || len(g.lives) < livesLimit {
		g.lives[node] = &life{drained: true}
	}
}

// heard takes notice of a batch that is durable. It returns a gap that the
// batch reveals, nil: none.
func (g *gaps) heard(b *contract.Batch, at time.Time) *Gap {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.lives[b.Node]
	if l == nil || l.drained {
		if l != nil || len(g.lives) < livesLimit {
			g.lives[b.Node] = newLife(b, at)
		}
		return nil
	}
	switch {
	case l.boot == b.Boot:
	case l.boot == "" && b.BootNS <= l.heard.UnixNano():
		l.boot, l.bootNS, l.first = b.Boot, b.BootNS, at
	case b.BootNS < l.bootNS && at.Sub(l.heard) <= silentAfter:
		return nil // late, of the process before
	default:
		gap := Gap{Node: b.Node, From: l.complete(), Until: time.Unix(0, b.BootNS).UTC()}
		if gap.From.After(gap.Until) { // the clock was set back
			gap.From = gap.Until
		}
		g.lives[b.Node] = newLife(b, at)
		if len(g.found) == gapLimit {
			g.found = slices.Delete(g.found, 0, 1)
		}
		g.found = append(g.found, gap)
		return &gap
	}
	l.note(b, at)
	return nil
}

func newLife(b *contract.Batch, at time.Time) *life {
	l := &life{boot: b.Boot, bootNS: b.BootNS, first: at, base: b.BootNS}
	l.note(b, at)
	return l
}

func (l *life) note(b *contract.Batch, at time.Time) {
	l.heard = at
	if l.vms == nil || len(l.vms) >= vmsLimit {
		kept := map[string]word{}
		for vm, w := range l.vms {
			if b.AtNS-w.at <= int64(silentAfter) {
				kept[vm] = w
			}
		}
		l.vms = kept
	}
	before, known := l.vms[b.VM]
	if !known && len(l.vms) >= vmsLimit {
		return
	}
	sent := b.AtNS
	if len(b.Rows) >= contract.MaxBatchRows {
		sent = min(sent, b.Rows[len(b.Rows)-1].Minute*60e9) // it may have more
	}
	l.vms[b.VM] = word{max(before.at, b.AtNS), max(before.sent, sent)}
}

// complete is up to when all its VMs have sent what they counted.
func (l *life) complete() time.Time {
	if l.heard.Sub(l.first) < silentAfter || len(l.vms) == 0 {
		return time.Unix(0, l.base).UTC()
	}
	newest := int64(0)
	for _, w := range l.vms {
		newest = max(newest, w.at)
	}
	first := newest
	for _, w := range l.vms {
		if newest-w.at <= int64(silentAfter) {
			first = min(first, w.sent)
		}
	}
	return time.Unix(0, first).UTC()
}

func (g *gaps) since(from time.Time) []Gap {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := []Gap{}
	for _, gap := range g.found {
		if gap.Until.After(from) {
			all = append(all, gap)
		}
	}
	return all
}
