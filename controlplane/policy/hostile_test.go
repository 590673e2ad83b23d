package policy

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHostileInputsAreCheap: no text up to the limit of a file takes long or
// much memory, whatever it is made of. The bounds are far above what is needed,
// and far below what an unbounded expansion takes.
func TestHostileInputsAreCheap(t *testing.T) { // not parallel: it looks at the process's memory
	const (
		most    = 20 * time.Second // the machine may be busy
		perByte = 5000             // allocated over the whole load, not held: an expression takes 300 KiB for a moment
		fixed   = 256 << 20
	)
	head := "apiVersion: seawall.io/v1alpha1\nkind: ResiliencePolicy\nmetadata: {name: a}\nspec:\n  service: a\n"
	routes := func(n int, route string) string {
		var b strings.Builder
		b.WriteString(head + "  routes:\n")
		for i := range n {
			fmt.Fprintf(&b, "  - {name: r%d, match: {%s}}\n", i, strings.ReplaceAll(route, "#", fmt.Sprint(i)))
		}
		return b.String()
	}
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'm'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 9), ", "))
	}
	cases := map[string]string{
		"a giant text":                    head + "  mode: " + strings.Repeat("x", 3<<20),
		"a giant quoted text":             head + `  mode: "` + strings.Repeat(`\u00e9`, 500<<10) + `"`,
		"a quote that does not end":       head + `  mode: "` + strings.Repeat("x\n", 1<<20),
		"deep brackets":                   "a: " + strings.Repeat("[", 1<<20),
		"deep mappings":                   "a: " + strings.Repeat("{a: ", 200<<10),
		"deep indentation":                deep(2000),
		"a bomb of aliases":               bomb + head + "  routes: *l\n",
		"many anchors":                    "x:\n" + strings.Repeat("- &a {b: *a}\n", 100<<10),
		"many merge keys":                 "a: &a {" + strings.Repeat("k: 1, ", 10) + "}\nb:\n" + strings.Repeat("- {<<: *a}\n", 100<<10),
		"many documents":                  strings.Repeat("---\nkind: Service\n", 50<<10),
		"many unknown fields":             head + "  routes: []\n" + strings.Repeat("  zzz: 1\n", 50<<10),
		"routes with prefixes":            routes(5_000, "path: {prefix: /a/#/b}"),
		"routes with the same expression": routes(3_000, `path: {regex: "/([a-z0-9-]{1,30}/){1,30}#"}`),
		"routes with large classes":       routes(2_000, `path: {regex: '/\pL{1000}#'}`),
		"control characters":              strings.Repeat("\x01", 3<<20),
		"comments":                        strings.Repeat("#\n", 2<<20-1),
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			require.LessOrEqual(t, len(text), maxFileBytes)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, findings := parse("a.yaml", text)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			allocated := after.TotalAlloc - before.TotalAlloc
			t.Logf("%7d KiB: %8v, %5d MiB allocated, %d findings", len(text)>>10, took.Round(time.Millisecond), allocated>>20, len(findings))
			require.Less(t, took, most)
			require.Less(t, allocated, uint64(perByte*len(text)+fixed))
		})
	}
}

func deep(levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}
