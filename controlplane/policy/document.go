package policy

import (
	"fmt"
	"reflect"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// ReadDocument reads a file of one YAML document that is no policy into a struct,
// as strictly and with findings as good as policies get: into is a pointer to a
// struct with json and policy tags as in this package. A file without a document
// leaves it as it is.
func ReadDocument(name string, into any) diag.List {
	text, problem := read(file{name, true})
	if problem != nil {
		return diag.List{*problem}
	}
	src := diag.NewSource(name, text)
	var out diag.List
	found := 0
	for _, c := range splitDocuments(text) {
		docs, problems := parseDocuments(c.text, c.firstLine)
		d := decoder{src: src, firstLine: c.firstLine}
		for _, p := range problems {
			d.report(p.code, p.line, p.column, "", p.message, "")
		}
		for _, n := range docs {
			if n.kind == nullNode {
				continue
			}
			if found++; found > 1 {
				d.report(diag.TooMuch, n.line, n.column, "", "a second document in a file of one", "")
				continue
			}
			root := cursor{schema: "document", line: n.line, column: n.column}
			if d.want(n, root, mappingNode) {
				d.value(reflect.ValueOf(into).Elem(), n, root, rules{})
			}
		}
		out = append(out, d.out...)
		if d.dropped > 0 {
			out = append(out, diag.New(diag.TooManyFindings, diag.Pos{File: name}, "", fmt.Sprintf("more than %d findings: the rest is not shown", maxFindings)))
		}
	}
	return out.Compact()
}
