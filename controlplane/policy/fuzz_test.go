package policy

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/policy/policytest"
)

// FuzzLoad feeds texts to the whole loader. It must not panic, must place its
// findings inside the text, must give the same answer twice, and a set that it
// accepts must survive being written and read.
func FuzzLoad(f *testing.F) {
	policytest.Seed(f, "testdata/*/*.y*ml", "testdata/codes/*.txtar", "../../policies/*/*.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		set, findings := parse("f.yaml", text)
		require.Equal(t, set == nil, findings.HasErrors())
		var out bytes.Buffer
		diag.WriteText(&out, findings)
		diag.WriteJSON(&out, findings)
		lines := bytes.Count([]byte(text), []byte("\n")) + 1
		for _, d := range findings {
			_, known := diag.Lookup(d.Code)
			require.True(t, known, d.Code)
			require.LessOrEqual(t, d.Pos.Line, lines, d.Message)
			require.NotEmpty(t, d.Message)
			require.True(t, utf8.ValidString(d.Message+d.Hint+d.Excerpt), "%q", d.Message)
		}
		again, findingsAgain := parse("f.yaml", text)
		require.Equal(t, findings, findingsAgain)
		if set == nil {
			return
		}
		require.Equal(t, set.Hash, again.Hash)
		var encoded bytes.Buffer
		require.NoError(t, set.Encode(&encoded))
		back, problems := parse("e.yaml", encoded.String())
		require.NotNil(t, back, "%v\n%s", problems, encoded.String())
		require.Equal(t, set.Hash, back.Hash)
	})
}

// FuzzParseDuration holds that a spelling which is read is written the same.
func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"250ms", "1.5s", "1h30m", "30d", "0", "0.001us"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		require.GreaterOrEqual(t, d, Duration(0))
		again, err := ParseDuration(d.String())
		require.NoError(t, err)
		require.Equal(t, d, again)
	})
}
