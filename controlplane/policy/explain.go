package policy

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// Explanation is what there is to know about one field.
type Explanation struct {
	Field    string   `json:"field"` // Kind.spec.a.b
	About    string   `json:"about"` // what it is, in a sentence or two
	Type     string   `json:"type"`
	Required bool     `json:"required"`
	Default  string   `json:"default,omitempty"` // "" = none, or empty
	Min      string   `json:"min,omitempty"`     // spelled like the value
	Max      string   `json:"max,omitempty"`
	Values   []string `json:"values,omitempty"` // its vocabulary
	Enforced bool     `json:"enforced"`
	Note     string   `json:"note,omitempty"` // beyond that
	// Places are where it acts, and as what; none where it is not enforced.
	Places []Place `json:"places"`
	// Fields are those directly below.
	Fields []string `json:"fields,omitempty"`
}

// Explain tells about a field, written Kind.spec.a.b without indexes, or about
// a kind. Where there is none, hint names a near one.
func Explain(path string) (e Explanation, hint string, ok bool) {
	kind, rest, deeper := strings.Cut(path, ".")
	t, known := kinds[kind]
	if !known {
		return Explanation{}, diag.DidYouMean(kind, kindNames()), false
	}
	e = Explanation{Field: kind, About: descriptions()[kind], Type: "kind", Enforced: true, Fields: names(fieldsOf(t))}
	if !deeper {
		return e, "", true
	}
	at := kind
	for name := range strings.SplitSeq(rest, ".") {
		fields := fieldsOf(t)
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if i < 0 {
			if len(fields) == 0 {
				return Explanation{}, at + " has no fields", false
			}
			return Explanation{}, diag.DidYouMean(name, names(fields)), false
		}
		at += "." + name
		e = explain(at, t, fields[i])
		t = mappingOf(t.FieldByIndex(fields[i].index).Type)
	}
	return e, "", true
}

func explain(schema string, parent reflect.Type, f field) Explanation {
	v := reflect.New(parent).Elem()
	applyDefaults(v)
	ft := parent.FieldByIndex(f.index).Type
	e := Explanation{
		Field: schema, About: describe(parent, f), Type: typeName(ft), Required: f.rules.required,
		Min: f.rules.min, Max: f.rules.max, Values: f.rules.enum,
	}
	if below := fieldsOf(mappingOf(ft)); len(below) > 0 {
		e.Fields = names(below)
	}
	if value := v.FieldByIndex(f.index); e.Fields == nil && !f.rules.required && !value.IsZero() {
		text, err := json.Marshal(value.Interface())
		if err == nil {
			e.Default = strings.Trim(string(text), `"`)
		}
	}
	s, _ := stateOf(schema)
	e.Enforced, e.Note = s.state == enforced, s.note
	if e.Enforced {
		e.Places = placesOf(schema)
	}
	return e
}

// mappingOf is the type of the values inside of lists, maps and pointers.
func mappingOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t
}

// typeName is what a user writes there.
func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[Ratio]():
		return "percent"
	case reflect.TypeFor[Factor]():
		return "number"
	case reflect.TypeFor[ByteSize]():
		return "size"
	case reflect.TypeFor[Outcomes]():
		return "list of outcomes and statuses"
	}
	switch t.Kind() { //nolint:exhaustive // of others there are no fields (TestTags)
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		return "map of " + typeName(t.Elem()) + " by name"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "whole number"
	case reflect.String:
		return "text"
	}
	return "mapping"
}
