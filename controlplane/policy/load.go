package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// maxShown bounds the findings of one load.
const maxShown = 1000

// Load reads the policies in files and directories: *.yaml and *.yml below a
// directory, without hidden files, *_test.yaml and names ending in ~. It
// returns every finding at once, sorted. The Set is nil where one of them is an
// error; otherwise it is complete, with defaults filled in. The error is about
// a path that cannot be read at all.
func Load(paths ...string) (*Set, diag.List, error) {
	set, _, out, err := LoadSource(paths...)
	return set, out, err
}

// LoadSource is Load with the files that the set came from, to ask what they
// say themselves and what is a default. The Source is nil where the Set is.
func LoadSource(paths ...string) (*Set, *Source, diag.List, error) {
	found, err := find(paths)
	if err != nil {
		return nil, nil, nil, err
	}
	l := loader{out: found.out}
	total := 0
	for _, f := range found.files {
		text, problem := read(f)
		if problem != nil {
			l.out = append(l.out, *problem)
			l.incomplete = true
			continue
		}
		if total += len(text); total > maxTotalBytes {
			l.out = append(l.out, diag.New(diag.TooMuch, diag.Pos{File: f.name}, "", "more than 64 MiB of policies"))
			l.incomplete = true
			break
		}
		if !l.file(f.name, text) {
			break
		}
	}
	set, out := l.finish()
	if set == nil {
		return nil, nil, out, nil
	}
	return set, &Source{l.objects}, out, nil
}

// parse is Load of one text, for tests and for the fuzzer.
func parse(name, text string) (*Set, diag.List) {
	l := loader{}
	text, problem := checkText(name, text)
	if problem != nil {
		return nil, diag.List{*problem}
	}
	l.file(name, text)
	return l.finish()
}

// object is one document with what its validation needs.
type object struct {
	*decoder
	kind  string
	name  string // "" where it could not be read
	root  *node
	value reflect.Value // of the kind's type
}

// loader gathers the objects of one load.
type loader struct {
	out     diag.List
	objects []*object
	// incomplete says that something could not be decoded, so that a reference
	// without a target proves nothing.
	incomplete bool
}

// file decodes the documents of one file. It returns false where a bound says
// that no more is read.
func (l *loader) file(name, text string) bool {
	src := diag.NewSource(name, text)
	found := 0
	for _, c := range splitDocuments(text) {
		docs, problems := parseDocuments(c.text, c.firstLine)
		for _, p := range problems {
			d := decoder{src: src, firstLine: c.firstLine}
			d.report(p.code, p.line, p.column, "", p.message, "")
			l.out = append(l.out, d.out...)
			l.incomplete = true
		}
		for _, n := range docs {
			if n.kind == nullNode {
				continue
			}
			found++
			if len(l.objects) >= maxObjects {
				l.out = append(l.out, diag.New(diag.TooMuch, src.At(c.firstLine, 1), "", fmt.Sprintf("more than %d objects", maxObjects)))
				l.incomplete = true
				return false
			}
			l.document(&decoder{src: src, firstLine: c.firstLine}, n)
		}
		if len(problems) > 0 {
			found++
		}
	}
	if found == 0 {
		l.out = append(l.out, diag.New(diag.NothingFound, diag.Pos{File: name}, "", "has no document"))
	}
	return true
}

// document decodes one document. What it is stands first: without a known kind
// nothing else can be checked.
func (l *loader) document(d *decoder, n *node) {
	defer func() { l.out = append(l.out, d.out...) }()
	root := cursor{line: n.line, column: n.column}
	if !d.want(n, root, mappingNode) {
		l.incomplete = true
		return
	}
	known := d.version(n, root)
	kind := n.child("kind")
	switch {
	case kind == nil:
		d.report(diag.MissingField, n.line, n.column, "kind", "kind is missing", "known here: "+strings.Join(kindNames(), ", "))
	case kind.value.kind != textNode:
		d.value(reflect.New(reflect.TypeFor[string]()).Elem(), kind.value, root.field(kind), rules{})
	case !known:
		// Another group's object: its kind says nothing here.
	default:
		value, ok := newObject(kind.value.text)
		if !ok {
			d.report(diag.UnknownKind, kind.value.line, kind.value.column, "kind", fmt.Sprintf("unknown kind %q", clip(kind.value.text)), diag.DidYouMean(kind.value.text, kindNames()))
			break
		}
		l.object(d, n, root, kind.value.text, value)
		return
	}
	l.incomplete = true
}

// version checks apiVersion and reports whether the document may be read as one
// of ours all the same: it is missing, or of our group.
func (d *decoder) version(n *node, root cursor) bool {
	v := n.child("apiVersion")
	if v == nil {
		d.report(diag.MissingField, n.line, n.column, "apiVersion", "apiVersion is missing", "write apiVersion: "+APIVersion)
		return true
	}
	if v.value.kind != textNode {
		d.value(reflect.New(reflect.TypeFor[string]()).Elem(), v.value, root.field(v), rules{})
		return true
	}
	if v.value.text != APIVersion {
		d.report(diag.UnknownVersion, v.value.line, v.value.column, "apiVersion", fmt.Sprintf("unknown apiVersion %q", clip(v.value.text)), "write apiVersion: "+APIVersion)
		group, _, _ := strings.Cut(v.value.text, "/")
		return diag.Nearest(group, []string{"seawall.io"}) != ""
	}
	return true
}

func (l *loader) object(d *decoder, n *node, root cursor, kind string, value reflect.Value) {
	d.kind = kind
	root.schema = kind
	d.value(value, n, root, rules{})
	o := &object{decoder: d, kind: kind, root: n, value: value}
	value.FieldByName("APIVersion").SetString(APIVersion)
	value.FieldByName("Kind").SetString(kind)
	if meta := n.child("metadata"); meta != nil {
		if name := meta.value.child("name"); name != nil {
			value.FieldByName("Pos").Set(reflect.ValueOf(d.pos(name.value.line, name.value.column)))
			o.name = value.FieldByName("Metadata").Interface().(Metadata).Name
		}
	}
	l.objects = append(l.objects, o)
}

// finish validates the objects and makes the Set of them.
func (l *loader) finish() (*Set, diag.List) {
	before := make([]int, len(l.objects))
	for i, o := range l.objects {
		before[i] = len(o.out)
	}
	validate(l.objects, l.incomplete)
	for i, o := range l.objects {
		l.out = append(l.out, o.out[before[i]:]...)
		if o.dropped > 0 {
			l.out = append(l.out, diag.New(diag.TooManyFindings, o.pos(o.root.line, o.root.column), "", fmt.Sprintf("more than %d findings in this document: the rest is not shown", maxFindings)))
		}
	}
	out := l.out.Compact()
	refused := out.HasErrors()
	out = shorten(out)
	if refused {
		return nil, out
	}
	return newSet(l.objects), out
}

// shorten keeps what is shown of the findings of a load: errors rather than
// warnings, the first ones of each.
func shorten(l diag.List) diag.List {
	if len(l) <= maxShown {
		return l
	}
	errors, warnings := l.Count()
	keepErrors := min(errors, maxShown)
	keepWarnings := min(warnings, maxShown-keepErrors)
	out := make(diag.List, 0, maxShown+1)
	left := map[diag.Severity]int{diag.Error: keepErrors, diag.Warning: keepWarnings}
	for _, d := range l {
		if left[d.Severity] > 0 {
			left[d.Severity]--
			out = append(out, d)
		}
	}
	return append(out, diag.New(diag.TooManyFindings, diag.Pos{}, "", fmt.Sprintf("%d more errors and %d more warnings are not shown", errors-keepErrors, warnings-keepWarnings)))
}

func newSet(objects []*object) *Set {
	slices.SortStableFunc(objects, func(a, b *object) int { return strings.Compare(a.name, b.name) })
	s := &Set{
		Edges: pick[Edge](objects), Services: pick[Service](objects), Policies: pick[ResiliencePolicy](objects),
		SLOs: pick[ServiceLevelObjective](objects), Experiments: pick[ChaosExperiment](objects), Flags: pick[FeatureFlag](objects),
	}
	s.Hash = s.contentHash()
	return s
}

func pick[T any](objects []*object) []T {
	out := []T{} // [] in JSON, not null
	for _, o := range objects {
		if v, ok := reflect.TypeAssert[T](o.value); ok {
			out = append(out, v)
		}
	}
	return out
}
