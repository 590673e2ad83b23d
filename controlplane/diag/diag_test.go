package diag

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWriteText(t *testing.T) {
	t.Parallel()
	src := NewSource("policies/checkout.yaml", "spec:\n\n  failureRate: 50%\n  minRequest: 10\n")
	unknown := New(UnknownField, src.At(4, 3), "spec.minRequest", `unknown field "minRequest"`)
	unknown.Hint = `did you mean "minRequests"?`
	unknown.Excerpt = src.Excerpt(4, 3)
	cases := map[string]struct {
		list List
		want string
	}{
		"nothing": {},
		"all parts": {List{unknown}, `policies/checkout.yaml:4:3: error SW0102: unknown field "minRequest" (spec.minRequest)
    3 |   failureRate: 50%
  > 4 |   minRequest: 10
      |   ^
  did you mean "minRequests"?
1 error in 1 file
`},
		"a file without a place, a finding without a file": {
			List{New(FileTooLarge, Pos{File: "a.yaml"}, "", "is larger than 4 MiB"), New(NotEnforced, Pos{}, "", "b")},
			"a.yaml: error SW0002: is larger than 4 MiB\nwarning SW0900: b\n1 error, 1 warning in 1 file\n",
		},
		"counts": {
			List{New(FileTooLarge, Pos{File: "a"}, "", "x"), New(FileTooLarge, Pos{File: "b", Line: 3}, "", "x"), New(NotEnforced, Pos{File: "a"}, "", "x"), New(NotEnforced, Pos{File: "a"}, "", "x")},
			"a: error SW0002: x\nb:3: error SW0002: x\na: warning SW0900: x\na: warning SW0900: x\n2 errors, 2 warnings in 2 files\n",
		},
		"what a terminal would obey is shown instead": {
			List{New(UnknownField, Pos{File: "\x1b[2J.yaml", Line: 1}, "spec.\x1b]0;x\a", "bad \x9b31m\n\u202ename")},
			"\uFFFD[2J.yaml:1: error SW0102: bad \uFFFD31m\uFFFD\uFFFDname (spec.\uFFFD]0;x\uFFFD)\n1 error in 1 file\n",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			WriteText(&out, c.list)
			require.Equal(t, c.want, out.String())
		})
	}
}

// TestWriteGitHub pins the format of workflow commands, in which some signs are
// escaped: https://docs.github.com/actions/reference/workflow-commands.
func TestWriteGitHub(t *testing.T) {
	t.Parallel()
	full := New(UnknownField, Pos{File: "a,b:c.yaml", Line: 6, Column: 5}, "spec.x", "100% unknown")
	full.Hint = "did you mean\x1b[2J y?"
	var out bytes.Buffer
	WriteGitHub(&out, List{full, New(NotEnforced, Pos{}, "", "b")})
	require.Equal(t, "::error file=a%2Cb%3Ac.yaml,line=6,col=5,title=SW0102::100%25 unknown (spec.x)%0Adid you mean\uFFFD[2J y?\n::warning title=SW0900::b\n", out.String())
}

func TestExcerpt(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 30)
	cases := map[string]struct {
		text         string
		line, column int
		want         string
	}{
		"first line":             {"a: 1\nb: 2", 1, 4, "  > 1 | a: 1\n      |    ^"},
		"with the line before":   {"a: 1\nb: 2", 2, 1, "    1 | a: 1\n  > 2 | b: 2\n      | ^"},
		"a blank line before":    {"a: 1\n  \nb: 2", 3, 1, "  > 3 | b: 2\n      | ^"},
		"wide line numbers":      {strings.Repeat("x\n", 9) + "y", 10, 1, "     9 | x\n  > 10 | y\n       | ^"},
		"columns are characters": {"ä: ö", 1, 4, "  > 1 | ä: ö\n      |    ^"},
		"tabs are one character": {"\ta", 1, 2, "  > 1 |  a\n      |  ^"},
		"CRLF":                   {"a\r\nb\r\n", 2, 1, "    1 | a\n  > 2 | b\n      | ^"},
		"beyond the end of line": {"ab", 1, 99, "  > 1 | ab\n      |   ^"},
		"no column":              {"ab", 1, 0, "  > 1 | ab"},
		"no such line":           {"ab", 2, 1, ""},
		"line zero":              {"ab", 0, 1, ""},
		"a long line, early":     {long, 1, 5, "  > 1 | " + long[:100] + "…\n      |     ^"},
		"a long line, late":      {long, 1, 151, "  > 1 | …" + long[100:200] + "…\n      | " + strings.Repeat(" ", 51) + "^"},
		"control characters":     {"a\x1b[31mb", 1, 7, "  > 1 | a\uFFFD[31mb\n      |       ^"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, NewSource("f", c.text).Excerpt(c.line, c.column))
		})
	}
}

// TestJSON pins the members that DESIGN section 5 promises to outside tools.
func TestJSON(t *testing.T) {
	t.Parallel()
	d := New(UnknownField, Pos{File: "a.yaml", Line: 6, Column: 5}, "spec.x", "unknown <field>")
	d.Hint = "hint"
	var out bytes.Buffer
	WriteJSON(&out, List{d})
	var doc struct{ Items []map[string]any }
	require.NoError(t, json.Unmarshal(out.Bytes(), &doc))
	require.Equal(t, []map[string]any{{
		"code": "SW0102", "severity": "error", "file": "a.yaml", "line": 6.0, "column": 5.0,
		"path": "spec.x", "message": "unknown <field>", "hint": "hint",
		"docs": "https://seawall-mesh.github.io/reference/codes#sw0102",
	}}, doc.Items)
	require.Contains(t, out.String(), "<field>", "not escaped for HTML")

	text, err := json.Marshal(d)
	require.NoError(t, err)
	var back Diagnostic
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, d, back)

	out.Reset()
	WriteJSON(&out, nil)
	require.JSONEq(t, `{"items":[]}`, out.String())
}

func TestSortAndCompact(t *testing.T) {
	t.Parallel()
	at := func(file string, line, column int, code string) Diagnostic {
		return New(code, Pos{File: file, Line: line, Column: column}, "", "m")
	}
	l := List{
		at("b", 1, 1, BadName), at("a", 2, 1, BadName), at("a", 1, 9, BadName), at("a", 1, 2, NotEnforced),
		at("a", 1, 2, BadName), at("a", 1, 2, BadName),
	}
	got := l.Compact()
	want := List{
		at("a", 1, 2, BadName), at("a", 1, 2, NotEnforced), at("a", 1, 9, BadName), at("a", 2, 1, BadName), at("b", 1, 1, BadName),
	}
	require.Equal(t, want, got)
	require.True(t, got.HasErrors())
	require.False(t, List{at("a", 1, 1, NotEnforced)}.HasErrors())
	require.False(t, List(nil).HasErrors())
}

func TestCatalogue(t *testing.T) {
	t.Parallel()
	codes := Codes()
	require.NotEmpty(t, codes)
	last := ""
	for _, c := range codes {
		require.Regexp(t, `^SW\d{4}$`, c.Code)
		require.Less(t, last, c.Code, "sorted, each once")
		last = c.Code
		require.Contains(t, []Severity{Error, Warning}, c.Severity)
		for _, text := range []string{c.Title, c.Why, c.Fix} {
			require.NotEmpty(t, text, c.Code)
		}
		found, ok := Lookup(c.Code)
		require.True(t, ok)
		require.Equal(t, c, found)
	}
	_, ok := Lookup("SW9999")
	require.False(t, ok)
	require.Equal(t, Error, New("SW9999", Pos{}, "", "").Severity)
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	fields := []string{"minRequests", "percent", "window", "base", "max", "at"}
	cases := map[string]struct {
		word, want string
	}{
		"a missing letter":        {"minRequest", "minRequests"},
		"another case":            {"minrequests", "minRequests"},
		"swapped letters":         {"widnow", "window"},
		"swapped in a short word": {"mxa", "max"},
		"part of a word":          {"requests", "minRequests"},
		"another word":            {"threshold", ""},
		"another letter":          {"x", ""},
		"too short to say":        {"to", ""},
		"nothing":                 {"", ""},
		"no typing error":         {strings.Repeat("w", 1000), ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, Nearest(c.word, fields))
		})
	}
	require.Equal(t, `did you mean "window"?`, DidYouMean("windw", fields))
	require.Equal(t, "known here: a1b, c2d", DidYouMean("threshold", []string{"a1b", "c2d"}))
	require.Empty(t, DidYouMean("threshold", nil))
}
