package diag

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Excerpts are cut to so many characters, so that a minified file does not
// flood the terminal.
const excerptWidth = 100

// Source is a file's text, from which excerpts are cut.
type Source struct {
	file  string
	lines []string
}

// NewSource splits text into lines; file is the name that places carry.
func NewSource(file, text string) *Source {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	return &Source{file: file, lines: lines}
}

// At is the place in this file.
func (s *Source) At(line, column int) Pos {
	return Pos{File: s.file, Line: line, Column: column}
}

// Excerpt is the line with the one before it and a caret under the column, or
// "" where there is no such line. It has no final newline. What a terminal
// would obey instead of show is replaced.
func (s *Source) Excerpt(line, column int) string {
	if line < 1 || line > len(s.lines) {
		return ""
	}
	width := len(fmt.Sprint(line))
	var b strings.Builder
	if line > 1 && strings.TrimSpace(s.lines[line-2]) != "" {
		before, _ := window(s.lines[line-2], 1)
		fmt.Fprintf(&b, "    %*d | %s\n", width, line-1, before)
	}
	text, caret := window(s.lines[line-1], column)
	fmt.Fprintf(&b, "  > %*d | %s", width, line, text)
	if column > 0 {
		fmt.Fprintf(&b, "\n    %*s | %s^", width, "", strings.Repeat(" ", caret))
	}
	return b.String()
}

// window is the part of a line around a column, in printable characters, and
// the number of characters before that column in it.
func window(line string, column int) (string, int) {
	runes := []rune(printable(strings.ReplaceAll(line, "\t", " ")))
	caret := min(max(column-1, 0), len(runes))
	start := 0
	if len(runes) > excerptWidth && caret > excerptWidth*3/4 {
		start = caret - excerptWidth/2
	}
	end := min(start+excerptWidth, len(runes))
	text, lead := string(runes[start:end]), ""
	if start > 0 {
		lead = "…"
	}
	if end < len(runes) {
		text += "…"
	}
	return lead + text, caret - start + utf8.RuneCountInString(lead)
}

// printable replaces control characters, so that a policy file cannot write
// escape sequences to the terminal of who validates it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
