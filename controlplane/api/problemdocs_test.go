package api

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/problem"
)

var update = flag.Bool("update", false, "write docs/problems anew")

const problemDocs = "../../docs/problems"

var problemPage = template.Must(template.New("page").Parse(`<!-- Generated from the registry by make generate. -->
# {{.Title}}

{{.Meaning}}

**What to do:** {{.Action}}

| | |
| --- | --- |
| type | ` + "`{{.Type}}`" + ` |
| status | {{.Status}} |
{{- with .GRPC}}
| grpc-status | {{.}} |
{{- end}}
| may the same request be tried again? | {{if .Retryable}}yes, after a pause; honour Retry-After where it is given{{else}}not unchanged{{end}} |
`))

var problemIndex = template.Must(template.New("index").Parse(`<!-- Generated from the registry by make generate. -->
# Problem types

Every error that Seawall or its Envoy answers is a problem document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)) of one of these types, with
` + "`type`, `title`, `status`, `detail`, `instance` (the request id, also in `x-request-id`), `retryable`, and `retry_after` where there is a time to wait" + `.
gRPC callers get the grpc-status and a short message instead. ` + "`filter/problem`" + ` reads the documents in Go.

| type | status | grpc-status | title | try again? |
| --- | --- | --- | --- | --- |
{{range .}}| [{{.Slug}}]({{.Slug}}.md) | {{.Status}} | {{with .GRPC}}{{.}}{{else}}–{{end}} | {{.Title}} | {{if .Retryable}}yes{{else}}no{{end}} |
{{end}}`))

// The docs have a page for each type, as the registry says it. After a change
// of the registry, make generate writes them.
func TestProblemDocs(t *testing.T) {
	types := listedProblemTypes(problem.DefaultBase)
	pages := map[string][]byte{}
	write := func(name string, tmpl *template.Template, data any) {
		var b bytes.Buffer
		require.NoError(t, tmpl.Execute(&b, data))
		pages[name] = b.Bytes()
	}
	write("README.md", problemIndex, types)
	for _, p := range types {
		write(p.Slug+".md", problemPage, p)
	}
	if *update {
		require.NoError(t, os.RemoveAll(problemDocs))
		require.NoError(t, os.MkdirAll(problemDocs, 0o755))
		for name, page := range pages {
			require.NoError(t, os.WriteFile(filepath.Join(problemDocs, name), page, 0o644))
		}
	}
	files, err := os.ReadDir(problemDocs)
	require.NoError(t, err)
	require.Len(t, files, len(pages), "run make generate")
	for name, page := range pages {
		have, err := os.ReadFile(filepath.Join(problemDocs, name))
		require.NoError(t, err, "run make generate")
		require.Equal(t, string(page), string(have), "%s: run make generate", name)
	}
}
