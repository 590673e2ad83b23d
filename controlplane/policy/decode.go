package policy

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// Bounds on the decoding of one document. Aliases share nodes, so a small file
// can unfold to a huge document: what is visited counts.
const (
	maxVisited  = 200_000
	maxFindings = 100 // errors, and warnings, of one document
)

// decoder fills one object from a node, reporting every problem.
type decoder struct {
	src       *diag.Source
	firstLine int // of the chunk in the file
	kind      string
	out       diag.List
	bad       []string // paths with an error, for rules that would only repeat it
	visited   int
	shown     map[diag.Severity]int
	dropped   int  // findings beyond maxFindings
	full      bool // a bound was hit: the rest is not looked at
}

// cursor is where a value is: as users see it, as the enforcement table names
// it, and the place of its key for what has no place of its own.
type cursor struct {
	path   string // spec.routes[0].retry
	schema string // ResiliencePolicy.spec.routes.retry
	line   int
	column int
}

func (c cursor) field(e *entry) cursor {
	return cursor{join(c.path, e.key), c.schema + "." + e.key, e.line, e.column}
}

func (c cursor) item(i int, n *node) cursor {
	return cursor{fmt.Sprintf("%s[%d]", c.path, i), c.schema, n.line, n.column}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (d *decoder) pos(line, column int) diag.Pos { return d.src.At(line+d.firstLine-1, column) }

// report adds a finding about the value at a path, which rules then leave
// alone where it is an error.
func (d *decoder) report(code string, line, column int, path, message, hint string) {
	if c, _ := diag.Lookup(code); c.Severity == diag.Error && len(d.bad) <= maxFindings {
		d.bad = append(d.bad, path)
	}
	d.add(code, line, column, path, message, hint)
}

func (d *decoder) add(code string, line, column int, path, message, hint string) {
	finding := diag.New(code, d.pos(line, column), path, message)
	if d.shown[finding.Severity] >= maxFindings {
		// More warnings must not hide an error; of errors there are enough.
		d.full = d.full || finding.Severity == diag.Error
		d.dropped++
		return
	}
	if d.shown == nil {
		d.shown = map[diag.Severity]int{}
	}
	d.shown[finding.Severity]++
	finding.Hint = hint
	finding.Excerpt = d.src.Excerpt(line+d.firstLine-1, column)
	d.out = append(d.out, finding)
}

func (d *decoder) at(c cursor, n *node, f *flaw) {
	d.report(f.code, n.line, n.column, c.path, f.message, f.hint)
}

// isBad reports whether something at or below a path, or a value that the path
// is in, could not be decoded.
func (d *decoder) isBad(path string) bool {
	if d.full {
		return true
	}
	for _, b := range d.bad {
		if below(b, path) || below(path, b) {
			return true
		}
	}
	return false
}

func below(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && (rest == "" || parent == "" || rest[0] == '.' || rest[0] == '[')
}

// value decodes a node into v.
func (d *decoder) value(v reflect.Value, n *node, c cursor, r rules) {
	if d.visited++; d.visited > maxVisited {
		if !d.full {
			d.report(diag.YAMLUnsupported, n.line, n.column, "", fmt.Sprintf("the document has more than %d values", maxVisited), "aliases count each time they are used")
			d.full = true
		}
		return
	}
	if n.kind == nullNode {
		d.empty(v, c, r)
		return
	}
	if v.Kind() == reflect.Pointer {
		d.pointer(v, n, c, r)
		return
	}
	switch p := v.Addr().Interface().(type) {
	case *Duration:
		number(d, p, n, c, r, ParseDuration, durationFlaw)
	case *Ratio:
		number(d, p, n, c, r, ParseRatio, ratioFlaw)
	case *Factor:
		number(d, p, n, c, r, ParseFactor, factorFlaw)
	case *ByteSize:
		number(d, p, n, c, r, ParseByteSize, sizeFlaw)
	case *int:
		number(d, p, n, c, r, parseInt, intFlaw)
	case *bool:
		if d.want(n, c, boolNode) {
			*p = n.text == "true"
		}
	case *string:
		if d.want(n, c, textNode) {
			d.text(p, n, c, r)
		}
	case *Outcomes:
		d.outcomes(p, n, c, r)
	default:
		d.collection(v, n, c, r)
	}
}

func (d *decoder) collection(v reflect.Value, n *node, c cursor, r rules) {
	switch v.Kind() {
	case reflect.Struct:
		if r.word && n.kind == textNode {
			n = &node{kind: mappingNode, line: n.line, column: n.column, entries: []entry{
				{key: n.text, line: n.line, column: n.column, value: &node{kind: mappingNode, line: n.line, column: n.column}},
			}}
		}
		if d.want(n, c, mappingNode) {
			d.structure(v, n, c, r)
		}
	case reflect.Slice:
		if d.want(n, c, sequenceNode) {
			d.list(v, n, c, r)
		}
	case reflect.Map:
		if d.want(n, c, mappingNode) {
			d.table(v, n, c, r)
		}
	default:
		panic("policy: no decoder for " + v.Type().String()) // TestTags walks all types
	}
}

func (d *decoder) want(n *node, c cursor, kind nodeKind) bool {
	if n.kind == kind {
		return true
	}
	hint := ""
	switch {
	case kind == textNode && (n.kind == numberNode || n.kind == boolNode):
		hint = fmt.Sprintf("write %q in quotes", n.text)
	case kind == sequenceNode && n.kind == textNode:
		hint = fmt.Sprintf("write [%s]", clip(n.text))
	case kind == sequenceNode && n.kind == mappingNode:
		hint = "start each item with a hyphen"
	}
	d.report(diag.WrongType, n.line, n.column, c.path, fmt.Sprintf("%s must be %s, not %s", last(c.path), kind, n.kind), hint)
	return false
}

// last is the final name of a path, as people say it.
func last(path string) string {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[i+1:]
	}
	if path == "" {
		return "a document"
	}
	return path
}

func (d *decoder) empty(v reflect.Value, c cursor, r rules) {
	hint := "give it a value, or take the key out"
	if r.toggle || (v.Kind() == reflect.Pointer && isMapping(v.Type().Elem())) || isMapping(v.Type()) {
		hint = "write " + last(c.path) + ": {} for the defaults, or take the key out"
	}
	d.report(diag.EmptyValue, c.line, c.column, c.path, last(c.path)+" has no value", hint)
}

func (d *decoder) pointer(v reflect.Value, n *node, c cursor, r rules) {
	if r.toggle && n.kind == boolNode {
		if n.text == "false" {
			v.SetZero()
			return
		}
		n = &node{kind: mappingNode, line: n.line, column: n.column}
	}
	fresh := reflect.New(v.Type().Elem())
	applyDefaults(fresh.Elem())
	r.toggle = false
	d.value(fresh.Elem(), n, c, r)
	v.Set(fresh)
}

func (d *decoder) structure(v reflect.Value, n *node, c cursor, r rules) {
	fields := fieldsOf(v.Type())
	if pos := v.FieldByName("Pos"); pos.IsValid() && pos.Type() == posType {
		pos.Set(reflect.ValueOf(d.pos(c.line, c.column)))
	}
	for i := range n.entries {
		e := &n.entries[i]
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == e.key })
		if at < 0 {
			d.unknown(e, c, v.Type(), fields)
			continue
		}
		child := c.field(e)
		d.enforcement(child)
		d.value(v.FieldByIndex(fields[at].index), e.value, child, fields[at].rules)
	}
	given := func(key string) bool { return n.child(key) != nil }
	for _, f := range fields {
		if given(f.name) {
			continue
		}
		if f.rules.required {
			d.report(diag.MissingField, c.line, c.column, join(c.path, f.name), f.name+" is missing", "")
			continue
		}
		finishAbsent(v.FieldByIndex(f.index))
	}
	if r.oneof {
		d.oneOf(n, c, fields)
	}
	if f, ok := reflect.TypeAssert[finisher](v.Addr()); ok {
		f.finish(given)
	}
}

func (d *decoder) oneOf(n *node, c cursor, fields []field) {
	if len(n.entries) == 1 || d.isBad(c.path) {
		return
	}
	all := strings.Join(names(fields), ", ")
	if len(n.entries) == 0 {
		d.report(diag.NotExactlyOne, n.line, n.column, c.path, fmt.Sprintf("%s needs one of %s", last(c.path), all), "")
		return
	}
	second := n.entries[1]
	d.report(diag.NotExactlyOne, second.line, second.column, c.path, fmt.Sprintf("%s takes one of %s, not both %s and %s", last(c.path), all, n.entries[0].key, second.key), "")
}

// unknown reports a key that the schema does not have, and where it may belong.
func (d *decoder) unknown(e *entry, c cursor, t reflect.Type, fields []field) {
	hint := diag.DidYouMean(e.key, names(fields))
	if diag.Nearest(e.key, names(fields)) == "" {
		for _, f := range fields {
			sub := t.FieldByIndex(f.index).Type
			for sub.Kind() == reflect.Pointer {
				sub = sub.Elem()
			}
			if isMapping(sub) && slices.Contains(names(fieldsOf(sub)), e.key) {
				hint = fmt.Sprintf("%s belongs into %s", e.key, f.name)
				break
			}
		}
	}
	if len(fields) == 0 {
		hint = "this takes no fields"
	}
	d.report(diag.UnknownField, e.line, e.column, join(c.path, clip(e.key)), fmt.Sprintf("unknown field %q", clip(e.key)), hint)
}

func (d *decoder) list(v reflect.Value, n *node, c cursor, r rules) {
	if len(n.items) == 0 && (r.required || r.nonempty) {
		d.report(diag.MissingField, n.line, n.column, c.path, last(c.path)+" needs at least one item", "")
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, min(len(n.items), 1000))
	seen := map[string]int{} // line of the file
	for i, item := range n.items {
		if d.full {
			return
		}
		fresh := reflect.New(v.Type().Elem()).Elem()
		applyDefaults(fresh)
		child := c.item(i, item)
		before := len(d.out)
		d.value(fresh, item, child, rules{enum: r.enum, format: r.format, nonempty: true})
		if text, ok := reflect.TypeAssert[string](fresh); ok {
			if first, twice := seen[text]; !twice {
				seen[text] = d.pos(item.line, item.column).Line
			} else if len(d.out) == before {
				d.report(diag.RepeatedItem, item.line, item.column, child.path, fmt.Sprintf("%q is already listed in line %d", clip(text), first), "")
			}
		}
		out = reflect.Append(out, fresh)
	}
	v.Set(out)
}

func (d *decoder) table(v reflect.Value, n *node, c cursor, r rules) {
	out := reflect.MakeMapWithSize(v.Type(), min(len(n.entries), 1000))
	for i := range n.entries {
		e := &n.entries[i]
		child := cursor{join(c.path, e.key), c.schema, e.line, e.column}
		key, bad := formats[cmpOr(r.keys, "label")](e.key)
		if bad != nil {
			d.report(bad.code, e.line, e.column, child.path, bad.message, bad.hint)
			continue
		}
		if out.MapIndex(reflect.ValueOf(key)).IsValid() { // spelled twice in another case
			d.report(diag.RepeatedItem, e.line, e.column, child.path, fmt.Sprintf("%q is listed twice", key), "")
			continue
		}
		fresh := reflect.New(v.Type().Elem()).Elem()
		applyDefaults(fresh)
		d.value(fresh, e.value, child, rules{format: r.format})
		out.SetMapIndex(reflect.ValueOf(key), fresh)
	}
	v.Set(out)
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (d *decoder) text(p *string, n *node, c cursor, r rules) {
	if n.text == "" && (r.required || r.nonempty || r.format != "" || r.enum != nil) {
		d.report(diag.EmptyValue, n.line, n.column, c.path, last(c.path)+" is empty", "")
		return
	}
	if r.maxLen > 0 && len(n.text) > r.maxLen {
		d.report(diag.OutOfRange, n.line, n.column, c.path, fmt.Sprintf("%s has %d bytes, at most %d are kept", last(c.path), len(n.text), r.maxLen), "")
		return
	}
	if r.enum != nil && !slices.Contains(r.enum, n.text) {
		d.report(diag.NotAllowed, n.line, n.column, c.path, fmt.Sprintf("%s cannot be %q", last(c.path), clip(n.text)), diag.DidYouMean(n.text, r.enum))
		return
	}
	text := n.text
	if r.format != "" {
		var bad *flaw
		if text, bad = formats[r.format](text); bad != nil {
			d.at(c, n, bad)
			return
		}
	}
	*p = text
}

func (d *decoder) outcomes(p *Outcomes, n *node, c cursor, r rules) {
	if !d.want(n, c, sequenceNode) {
		return
	}
	if len(n.items) == 0 {
		d.report(diag.MissingField, n.line, n.column, c.path, last(c.path)+" needs at least one item", "")
		return
	}
	out := make(Outcomes, 0, min(len(n.items), 1000))
	for i, item := range n.items {
		if d.visited++; d.full || d.visited > maxVisited {
			return
		}
		child := c.item(i, item)
		word, bad := outcomeWord(item)
		if bad == nil {
			status, _ := strconv.Atoi(word) // 0 for a word
			bad = outcomeUses[r.outcomes](word, status)
		}
		switch {
		case bad != nil:
			d.at(child, item, bad)
		case slices.Contains(out, word):
			d.report(diag.RepeatedItem, item.line, item.column, child.path, fmt.Sprintf("%q is listed twice", word), "")
		default:
			out = append(out, word)
		}
	}
	*p = out
}

// newObject decodes a document of a known kind.
func newObject(kind string) (reflect.Value, bool) {
	prototype, ok := kinds[kind]
	if !ok {
		return reflect.Value{}, false
	}
	v := reflect.New(prototype).Elem()
	applyDefaults(v)
	return v, true
}

var kinds = map[string]reflect.Type{
	KindEdge:                  reflect.TypeFor[Edge](),
	KindService:               reflect.TypeFor[Service](),
	KindResiliencePolicy:      reflect.TypeFor[ResiliencePolicy](),
	KindServiceLevelObjective: reflect.TypeFor[ServiceLevelObjective](),
	KindChaosExperiment:       reflect.TypeFor[ChaosExperiment](),
	KindFeatureFlag:           reflect.TypeFor[FeatureFlag](),
}

func kindNames() []string { return slices.Sorted(maps.Keys(kinds)) }
