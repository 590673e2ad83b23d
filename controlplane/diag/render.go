package diag

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// WriteText writes the findings for people: place, code and message, the
// excerpt, the hint, and a last line that counts them. An empty list writes
// nothing. Errors of w are w's to remember.
func WriteText(w io.Writer, l List) {
	if len(l) == 0 {
		return
	}
	out := bufio.NewWriter(w)
	for _, d := range l {
		writeOne(out, d)
	}
	fmt.Fprintln(out, l.Summary())
	_ = out.Flush() // see above
}

func writeOne(w io.Writer, d Diagnostic) {
	if d.Pos.File != "" {
		fmt.Fprintf(w, "%s: ", printable(d.Pos.String()))
	}
	fmt.Fprintf(w, "%s %s: %s", d.Severity, d.Code, printable(d.Message))
	if d.Path != "" {
		fmt.Fprintf(w, " (%s)", printable(d.Path))
	}
	fmt.Fprintln(w)
	if d.Excerpt != "" {
		fmt.Fprintln(w, d.Excerpt)
	}
	if d.Hint != "" {
		fmt.Fprintf(w, "  %s\n", printable(d.Hint))
	}
}

// Summary is the count of the findings in words: "2 errors, 1 warning in 2 files".
func (l List) Summary() string {
	errors, warnings := l.Count()
	files := map[string]bool{}
	for i := range l {
		if f := l[i].Pos.File; f != "" {
			files[f] = true
		}
	}
	var parts []string
	if errors > 0 {
		parts = append(parts, plural(errors, "error"))
	}
	if warnings > 0 {
		parts = append(parts, plural(warnings, "warning"))
	}
	if len(parts) == 0 {
		return "no findings"
	}
	s := strings.Join(parts, ", ")
	if len(files) > 0 {
		s += " in " + plural(len(files), "file")
	}
	return s
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// WriteGitHub writes the findings as workflow commands, which GitHub shows
// beside the lines of a pull request. Errors of w are w's to remember.
func WriteGitHub(w io.Writer, l List) {
	out := bufio.NewWriter(w)
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	for _, d := range l {
		fmt.Fprintf(out, "::%s ", d.Severity)
		if d.Pos.File != "" {
			fmt.Fprintf(out, "file=%s,", property.Replace(printable(d.Pos.File)))
		}
		if d.Pos.Line > 0 {
			fmt.Fprintf(out, "line=%d,", d.Pos.Line)
		}
		if d.Pos.Column > 0 {
			fmt.Fprintf(out, "col=%d,", d.Pos.Column)
		}
		message := printable(d.Message)
		if d.Path != "" {
			message += " (" + printable(d.Path) + ")"
		}
		if d.Hint != "" {
			message += "\n" + printable(d.Hint)
		}
		fmt.Fprintf(out, "title=%s::%s\n", d.Code, data.Replace(message))
	}
	_ = out.Flush() // see above
}

// WriteJSON writes the findings as {"items":[…]}. Errors of w are w's to
// remember.
func WriteJSON(w io.Writer, l List) {
	if l == nil {
		l = List{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(struct {
		Items List `json:"items"`
	}{l}) // see above
}
