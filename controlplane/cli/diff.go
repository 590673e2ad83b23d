package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seawall-mesh/seawall/controlplane/delta"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

func newDiff(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "diff OLD NEW",
		GroupID: groupFiles,
		Short:   "Compare two sets of policies by what they mean",
		Long: `Compare two files or directories of policies by what they mean: defaults are
filled in; spelling, comments and the order of files do not count. Of each
difference it says whether it loosens (lets more through, longer or more often),
tightens, or just changes, and which routes it reaches. Exits 0 where both mean
the same, 1 where they differ, 2 where one of them cannot be read.`,
		Example: `  seawall diff policies/ /tmp/new-policies/
  seawall diff -o json old.yaml new.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageErrorf("for example: seawall diff policies/ /tmp/new-policies/", "diff takes two files or directories")
			}
			return nil
		},
	}
	output := addOutput(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		var sides [2]delta.Side
		for i, path := range args {
			set, list, err := policy.Load(path)
			if err != nil {
				return pathError(err)
			}
			if set == nil {
				return &Error{Code: ExitUsage, Err: fmt.Errorf("%s: %w", path, &refused{list})}
			}
			sides[i] = delta.Side{Set: set, Root: path}
		}
		report := delta.Compare(sides[0], sides[1])
		var err error
		if *output == outputJSON {
			err = writeJSON(env.Stdout, report)
		} else {
			err = printReport(env, report)
		}
		if err == nil && !report.Same {
			return &Error{Code: ExitFindings}
		}
		return err
	}
	return cmd
}

func printReport(env Env, report delta.Report) error {
	if report.Same {
		_, err := fmt.Fprintln(env.Stdout, "no difference: both mean the same")
		return err
	}
	var b strings.Builder
	st := env.style()
	counts := map[delta.Effect]int{}
	last := ""
	for _, c := range report.Changes {
		counts[c.Effect]++
		if head := c.Kind + " " + c.Name; head != last {
			fmt.Fprintf(&b, "%s\n", st.title(head))
			last = head
		}
		paint := map[delta.Effect]func(string) string{delta.Loosens: st.warn, delta.Tightens: st.good, delta.Changes: st.dim}[c.Effect]
		fmt.Fprintf(&b, "  %s  %s\n", paint(fmt.Sprintf("%-8s", c.Effect)), oneLine(inWords(c)))
	}
	fmt.Fprintf(&b, "%s, %s, %s", tally(counts[delta.Loosens], "loosens", "loosen"), tally(counts[delta.Tightens], "tightens", "tighten"), tally(counts[delta.Changes], "changes", "change"))
	if len(report.Routes) > 0 {
		const most = 6
		names, rest := report.Routes, ""
		if len(names) > most {
			names, rest = names[:most], fmt.Sprintf(" and %d more", len(report.Routes)-most)
		}
		fmt.Fprintf(&b, "; routes: %s%s", strings.Join(names, ", "), rest)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(env.Stdout, b.String())
	return err
}

func tally(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// inWords is one change, without its effect and object.
func inWords(c delta.Change) string {
	place := ""
	if c.File != "" && c.What != "removed" {
		place = fmt.Sprintf("  (%s:%d)", filepath.Base(c.File), c.Line)
	}
	where := ""
	if c.Route != "" {
		where = "route " + c.Route
	}
	switch {
	case c.What == "moved":
		return fmt.Sprintf("%s: tried as %s, was %s%s", where, c.New, c.Old, place)
	case c.Field == "" && where == "":
		return c.What + place
	case c.Field == "":
		return where + " " + c.What + place
	}
	if where != "" {
		where += ": "
	}
	section := strings.HasPrefix(c.New+c.Old, "{") // a line could not hold it
	switch {
	case section && c.What != "changed":
		return fmt.Sprintf("%s%s %s%s", where, c.Field, c.What, place)
	case c.What == "added":
		return fmt.Sprintf("%s%s %s added%s", where, c.Field, c.New, place)
	case c.What == "removed":
		return fmt.Sprintf("%s%s removed, was %s%s", where, c.Field, c.Old, place)
	}
	return fmt.Sprintf("%s%s %s → %s%s", where, c.Field, c.Old, c.New, place)
}
