package policy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"
	yaml "go.yaml.in/yaml/v3"
)

// TestSchemaTakesWhatLoadTakes: documents that load without an error satisfy
// the schema, and mistakes that an editor can see do not.
func TestSchemaTakesWhatLoadTakes(t *testing.T) {
	t.Parallel()
	var root map[string]any
	require.NoError(t, json.Unmarshal(JSONSchema(), &root))
	check := func(text string) []string {
		var out []string
		dec := yaml.NewDecoder(strings.NewReader(text))
		for {
			var doc any
			if dec.Decode(&doc) != nil {
				return out
			}
			if doc != nil {
				out = append(out, violations(root, root, plainJSON(t, doc), "")...)
			}
		}
	}
	var files []string
	for _, pattern := range []string{"testdata/*/*.y*ml", "../../policies/*/*.y*ml", "../compile/testdata/*/policies/*.y*ml"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		files = append(files, found...)
	}
	valid := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		if strings.HasSuffix(name, "_test.yaml") {
			continue
		}
		if _, findings := parse(name, string(text)); !findings.HasErrors() {
			valid++
			require.Empty(t, check(string(text)), name)
		}
	}
	require.Greater(t, valid, 10)
	// What an editor underlines.
	for _, code := range []string{"SW0101", "SW0102", "SW0103", "SW0104", "SW0105", "SW0107", "SW0110", "SW0111", "SW0112", "SW0113", "SW0114", "SW0115", "SW0116", "SW0125"} {
		archive, err := txtar.ParseFile("testdata/codes/" + code + ".txtar")
		require.NoError(t, err)
		require.NotEmpty(t, check(string(archive.Files[0].Data)), code)
	}
}

func plainJSON(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	var out any
	require.NoError(t, json.Unmarshal(text, &out))
	return out
}

// violations evaluates those keywords of JSON Schema that JSONSchema writes; of
// others it fails.
func violations(root, s map[string]any, v any, path string) []string {
	var out []string
	bad := func(format string, args ...any) { out = append(out, path+": "+fmt.Sprintf(format, args...)) }
	within := func(below any, v any, path string) {
		out = append(out, violations(root, below.(map[string]any), v, path)...)
	}
	object, isObject := v.(map[string]any)
	list, isList := v.([]any)
	text, isText := v.(string)
	number, isNumber := v.(float64)
	for keyword, want := range s {
		switch keyword {
		case "$schema", "$id", "title", "description", "definitions", "then", "else", "errorMessage", "patternErrorMessage":
		case "$ref":
			name := strings.TrimPrefix(want.(string), "#/definitions/")
			within(root["definitions"].(map[string]any)[name], v, path)
		case "type":
			types, several := want.([]any)
			if !several {
				types = []any{want}
			}
			if !slices.ContainsFunc(types, func(name any) bool { return isOfType(v, name.(string)) }) {
				bad("is no %v", want)
			}
		case "const":
			if v != want {
				bad("is not %v", want)
			}
		case "enum":
			if !slices.Contains(want.([]any), v) {
				bad("is none of %v", want)
			}
		case "pattern":
			if isText && !regexp.MustCompile(want.(string)).MatchString(text) {
				bad("%q does not match %s", text, want)
			}
		case "minLength":
			if isText && len(text) < int(want.(float64)) {
				bad("too short")
			}
		case "maxLength":
			if isText && len(text) > int(want.(float64)) {
				bad("too long")
			}
		case "minimum":
			if isNumber && number < want.(float64) {
				bad("%v is below %v", number, want)
			}
		case "maximum":
			if isNumber && number > want.(float64) {
				bad("%v is above %v", number, want)
			}
		case "required":
			for _, key := range want.([]any) {
				if _, has := object[key.(string)]; isObject && !has {
					bad("%v is missing", key)
				}
			}
		case "minProperties":
			if isObject && len(object) < int(want.(float64)) {
				bad("too few")
			}
		case "maxProperties":
			if isObject && len(object) > int(want.(float64)) {
				bad("too many")
			}
		case "properties":
			for key, below := range want.(map[string]any) {
				if value, has := object[key]; has {
					within(below, value, path+"."+key)
				}
			}
		case "additionalProperties":
			known, _ := s["properties"].(map[string]any)
			for key, value := range object {
				if known[key] != nil {
					continue
				}
				if want == false {
					bad("%s is unknown", key)
				} else {
					within(want, value, path+"."+key)
				}
			}
		case "propertyNames":
			for key := range object {
				within(want, key, path+"."+key)
			}
		case "items":
			for i, item := range list {
				within(want, item, fmt.Sprintf("%s[%d]", path, i))
			}
		case "minItems":
			if isList && len(list) < int(want.(float64)) {
				bad("too few items")
			}
		case "uniqueItems":
			for i := range list {
				if slices.ContainsFunc(list[:i], func(o any) bool { return reflect.DeepEqual(o, list[i]) }) {
					bad("item %d is there twice", i)
				}
			}
		case "allOf":
			for _, below := range want.([]any) {
				within(below, v, path)
			}
		case "anyOf":
			if !slices.ContainsFunc(want.([]any), func(below any) bool { return len(violations(root, below.(map[string]any), v, path)) == 0 }) {
				bad("fits none of %v", want)
			}
		case "if":
			if len(violations(root, want.(map[string]any), v, path)) == 0 {
				within(s["then"], v, path)
			} else if s["else"] != nil {
				within(s["else"], v, path)
			}
		default:
			bad("keyword %s is not evaluated here", keyword)
		}
	}
	return out
}

func isOfType(v any, name string) bool {
	switch name {
	case "object":
		_, ok := v.(map[string]any)
		return ok
	case "array":
		_, ok := v.([]any)
		return ok
	case "string":
		_, ok := v.(string)
		return ok
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "number":
		_, ok := v.(float64)
		return ok
	case "integer":
		n, ok := v.(float64)
		return ok && n == float64(int64(n))
	}
	return false
}
