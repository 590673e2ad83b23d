package policy

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// Source is the files of a Set, decoded.
type Source struct{ objects []*object }

// Value is one setting that holds: one that a file gives, or a default.
type Value struct {
	Field    string   // from the object or the part of it that was asked for: timeout.perTry
	Schema   string   // as Explain takes it: ResiliencePolicy.spec.routes.timeout.perTry
	Text     string   // as a user writes it
	Default  bool     // no file says so
	Enforced bool     // this build does something with it
	Pos      diag.Pos // of the value; zero for a default
}

// Values lists the settings below a path of an object, such as spec.routes[0],
// in the schema's order. What is absent and has no default is left out.
func (s *Source) Values(kind, name, path string) []Value {
	i := slices.IndexFunc(s.objects, func(o *object) bool { return o.kind == kind && o.name == name })
	if i < 0 {
		return nil
	}
	o := s.objects[i]
	v, n, schema := o.value, o.root, kind
	for part := range strings.SplitSeq(path, ".") {
		name, index, indexed := strings.Cut(part, "[")
		fields := fieldsOf(mappingOf(v.Type()))
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		switch {
		case at >= 0:
			v, schema = reflect.Indirect(v.FieldByIndex(fields[at].index)), schema+"."+name
		case v.Kind() == reflect.Map:
			if v = v.MapIndex(reflect.ValueOf(name)); !v.IsValid() {
				return nil
			}
		default:
			return nil
		}
		if e := n.child(name); e != nil {
			n = e.value
		} else {
			n = nil
		}
		if indexed {
			i := 0
			if _, err := fmt.Sscanf(index, "%d]", &i); err != nil || v.Kind() != reflect.Slice || i >= v.Len() {
				return nil
			}
			v = v.Index(i)
			if n != nil && i < len(n.items) {
				n = n.items[i]
			}
		}
	}
	var out []Value
	o.collect(&out, v, n, "", schema)
	return out
}

func (o *object) collect(out *[]Value, v reflect.Value, n *node, path, schema string) {
	for _, f := range fieldsOf(v.Type()) {
		fv := v.FieldByIndex(f.index)
		if fv.Kind() == reflect.Pointer && fv.IsNil() {
			continue
		}
		fv = reflect.Indirect(fv)
		child, childSchema := join(path, f.name), schema+"."+f.name
		e := n.child(f.name)
		if isMapping(fv.Type()) {
			var below *node
			if e != nil {
				below = e.value
			}
			before := len(*out)
			o.collect(out, fv, below, child, childSchema)
			if len(*out) > before {
				continue
			}
		}
		if e == nil && (fv.IsZero() && !f.rules.required || f.name == "deadlineHeader") {
			continue // neither said nor a default; a deadlineHeader has two places
		}
		s, _ := stateOf(childSchema)
		value := Value{Field: child, Schema: childSchema, Text: written(fv), Default: e == nil, Enforced: s.state == enforced}
		if e != nil {
			value.Pos = o.pos(e.value.line, e.value.column)
			if value.Text == "" {
				value.Text = e.value.text // moved elsewhere by finish
			}
		}
		*out = append(*out, value)
	}
}

// written is a value as a user writes it.
func written(v reflect.Value) string {
	text, err := json.Marshal(v.Interface())
	if err != nil {
		return fmt.Sprint(v.Interface())
	}
	var word string
	if json.Unmarshal(text, &word) == nil {
		return word
	}
	var words []string
	if json.Unmarshal(text, &words) == nil {
		return "[" + strings.Join(words, ", ") + "]"
	}
	return string(text)
}
