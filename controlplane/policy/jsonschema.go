package policy

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
)

// SchemaID names the JSON Schema of a policy document.
const SchemaID = "https://seawall-mesh.github.io/reference/policy.schema.json"

// schema is a JSON Schema, draft 7, which editors know through
// yaml-language-server.
type schema map[string]any

// What the decoder's own readers take, as patterns.
const (
	durationPattern = `^(0|([0-9]+(\.[0-9]+)?(d|h|ms|m|us|s))+)$`
	ratioPattern    = `^[0-9]+(\.[0-9]+)?%$`
	sizePattern     = `^[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB)$`
	labelPattern    = `^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`
	statusPattern   = `^[1-5][0-9][0-9]$`
)

// JSONSchema describes one document of a policy file to editors: its fields with
// their meaning, types, bounds and vocabulary. What it refuses, Load refuses;
// what it takes, Load may still refuse, for it knows nothing of other objects.
func JSONSchema() []byte {
	definitions := schema{}
	var branches []any
	var names []any
	for _, kind := range kindNames() {
		define(definitions, kinds[kind])
		names = append(names, kind)
		branches = append(branches, schema{
			"if":   schema{"properties": schema{"kind": schema{"const": kind}}, "required": []string{"kind"}},
			"then": schema{"$ref": "#/definitions/" + kind},
		})
		of := definitions[kind].(schema)["properties"].(schema)
		of["apiVersion"].(schema)["const"] = APIVersion
		of["kind"].(schema)["const"] = kind
	}
	root := schema{
		"$schema": "http://json-schema.org/draft-07/schema#", "$id": SchemaID, "title": "Seawall policy", "type": "object",
		"required":    []string{"apiVersion", "kind"},
		"properties":  schema{"apiVersion": schema{"const": APIVersion}, "kind": schema{"enum": names}},
		"allOf":       branches,
		"definitions": definitions,
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		panic("policy: the schema is not JSON: " + err.Error()) // no such type is in it
	}
	return out.Bytes()
}

// define adds the definition of a mapping and of those below it.
func define(definitions schema, t reflect.Type) {
	if _, done := definitions[t.Name()]; done {
		return
	}
	properties, required := schema{}, []string{}
	out := schema{"type": "object", "properties": properties, "additionalProperties": false}
	definitions[t.Name()] = out
	for _, f := range fieldsOf(t) {
		ft := t.FieldByIndex(f.index).Type
		property := property(definitions, ft, f.rules)
		text := describe(t, f)
		if e := explain("", t, f); e.Default != "" {
			text += " (default " + e.Default + ")"
		}
		if text != "" {
			property["description"] = text
		}
		properties[f.name] = property
		if f.rules.required || f.name == "kind" || f.name == "apiVersion" {
			required = append(required, f.name)
		}
	}
	if len(required) > 0 {
		out["required"] = required
	}
}

func property(definitions schema, t reflect.Type, r rules) schema {
	switch t.Kind() { //nolint:exhaustive // of others there are no fields (TestTags)
	case reflect.Pointer:
		inner := property(definitions, t.Elem(), r)
		if r.toggle {
			return either("object", inner, schema{"type": "boolean"})
		}
		return inner
	case reflect.Slice:
		if t == reflect.TypeFor[Outcomes]() {
			return outcomesProperty()
		}
		items := r
		items.required, items.nonempty = false, false
		out := schema{"type": "array", "items": property(definitions, t.Elem(), items)}
		if r.required || r.nonempty {
			out["minItems"] = 1
		}
		if t.Elem().Kind() == reflect.String {
			out["uniqueItems"] = true
		}
		return out
	case reflect.Map:
		out := schema{"type": "object", "additionalProperties": property(definitions, t.Elem(), rules{format: r.format})}
		if r.keys == "" {
			out["propertyNames"] = schema{"pattern": labelPattern, "maxLength": 63}
		}
		return out
	case reflect.Struct:
		return mappingProperty(definitions, t, r)
	}
	return scalarProperty(t, r)
}

// either says what a value of a type has to be, and any other. Of anyOf, editors
// report the wrong branch.
func either(kind string, then, otherwise schema) schema {
	return schema{"if": schema{"type": kind}, "then": then, "else": otherwise}
}

func mappingProperty(definitions schema, t reflect.Type, r rules) schema {
	define(definitions, t)
	// A list of one, for beside $ref draft 7 has no description.
	ref := schema{"allOf": []any{schema{"$ref": "#/definitions/" + t.Name()}}}
	if r.oneof {
		ref["minProperties"], ref["maxProperties"] = 1, 1
	}
	if r.oneof && !r.required && t == reflect.TypeFor[Signal]() {
		delete(ref, "minProperties") // {} has a default
	}
	if r.word {
		return either("object", ref, schema{"enum": names(fieldsOf(t))})
	}
	return ref
}

func scalarProperty(t reflect.Type, r rules) schema {
	switch t {
	case reflect.TypeFor[Duration]():
		const message = "a duration: 250ms, 1.5s, 2m, 1h30m or 30d"
		return either("string", schema{"pattern": durationPattern, "patternErrorMessage": message}, schema{"const": 0, "errorMessage": message})
	case reflect.TypeFor[Ratio]():
		return schema{"type": "string", "pattern": ratioPattern, "patternErrorMessage": "a share in percent: 5% or 0.01%"}
	case reflect.TypeFor[ByteSize]():
		return schema{"type": "string", "pattern": sizePattern, "patternErrorMessage": "a size: 512B, 64KiB, 10MiB or 1GiB"}
	case reflect.TypeFor[Factor]():
		return bounded(schema{"type": "number"}, r)
	}
	switch t.Kind() { //nolint:exhaustive // as above
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int:
		return bounded(schema{"type": "integer"}, r)
	}
	out := schema{"type": "string"}
	switch {
	case r.enum != nil:
		return schema{"enum": r.enum}
	case r.format == "label":
		out["pattern"], out["maxLength"] = labelPattern, 63
	case r.format != "" || r.required || r.nonempty:
		out["minLength"] = 1
	}
	if r.maxLen > 0 {
		out["maxLength"] = r.maxLen
	}
	return out
}

func bounded(s schema, r rules) schema {
	for key, text := range map[string]string{"minimum": r.min, "maximum": r.max} {
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			s[key] = n
		}
	}
	return s
}

func outcomesProperty() schema {
	return schema{"type": "array", "minItems": 1, "uniqueItems": true, "items": schema{"anyOf": []any{
		schema{"enum": append(outcomeWords(), OutcomeDegraded)},
		schema{"type": "integer", "minimum": 100, "maximum": 599},
		schema{"type": "string", "pattern": statusPattern},
	}}}
}
