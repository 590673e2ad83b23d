package delta

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

// Side is one of the two sets.
type Side struct {
	Set *policy.Set
	// Root is the file or directory that the set was loaded from: names of
	// certificates below it are compared relative to it.
	Root string
}

// Report is all that differs.
type Report struct {
	Same    bool     `json:"same"`
	Changes []Change `json:"changes"`
	Routes  []string `json:"routes"` // service/route that some change reaches, sorted
}

// Change is one difference.
type Change struct {
	Effect Effect `json:"effect"`
	Kind   string `json:"kind"`
	Name   string `json:"name"`            // of the object
	Route  string `json:"route,omitempty"` // of the policy; "" where it is about more than one
	// Field is from the spec or the route: timeout.request. It is "" where the
	// whole object or route is new or gone.
	Field  string   `json:"field,omitempty"`
	Old    string   `json:"old,omitempty"` // "" = not there
	New    string   `json:"new,omitempty"`
	What   string   `json:"what"`   // changed | added | removed | moved
	Routes []string `json:"routes"` // service/route, sorted
	File   string   `json:"file,omitempty"`
	Line   int      `json:"line,omitempty"` // of the new object or route, or of the old one where it is gone
}

// Compare lists what differs, sorted by kind, name, route and field.
func Compare(before, after Side) Report {
	c := comparison{before: index(before), after: index(after)}
	for _, key := range slices.Sorted(maps.Keys(union(c.before.objects, c.after.objects))) {
		c.object(key)
	}
	report := Report{Changes: c.out, Routes: []string{}}
	for _, change := range c.out {
		report.Routes = append(report.Routes, change.Routes...)
	}
	slices.Sort(report.Routes)
	report.Routes = slices.Compact(report.Routes)
	report.Same = len(c.out) == 0
	if report.Changes == nil {
		report.Changes = []Change{}
	}
	return report
}

// object is one object of a set as the JSON that its file could be.
type object struct {
	kind, name string
	spec       map[string]any
	pos        diag.Pos
	routePos   map[string]diag.Pos
}

type side struct {
	objects map[string]object   // by kind/name
	routes  map[string][]string // by service, in their order
	pools   map[string][]string // routes by service/pool
	flags   map[string][]string // service/route by the flag that it reads
}

func index(s Side) side {
	out := side{objects: map[string]object{}, routes: map[string][]string{}, pools: map[string][]string{}, flags: map[string][]string{}}
	root, err := filepath.Abs(s.Root)
	if err != nil {
		root = s.Root
	}
	add := func(kind, name string, spec any, pos diag.Pos) object {
		o := object{kind: kind, name: name, spec: tree(spec, root), pos: pos, routePos: map[string]diag.Pos{}}
		out.objects[kind+"/"+name] = o
		return o
	}
	for _, v := range s.Set.Edges {
		add(policy.KindEdge, v.Metadata.Name, v.Spec, v.Pos)
	}
	for _, v := range s.Set.Services {
		add(policy.KindService, v.Metadata.Name, v.Spec, v.Pos)
		out.routes[v.Metadata.Name] = []string{"default"}
	}
	for _, v := range s.Set.Policies {
		o := add(policy.KindResiliencePolicy, v.Metadata.Name, v.Spec, v.Pos)
		var names []string
		for _, r := range v.Spec.Routes {
			names = append(names, r.Name)
			o.routePos[r.Name] = r.Pos
			if r.Pool != "" {
				key := v.Spec.Service + "/" + r.Pool
				out.pools[key] = append(out.pools[key], r.Name)
			}
			for _, flag := range r.Flags {
				out.flags[flag] = append(out.flags[flag], v.Spec.Service+"/"+r.Name)
			}
		}
		out.routes[v.Spec.Service] = names
	}
	for _, v := range s.Set.SLOs {
		add(policy.KindServiceLevelObjective, v.Metadata.Name, v.Spec, v.Pos)
	}
	for _, v := range s.Set.Experiments {
		add(policy.KindChaosExperiment, v.Metadata.Name, v.Spec, v.Pos)
	}
	for _, v := range s.Set.Flags {
		add(policy.KindFeatureFlag, v.Metadata.Name, v.Spec, v.Pos)
	}
	return out
}

// tree is a spec as plain JSON, with names of files below root made relative.
func tree(spec any, root string) map[string]any {
	text, err := json.Marshal(spec)
	if err != nil {
		panic("delta: a spec is not JSON: " + err.Error()) // policy hashes the same JSON
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		panic("delta: " + err.Error()) // it is an object
	}
	relative(out, root)
	return out
}

func relative(v any, root string) {
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			name, isText := below.(string)
			if rest, under := strings.CutPrefix(name, root+"/"); isText && under && slices.Contains([]string{"certFile", "keyFile", "ca"}, key) {
				v[key] = rest
			}
			relative(below, root)
		}
	case []any:
		for _, below := range v {
			relative(below, root)
		}
	}
}

type comparison struct {
	before, after side
	out           []Change
}

// at is where a difference is.
type at struct {
	schema string
	field  string
	change Change // what all differences of the place have in common
}

func (a at) below(key string) at {
	a.schema += "." + key
	a.field = joined(a.field, key)
	return a
}

func joined(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (c *comparison) object(key string) {
	old, had := c.before.objects[key]
	now, has := c.after.objects[key]
	shown := now
	if !has {
		shown = old
	}
	place := at{schema: shown.kind, change: Change{Kind: shown.kind, Name: shown.name, Routes: c.routesOf(old, now), File: shown.pos.File, Line: shown.pos.Line}}
	switch {
	case !had:
		c.add(place, "added", nil, true)
	case !has:
		c.add(place, "removed", true, nil)
	default:
		place.schema += ".spec"
		if shown.kind == policy.KindResiliencePolicy {
			c.policy(place, old, now)
			return
		}
		c.mapping(place, old.spec, now.spec)
	}
}

// routesOf are the routes that a whole object bears on.
func (c *comparison) routesOf(objects ...object) []string {
	out := []string{}
	for i, s := range []side{c.before, c.after} {
		spec := objects[i].spec
		if spec == nil {
			continue
		}
		var services []string
		switch objects[i].kind {
		case policy.KindEdge:
			services = texts(spec["services"])
			if len(services) == 0 {
				services = slices.Sorted(maps.Keys(s.routes))
			}
		case policy.KindService:
			services = []string{objects[i].name}
		case policy.KindFeatureFlag:
			out = append(out, s.flags[objects[i].name]...)
		default:
			services = []string{word(spec["service"])}
		}
		only := texts(spec["routes"]) // of an objective or experiment
		for _, service := range services {
			for _, route := range s.routes[service] {
				if len(only) == 0 || slices.Contains(only, route) {
					out = append(out, service+"/"+route)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// texts are the words of a list, none where it is a list of something else.
func texts(v any) []string {
	items, _ := v.([]any)
	var out []string
	for _, item := range items {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func (c *comparison) policy(place at, old, now object) {
	oldRoutes, newRoutes := old.spec["routes"], now.spec["routes"]
	delete(old.spec, "routes")
	delete(now.spec, "routes")
	c.mapping(place, old.spec, now.spec)

	before, after := named(oldRoutes), named(newRoutes)
	service := word(now.spec["service"])
	all := names(oldRoutes)
	for _, name := range names(newRoutes) {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	moved := movedRoutes(names(oldRoutes), names(newRoutes))
	for _, name := range all {
		p := place.below("routes")
		p.field = ""
		p.change.Route = name
		p.change.Routes = []string{service + "/" + name}
		pos, ok := now.routePos[name]
		if !ok {
			pos = old.routePos[name]
		}
		p.change.File, p.change.Line = pos.File, pos.Line
		switch {
		case before[name] == nil:
			c.add(p, "added", nil, true)
		case after[name] == nil:
			c.add(p, "removed", true, nil)
		default:
			c.mapping(p, before[name], after[name])
			if slices.Contains(moved, name) {
				p.schema += ".match"
				c.add(p, "moved", position(names(oldRoutes), name), position(names(newRoutes), name))
			}
		}
	}
}

func position(list []string, name string) string {
	return fmt.Sprintf("%d of %d", slices.Index(list, name)+1, len(list))
}

func named(routes any) map[string]map[string]any {
	out := map[string]map[string]any{}
	items, _ := routes.([]any)
	for _, item := range items {
		if r, ok := item.(map[string]any); ok {
			out[word(r["name"])] = r
		}
	}
	return out
}

func names(routes any) []string {
	var out []string
	items, _ := routes.([]any)
	for _, item := range items {
		r, _ := item.(map[string]any)
		out = append(out, word(r["name"]))
	}
	return out
}

// maxOrdered bounds the table that finds the fewest routes that moved.
const maxOrdered = 1000

// movedRoutes are those of both lists that are tried in another order: what is
// not in a longest common subsequence.
func movedRoutes(before, after []string) []string {
	both := func(list, other []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(n string) bool { return !slices.Contains(other, n) })
	}
	a, b := both(before, after), both(after, before)
	for len(a) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if len(a) > maxOrdered {
		return b
	}
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i, name := range slices.Backward(a) {
		for j := len(b) - 1; j >= 0; j-- {
			if name == b[j] {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	kept := map[string]bool{}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			kept[a[i]] = true
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return slices.DeleteFunc(b, func(n string) bool { return kept[n] })
}

func (c *comparison) mapping(place at, before, after map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(union(before, after))) {
		c.value(place.below(key), before[key], after[key])
	}
}

func (c *comparison) value(place at, before, after any) {
	if reflect.DeepEqual(before, after) {
		return
	}
	old, isMapping := before.(map[string]any)
	now, stays := after.(map[string]any)
	switch {
	case place.schema == policy.KindResiliencePolicy+".spec.pools":
		c.pools(place, old, now)
	case isMapping && stays:
		c.mapping(place, old, now)
	case before == nil:
		c.add(place, "added", before, after)
	case after == nil:
		c.add(place, "removed", before, after)
	default:
		c.add(place, "changed", before, after)
	}
}

// pools are a mapping by names that users choose.
func (c *comparison) pools(place at, before, after map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(union(before, after))) {
		p := place
		p.field += "." + name
		p.change.Routes = c.poolRoutes(place.change.Name, name)
		old, _ := before[name].(map[string]any)
		now, _ := after[name].(map[string]any)
		switch {
		case old == nil:
			c.add(p, "added", nil, after[name])
		case now == nil:
			c.add(p, "removed", before[name], nil)
		default:
			c.mapping(p, old, now)
		}
	}
}

func (c *comparison) poolRoutes(policyName, pool string) []string {
	out := []string{}
	for _, s := range []side{c.before, c.after} {
		service := word(s.objects[policy.KindResiliencePolicy+"/"+policyName].spec["service"])
		for _, route := range s.pools[service+"/"+pool] {
			out = append(out, service+"/"+route)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (c *comparison) add(place at, what string, before, after any) {
	change := place.change
	change.Field, change.What = place.field, what
	change.Effect = effect(place.schema, before, after)
	if change.Field != "" || what == "moved" {
		change.Old, change.New = shown(before), shown(after)
	}
	c.out = append(c.out, change)
}

// shown is a value as a user writes it.
func shown(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []any:
		words := make([]string, len(v))
		for i := range v {
			words[i] = shown(v[i])
		}
		return "[" + strings.Join(words, ", ") + "]"
	case map[string]any:
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, key+": "+shown(v[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	text, err := json.Marshal(v)
	return cmp.Or(string(text), fmt.Sprint(err))
}

func union[V any](a, b map[string]V) map[string]V {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]V{}
	}
	maps.Copy(out, b)
	return out
}
