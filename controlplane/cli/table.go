package cli

import (
	"io"
	"strings"
	"unicode/utf8"
)

const (
	tableGap     = 2
	minCellWidth = 8
)

// column is one column of a table. A shrinkable one is cut with "…" where the
// table would not fit; the others hold what must be read whole.
type column struct {
	head   string
	right  bool
	shrink bool
	paint  func(string) string // of the cells, not of the head; nil leaves them
}

type table struct {
	columns []column
	rows    [][]string
}

func (t *table) add(cells ...string) {
	for i := range cells {
		cells[i] = oneLine(cells[i])
	}
	t.rows = append(t.rows, cells)
}

// write prints the table at most width characters wide, if that can be had.
func (t *table) write(w io.Writer, st style, width int) error {
	widths := t.widths(width)
	var b strings.Builder
	line := func(cells []string, paint func(int, string) string) {
		var l strings.Builder
		for i, c := range cells {
			c = fit(c, widths[i])
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			c = paint(i, c)
			if i > 0 {
				l.WriteString(strings.Repeat(" ", tableGap))
			}
			if t.columns[i].right {
				l.WriteString(pad + c)
			} else {
				l.WriteString(c + pad)
			}
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	heads := make([]string, len(t.columns))
	for i, c := range t.columns {
		heads[i] = c.head
	}
	line(heads, func(_ int, s string) string { return st.dim(s) })
	for _, row := range t.rows {
		line(row, func(i int, s string) string {
			if t.columns[i].paint == nil {
				return s
			}
			return t.columns[i].paint(s)
		})
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *table) widths(limit int) []int {
	widths := make([]int, len(t.columns))
	total := tableGap * (len(widths) - 1)
	for i, c := range t.columns {
		widths[i] = utf8.RuneCountInString(c.head)
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		total += widths[i]
	}
	for ; total > limit; total-- {
		widest := -1
		for i, c := range t.columns {
			if c.shrink && widths[i] > max(minCellWidth, utf8.RuneCountInString(c.head)) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return widths
}

func fit(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// wrap breaks text into indented lines of at most width characters. A word
// that is longer stays whole.
func wrap(text string, width int) string {
	const indent = "  "
	var b strings.Builder
	used := 0
	for word := range strings.FieldsSeq(oneLine(text)) {
		n := utf8.RuneCountInString(word)
		switch {
		case used == 0:
			b.WriteString(indent)
			used = utf8.RuneCountInString(indent)
		case used+1+n > width:
			b.WriteString("\n" + indent)
			used = utf8.RuneCountInString(indent)
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += n
	}
	return b.String()
}

// dash stands in for an empty cell.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// short is the beginning of a hash.
func short(hash string) string {
	if len(hash) > 12 {
		return hash[:12]
	}
	return dash(hash)
}
