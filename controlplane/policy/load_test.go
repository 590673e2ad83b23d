package policy

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

const someService = `apiVersion: seawall.io/v1alpha1
kind: Service
metadata: {name: %s}
spec: {hosts: [%[1]s.local], endpoints: [{address: 127.0.0.1, port: 1}]}
`

func serviceNamed(name string) string { return fmt.Sprintf(someService, name) }

func serviceNames(s *Set) []string {
	var out []string
	for _, o := range s.Services {
		out = append(out, o.Metadata.Name)
	}
	return out
}

func TestLoadFiles(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		prepare  func(t *testing.T, dir string)
		paths    []string // below dir; empty = dir
		services []string // nil = refused
		finding  string   // code, name below dir, message
		err      error
	}{
		"a directory is read recursively, in both spellings": {
			prepare: func(t *testing.T, dir string) {
				put(t, dir+"/a.yaml", serviceNamed("a"))
				put(t, dir+"/x/y/b.yml", serviceNamed("b"))
				put(t, dir+"/x/c.txt", "not: [read")
			},
			services: []string{"a", "b"},
		},
		"hidden, test and back-up files are left out": {
			prepare: func(t *testing.T, dir string) {
				put(t, dir+"/a.yaml", serviceNamed("a"))
				for _, name := range []string{".b.yaml", "b_test.yaml", "b_test.yml", "b.yaml~", ".git/b.yaml", "old~/b.yaml", "#b.yaml#"} {
					put(t, dir+"/"+name, "not: [read")
				}
			},
			services: []string{"a"},
		},
		"a named file is read whatever its extension": {
			prepare:  func(t *testing.T, dir string) { put(t, dir+"/a.conf", serviceNamed("a")) },
			paths:    []string{"a.conf"},
			services: []string{"a"},
		},
		"a shell pattern names tests, which are left out": {
			prepare: func(t *testing.T, dir string) {
				put(t, dir+"/a.yaml", serviceNamed("a"))
				put(t, dir+"/a_test.yaml", "tests: [")
			},
			paths:    []string{"a.yaml", "a_test.yaml"},
			services: []string{"a"},
		},
		"a file that is named twice is read once": {
			prepare:  func(t *testing.T, dir string) { put(t, dir+"/a.yaml", serviceNamed("a")) },
			paths:    []string{"", "a.yaml", "."},
			services: []string{"a"},
		},
		"links are followed, loops end, targets are read once": {
			prepare: func(t *testing.T, dir string) {
				put(t, dir+"/x/a.yaml", serviceNamed("a"))
				require.NoError(t, os.Symlink("../x", dir+"/x/loop"))
				require.NoError(t, os.Symlink("x/a.yaml", dir+"/again.yaml"))
				put(t, dir+"-outside/b.yaml", serviceNamed("b"))
				require.NoError(t, os.Symlink(dir+"-outside", dir+"/y"))
			},
			services: []string{"a", "b"},
		},
		"a ConfigMap is read once": {
			prepare: func(t *testing.T, dir string) {
				put(t, dir+"/..1/a.yaml", serviceNamed("a"))
				require.NoError(t, os.Symlink("..1", dir+"/..data"))
				require.NoError(t, os.Symlink("..data/a.yaml", dir+"/a.yaml"))
			},
			services: []string{"a"},
		},
		"a byte order mark and CRLF are fine": {
			prepare: func(t *testing.T, dir string) {
				put(t, dir+"/a.yaml", "\xef\xbb\xbf"+strings.ReplaceAll(serviceNamed("a")+"---\n"+serviceNamed("b"), "\n", "\r\n"))
			},
			services: []string{"a", "b"},
		},
		"an empty directory is a warning": {
			prepare:  func(*testing.T, string) {},
			services: []string{},
			finding:  "SW0007  no policy file here: *.yaml or *.yml, neither hidden nor *_test.yaml",
		},
		"a dangling link": {
			prepare: func(t *testing.T, dir string) { require.NoError(t, os.Symlink("nowhere", dir+"/a.yaml")) },
			finding: "SW0001 /a.yaml cannot be read: no such file or directory",
		},
		"a pipe is not waited for": {
			prepare: func(t *testing.T, dir string) { require.NoError(t, syscall.Mkfifo(dir+"/a.yaml", 0o600)) },
			finding: "SW0001 /a.yaml is not a regular file",
		},
		"a huge file": {
			prepare: func(t *testing.T, dir string) {
				put(t, dir+"/a.yaml", strings.Repeat("# filler\n", maxFileBytes/9+1))
			},
			finding: "SW0002 /a.yaml is larger than 4 MiB",
		},
		"a binary file": {
			prepare: func(t *testing.T, dir string) { put(t, dir+"/a.yaml", "a: b\n\x7fELF\x00") },
			finding: "SW0003 /a.yaml:2:1 has a control character (0x7f): it is not text",
		},
		"another encoding": {
			prepare: func(t *testing.T, dir string) { put(t, dir+"/a.yaml", "name: M\xfcnchen") },
			finding: "SW0003 /a.yaml:1:8 is not UTF-8 text",
		},
		"a path that does not exist": {
			prepare: func(*testing.T, string) {},
			paths:   []string{"nope"},
			err:     fs.ErrNotExist,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "d")
			require.NoError(t, os.Mkdir(dir, 0o755))
			c.prepare(t, dir)
			paths := []string{dir}
			if c.paths != nil {
				paths = nil
				for _, p := range c.paths {
					paths = append(paths, filepath.Join(dir, p))
				}
			}
			set, findings, err := Load(paths...)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
				require.ErrorContains(t, err, paths[0])
				return
			}
			require.NoError(t, err)
			var got string
			for _, d := range findings {
				got += d.Code + " " + strings.TrimPrefix(d.Pos.String(), dir) + " " + d.Message
			}
			require.Equal(t, c.finding, got)
			if c.services == nil {
				require.Nil(t, set)
				return
			}
			require.ElementsMatch(t, c.services, serviceNames(set))
		})
	}
}

func TestLoadBounds(t *testing.T) {
	t.Parallel()
	t.Run("objects", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		flag := "---\napiVersion: seawall.io/v1alpha1\nkind: FeatureFlag\nmetadata: {name: f%d}\nspec: {}\n"
		var text strings.Builder
		for i := range maxObjects + 1 {
			fmt.Fprintf(&text, flag, i)
		}
		put(t, dir+"/a.yaml", text.String())
		set, findings, err := Load(dir)
		require.NoError(t, err)
		require.Nil(t, set)
		require.Equal(t, diag.TooMuch, onlyError(t, findings).Code)
	})
	t.Run("files", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		for i := range 20 {
			put(t, fmt.Sprintf("%s/%d/a.yaml", dir, i), "")
		}
		f := finder{seen: map[string]bool{}, limit: 10}
		require.NoError(t, f.paths([]string{dir}))
		require.LessOrEqual(t, len(f.files), 11)
		require.Equal(t, diag.TooMuch, onlyError(t, f.out).Code)
	})
	t.Run("directories", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		deep := filepath.Join(dir, strings.Repeat("d/", maxDirDepth+2))
		put(t, deep+"/a.yaml", serviceNamed("a"))
		set, findings, err := Load(dir)
		require.NoError(t, err)
		require.Nil(t, set)
		require.Equal(t, diag.TooMuch, onlyError(t, findings).Code)
	})
}

func onlyError(t *testing.T, l diag.List) diag.Diagnostic {
	t.Helper()
	var found []diag.Diagnostic
	for _, d := range l {
		if d.Severity == diag.Error {
			found = append(found, d)
		}
	}
	require.Len(t, found, 1, "%v", found)
	return found[0]
}

// TestFindingsAreBounded holds that a long list is cut, and that warnings
// neither refuse a policy nor hide an error.
func TestFindingsAreBounded(t *testing.T) {
	t.Parallel()
	routes := func(n int, each string) string {
		text := serviceNamed("a") + "---\napiVersion: seawall.io/v1alpha1\nkind: ResiliencePolicy\nmetadata: {name: a}\nspec:\n  service: a\n  routes:\n"
		for i := range n {
			text += fmt.Sprintf("  - {name: r%d, match: {path: {exact: /%d}}, %s}\n", i, i, each)
		}
		return text
	}
	cut := func(l diag.List) (n int) {
		for _, d := range l {
			if d.Code == diag.TooManyFindings {
				n++
			}
		}
		return n
	}
	t.Run("many warnings load", func(t *testing.T) {
		t.Parallel()
		set, findings := parse("a.yaml", routes(300, "deadLetter: {queue: q}"))
		require.NotNil(t, set)
		require.Len(t, set.Policies[0].Spec.Routes, 300)
		require.Len(t, findings, maxFindings+1)
		require.Equal(t, 1, cut(findings))
	})
	t.Run("an error after many warnings is told", func(t *testing.T) {
		t.Parallel()
		set, findings := parse("a.yaml", routes(300, "deadLetter: {queue: q}")+"  - {name: B}\n")
		require.Nil(t, set)
		require.Equal(t, diag.BadName, onlyError(t, findings).Code)
	})
	t.Run("many errors are cut", func(t *testing.T) {
		t.Parallel()
		set, findings := parse("a.yaml", routes(300, "pools: x"))
		require.Nil(t, set)
		require.Len(t, findings, maxFindings+1)
		require.Equal(t, 1, cut(findings))
	})
	t.Run("a load is cut, errors first", func(t *testing.T) {
		t.Parallel()
		l := diag.List{}
		for i := range 2 * maxShown {
			code := diag.NotEnforced
			if i >= 2*maxShown-10 {
				code = diag.BadName
			}
			l = append(l, diag.New(code, diag.Pos{Line: i}, "", ""))
		}
		short := shorten(l)
		require.Len(t, short, maxShown+1)
		errors, _ := short.Count()
		require.Equal(t, 10, errors)
		require.Contains(t, short[maxShown].Message, "0 more errors and 1000 more warnings")
	})
}

// TestHashIgnoresWhatDoesNotMatter spreads the documents of the design's
// example over files in any order, with comments and another spelling, and
// expects the same set.
func TestHashIgnoresWhatDoesNotMatter(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/design/design.yaml")
	require.NoError(t, err)
	docs := strings.Split(string(text), "\n---\n")
	require.Len(t, docs, 6)
	want, _ := parse("design.yaml", string(text))
	root := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		dir := filepath.Join(root, fmt.Sprint(runs))
		require.NoError(t, os.Mkdir(dir, 0o755))
		files := map[string]string{}
		for _, d := range rapid.Permutation(docs).Draw(t, "order") {
			name := rapid.SampledFrom([]string{"a.yaml", "b.yml", "z.yaml"}).Draw(t, "file")
			if rapid.Bool().Draw(t, "spelling") {
				d = "# a comment\n" + strings.ReplaceAll(strings.ReplaceAll(d, " 60s", " 1m"), "Idempotency-Key", "idempotency-KEY")
			}
			files[name] += "---\n" + d + "\n"
		}
		for name, content := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		}
		got, findings, err := Load(dir)
		require.NoError(t, err)
		require.NotNil(t, got, "%v", findings)
		require.Equal(t, want.Hash, got.Hash)
	})
}

// TestHashSeesWhatMatters changes one value at a time.
func TestHashSeesWhatMatters(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/design/design.yaml")
	require.NoError(t, err)
	before, _ := parse("design.yaml", string(text))
	for old, changed := range map[string]string{
		"consecutiveFailures: 5 ": "consecutiveFailures: 6 ", "objective: 99.9%": "objective: 99.8%", "failureMode: open": "failureMode: closed",
		"default: true": "default: false", "port: 9001": "port: 9002", "name: offers\n": "name: offer\n", "hold: 10m": "hold: 11m",
	} {
		require.Contains(t, string(text), old)
		other := strings.Replace(string(text), old, changed, 1)
		if changed == "name: offer\n" {
			other = strings.Replace(other, "route: offers,", "route: offer,", 1)
		}
		after, findings := parse("design.yaml", other)
		require.NotNil(t, after, "%s: %v", changed, findings)
		require.NotEqual(t, before.Hash, after.Hash, changed)
	}
}

// TestPlaces holds that objects, routes and breakers know where they stand.
func TestPlaces(t *testing.T) {
	t.Parallel()
	set, findings, err := Load("testdata/sugar")
	require.NoError(t, err)
	require.NotNil(t, set, "%v", findings)
	require.Equal(t, diag.Pos{File: "testdata/sugar/sugar.yaml", Line: 3, Column: 18}, set.Services[0].Pos)
	routes := set.Policies[0].Spec.Routes
	require.Equal(t, 19, routes[0].Pos.Line)
	require.Equal(t, 24, routes[0].Breaker.Pos.Line)
	require.Nil(t, routes[2].Breaker, "false is absent")
	require.Nil(t, routes[3].Retry.HonorRetryAfter)
	require.Zero(t, routes[4].Breaker.ConsecutiveFailures, "a breaker by rate alone")
	require.Equal(t, routes[0].Breaker.Failures, routes[1].Breaker.Failures, "true is sugar for {}")
}
