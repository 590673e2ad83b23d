package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

var codePattern = regexp.MustCompile(`^(?i)sw\d{4}$`)

func newExplain(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "explain FIELD|CODE",
		GroupID: groupFiles,
		Short:   "Say where a policy field acts and as what, or what a code means",
		Long: `Explain a field of the policy language, written Kind.spec.a.b: its type, default
and bounds, and where it acts: as which feature of Envoy's own, in the filter, or
in the control plane alone. Or explain the code of a finding, SWnnnn.`,
		Example: `  seawall explain ResiliencePolicy.spec.routes.retry
  seawall explain Edge.spec.maxBody -o json
  seawall explain SW0303`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageErrorf("for example: seawall explain ResiliencePolicy.spec.routes.retry", "explain takes one field or code")
			}
			return nil
		},
	}
	output := addOutput(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if codePattern.MatchString(args[0]) {
			return explainCode(env, strings.ToUpper(args[0]), *output)
		}
		e, hint, ok := policy.Explain(args[0])
		if !ok {
			return &Error{Code: ExitFindings, Err: fmt.Errorf("no field %s", args[0]), Hint: hint}
		}
		if *output == outputJSON {
			return writeJSON(env.Stdout, e)
		}
		return explainField(env.Stdout, e)
	}
	return cmd
}

func explainField(w io.Writer, e policy.Explanation) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", e.Field, e.Type)
	for _, part := range []struct{ what, value string }{
		{"default ", e.Default}, {"at least ", e.Min}, {"at most ", e.Max}, {"one of ", strings.Join(e.Values, ", ")},
	} {
		if part.value != "" {
			b.WriteString(", " + part.what + part.value)
		}
	}
	if e.Required {
		b.WriteString(", required")
	}
	b.WriteByte('\n')
	if e.About != "" {
		b.WriteString(wrap(e.About, minColumns) + "\n")
	}
	if !e.Enforced {
		b.WriteString("  accepted, not enforced yet\n")
	}
	for _, p := range e.Places {
		fmt.Fprintf(&b, "  %-13s  %s\n", p.Where, p.As)
	}
	if e.Note != "" {
		fmt.Fprintf(&b, "  %s\n", e.Note)
	}
	if len(e.Fields) > 0 {
		fmt.Fprintf(&b, "  fields: %s\n", strings.Join(e.Fields, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func explainCode(env Env, code string, output outputFlag) error {
	c, ok := diag.Lookup(code)
	if !ok {
		var known []string
		for _, c := range diag.Codes() {
			known = append(known, c.Code)
		}
		i, _ := slices.BinarySearch(known, code)
		return &Error{Code: ExitFindings, Err: errors.New("no code " + code), Hint: "the nearest is " + known[min(i, len(known)-1)]}
	}
	if output == outputJSON {
		return writeJSON(env.Stdout, map[string]string{
			"code": c.Code, "severity": string(c.Severity), "title": c.Title, "why": c.Why, "fix": c.Fix, "docs": diag.Docs(c.Code),
		})
	}
	_, err := fmt.Fprintf(env.Stdout, "%s: %s (%s)\n  %s\n  %s\n", c.Code, c.Title, c.Severity, c.Why, c.Fix)
	return err
}

func writeJSON(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return printJSON(w, raw)
}
