package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/gate"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

// askAgain is how often --wait asks.
const askAgain = 2 * time.Second

var gateTarget = target{"SERVICE", "payments", "`seawall status` says what is in force; the policies must name the service, and its gate be overridden", func(name string) (string, bool) {
	return "/can-deploy/" + url.PathEscape(name) + "/override", name != ""
}}

func newCanDeploy(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "can-deploy SERVICE", GroupID: groupAsk, Short: "Ask the release gate: may this service be released now?",
		Long: `Ask the release gate whether a service may be released now, by its error
budgets, its burn rates and what operators have said. Exits 0 for allow, 10 for
deny, 20 where the gate does not know: telemetry is stale, or there were too few
requests. --on-unknown decides that case; a service that no policy names stays
unknown whatever it says.`,
		Example: `  seawall can-deploy payments
  seawall can-deploy payments --change-class canary --on-unknown allow
  seawall can-deploy payments --wait 30m -o json
  seawall can-deploy allow payments --reason "agreed in the call" --for 2h`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usageErrorf("for example: seawall can-deploy payments", "%s takes one SERVICE", cmd.CommandPath())
			}
			return nil
		},
	}
	flags := addClientFlags(cmd, env)
	class := cmd.Flags().String("change-class", string(gate.Normal), "normal, canary, security, rollback or p0")
	unknown := cmd.Flags().String("on-unknown", "", "allow or deny where the gate does not know; otherwise exit 20")
	wait := cmd.Flags().String("wait", "", "ask again until it is allowed, at most so long, such as 30m")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(gate.Classes(), gate.Class(*class)) {
			return usageErrorf("", "--change-class %q is none of normal, canary, security, rollback, p0", *class)
		}
		q := url.Values{"changeClass": {*class}}
		switch gate.Answer(*unknown) {
		case "":
		case gate.Allow, gate.Deny:
			q.Set("onUnknown", *unknown)
		default:
			return usageErrorf("", "--on-unknown %q is neither allow nor deny", *unknown)
		}
		var longest time.Duration
		if *wait != "" {
			d, err := policy.ParseDuration(*wait)
			if err != nil {
				return usageErrorf("for example: --wait 30m", "--wait: %w", err)
			}
			longest = time.Duration(d)
		}
		c, err := flags.client()
		if err != nil {
			return err
		}
		raw, answer, err := askGate(cmd.Context(), c, args[0], q, longest)
		if err != nil {
			return err
		}
		if *flags.output == outputJSON {
			err = printJSON(env.Stdout, raw)
		} else {
			err = printRelease(env, args[0], answer)
		}
		if err != nil {
			return err
		}
		switch answer.Decision {
		case gate.Allow:
			return nil
		case gate.Deny:
			return &Error{Code: ExitDeny}
		case gate.Unknown:
		}
		return &Error{Code: ExitUnknown}
	}
	cmd.AddCommand(
		newGateOverride(env, gate.Allow, "Let a service be released, whatever its budgets say"),
		newGateOverride(env, gate.Deny, "Let no release of a service pass"),
		lift(env, &cobra.Command{Use: "reset SERVICE --reason R", Short: "Let the release gate decide by itself again"}, gateTarget, "is released by its budgets again"),
	)
	return cmd
}

// askGate asks until the answer is allow, or longest is over. A control plane
// that cannot be reached may come back until then.
func askGate(ctx context.Context, c *client, service string, q url.Values, longest time.Duration) (json.RawMessage, api.Release, error) {
	waiting, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	for {
		var answer api.Release
		raw, err := c.get(ctx, "/can-deploy/"+url.PathEscape(service), q)
		if err == nil && json.Unmarshal(raw, &answer) != nil {
			err = c.stranger("its answer is malformed")
		}
		var own *Error
		passing := err == nil && answer.Decision != gate.Allow && !hopeless(answer) || errors.As(err, &own) && own.Code == ExitUnreachable
		if !passing {
			return raw, answer, err
		}
		select {
		case <-waiting.Done():
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return raw, answer, err
		case <-time.After(askAgain):
		}
	}
}

// hopeless reports that waiting changes nothing.
func hopeless(r api.Release) bool {
	return slices.ContainsFunc(r.Reasons, func(r gate.Reason) bool { return r.Code == gate.NoSuchService })
}

func printRelease(env Env, service string, r api.Release) error {
	st := env.style()
	paint := map[gate.Answer]func(string) string{gate.Allow: st.good, gate.Deny: st.bad}[r.Decision]
	if paint == nil {
		paint = st.warn
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (decision %s)\n", oneLine(service), paint(string(r.Decision)), oneLine(r.ID))
	for _, reason := range r.Reasons {
		b.WriteString(wrap(string(reason.Code)+": "+reason.Message, env.columns()) + "\n")
	}
	if d := r.Deployment; d != nil {
		b.WriteString(wrap(fmt.Sprintf("last deployment: %s, %s, by %s", d.Version, api.Age(env.Now(), &d.At), d.By), env.columns()) + "\n")
	}
	_, err := fmt.Fprint(env.Stdout, b.String())
	return err
}

func newGateOverride(env Env, answer gate.Answer, about string) *cobra.Command {
	cmd := &cobra.Command{
		Use: string(answer) + " SERVICE --reason R --for 2h", Short: about,
		Long: about + ".\n\nIt ends by itself after --for, at most 24h; `seawall can-deploy reset` ends it\nearlier. An earlier override is replaced.",
	}
	return putOverride(env, cmd, gateTarget,
		func(reason, length, by string) any {
			return api.GateOverrideRequest{Decision: string(answer), Reason: reason, For: length, By: by}
		},
		func(name string, o api.GateOverride) string {
			return fmt.Sprintf("the gate of %s answers %s until %s (%s)", name, o.Decision, o.Until.Format(time.RFC3339), api.Until(env.Now(), &o.Until))
		})
}

func newDeployments(env Env) *cobra.Command {
	cmd := newList(env, "deployments", "Show what was released, newest first, or mark a release", "/deployments",
		"no release was marked yet; a pipeline does it with `seawall deployments mark SERVICE VERSION`",
		serviceQuery, printDeployments)
	mark := &cobra.Command{
		Use: "mark SERVICE VERSION", Short: "Mark that a version of a service was released",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageErrorf("for example: seawall deployments mark payments v1.4.2", "%s takes SERVICE and VERSION", cmd.CommandPath())
			}
			return nil
		},
	}
	flags := addClientFlags(mark, env)
	mark.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := flags.client()
		if err != nil {
			return err
		}
		got, err := c.do(cmd.Context(), "POST", "/deployments", nil, api.DeploymentRequest{Service: args[0], Version: args[1], By: operator(env)}, nil)
		if err != nil {
			return err
		}
		if *flags.output == outputJSON {
			return printJSON(env.Stdout, got.body)
		}
		_, err = fmt.Fprintf(env.Stdout, "%s %s is marked as released\n", oneLine(args[0]), oneLine(args[1]))
		return err
	}
	cmd.AddCommand(mark)
	return cmd
}

func printDeployments(env Env, list []gate.Deployment) error {
	t := table{columns: []column{{head: "AT"}, {head: "SERVICE", shrink: true}, {head: "VERSION", shrink: true}, {head: "BY", shrink: true}}}
	for _, d := range list {
		t.add(d.At.Format("2006-01-02 15:04:05"), d.Service, d.Version, cmp.Or(d.By, "-"))
	}
	return t.write(env.Stdout, env.style(), env.columns())
}

var postmortemTarget = target{"SLO", "payments-availability", "`seawall slo postmortems` lists those that are open", func(name string) (string, bool) {
	return "/postmortems/" + url.PathEscape(name), name != ""
}}

func newPostmortems(env Env) *cobra.Command {
	cmd := newList(env, "postmortems", "Show the post-mortems that budget policies have opened, or close one", "/postmortems",
		"no post-mortem is open",
		serviceQuery, printPostmortems)
	cmd.GroupID = "" // it is below slo
	cmd.AddCommand(lift(env, &cobra.Command{
		Use: "close SLO --reason R", Short: "Close a post-mortem; the reason says where it can be read",
	}, postmortemTarget, "has no open post-mortem any more"))
	return cmd
}

func printPostmortems(env Env, list []api.Postmortem) error {
	now := env.Now()
	t := table{columns: []column{{head: "SLO", shrink: true}, {head: "SERVICE", shrink: true}, {head: "OPEN", right: true}}}
	for _, p := range list {
		t.add(p.Objective, p.Service, api.Age(now, &p.Since))
	}
	return t.write(env.Stdout, env.style(), env.columns())
}
