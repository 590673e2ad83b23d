package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden loads each directory of testdata and compares the findings
// (diag.txt) and, where there is no error, the resolved set (set.json).
func TestGolden(t *testing.T) {
	t.Parallel()
	cases, err := os.ReadDir("testdata")
	require.NoError(t, err)
	for _, c := range cases {
		if c.Name() == "fuzz" {
			continue
		}
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join("testdata", c.Name())
			set, findings, err := Load(dir)
			require.NoError(t, err)
			require.Equal(t, set == nil, findings.HasErrors(), "a set is given exactly where there is no error")
			var text bytes.Buffer
			diag.WriteText(&text, findings)
			golden(t, filepath.Join(dir, "diag.txt"), text.Bytes())
			var resolved []byte
			if set != nil {
				resolved, err = json.MarshalIndent(set, "", "  ")
				require.NoError(t, err)
				resolved = append(resolved, '\n')
			}
			golden(t, filepath.Join(dir, "set.json"), resolved)
		})
	}
}

// golden compares with a file; empty content means that there is no file.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if len(got) == 0 {
			require.NoError(t, os.RemoveAll(name))
		} else {
			require.NoError(t, os.WriteFile(name, got, 0o644))
		}
		return
	}
	want, err := os.ReadFile(name)
	if len(got) == 0 {
		require.ErrorIs(t, err, os.ErrNotExist, "go test -update removes %s", name)
		return
	}
	require.NoError(t, err, "go test -update writes it")
	require.Equal(t, string(want), string(got))
}

// testedElsewhere are codes about files, which golden files cannot hold, with
// the test that has them.
var testedElsewhere = map[string]string{
	diag.FileUnreadable: "TestLoadFiles", diag.FileTooLarge: "TestLoadFiles", diag.FileNotText: "TestLoadFiles", diag.TooMuch: "TestLoadBounds", diag.TooManyFindings: "TestFindingsAreBounded",
}

// TestEveryCodeHasACase holds that no finding is without an example.
func TestEveryCodeHasACase(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/diag.txt")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m): (?:error|warning) (SW\d{4}): `).FindAllSubmatch(text, -1) {
			seen[string(m[1])] = true
		}
	}
	for _, c := range diag.Codes() {
		if testedElsewhere[c.Code] == "" {
			require.True(t, seen[c.Code], "%s (%s) is in no diag.txt", c.Code, c.Title)
		}
	}
}
