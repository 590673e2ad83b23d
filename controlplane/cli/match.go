package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/match"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

// defaultListen is where the edge listens that is made where policies have none.
const defaultListen = "127.0.0.1:10000"

func newMatch(env Env) *cobra.Command {
	var paths, headers []string
	cmd := &cobra.Command{
		Use:     "match METHOD URL",
		GroupID: groupFiles,
		Short:   "Say which route and guards a request meets, and why",
		Long: `Say what becomes of a request: which edge takes it, which service and route, why
the routes before did not, which guards look at it and which settings hold, with
their place or as a default. The answer is the one that Envoy's router gives for
these policies. Exits 1 where an edge answers 404.`,
		Example: `  seawall match -p policies/payments POST http://payments.local/v1/charges
  seawall match -p policies -H 'x-ring: beta' -o json GET payments.local/v1/offers`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageErrorf("for example: seawall match -p policies GET http://payments.local/v1/charges", "match takes a method and a URL")
			}
			return nil
		},
	}
	output := addOutput(cmd)
	cmd.Flags().StringArrayVarP(&paths, "policies", "p", nil, "policy file or directory; may be repeated")
	cmd.Flags().StringArrayVarP(&headers, "header", "H", nil, "request header, name:value; may be repeated")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(paths) == 0 {
			return usageErrorf("for example: -p policies/", "match needs policies")
		}
		set, source, list, err := policy.LoadSource(paths...)
		if err != nil {
			return pathError(err)
		}
		if set == nil {
			return &refused{list}
		}
		model, err := compile.Compile(set, compile.Options{Listen: defaultListen})
		if err != nil {
			return err
		}
		answer, err := match.Ask(model, set, source, match.Request{Method: args[0], URL: args[1], Headers: headers})
		if err != nil {
			return &Error{Code: ExitUsage, Err: err}
		}
		if *output == outputJSON {
			err = writeJSON(env.Stdout, answer)
		} else {
			err = printAnswer(env, answer)
		}
		if err == nil && slices.ContainsFunc(answer.Edges, func(e match.Edge) bool { return !e.Served() }) {
			return &Error{Code: ExitFindings}
		}
		return err
	}
	return cmd
}

func printAnswer(env Env, a *match.Answer) error {
	if a.Redirect {
		if _, err := fmt.Fprintf(env.Stdout, "redirected (307) to %s first, for its escaped slashes\n", oneLine(a.Path)); err != nil {
			return err
		}
	}
	for i := range a.Edges {
		if err := printEdge(env, &a.Edges[i]); err != nil {
			return err
		}
	}
	return nil
}

func printEdge(env Env, e *match.Edge) error {
	var b strings.Builder
	st := env.style()
	fmt.Fprintf(&b, "%s at %s, host %s\n", st.title("edge "+e.Edge), strings.Join(e.Listeners, ", "), e.Domain)
	switch {
	case e.Probe:
		fmt.Fprintf(&b, "  answered by the edge as a probe: %d, or 503 while it drains\n", e.Status)
	case e.Service == "":
		fmt.Fprintf(&b, "  %s: no service takes it\n", st.bad(fmt.Sprint(e.Status)))
	case e.Status != 0:
		fmt.Fprintf(&b, "  %s: no route of service %s takes it\n", st.bad(fmt.Sprint(e.Status)), e.Service)
	default:
		fmt.Fprintf(&b, "  service %s, route %s", e.Service, st.good(e.Route))
		if e.Place != nil {
			fmt.Fprintf(&b, " (%s:%d)", e.Place.File, e.Place.Line)
		}
		b.WriteByte('\n')
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "  %s\n", e.Hint)
	}
	if len(e.Earlier) > 0 {
		b.WriteString("  tried before:\n")
		for _, m := range e.Earlier {
			fmt.Fprintf(&b, "    %s: %s\n", m.Route, oneLine(m.Reason))
		}
	}
	if len(e.Guards) > 0 {
		words := make([]string, len(e.Guards))
		for i, g := range e.Guards {
			words[i] = strings.TrimSpace(g.Guard + " " + g.Name)
			if !g.Acts {
				words[i] += " (off: " + g.Why + ")"
			}
		}
		fmt.Fprintf(&b, "  guards: %s\n", strings.Join(words, ", "))
	}
	if len(e.Objectives) > 0 {
		fmt.Fprintf(&b, "  objectives: %s\n", strings.Join(e.Objectives, ", "))
	}
	if _, err := io.WriteString(env.Stdout, b.String()); err != nil || len(e.Settings) == 0 {
		return err
	}
	t := table{columns: []column{{head: "  SETTING"}, {head: "VALUE", shrink: true}, {head: "FROM", shrink: true}}}
	for _, s := range e.Settings {
		from := "default"
		if s.Place != nil {
			from = fmt.Sprintf("line %d", s.Place.Line)
			if e.Place == nil || e.Place.File != s.Place.File {
				from = fmt.Sprintf("%s:%d", filepath.Base(s.Place.File), s.Place.Line)
			}
		}
		if !s.Enforced {
			from += ", not enforced yet"
		}
		t.rows = append(t.rows, []string{"  " + s.Field, oneLine(s.Value), from})
	}
	return t.write(env.Stdout, st, env.columns())
}
