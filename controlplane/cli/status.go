package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

func newStatus(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		GroupID: groupAsk,
		Short:   "Show what is in force and what is wrong",
		Long: `Show the policies in force, the nodes and what they run, open breakers and
objectives in trouble. A node that rejected what it was sent is shown with
Envoy's own text, a load of policies that was refused with its findings. Exits 0
whatever it shows, 4 if there is no control plane.`,
		Args: noArgs,
	}
	flags := addClientFlags(cmd, env)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := flags.client()
		if err != nil {
			return err
		}
		raw, err := c.get(cmd.Context(), "/status", nil)
		if err != nil {
			return err
		}
		if *flags.output == outputJSON {
			return printJSON(env.Stdout, raw)
		}
		s, err := readStatus(cmd.Context(), c, raw)
		if err != nil {
			return err
		}
		return s.print(env, c.base.String())
	}
	return cmd
}

// overview is everything that status shows.
type overview struct {
	api.Status
	nodes    []fleet.Node
	findings diag.List
	breakers []telemetry.Breaker
	alerts   []alert.Alert
	slos     []objective
	slosErr  error // the store may be busy while the rest is well
}

func readStatus(ctx context.Context, c *client, raw []byte) (overview, error) {
	var o overview
	if err := json.Unmarshal(raw, &o.Status); err != nil {
		return o, &Error{Code: ExitUnreachable, Err: fmt.Errorf("status of the control plane: %w", err), Hint: versionHint}
	}
	if err := readList(ctx, c, "/nodes", &o.nodes); err != nil {
		return o, err
	}
	if err := readList(ctx, c, "/breakers", &o.breakers); err != nil {
		return o, err
	}
	if err := readList(ctx, c, "/alerts", &o.alerts); err != nil {
		return o, err
	}
	if o.Refused != nil {
		if err := readList(ctx, c, "/policy/diagnostics", &o.findings); err != nil {
			return o, err
		}
	}
	o.slosErr = readList(ctx, c, "/slos", &o.slos)
	return o, nil
}

func readList[L ~[]T, T any](ctx context.Context, c *client, path string, to *L) error {
	items, err := c.list(ctx, path, nil)
	if err != nil {
		return err
	}
	*to, err = decode[T](items)
	return err
}

func (o overview) print(env Env, url string) error {
	st := env.style()
	var b strings.Builder
	row := func(name, text string) { fmt.Fprintf(&b, "%-9s %s\n", name, text) }

	ready := st.good("ready")
	if !o.Ready {
		ready = st.bad("not ready: no accepted policy has been served yet")
	}
	fmt.Fprintf(&b, "%s %s at %s: %s\n", st.title("seawall"), oneLine(o.Version), url, ready)
	if o.PolicyHash == "" {
		row("policy", st.bad("none in force"))
	} else {
		row("policy", fmt.Sprintf("%s, %s, loaded %s", short(o.PolicyHash), plural(o.Services, "service"), api.Age(env.Now(), o.LoadedAt)))
	}
	row("filter", short(o.FilterHash))
	rejected := fmt.Sprintf("%d rejected", o.Nodes.Rejected)
	if o.Nodes.Rejected > 0 {
		rejected = st.bad(rejected)
	}
	row("nodes", fmt.Sprintf("%d connected, %d synced, %s", o.Nodes.Connected, o.Nodes.Synced, rejected))
	row("breakers", o.breakerLine(st))
	row("slos", o.sloLine(st))
	row("alerts", o.alertLine(st))
	if _, err := fmt.Fprint(env.Stdout, b.String()); err != nil {
		return err
	}
	if err := printTroubles(env, o.nodes); err != nil {
		return err
	}
	if err := o.printGaps(env); err != nil {
		return err
	}
	if o.Refused == nil {
		return nil
	}
	_, err := fmt.Fprintf(env.Stdout, "\n%s (%s, %s);\nthe policies before it stay in force\n",
		st.bad("the last load of policies was refused"), api.Age(env.Now(), &o.Refused.At), plural(o.Refused.Errors, "error"))
	if err != nil {
		return err
	}
	diag.WriteText(env.Stdout, o.findings)
	return nil
}

// printGaps says what counts may lack.
func (o overview) printGaps(env Env) error {
	var b strings.Builder
	inOneDay := map[string]int{}
	for _, g := range o.Gaps {
		inOneDay[g.Node]++
	}
	for _, g := range slices.Backward(o.Gaps) {
		n := inOneDay[g.Node]
		if n == 0 {
			continue // its newest was told
		}
		delete(inOneDay, g.Node)
		fmt.Fprintf(&b, "\n%s has another Envoy (%s, %d within a day)\n%s\n", env.style().title(oneLine(g.Node)), api.Age(env.Now(), &g.Until), n,
			wrap(fmt.Sprintf("requests that ended in the %s before, from %s on, may not be counted, unless the one before was drained",
				g.Until.Sub(g.From).Round(100*time.Millisecond), g.From.UTC().Format("15:04:05.0Z")), env.columns()))
	}
	_, err := fmt.Fprint(env.Stdout, b.String())
	return err
}

func (o overview) breakerLine(st style) string {
	if len(o.breakers) == 0 {
		return "none"
	}
	var troubled []string
	for _, b := range o.breakers {
		switch name := oneLine(b.Service + "/" + b.Route); {
		case b.Forced:
			troubled = append(troubled, name+" "+st.warn("forced")+" "+st.state(b.State))
		case b.State != "closed":
			troubled = append(troubled, name+" "+st.state(b.State))
		}
	}
	return count(st, len(o.breakers), troubled, "all closed")
}

func (o overview) sloLine(st style) string {
	switch {
	case o.slosErr != nil:
		return st.warn("not readable just now: " + oneLine(o.slosErr.Error()))
	case len(o.slos) == 0:
		return "none"
	}
	var troubled []string
	for _, s := range o.slos {
		if s.State != "ok" && s.State != "insufficient-data" {
			troubled = append(troubled, oneLine(s.Name)+" "+st.state(string(s.State)))
		}
	}
	return count(st, len(o.slos), troubled, "none in trouble")
}

func (o overview) alertLine(st style) string {
	var firing []string
	for _, a := range o.alerts {
		if a.State == alert.Firing && a.InhibitedBy == "" {
			firing = append(firing, oneLine(a.Name+" "+a.Subject())+" "+st.state(string(a.Severity)))
		}
	}
	return count(st, len(firing), firing, "none firing")
}

// count says how many there are and names the first that are in trouble.
func count(st style, all int, troubled []string, fine string) string {
	const shown = 3
	if len(troubled) == 0 {
		return fmt.Sprintf("%d, %s", all, st.good(fine))
	}
	more := ""
	if n := len(troubled) - shown; n > 0 {
		troubled, more = troubled[:shown], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%d, %s%s", all, strings.Join(troubled, ", "), more)
}
