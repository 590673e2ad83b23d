package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/audit"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

func newBreakers(env Env) *cobra.Command {
	cmd := newList(env, "breakers", "Show every circuit breaker and its state, or force one", "/breakers",
		"no breakers: no route in force has one; add `breaker: {}` to a route, then `seawall validate`",
		serviceQuery, printBreakers)
	cmd.AddCommand(
		newForce(env, "open", "open", "Force a breaker open: its route is refused at once, on all nodes"),
		newForce(env, "close", "closed", "Force a breaker closed: its route is admitted, whatever happens"),
		newReset(env),
	)
	return cmd
}

func printBreakers(env Env, breakers []telemetry.Breaker) error {
	st, now := env.style(), env.Now()
	t := table{columns: []column{
		{head: "SERVICE", shrink: true}, {head: "ROUTE", shrink: true}, {head: "NODE", shrink: true}, {head: "STATE", paint: st.state},
		{head: "SINCE", right: true}, {head: "PROBES", right: true}, {head: "CAUSE"},
	}}
	var notes strings.Builder
	noted := map[string]bool{} // an override is for all nodes
	for _, b := range breakers {
		cause, probes := dash(b.Cause), api.Until(now, b.RetryAt)
		if b.Forced {
			cause, probes = "forced", "-"
		}
		t.add(b.Service, b.Route, dash(b.Node), b.State, api.Age(now, b.Since), probes, cause)
		if name := b.Service + "/" + b.Route; b.Forced && b.Until != nil && !noted[name] {
			noted[name] = true
			fmt.Fprintf(&notes, "\n%s is forced; that ends by itself %s\n%s\n", st.title(oneLine(name)), api.Until(now, b.Until), wrap(b.Reason, env.columns()))
		}
	}
	if err := t.write(env.Stdout, st, env.columns()); err != nil {
		return err
	}
	_, err := fmt.Fprint(env.Stdout, notes.String())
	return err
}

// target is what a command changes: the argument that names it.
type target struct {
	word    string // for the usage
	example string
	lister  string // the command that lists them
	path    func(name string) (path string, ok bool)
}

var breakerTarget = target{"SERVICE/ROUTE", "payments/charge", "`seawall breakers` lists the breakers, and which are forced", func(name string) (string, bool) {
	service, route, ok := strings.Cut(name, "/")
	return "/breakers/" + url.PathEscape(service) + "/" + url.PathEscape(route) + "/override", ok && service != "" && route != "" && !strings.Contains(route, "/")
}}

// change is what the commands that change something have in common.
type change struct {
	flags   *clientFlags
	target  target
	reason  string
	ifMatch string
}

func addChange(cmd *cobra.Command, env Env, to target) *change {
	c := &change{flags: addClientFlags(cmd, env), target: to}
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the audit log and for those who find it so")
	cmd.Flags().StringVar(&c.ifMatch, "if-match", "", "only while it has this ETag (-o json prints it); exit 5 otherwise")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return usageErrorf("for example: "+cmd.CommandPath()+" "+to.example, "%s takes one %s", cmd.CommandPath(), to.word)
	}
	return c
}

func (c *change) path(name string) (string, error) {
	path, ok := c.target.path(name)
	if !ok {
		return "", usageErrorf(c.target.lister, "%q is not %s", name, c.target.word)
	}
	if strings.TrimSpace(c.reason) == "" {
		return "", usageErrorf("", "--reason is required: it is kept in the audit log")
	}
	return path, nil
}

// seen is the condition that the override is still as it is now, so that of
// two operators one is told of the other.
func (c *change) seen(ctx context.Context, cl *client, path string) (http.Header, error) {
	if c.ifMatch != "" {
		return http.Header{"If-Match": {quoted(c.ifMatch)}}, nil
	}
	now, err := cl.do(ctx, http.MethodGet, path, nil, nil, nil)
	switch {
	case err == nil && now.tag != "":
		return http.Header{"If-Match": {now.tag}}, nil
	case err == nil:
		return nil, cl.stranger("its override has no ETag")
	case now.status == http.StatusNotFound: // of the breaker or of its override: the change itself will tell
		return http.Header{"If-None-Match": {"*"}}, nil
	}
	return nil, err
}

func quoted(tag string) string { return `"` + strings.Trim(tag, `"`) + `"` }

// operator is who changes something, as far as the environment tells.
func operator(env Env) string {
	for _, name := range []string{"SUDO_USER", "USER", "LOGNAME"} {
		if who := env.Getenv(name); who != "" {
			return who
		}
	}
	return ""
}

// putOverride makes a command that sets an override, given its use, its texts
// and the body of the request. told says what the answer means.
func putOverride[T any](env Env, cmd *cobra.Command, to target, body func(reason, length, by string) any, told func(name string, o T) string) *cobra.Command {
	c := addChange(cmd, env, to)
	length := cmd.Flags().String("for", "", "how long, 1s to 24h, such as 10m")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, err := c.path(args[0])
		if err != nil {
			return err
		}
		if _, err := policy.ParseDuration(*length); err != nil || *length == "" {
			return usageErrorf("for example: --for 10m", "--for says how long, 1s to 24h: an override ends by itself")
		}
		got, cl, err := c.send(cmd.Context(), http.MethodPut, path, body(c.reason, *length, operator(env)))
		if err != nil {
			return err
		}
		var o T
		if err := json.Unmarshal(got.body, &o); err != nil {
			return cl.stranger("its answer is malformed")
		}
		if *c.flags.output == outputJSON {
			return printTagged(env, got)
		}
		_, err = fmt.Fprintln(env.Stdout, told(oneLine(args[0]), o))
		return err
	}
	return cmd
}

// printTagged prints an answer with its tag, for --if-match.
func printTagged(env Env, got response) error {
	members := map[string]any{}
	if err := json.Unmarshal(got.body, &members); err != nil {
		return fmt.Errorf("decode the answer: %w", err)
	}
	members["etag"] = strings.Trim(got.tag, `"`)
	raw, err := json.Marshal(members)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return printJSON(env.Stdout, raw)
}

// lift makes a command that ends something by hand. told says what then holds.
func lift(env Env, cmd *cobra.Command, to target, told string) *cobra.Command {
	c := addChange(cmd, env, to)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, err := c.path(args[0])
		if err != nil {
			return err
		}
		if _, _, err := c.send(cmd.Context(), http.MethodDelete, path, api.LiftRequest{Reason: c.reason, By: operator(env)}); err != nil {
			return err
		}
		if *c.flags.output == outputJSON {
			return printJSON(env.Stdout, []byte("{}"))
		}
		_, err = fmt.Fprintf(env.Stdout, "%s %s\n", oneLine(args[0]), told)
		return err
	}
	return cmd
}

// send makes the change while what is changed is as it was just seen.
func (c *change) send(ctx context.Context, method, path string, body any) (response, *client, error) {
	cl, err := c.flags.client()
	if err != nil {
		return response{}, nil, err
	}
	condition, err := c.seen(ctx, cl, path)
	if err != nil {
		return response{}, nil, err
	}
	got, err := cl.do(ctx, method, path, nil, body, condition)
	if own, ok := errors.AsType[*Error](err); ok && got.status == http.StatusNotFound {
		own.Hint = c.target.lister
	}
	return got, cl, err
}

func newForce(env Env, use, state, about string) *cobra.Command {
	cmd := &cobra.Command{
		Use: use + " SERVICE/ROUTE --reason R --for 10m", Short: about,
		Long: about + ".\n\nIt ends by itself after --for, at most 24h, even where the control plane is gone\nby then; `seawall breakers reset` ends it earlier. An earlier override is replaced.",
	}
	return putOverride(env, cmd, breakerTarget,
		func(reason, length, by string) any {
			return api.OverrideRequest{State: state, Reason: reason, For: length, By: by}
		},
		func(name string, o api.Override) string {
			return fmt.Sprintf("%s is forced %s until %s (%s)", name, env.style().state(state), o.Until.Format(time.RFC3339), api.Until(env.Now(), &o.Until))
		})
}

func newReset(env Env) *cobra.Command {
	return lift(env, &cobra.Command{
		Use: "reset SERVICE/ROUTE --reason R", Short: "Let a forced breaker decide by itself again",
	}, breakerTarget, "decides by itself again")
}

func newAudit(env Env) *cobra.Command {
	return newList(env, "audit", "Show who changed what by hand, and why, newest first", "/audit",
		"nothing was changed by hand yet; `seawall breakers open --help` is one way to",
		noQuery, printAudit)
}

func printAudit(env Env, entries []audit.Entry) error {
	st, now := env.style(), env.Now()
	t := table{columns: []column{
		{head: "AT"}, {head: "BY", shrink: true}, {head: "ACTION"}, {head: "SUBJECT"}, {head: "ENDS", right: true}, {head: "REASON", shrink: true},
	}}
	for _, e := range entries {
		ends := "-"
		if e.Until != nil && e.Until.After(now) {
			ends = api.Until(now, e.Until)
		}
		t.add(e.At.Format("2006-01-02 15:04:05"), e.By, e.Action, strings.TrimPrefix(e.Subject, "breakers/"), ends, e.Reason)
	}
	return t.write(env.Stdout, st, env.columns())
}
