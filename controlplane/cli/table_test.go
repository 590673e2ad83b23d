package cli

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestTablesFit: whatever is in the cells, a table whose other columns leave
// room is never wider than asked, and its columns stay in line.
func TestTablesFit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tab := table{columns: []column{{head: "NAME", shrink: true}, {head: "N", right: true}, {head: "STATE"}, {head: "WHY", shrink: true}}}
		rows := rapid.IntRange(1, 5).Draw(t, "rows")
		for range rows {
			tab.add(rapid.String().Draw(t, "name"), rapid.StringMatching(`[0-9]{1,9}`).Draw(t, "n"), rapid.SampledFrom([]string{"open", "half-open"}).Draw(t, "state"), rapid.String().Draw(t, "why"))
		}
		var out bytes.Buffer
		if err := tab.write(&out, style{}, minColumns); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != rows+1 {
			t.Fatalf("%d lines for %d rows: %q", len(lines), rows, out.String())
		}
		for _, l := range lines {
			if utf8.RuneCountInString(l) > minColumns {
				t.Fatalf("wider than %d: %q", minColumns, l)
			}
		}
	})
}

func TestTableCutsTheWidestFirst(t *testing.T) {
	t.Parallel()
	tab := table{columns: []column{{head: "A", shrink: true}, {head: "B", shrink: true}, {head: "C"}}}
	tab.add(strings.Repeat("a", 60), strings.Repeat("b", 20), strings.Repeat("c", 20))
	var out bytes.Buffer
	require.NoError(t, tab.write(&out, style{}, 80))
	row := strings.Split(out.String(), "\n")[1]
	require.Equal(t, strings.Repeat("a", 35)+"…  "+strings.Repeat("b", 20)+"  "+strings.Repeat("c", 20), row)
}

func TestColourDoesNotMoveColumns(t *testing.T) {
	t.Parallel()
	st := style{on: true}
	tab := table{columns: []column{{head: "STATE", paint: st.state}, {head: "X"}}}
	tab.add("open", "1")
	tab.add("half-open", "2")
	var out bytes.Buffer
	require.NoError(t, tab.write(&out, st, 80))
	require.Contains(t, out.String(), "\x1b[31mopen\x1b[0m       1\n\x1b[33mhalf-open\x1b[0m  2\n")
}

func TestWrap(t *testing.T) {
	t.Parallel()
	require.Equal(t, "  one two\n  three\n  much-longer-than-that\n  x", wrap("one\ttwo three\nmuch-longer-than-that x", 10))
	require.Empty(t, wrap("", 10))
}
