package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/config"
)

func load(t testing.TB, text string) (config.Config, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "seawall.yaml")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(name), "secret"), []byte("whsec_"+strings.Repeat("QUJD", 8)+"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(name), "short"), []byte("c2hvcnQ=\n"), 0o600))
	open := filepath.Join(filepath.Dir(name), "open")
	require.NoError(t, os.WriteFile(open, []byte("whsec_"+strings.Repeat("QUJD", 8)+"\n"), 0o600))
	require.NoError(t, os.Chmod(open, 0o644))
	return config.Load(name)
}

func TestLoad(t *testing.T) {
	t.Parallel()
	c, err := load(t, `
alertmanager: {urls: [http://127.0.0.1:9093, https://am.example/prefix]}
webhooks:
- {url: http://127.0.0.1:9099/notify, secretFile: secret}
- {url: https://example.com/hook}
problemTypeBase: https://example.com/problems
`)
	require.NoError(t, err)
	require.Equal(t, []string{"http://127.0.0.1:9093", "https://am.example/prefix"}, c.AlertmanagerURLs())
	require.Len(t, c.AlertWebhooks(), 2)
	require.Equal(t, strings.Repeat("ABC", 8), string(c.AlertWebhooks()[0].Secret))
	require.Nil(t, c.AlertWebhooks()[1].Secret)
	require.Equal(t, "https://example.com/problems/", c.ProblemTypeBase)

	for _, empty := range []string{"", "# nothing\n", "---\n"} {
		c, err = load(t, empty)
		require.NoError(t, err, "%q", empty)
		require.Empty(t, c.AlertmanagerURLs())
		require.Empty(t, c.AlertWebhooks())
	}
	_, err = config.Load("")
	require.NoError(t, err)
}

// Each mistake is told with its place; all are told at once.
func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want []string // line:column and the beginning of the message
	}{
		"an unknown field":        {"alertmanger: {}\n", []string{`1:1 SW0102 unknown field "alertmanger"`}},
		"no URLs":                 {"alertmanager: {urls: []}\n", []string{"1:22 SW0104 urls needs"}},
		"no URL":                  {"webhooks:\n- {secretFile: secret}\n", []string{"2:3 SW0104 url is missing"}},
		"a URL with a password":   {"alertmanager:\n  urls: [http://u:p@h/]\n", []string{"2:10 SW0124 not an absolute"}},
		"two mistakes":            {"webhooks: [{url: x}]\nproblemTypeBase: 3\n", []string{"1:18 SW0124", "2:18 SW0105 problemTypeBase must be"}},
		"a secret that is not":    {"webhooks:\n- {url: http://h/, secretFile: nosuch}\n", []string{"2:3 SW0131 secret file nosuch: no such file"}},
		"a secret that is short":  {"webhooks:\n- {url: http://h/, secretFile: short}\n", []string{"2:3 SW0131 secret file short: not base64 of 24"}},
		"a secret for all to see": {"webhooks:\n- {url: http://h/, secretFile: open}\n", []string{"2:3 SW0131 secret file open: anybody may read it (mode 0644)"}},
		"a folder as a secret":    {"webhooks:\n- {url: http://h/, secretFile: .}\n", []string{"2:3 SW0131 secret file .: not a file"}},
		"a list":                  {"- x\n", []string{"1:1 SW0105"}},
		"two documents":           {"webhooks: []\n---\nwebhooks: []\n", []string{"3:1 SW0006 a second document"}},
		"not YAML":                {"a: [\n", []string{"SW0004"}},
		"a secret in the file":    {"webhooks:\n- {url: http://h/, secret: hunter2}\n", []string{`2:20 SW0102 unknown field "secret"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, c.text)
			var refused *config.RefusedError
			require.ErrorAs(t, err, &refused)
			found := refused.Diagnostics()
			require.Len(t, found, len(c.want), "%v", found)
			for n, want := range c.want {
				d := found[n]
				require.Equal(t, "seawall.yaml", filepath.Base(d.Pos.File))
				require.Contains(t, strings.TrimPrefix(d.Pos.String(), d.Pos.File+":")+" "+d.Code+" "+d.Message, want)
			}
		})
	}
	_, err := config.Load(filepath.Join(t.TempDir(), "nosuch.yaml"))
	require.ErrorAs(t, err, new(*config.RefusedError))
}

func FuzzLoad(f *testing.F) {
	f.Add("alertmanager: {urls: [http://127.0.0.1:9093]}\nwebhooks: [{url: http://h/, secretFile: secret}]\n")
	f.Add("a: &a [*a]\n---\n- x")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "/") && strings.Contains(text, "secretFile") {
			t.Skip("may name any file of this machine")
		}
		c, err := load(t, text)
		if err != nil {
			require.Empty(t, c.AlertmanagerURLs())
		}
	})
}
