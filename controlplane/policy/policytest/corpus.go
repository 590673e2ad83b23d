// Package policytest gives tests the policies that the project has: examples,
// and those that other tests are about.
package policytest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"
)

// maxSeed keeps a fuzz target fast: longer policies are left out.
const maxSeed = 16 << 10

// Seed adds the policies of files that match patterns to a fuzz target that
// takes one text. Of a txtar archive it is the first file. A pattern that
// matches nothing fails the test.
func Seed(f *testing.F, patterns ...string) {
	f.Helper()
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		require.NoError(f, err)
		require.NotEmpty(f, files, pattern)
		for _, name := range files {
			text, err := os.ReadFile(name)
			require.NoError(f, err)
			if filepath.Ext(name) == ".txtar" {
				text = txtar.Parse(text).Files[0].Data
			}
			if len(text) < maxSeed {
				f.Add(string(text))
			}
		}
	}
}
