package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
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
	here, err := os.Getwd()
	require.NoError(t, err)
	for _, c := range cases {
		if slices.Contains([]string{"fuzz", "rapid", "codes"}, c.Name()) {
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
			golden(t, filepath.Join(dir, "diag.txt"), bytes.ReplaceAll(text.Bytes(), []byte(here), []byte("$PWD"))) // files that policies name
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

// testedElsewhere are codes about files and bounds, which a file of testdata
// cannot hold, with the test that has them.
var testedElsewhere = map[string]string{
	diag.FileUnreadable: "TestLoadFiles", diag.FileTooLarge: "TestLoadFiles", diag.TooMuch: "TestLoadBounds", diag.TooManyFindings: "TestFindingsAreBounded",
	diag.SecretUnusable: "package config",
}

// TestCodes holds one file for each code of the catalogue, named by it: a.yaml
// and, below, what is said about it.
func TestCodes(t *testing.T) {
	t.Parallel()
	for _, c := range diag.Codes() {
		if testedElsewhere[c.Code] != "" {
			continue
		}
		t.Run(c.Code, func(t *testing.T) {
			t.Parallel()
			name := filepath.Join("testdata", "codes", c.Code+".txtar")
			archive, err := txtar.ParseFile(name)
			require.NoError(t, err, "%s (%s) has no case", c.Code, c.Title)
			require.Len(t, archive.Files, 2)
			_, findings := parse("a.yaml", string(archive.Files[0].Data))
			require.True(t, slices.ContainsFunc(findings, func(d diag.Diagnostic) bool { return d.Code == c.Code }), "not found: %v", findings)
			var text bytes.Buffer
			diag.WriteText(&text, findings)
			if *update {
				archive.Files[1].Data = text.Bytes()
				require.NoError(t, os.WriteFile(name, txtar.Format(archive), 0o644))
				return
			}
			require.Equal(t, string(archive.Files[1].Data), text.String())
		})
	}
}
