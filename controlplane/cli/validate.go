package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

func newValidate(env Env) *cobra.Command {
	var failOn string
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
	output := addOutput(cmd)
	cmd.Flags().StringVar(&failOn, "fail-on", "error", "error or warning: what makes the exit code 1")
	cmd.RunE = func(_ *cobra.Command, paths []string) error {
		if failOn != string(diag.Error) && failOn != string(diag.Warning) {
			return usageErrorf("", "--fail-on %q is neither error nor warning", failOn)
		}
		set, list, err := policy.Load(paths...)
		if err != nil {
			hint := ""
			if errors.Is(err, fs.ErrNotExist) {
				hint = "check the path; a directory is read with everything below it"
			}
			return &Error{Code: ExitUsage, Err: err, Hint: hint}
		}
		list.Sort()
		if *output == outputJSON {
			diag.WriteJSON(env.Stdout, list)
		} else {
			diag.WriteText(env.Stdout, list)
			if !list.HasErrors() {
				if err := printSet(env, set); err != nil {
					return err
				}
			}
		}
		if list.HasErrors() || (failOn == string(diag.Warning) && len(list) > 0) {
			return &Error{Code: ExitFindings}
		}
		return nil
	}
	return cmd
}

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
	_, err := fmt.Fprintf(env.Stdout, "%s: %s (policy hash %s)\n", env.style().good("valid"), line, set.Hash)
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
