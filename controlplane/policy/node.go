package policy

import (
	"errors"
	"fmt"
	"io"
	"strings"

	yaml "go.yaml.in/yaml/v3"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// Bounds on the shape of one document.
const (
	maxDepth     = 32
	maxMergeKeys = 10_000
)

type nodeKind int

const (
	nullNode nodeKind = iota
	boolNode
	numberNode
	textNode
	mappingNode
	sequenceNode
)

func (k nodeKind) String() string {
	return [...]string{"nothing", "true or false", "a number", "a text", "a mapping", "a list"}[k]
}

// node is a YAML value with its place; aliases and merge keys are resolved.
// Shared anchors share nodes, so it is a graph without cycles.
type node struct {
	kind    nodeKind
	line    int
	column  int
	text    string // scalars: the value; numbers and booleans as spelled
	entries []entry
	items   []*node
}

type entry struct {
	key    string
	line   int
	column int
	value  *node
}

// child is the entry with a key, or nil.
func (n *node) child(key string) *entry {
	if n == nil || n.kind != mappingNode {
		return nil
	}
	for i := range n.entries {
		if n.entries[i].key == key {
			return &n.entries[i]
		}
	}
	return nil
}

// yamlProblem is a finding about the text itself.
type yamlProblem struct {
	code         string
	line, column int
	message      string
}

func (p *yamlProblem) Error() string { return p.message }

// parseDocuments reads one chunk of a file, usually one document. Lines count
// from 1 within the chunk; messages name lines of the file, where the chunk
// starts in firstLine.
//
// yaml/v3 reads, because goccy/go-yaml 1.19 misreads valid YAML: in
// {hooks: [http://h:1/x]} it takes the text for a mapping. goccy only explains
// what yaml/v3 refused, because it knows the column (explainSyntax).
func parseDocuments(text string, firstLine int) (docs []*node, problems []yamlProblem) {
	dec := yaml.NewDecoder(strings.NewReader(text))
	for {
		var n yaml.Node
		if err := dec.Decode(&n); errors.Is(err, io.EOF) {
			return docs, problems
		} else if err != nil {
			return nil, append(problems, explainSyntax(text, err))
		}
		c := converter{firstLine: firstLine, done: map[*yaml.Node]*node{}}
		root, err := c.convert(&n, 0)
		problems = append(problems, c.problems...)
		if p := (*yamlProblem)(nil); errors.As(err, &p) {
			problems = append(problems, *p)
			continue
		}
		docs = append(docs, root)
	}
}

// converter turns the parser's tree into nodes, each of its nodes once.
type converter struct {
	firstLine int
	done      map[*yaml.Node]*node // nil while it is being converted
	merged    int
	problems  []yamlProblem
}

func (c *converter) convert(n *yaml.Node, depth int) (*node, error) {
	switch {
	case depth > maxDepth:
		return nil, unsupported(n, fmt.Sprintf("nested more than %d levels deep", maxDepth))
	case n.Kind == yaml.DocumentNode && len(n.Content) == 1:
		return c.convert(n.Content[0], depth)
	case n.Kind == yaml.AliasNode && n.Alias != nil:
		v, met := c.done[n.Alias]
		if v == nil && met {
			return nil, unsupported(n, fmt.Sprintf("*%s stands inside its own anchor", n.Value))
		}
		if v != nil {
			return v, nil
		}
		return c.convert(n.Alias, depth)
	case n.Style&yaml.TaggedStyle != 0:
		return nil, unsupported(n, "YAML tags are not used here")
	}
	c.done[n] = nil
	out, err := c.fresh(n, depth)
	c.done[n] = out
	return out, err
}

func (c *converter) fresh(n *yaml.Node, depth int) (*node, error) {
	out := &node{line: max(1, n.Line), column: max(1, n.Column)}
	switch n.Kind {
	case yaml.MappingNode:
		out.kind = mappingNode
		return out, c.mapping(out, n.Content, depth)
	case yaml.SequenceNode:
		out.kind = sequenceNode
		for _, v := range n.Content {
			item, err := c.convert(v, depth+1)
			if err != nil {
				return nil, err
			}
			out.items = append(out.items, item)
		}
		return out, nil
	case yaml.ScalarNode:
		out.kind, out.text = scalarKind(n), n.Value
		return out, nil
	default:
		return out, nil // an empty document
	}
}

func scalarKind(n *yaml.Node) nodeKind {
	switch n.ShortTag() {
	case "!!null":
		return nullNode
	case "!!bool":
		return boolNode
	case "!!int", "!!float":
		return numberNode
	default: // dates too are what the text says
		return textNode
	}
}

// mapping fills out from keys and values in turn.
func (c *converter) mapping(out *node, content []*yaml.Node, depth int) error {
	var merges []*node
	index := map[string]int{}
	for i := 0; i+1 < len(content); i += 2 {
		k := content[i]
		value, err := c.convert(content[i+1], depth+1)
		if err != nil {
			return err
		}
		if k.ShortTag() == "!!merge" {
			merges = append(merges, value)
			continue
		}
		if k.Kind != yaml.ScalarNode || k.Style&yaml.TaggedStyle != 0 {
			return unsupported(k, "keys are plain words here")
		}
		if first, twice := index[k.Value]; twice {
			message := fmt.Sprintf("%q is already written in line %d", clip(k.Value), out.entries[first].line+c.firstLine-1)
			c.problems = append(c.problems, yamlProblem{diag.DuplicateKey, k.Line, k.Column, message})
			continue
		}
		index[k.Value] = len(out.entries)
		out.entries = append(out.entries, entry{key: k.Value, line: k.Line, column: k.Column, value: value})
	}
	for _, m := range merges {
		if err := c.merge(out, m, index); err != nil {
			return err
		}
	}
	return nil
}

// merge adds the entries of a `<<:` value that the mapping does not have.
func (c *converter) merge(out, from *node, index map[string]int) error {
	switch from.kind {
	case sequenceNode:
		for _, item := range from.items {
			if err := c.merge(out, item, index); err != nil {
				return err
			}
		}
		return nil
	case mappingNode:
	default:
		return &yamlProblem{diag.YAMLSyntax, from.line, from.column, "<<: takes a mapping"}
	}
	for _, e := range from.entries {
		if c.merged++; c.merged > maxMergeKeys {
			return &yamlProblem{diag.YAMLUnsupported, from.line, from.column, fmt.Sprintf("merge keys add more than %d entries", maxMergeKeys)}
		}
		if _, has := index[e.key]; !has {
			index[e.key] = len(out.entries)
			out.entries = append(out.entries, e)
		}
	}
	return nil
}

func unsupported(n *yaml.Node, what string) error {
	return &yamlProblem{diag.YAMLUnsupported, max(1, n.Line), max(1, n.Column), what}
}

// chunk is a part of a file that is parsed by itself, so that broken YAML in
// one document does not hide the findings in the others.
type chunk struct {
	text      string
	firstLine int // of the file, 1-based
}

// splitDocuments cuts a file before each line that starts with `---`. YAML
// allows such a line nowhere inside a document, not even in a block scalar.
func splitDocuments(text string) []chunk {
	var out []chunk
	start, startLine, line := 0, 1, 1
	for i := 0; i < len(text); {
		end := strings.IndexByte(text[i:], '\n')
		if end < 0 {
			end = len(text)
		} else {
			end += i + 1
		}
		if i > start && isDocumentStart(text[i:end]) {
			out = append(out, chunk{text[start:i], startLine})
			start, startLine = i, line
		}
		i = end
		line++
	}
	return append(out, chunk{text[start:], startLine})
}

func isDocumentStart(line string) bool {
	rest, ok := strings.CutPrefix(line, "---")
	return ok && (rest == "" || strings.ContainsRune(" \t\r\n", rune(rest[0])))
}
