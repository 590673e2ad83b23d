package policy

import (
	_ "embed"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// The comments of the schema's types and fields, in the words of users. They are
// read from the Go sources by TestDescriptions (make golden writes them).
//
//go:embed descriptions.json
var descriptionsJSON []byte

var descriptions = sync.OnceValue(func() map[string]string {
	var out map[string]string
	if err := json.Unmarshal(descriptionsJSON, &out); err != nil {
		panic("policy: descriptions.json: " + err.Error()) // TestDescriptions writes it
	}
	return out
})

// describe is what there is to say about a field, or else about the type of its
// value.
func describe(parent reflect.Type, f field) string {
	sf := parent.FieldByIndex(f.index)
	owner := parent
	for _, i := range f.index[:len(f.index)-1] { // of an embedded struct
		owner = owner.Field(i).Type
	}
	if text := descriptions()[owner.Name()+"."+sf.Name]; text != "" {
		return text
	}
	kind := mappingOf(sf.Type).Name()
	if rest, ok := strings.CutPrefix(descriptions()[kind], kind+" "); ok {
		return f.name + " " + rest
	}
	return ""
}
