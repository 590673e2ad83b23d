package cli_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/api/apitest"
	"github.com/seawall-mesh/seawall/controlplane/cli"
)

// TestMain lets the scripts run the command as a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"seawall": func() {
		columns, _ := strconv.Atoi(os.Getenv("COLUMNS"))
		os.Exit(cli.Main(cli.Env{ //nolint:forbidigo // this is the command
			Context: context.Background(), Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
			Getenv: os.Getenv, Now: apitest.Now, Columns: columns, Version: "0.1.0-test", FilterHash: strings.Repeat("ab", 32),
		}))
	}})
}

// serveAPI serves src by the real API and returns its URL.
func serveAPI(t testing.TB, src api.Source, ready bool) string {
	t.Helper()
	overrides, log := apitest.Overrides(t.Context(), apitest.Now, src.Breakers)
	if s, ok := src.(*apitest.Source); ok {
		s.Log = log
	}
	srv, err := api.New(api.Config{Source: src, Overrides: overrides, Postmortems: apitest.Postmortems(t.Context(), apitest.Now, log, src), Audit: log, Ready: func() bool { return ready }, Log: slog.New(slog.DiscardHandler), Now: apitest.Now})
	require.NoError(t, err)
	http := httptest.NewServer(srv.Handler())
	t.Cleanup(http.Close)
	return http.URL
}

// TestScripts runs testdata/script/*.txtar. $INCIDENT and $FRESH are control
// planes in trouble and just started, $RELEASES is one in trouble whose audit log
// is the script's alone.
func TestScripts(t *testing.T) {
	t.Parallel()
	incident, fresh := serveAPI(t, apitest.Incident(), true), serveAPI(t, &apitest.Source{}, false)
	releases := serveAPI(t, apitest.Incident(), true)
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("INCIDENT", incident)
			env.Setenv("FRESH", fresh)
			env.Setenv("RELEASES", releases)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// exits runs a command that must end with that code.
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				code := 0
				if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
					code = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if args[0] != strconv.Itoa(code) {
					ts.Fatalf("exit code %d, not %s: %s", code, args[0], ts.ReadFile("stderr"))
				}
			},
			// fits says that no line of stdout is wider than that.
			"fits": func(ts *testscript.TestScript, _ bool, args []string) {
				limit, err := strconv.Atoi(args[0])
				ts.Check(err)
				for line := range strings.SplitSeq(ts.ReadFile("stdout"), "\n") {
					if utf8.RuneCountInString(line) > limit {
						ts.Fatalf("wider than %d: %q", limit, line)
					}
				}
			},
		},
	})
}
