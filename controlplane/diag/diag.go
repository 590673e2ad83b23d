package diag

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a finding stops a load.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // the load is refused, the old policy stays in force
	Warning Severity = "warning" // told, never in the way
)

// Pos is a place in a file, 1-based; zero members are unknown. Column counts
// characters, not bytes.
type Pos struct {
	File         string
	Line, Column int
}

// String is file:line:column, without what is unknown.
func (p Pos) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	default:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
}

// Diagnostic is one finding.
type Diagnostic struct {
	Code     string
	Severity Severity
	Pos      Pos
	Path     string // spec.routes[0].breaker.recoveryTimeout; empty where no field is meant
	Message  string
	Hint     string // what to do about it; may be empty
	Excerpt  string // source lines with a caret, ready to print; may be empty
}

// New makes a finding with the severity that the catalogue gives its code. A
// code outside the catalogue is an error.
func New(code string, pos Pos, path, message string) Diagnostic {
	severity := Error
	if c, ok := Lookup(code); ok {
		severity = c.Severity
	}
	return Diagnostic{Code: code, Severity: severity, Pos: pos, Path: path, Message: message}
}

// wire is the JSON shape of a Diagnostic (DESIGN section 5).
type wire struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Column   int      `json:"column"`
	Path     string   `json:"path"`
	Message  string   `json:"message"`
	Hint     string   `json:"hint"`
	Excerpt  string   `json:"excerpt,omitempty"`
	Docs     string   `json:"docs"`
}

// docsBase is where docs/reference is published.
const docsBase = "https://seawall-mesh.github.io/reference/"

// Docs is the address of what there is to read about a code.
func Docs(code string) string { return docsBase + "codes#" + strings.ToLower(code) }

// MarshalJSON writes the members that `validate -o json` and GET
// policy/diagnostics promise, the excerpt, and where to read about the code.
func (d Diagnostic) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // whether to escape is the outer encoder's choice
	err := enc.Encode(wire{d.Code, d.Severity, d.Pos.File, d.Pos.Line, d.Pos.Column, d.Path, d.Message, d.Hint, d.Excerpt, Docs(d.Code)})
	return out.Bytes(), err
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *Diagnostic) UnmarshalJSON(b []byte) error {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*d = Diagnostic{w.Code, w.Severity, Pos{w.File, w.Line, w.Column}, w.Path, w.Message, w.Hint, w.Excerpt}
	return nil
}

// List is the findings of one load.
type List []Diagnostic

// HasErrors reports whether the findings stop a load.
func (l List) HasErrors() bool {
	errors, _ := l.Count()
	return errors > 0
}

// Count returns how many errors and warnings there are.
func (l List) Count() (errors, warnings int) {
	for i := range l {
		if l[i].Severity == Error {
			errors++
		} else {
			warnings++
		}
	}
	return errors, warnings
}

// Sort orders by file, line and column, then errors first, then by code, path
// and message, so that equal findings are neighbours.
func (l List) Sort() {
	slices.SortStableFunc(l, compare)
}

// Compact returns the sorted list without repeated findings. It re-uses l.
func (l List) Compact() List {
	l.Sort()
	return slices.CompactFunc(l, func(a, b Diagnostic) bool { return compare(a, b) == 0 })
}

func compare(a, b Diagnostic) int {
	return cmp.Or(
		strings.Compare(a.Pos.File, b.Pos.File),
		cmp.Compare(a.Pos.Line, b.Pos.Line),
		cmp.Compare(a.Pos.Column, b.Pos.Column),
		strings.Compare(string(a.Severity), string(b.Severity)),
		strings.Compare(a.Code, b.Code),
		strings.Compare(a.Path, b.Path),
		strings.Compare(a.Message, b.Message),
	)
}
