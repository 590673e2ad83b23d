package policy

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	goccy "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// A text longer than this is not explained, only located by line: the second
// parser takes more than linear time on some texts.
const maxExplained = 256 << 10

// explainSyntax turns yaml/v3's refusal of a text into a finding with line and
// column, asking the other parser, which knows both.
func explainSyntax(text string, refusal error) yamlProblem {
	message := strings.TrimPrefix(refusal.Error(), "yaml: ")
	line := 1
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		number, tail, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, message = n, tail
		}
	}
	if name, ok := strings.CutPrefix(message, "unknown anchor '"); ok {
		name, _, _ = strings.Cut(name, "'")
		line, column := firstPlace(text, "*"+name)
		return yamlProblem{diag.YAMLSyntax, line, column, "alias *" + clip(name) + " has no anchor before it"}
	}
	for i, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(l, "%") {
			return yamlProblem{diag.YAMLUnsupported, i + 1, 1, "YAML directives are not used here"}
		}
	}
	code := diag.YAMLSyntax
	if strings.Contains(message, "max depth") {
		code = diag.YAMLUnsupported
	} else if p := secondOpinion(text); p != nil {
		return *p
	}
	return yamlProblem{code, line, firstColumn(text, line), message}
}

// secondOpinion is goccy/go-yaml's syntax error, or nil where it has none.
func secondOpinion(text string) (p *yamlProblem) {
	defer func() {
		// It is asked about broken texts only, on which it is least tested: a
		// panic there must not end the program.
		if recover() != nil {
			p = nil
		}
	}()
	if len(text) > maxExplained {
		return nil
	}
	tokens := lexer.Tokenize(text)
	if tooDeep(tokens) {
		return nil
	}
	_, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	var syntax *goccy.SyntaxError
	if !errors.As(err, &syntax) || syntax.Token == nil || syntax.Token.Position == nil {
		return nil
	}
	at := syntax.Token.Position
	return &yamlProblem{diag.YAMLSyntax, max(1, at.Line), max(1, at.Column), strings.ReplaceAll(syntax.Message, "'\t'", "tab")}
}

// tooDeep bounds the nesting before goccy's parser runs: it recurses and keeps
// the whole path with every node, which is quadratic in the depth.
func tooDeep(tokens token.Tokens) bool {
	const limit = 4 * maxDepth
	flow := 0
	var blocks []int // columns of the open block collections
	for _, t := range tokens {
		column := 0
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(0, flow-1)
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			column = t.Position.Column
		case token.MappingValueType:
			if t.Prev != nil {
				column = t.Prev.Position.Column
			}
		default:
		}
		if column > 0 && flow == 0 {
			for len(blocks) > 0 && blocks[len(blocks)-1] >= column {
				blocks = blocks[:len(blocks)-1]
			}
			blocks = append(blocks, column)
		}
		if len(blocks)+flow > limit {
			return true
		}
	}
	return false
}

// firstPlace is the line and column at which what stands first.
func firstPlace(text, what string) (line, column int) {
	for i, l := range strings.Split(text, "\n") {
		if before, _, ok := strings.Cut(l, what); ok {
			return i + 1, utf8.RuneCountInString(before) + 1
		}
	}
	return 1, 1
}

// firstColumn is the column of the first character of a line that is no space.
func firstColumn(text string, line int) int {
	lines := strings.Split(text, "\n")
	if line > len(lines) {
		return 1
	}
	l := lines[line-1]
	return len(l) - len(strings.TrimLeft(l, " ")) + 1
}
