package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/filter/problem"
)

// openAPI writes the OpenAPI 3.1 document of the endpoints. Schemas come from
// the answers' Go types: `json` names the member, `doc` describes it.
func openAPI(endpoints []endpoint) ([]byte, error) {
	b := schemaBuilder{schemas: map[string]any{}}
	problemAnswer := map[string]any{
		"description": "A problem document (RFC 9457).",
		"content":     map[string]any{"application/problem+json": map[string]any{"schema": b.schema(reflect.TypeFor[problem.Document]())}},
	}
	paths := map[string]any{}
	for _, e := range endpoints {
		path := "/api/v1" + e.path
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		paths[path].(map[string]any)[strings.ToLower(cmp.Or(e.method, http.MethodGet))] = b.operation(e)
	}
	doc := map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title":       "Seawall admin API",
			"version":     "v1alpha1",
			"description": "What the control plane knows. Members are only ever added. Lists are paged: follow next by ?cursor= until it is empty.",
			"license":     map[string]any{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		// On loopback no token is asked (DESIGN section 5).
		"security": []any{map[string]any{}},
		"paths":    paths,
		"components": map[string]any{
			"schemas":   b.schemas,
			"responses": map[string]any{"Problem": problemAnswer},
		},
	}
	out, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("openapi document: %w", err)
	}
	return append(out, '\n'), nil
}

func (b *schemaBuilder) operation(e endpoint) map[string]any {
	text := map[string]any{"type": "string"}
	params := []any{}
	for part := range strings.SplitSeq(e.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			params = append(params, map[string]any{"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true, "schema": text})
		}
	}
	for _, p := range e.params {
		params = append(params, map[string]any{"name": p.name, "in": "query", "description": p.doc, "schema": map[string]any{"type": p.kind}})
	}
	inJSON := func(v any) map[string]any {
		return map[string]any{"application/json": map[string]any{"schema": b.schema(reflect.TypeOf(v))}}
	}
	responses := map[string]any{"default": map[string]any{"$ref": "#/components/responses/Problem"}}
	if e.answer == nil {
		responses["204"] = map[string]any{"description": "Done."}
	} else {
		ok := map[string]any{"description": "OK.", "content": inJSON(e.answer)}
		if e.tagged {
			ok["headers"] = map[string]any{"ETag": map[string]any{"description": "For If-Match.", "schema": text}}
		}
		status := "200"
		if e.method == http.MethodPost {
			status = "201"
		}
		responses[status] = ok
	}
	operation := map[string]any{"operationId": e.id, "summary": e.summary, "responses": responses}
	if e.body != nil {
		operation["requestBody"] = map[string]any{"content": inJSON(e.body), "required": e.method != http.MethodDelete}
		for _, name := range []string{"If-Match", "If-None-Match"} {
			if e.method != http.MethodPost {
				params = append(params, map[string]any{"name": name, "in": "header", "description": "412 where it does not hold.", "schema": text})
			}
		}
	}
	operation["parameters"] = params
	return operation
}

// schemaBuilder turns Go types into JSON Schema, one component per named
// struct. Only what our answers are made of is supported; the rest panics, at
// start and so in every test.
type schemaBuilder struct{ schemas map[string]any }

func (b *schemaBuilder) schema(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[slo.Span]():
		return map[string]any{"type": "string", "examples": []string{"30d", "1h", "2d4h"}}
	case t.Kind() == reflect.Pointer:
		return map[string]any{"anyOf": []any{b.schema(t.Elem()), map[string]any{"type": "null"}}}
	}
	switch t.Kind() {
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Uint32, reflect.Int32:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": b.schema(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": b.schema(t.Elem())}
	case reflect.Interface: // a policy's spec: any object
		return map[string]any{"type": "object"}
	case reflect.Struct:
		return b.component(t)
	default:
		panic(fmt.Sprintf("no schema for %s", t))
	}
}

func (b *schemaBuilder) component(t reflect.Type) map[string]any {
	name := componentName(t)
	ref := map[string]any{"$ref": "#/components/schemas/" + name}
	if _, done := b.schemas[name]; done {
		return ref
	}
	b.schemas[name] = nil // stops recursion
	properties, required := map[string]any{}, []string{}
	for f := range t.Fields() {
		member, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if member == "" || member == "-" {
			continue
		}
		s := b.schema(f.Type)
		s["description"] = description(name, member, f)
		properties[member] = s
		if !strings.Contains(options, "omit") {
			required = append(required, member)
		}
	}
	b.schemas[name] = map[string]any{"type": "object", "properties": properties, "required": required}
	return ref
}

// componentName is Status for api.Status, SLO for slo.Status and SLOList for
// api.List[slo.Status].
func componentName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[slo.Status]():
		return "SLO"
	case reflect.TypeFor[problem.Document]():
		return "Problem"
	case reflect.TypeFor[audit.Entry]():
		return "AuditEntry"
	}
	if items, paged := t.FieldByName("Items"); paged {
		return componentName(items.Type.Elem()) + "List"
	}
	return t.Name()
}
