package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

func newValidate(env Env) *cobra.Command {
	failOn := choice{value: string(diag.Error), of: []string{string(diag.Error), string(diag.Warning)}}
	cmd := &cobra.Command{
		Use:     "validate PATH…",
		GroupID: groupFiles,
		Short:   "Check policies: all problems at once, with place and hint",
		Long: `Check policy files and directories. Every problem is told with its place, a
stable code and a hint. Exits 1 if there is an error; warnings (such as a field
that is accepted but not enforced yet) do not count unless --fail-on says so.`,
		Example: `  seawall validate policies/
  seawall validate -o json --fail-on warning policies/payments.yaml`,
		Args: somePaths,
	}
	output := choice{value: "text", of: []string{"text", "json", "github"}}
	cmd.Flags().VarP(&output, "output", "o", "how to print the findings; github is for annotations of a workflow")
	cmd.Flags().Var(&failOn, "fail-on", "what makes the exit code 1")
	cmd.RunE = func(_ *cobra.Command, paths []string) error {
		set, list, err := policy.Load(paths...)
		if err != nil {
			return pathError(err)
		}
		switch output.value {
		case "json":
			diag.WriteJSON(env.Stdout, list)
		case "github":
			diag.WriteGitHub(env.Stdout, list)
		default:
			diag.WriteText(env.Stdout, list)
			if len(list) > 0 {
				if _, err := fmt.Fprintf(env.Stdout, "what a code means: seawall explain %s\n", list[0].Code); err != nil {
					return err
				}
			}
			if !list.HasErrors() {
				if err := printSet(env, set); err != nil {
					return err
				}
			}
		}
		if list.HasErrors() || (failOn.value == string(diag.Warning) && len(list) > 0) {
			return &Error{Code: ExitFindings}
		}
		return nil
	}
	return cmd
}

// pathError is about a path that cannot be read at all.
func pathError(err error) error {
	hint := ""
	if errors.Is(err, fs.ErrNotExist) {
		hint = "check the path; a directory is read with everything below it"
	}
	return &Error{Code: ExitUsage, Err: err, Hint: hint}
}

// refused is a policy set with errors, of a command that is about something else.
type refused struct{ findings diag.List }

// Error is one line; the findings say the rest.
func (e *refused) Error() string { return "the policies have errors" }

// Diagnostics are the findings.
func (e *refused) Diagnostics() diag.List { return e.findings }

// printSet says what was found, so that a wrong path does not look like a pass.
func printSet(env Env, set *policy.Set) error {
	counts := []struct {
		n    int
		what string
	}{
		{len(set.Edges), "edge"}, {len(set.Services), "service"}, {len(set.Policies), "resilience policy"},
		{len(set.SLOs), "objective"}, {len(set.Experiments), "experiment"}, {len(set.Flags), "flag"},
	}
	line := ""
	for _, c := range counts {
		if c.n == 0 {
			continue
		}
		if line != "" {
			line += ", "
		}
		line += plural(c.n, c.what)
	}
	if line == "" {
		_, err := fmt.Fprintln(env.Stdout, "no policies found there; files end in .yaml or .yml, and *_test.yaml are tests")
		return err
	}
	if _, err := fmt.Fprintf(env.Stdout, "%s: %s (policy hash %s)\n", env.style().good("valid"), line, set.Hash); err != nil {
		return err
	}
	return printUnmatched(env, set)
}

// printUnmatched names the policies that answer some requests 404: meant by
// whoever lists all routes, a surprise to whoever guards one of them.
func printUnmatched(env Env, set *policy.Set) error {
	var partial []string
	for i := range set.Policies {
		if spec := &set.Policies[i].Spec; !spec.TakesEverything() {
			partial = append(partial, spec.Service)
		}
	}
	if len(partial) == 0 {
		return nil
	}
	const most = 5
	rest := ""
	if len(partial) > most {
		rest = fmt.Sprintf(" and %d more", len(partial)-most)
		partial = partial[:most]
	}
	_, err := fmt.Fprintf(env.Stdout, "  answered 404: what no route takes of %s%s (seawall match tells of one request)\n", strings.Join(partial, ", "), rest)
	return err
}

func plural(n int, what string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, what)
	}
	if what[len(what)-1] == 'y' {
		return fmt.Sprintf("%d %sies", n, what[:len(what)-1])
	}
	return fmt.Sprintf("%d %ss", n, what)
}
