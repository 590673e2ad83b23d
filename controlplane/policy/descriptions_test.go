package policy

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDescriptions holds that descriptions.json is what the comments say, and
// that every field has something to say for itself.
func TestDescriptions(t *testing.T) {
	t.Parallel()
	want := readComments(t)
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	require.NoError(t, enc.Encode(want))
	golden(t, "descriptions.json", text.Bytes())
	for owner, fields := range fieldTable {
		for _, f := range fields {
			if _, isSpec := kinds[owner.Name()]; !isSpec && !*update {
				if describe(owner, f) == "" {
					t.Errorf("%s.%s needs a comment", owner.Name(), f.name)
				}
			}
		}
	}
}

// readComments collects the comments of the schema's types, and of their fields
// as Type.Field, with the names that users know.
func readComments(t *testing.T) map[string]string {
	t.Helper()
	types := map[string]reflect.Type{}
	for owner := range fieldTable {
		types[owner.Name()] = owner
	}
	types["TypeMeta"] = reflect.TypeFor[TypeMeta]()
	out := map[string]string{}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		require.NoError(t, err)
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.TYPE {
				continue
			}
			for _, s := range group.Specs {
				spec := s.(*ast.TypeSpec)
				owner, known := types[spec.Name.Name]
				body, isStruct := spec.Type.(*ast.StructType)
				if !known || !isStruct {
					continue
				}
				keep(out, owner.Name(), inUserWords(owner, group.Doc.Text()))
				for _, f := range body.Fields.List {
					for _, n := range f.Names {
						comment := f.Doc.Text()
						if comment == "" {
							comment = f.Comment.Text()
						}
						keep(out, owner.Name()+"."+n.Name, inUserWords(owner, comment))
					}
				}
			}
		}
	}
	return out
}

func keep(out map[string]string, key, text string) {
	if text != "" {
		out[key] = text
	}
}

var (
	goWord = regexp.MustCompile(`\b[A-Z][A-Za-z0-9]*\b`)
	goNil  = regexp.MustCompile(`\bnil\b`)
)

// inUserWords is a comment in one line, in which fields have the names of
// policy files.
func inUserWords(owner reflect.Type, comment string) string {
	text := strings.Join(strings.Fields(comment), " ")
	named := map[string]string{}
	for _, f := range fieldsOf(owner) {
		named[owner.FieldByIndex(f.index).Name] = f.name
	}
	text = goWord.ReplaceAllStringFunc(text, func(w string) string {
		if name, ok := named[w]; ok {
			return name
		}
		return w
	})
	return goNil.ReplaceAllString(text, "absent")
}
