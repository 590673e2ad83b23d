package server

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/xds/translate"
)

// Builder turns an Edge into protos; translate.Build.
type Builder func(ir.Edge, translate.Module) (*translate.Resources, error)

// resourceSet is all resources of one type of one generation, marshalled once
// and shared by all streams. It is never changed.
type resourceSet struct {
	byName  map[string]*discoveryv3.Resource
	names   []string // sorted
	version string   // content hash of the whole
}

// generation is what a node is to run. It is never changed, and equal content
// for the same module is the same pointer as long as its Edge stays the same.
type generation struct {
	edge   ir.Edge
	module translate.Module
	sets   [kindCount]*resourceSet
	family *edgeState // builds its staged plans
}

// maxVariants bounds the builds that are kept of one Edge: one per module
// path, since a plan names its module by path.
const maxVariants = 4096

// edgeState is an Edge in force, with what was built of it.
type edgeState struct {
	edge  ir.Edge
	build Builder
	note  string // why a newer one was refused, "" if none was

	mu     sync.Mutex
	built  map[variant]*generation
	staged map[stagedKey]*resourceSet
}

type variant struct {
	module translate.Module
	rev    int
}

type stagedKey struct {
	of      *generation
	retired [maxRouted]string // plan hashes
}

// newEdgeState builds edge once, to know that it can be.
func newEdgeState(edge ir.Edge, build Builder, sha256 string) (*edgeState, error) {
	if len(edge.Listeners) == 0 {
		return nil, errors.New("it has no listeners, and Envoy would close those it has")
	}
	e := &edgeState{edge: edge, build: build}
	probe := translate.Module{Path: "/filter-" + sha256 + ".wasm", SHA256: sha256, VMID: translate.VMID}
	if _, err := buildGeneration(e, probe, 1); err != nil {
		return nil, err
	}
	return e, nil
}

// generation returns the Edge as built for a module at path, in the VM of
// revision rev.
func (e *edgeState) generation(module translate.Module, rev int) (*generation, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := variant{module, rev}
	if g := e.built[key]; g != nil {
		return g, nil
	}
	g, err := buildGeneration(e, module, rev)
	if err != nil {
		return nil, err
	}
	if e.built == nil || len(e.built) >= maxVariants {
		e.built, e.staged = map[variant]*generation{}, map[stagedKey]*resourceSet{}
	}
	e.built[key] = g
	return g, nil
}

// stagedPlan is g's ECDS set with the routes that earlier Edges had kept as
// retired. It carries g's versions: retired routes do not make another plan,
// so that a control plane that restarts does not push it again.
func (g *generation) stagedPlan(earlier []ir.Edge) (*resourceSet, error) {
	if len(earlier) > maxRouted {
		earlier = earlier[len(earlier)-maxRouted:]
	}
	key := stagedKey{of: g}
	edge := g.edge
	for i, e := range slices.Backward(earlier) {
		key.retired[i] = e.Filter.PlanHash
		edge = ir.Retire(edge, e)
	}
	if string(edge.Filter.PlanJSON) == string(g.edge.Filter.PlanJSON) {
		return g.sets[ecds], nil
	}
	e := g.family
	e.mu.Lock()
	defer e.mu.Unlock()
	if set := e.staged[key]; set != nil {
		return set, nil
	}
	built, err := e.build(edge, g.module)
	if err != nil {
		return nil, fmt.Errorf("edge %s with retired routes: %w", edge.Name, err)
	}
	set, err := newSet(ecds, built.Extensions, "")
	if err != nil {
		return nil, err
	}
	for name, r := range set.byName {
		if plain := g.sets[ecds].byName[name]; plain != nil {
			r.Version = plain.GetVersion()
		}
	}
	set.version = g.sets[ecds].version
	if len(e.staged) >= maxVariants || e.staged == nil {
		e.staged = map[stagedKey]*resourceSet{}
	}
	e.staged[key] = set
	return set, nil
}

func buildGeneration(e *edgeState, module translate.Module, rev int) (*generation, error) {
	built, err := e.build(e.edge, module)
	if err != nil {
		return nil, err
	}
	lists := [kindCount][]types.Resource{
		cds: built.Clusters, eds: built.Endpoints, sds: built.Secrets, ecds: built.Extensions, lds: built.Listeners, rds: built.Routes,
	}
	byType := map[resource.Type][]types.Resource{}
	for k := range kindCount {
		byType[kinds[k].url] = lists[k]
	}
	snapshot, err := cache.NewSnapshot("", byType)
	if err != nil {
		return nil, fmt.Errorf("edge %s: %w", e.edge.Name, err)
	}
	if err := snapshot.Consistent(); err != nil {
		return nil, fmt.Errorf("edge %s: %w", e.edge.Name, err)
	}
	suffix := ""
	if rev > 1 {
		// Healing must not touch listeners, and the fallback inside them names
		// the VM: only the plan moves to another one.
		moved := module
		moved.VMID = vmID(rev)
		again, err := e.build(e.edge, moved)
		if err != nil {
			return nil, fmt.Errorf("edge %s: %w", e.edge.Name, err)
		}
		lists[ecds], module, suffix = again.Extensions, moved, revSuffix(rev)
	}
	g := &generation{edge: e.edge, module: module, family: e}
	for k := range kindCount {
		s := ""
		if k == ecds {
			s = suffix
		}
		if g.sets[k], err = newSet(k, lists[k], s); err != nil {
			return nil, fmt.Errorf("edge %s: %w", e.edge.Name, err)
		}
	}
	return g, nil
}

func newSet(k kind, list []types.Resource, suffix string) (*resourceSet, error) {
	set := &resourceSet{byName: make(map[string]*discoveryv3.Resource, len(list))}
	for _, r := range list {
		name := cache.GetResourceName(r)
		if name == "" || set.byName[name] != nil {
			return nil, fmt.Errorf("%s: resource name %q is empty or twice there", k, name)
		}
		value, err := cache.MarshalResource(r)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", k, name, err)
		}
		set.byName[name] = &discoveryv3.Resource{
			Name:     name,
			Version:  contentHash(value) + suffix,
			Resource: &anypb.Any{TypeUrl: kinds[k].url, Value: value},
		}
		set.names = append(set.names, name)
	}
	slices.Sort(set.names)
	all := make(map[string]string, len(set.names))
	for name, r := range set.byName {
		all[name] = r.GetVersion()
	}
	set.version = versionOf(all)
	return set, nil
}

// contentHash is 16 hex digits of the sha256.
func contentHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// versionOf is the version of a whole: "" of nothing.
func versionOf(versions map[string]string) string {
	if len(versions) == 0 {
		return ""
	}
	lines := make([]string, 0, len(versions))
	for name, version := range versions {
		lines = append(lines, name+"\x00"+version)
	}
	slices.Sort(lines)
	return contentHash([]byte(strings.Join(lines, "\x00")))
}

// vmID is the vm_id of a revision, 1 being the first.
func vmID(rev int) string {
	if rev <= 1 {
		return translate.VMID
	}
	return translate.VMID + "-r" + strconv.Itoa(rev)
}

// revSuffix marks the versions of a plan in a healed VM, so that a restarted
// control plane learns from a node which VM it is in and does not move it back.
func revSuffix(rev int) string { return ".r" + strconv.Itoa(rev) }

// revOf is the inverse: the revision in a version, 1 where there is none.
func revOf(version string) int {
	_, digits, ok := strings.Cut(version, ".r")
	if !ok {
		return 1
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > maxRev {
		return 1
	}
	return n
}

// fleetModel is a model in force.
type fleetModel struct {
	edges []*edgeState // sorted by name
}

// nextModel brings m into force. An Edge that cannot be served stays as it
// was, with a note; one that is gone goes.
func nextModel(prev *fleetModel, m *ir.Model, build Builder, sha256 string) *fleetModel {
	next := &fleetModel{}
	for _, edge := range m.Edges {
		old := prev.edge(edge.Name)
		if old != nil && reflect.DeepEqual(old.edge, edge) {
			if old.note != "" {
				old = old.noted("")
			}
			next.edges = append(next.edges, old)
			continue
		}
		e, err := newEdgeState(edge, build, sha256)
		if err != nil {
			note := fmt.Sprintf("edge %s was refused: %v", edge.Name, err)
			if old == nil {
				// Known by name and selector, so that its nodes are told why.
				e = &edgeState{edge: ir.Edge{Name: edge.Name, Nodes: edge.Nodes}, note: note}
			} else {
				e = old.noted(note + "; the one before stays in force")
			}
		}
		next.edges = append(next.edges, e)
	}
	return next
}

// noted is the same Edge with another note. It shares nothing that changes.
func (e *edgeState) noted(note string) *edgeState {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := &edgeState{edge: e.edge, build: e.build, note: note, built: map[variant]*generation{}, staged: map[stagedKey]*resourceSet{}}
	maps.Copy(out.built, e.built) // their family stays e: both build the same
	return out
}

func (m *fleetModel) edge(name string) *edgeState {
	if m == nil {
		return nil
	}
	for _, e := range m.edges {
		if e.edge.Name == name {
			return e
		}
	}
	return nil
}

// pick finds the one Edge that selects a node, else says why there is none.
func (m *fleetModel) pick(cluster, id string) (*edgeState, string) {
	var found *edgeState
	var names []string
	for _, e := range m.edges {
		if e.edge.Nodes.Selects(cluster, id) {
			found = e
			names = append(names, e.edge.Name)
		}
	}
	switch len(names) {
	case 0:
		return nil, fmt.Sprintf("no Edge selects node.cluster %q, node.id %q; it keeps what it has", cluster, id)
	case 1:
		return found, ""
	}
	return nil, fmt.Sprintf("several Edges select it: %s; it keeps what it has", strings.Join(names, ", "))
}
