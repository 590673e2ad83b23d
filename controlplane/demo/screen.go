package demo

import (
	"fmt"
	"io"
	"strings"
)

// screen prints the play, in 80 columns.
type screen struct {
	out    io.Writer
	colour bool
	act    int
	failed int // checks
	passed int
}

const (
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	normal = "\x1b[0m"
)

func (s *screen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return code + text + normal
}

func (s *screen) title(format string, args ...any) {
	fmt.Fprintln(s.out, s.paint(bold, fmt.Sprintf(format, args...)))
}

func (s *screen) note(format string, args ...any) {
	for _, line := range wrap(fmt.Sprintf(format, args...), 79) {
		fmt.Fprintln(s.out, s.paint(dim, line))
	}
}

// begin opens an act with what should happen.
func (s *screen) begin(name, promise string) {
	s.act++
	fmt.Fprintf(s.out, "\n%s\n", s.paint(bold, fmt.Sprintf("%d  %s", s.act, name)))
	for _, line := range wrap(promise, 76) {
		fmt.Fprintf(s.out, "   %s\n", line)
	}
}

// saw tells what one layer saw.
func (s *screen) saw(layer, format string, args ...any) {
	fmt.Fprintf(s.out, "   %-9s %s\n", layer, fmt.Sprintf(format, args...))
}

// check holds a promise against what was.
func (s *screen) check(ok bool, format string, args ...any) {
	mark := s.paint(green, "√")
	if ok {
		s.passed++
	} else {
		s.failed++
		mark = s.paint(red, "×")
	}
	fmt.Fprintf(s.out, "   %s %s\n", mark, fmt.Sprintf(format, args...))
}

func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
