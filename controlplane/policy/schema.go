package policy

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// The schema is read off the Go types: the json tag is the name, and the policy
// tag holds what the decoder checks, comma-separated:
//
//	required            the key must be there; a list must not be empty
//	nonempty            a list or text, where given, must not be empty
//	toggle              `true` stands for {} and `false` for leaving it out
//	oneof               exactly one key of the mapping
//	word                a text stands for that key with {}: reset = {reset: {}}
//	min=, max=          bounds, spelled like the value
//	maxlen=             bound of a text in bytes
//	enum=a|b            the vocabulary, of a list for its items
//	format=, keys=      a format by name, of a list or map for its items; for map keys
//	outcomes=           which words an outcome list may have

// field is one key of a mapping.
type field struct {
	name  string
	index []int
	rules rules
}

type rules struct {
	required, nonempty, toggle, oneof, word bool
	min, max                                string
	maxLen                                  int
	enum                                    []string
	format, keys, outcomes                  string
}

var posType = reflect.TypeFor[diag.Pos]()

// fieldTable holds the keys of every struct of the schema.
var fieldTable = buildFieldTable()

func buildFieldTable() map[reflect.Type][]field {
	table := map[reflect.Type][]field{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if _, done := table[t]; done || !isMapping(t) {
			return
		}
		table[t] = readFields(t)
		for _, f := range table[t] {
			walk(t.FieldByIndex(f.index).Type)
		}
	}
	for _, t := range kinds {
		walk(t)
	}
	return table
}

// fieldsOf lists the keys that a struct has in YAML, in its order.
func fieldsOf(t reflect.Type) []field {
	if fields, ok := fieldTable[t]; ok || !isMapping(t) {
		return fields
	}
	return readFields(t) // of ReadDocument
}

func readFields(t reflect.Type) []field {
	var out []field
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "" || name == "-" {
			continue
		}
		out = append(out, field{name: name, index: f.Index, rules: parseRules(f.Tag.Get("policy"))})
	}
	return out
}

func parseRules(tag string) (r rules) {
	if tag == "" {
		return r
	}
	for part := range strings.SplitSeq(tag, ",") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "required":
			r.required = true
		case "nonempty":
			r.nonempty = true
		case "toggle":
			r.toggle = true
		case "oneof":
			r.oneof = true
		case "word":
			r.word = true
		case "min":
			r.min = value
		case "max":
			r.max = value
		case "maxlen":
			r.maxLen, _ = strconv.Atoi(value) // 0 fails TestTags
		case "enum":
			r.enum = strings.Split(value, "|")
		case "format":
			r.format = value
		case "keys":
			r.keys = value
		case "outcomes":
			r.outcomes = value
		default:
			panic("policy: unknown tag " + key) // TestTags walks all types
		}
	}
	return r
}

// names lists the keys of a struct.
func names(fields []field) []string {
	out := make([]string, len(fields))
	for i := range fields {
		out[i] = fields[i].name
	}
	return out
}

// isMapping reports whether a type is a mapping with fixed keys in YAML.
func isMapping(t reflect.Type) bool { return t.Kind() == reflect.Struct && t != posType }

// applyDefaults sets the defaults of a struct and of the structs inside it.
func applyDefaults(v reflect.Value) {
	if !isMapping(v.Type()) {
		return
	}
	for _, f := range fieldsOf(v.Type()) {
		applyDefaults(v.FieldByIndex(f.index))
	}
	if d, ok := reflect.TypeAssert[defaulter](v.Addr()); ok {
		d.setDefaults()
	}
}

// finishAbsent completes a struct that is not in the file: its parts, then
// itself.
func finishAbsent(v reflect.Value) {
	if !isMapping(v.Type()) {
		return
	}
	for _, f := range fieldsOf(v.Type()) {
		finishAbsent(v.FieldByIndex(f.index))
	}
	if f, ok := reflect.TypeAssert[finisher](v.Addr()); ok {
		f.finish(func(string) bool { return false })
	}
}
