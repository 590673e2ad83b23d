package cli

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// newList makes a command that prints one list of the API. empty says what an
// empty one means and which command comes next.
func newList[T any](env Env, use, about, path, empty string, query func(*cobra.Command) func() (url.Values, error), print func(Env, []T) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, GroupID: groupAsk, Short: about, Args: noArgs}
	flags := addClientFlags(cmd, env)
	values := query(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := values()
		if err != nil {
			return err
		}
		c, err := flags.client()
		if err != nil {
			return err
		}
		items, err := c.list(cmd.Context(), path, q)
		if err != nil {
			return err
		}
		if *flags.output == outputJSON {
			return printList(env.Stdout, items)
		}
		if len(items) == 0 {
			_, err := fmt.Fprintln(env.Stdout, empty)
			return err
		}
		rows, err := decode[T](items)
		if err != nil {
			return err
		}
		return print(env, rows)
	}
	return cmd
}

func noQuery(*cobra.Command) func() (url.Values, error) {
	return func() (url.Values, error) { return url.Values{}, nil }
}

func serviceQuery(cmd *cobra.Command) func() (url.Values, error) {
	service := cmd.Flags().String("service", "", "only this service")
	return func() (url.Values, error) {
		q := url.Values{}
		if *service != "" {
			q.Set("service", *service)
		}
		return q, nil
	}
}

func trafficQuery(cmd *cobra.Command) func() (url.Values, error) {
	service := serviceQuery(cmd)
	window := cmd.Flags().String("window", "5m", "how far back, 1m to 90d; whole minutes and the current one")
	return func() (url.Values, error) {
		q, err := service()
		if err != nil {
			return nil, err
		}
		if _, err := api.ParseWindow(*window); err != nil {
			return nil, usageErrorf("", "--%w", err)
		}
		q.Set("window", *window)
		return q, nil
	}
}

func newNodes(env Env) *cobra.Command {
	return newList(env, "nodes", "Show each Envoy and what it really runs", "/nodes",
		"no Envoy has connected yet; `seawall up -p DIR` starts one",
		noQuery, printNodes)
}

func printNodes(env Env, nodes []fleet.Node) error {
	st, now := env.style(), env.Now()
	t := table{columns: []column{
		{head: "NODE", shrink: true}, {head: "CLUSTER", shrink: true}, {head: "STATE", paint: st.state},
		{head: "PLAN"}, {head: "FILTER"}, {head: "WORKERS", right: true}, {head: "LAST SEEN", right: true},
	}}
	for _, n := range nodes {
		workers := strconv.Itoa(len(n.Workers))
		if n.WorkerCount > 0 {
			workers += "/" + strconv.Itoa(n.WorkerCount)
		}
		t.add(n.ID, dash(n.Cluster), string(n.State), short(n.PlanHash), short(n.FilterHash), workers, api.Age(now, &n.LastSeen))
	}
	if err := t.write(env.Stdout, st, env.columns()); err != nil {
		return err
	}
	return printTroubles(env, nodes)
}

// printTroubles says why nodes are not synced, with Envoy's own text.
func printTroubles(env Env, nodes []fleet.Node) error {
	st := env.style()
	var b strings.Builder
	for _, n := range nodes {
		if n.Synced {
			continue
		}
		var lines []string
		for _, kind := range []fleet.Kind{fleet.LDS, fleet.RDS, fleet.CDS, fleet.EDS, fleet.SDS, fleet.ECDS} {
			if r := n.Resources[kind]; r.State == fleet.Rejected {
				lines = append(lines, wrap(fmt.Sprintf("%s %s: %s", kind, r.State, dash(r.Message)), env.columns()))
			}
		}
		if n.Reason != "" && len(lines) == 0 {
			lines = append(lines, wrap(n.Reason, env.columns()))
		}
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n%s is %s\n%s\n", st.title(oneLine(n.ID)), st.state(string(n.State)), strings.Join(lines, "\n"))
		}
	}
	_, err := fmt.Fprint(env.Stdout, b.String())
	return err
}

func newPools(env Env) *cobra.Command {
	return newList(env, "pools", "Show every bulkhead pool: who holds, who waits, who was refused", "/pools",
		"no pools: no policy in force has one, or no Envoy has reported yet; see `seawall nodes`",
		serviceQuery, printPools)
}

func printPools(env Env, pools []telemetry.Pool) error {
	st := env.style()
	t := table{columns: []column{
		{head: "SERVICE", shrink: true}, {head: "POOL", shrink: true}, {head: "NODE", shrink: true},
		{head: "HELD", right: true}, {head: "WAITING", right: true}, {head: "GRANTED", right: true},
		{head: "FULL", right: true}, {head: "TIMED OUT", right: true}, {head: "LONGEST", right: true},
	}}
	for _, p := range pools {
		limit := strconv.FormatUint(uint64(p.Limit), 10)
		if p.Limit == 0 {
			limit = "gone"
		}
		t.add(p.Service, p.Pool, dash(p.Node), fmt.Sprintf("%d/%s", p.Held, limit), strconv.FormatUint(uint64(p.Waiting), 10),
			strconv.FormatUint(p.Granted, 10), strconv.FormatUint(p.Full, 10), strconv.FormatUint(p.TimedOut, 10), api.Latency(&p.MaxWait))
	}
	return t.write(env.Stdout, st, env.columns())
}

func newTraffic(env Env) *cobra.Command {
	return newList(env, "traffic", "Show what happened to requests, by service, route, priority", "/traffic",
		"no requests in this window; try --window 1h, or `seawall nodes` for who should serve them",
		trafficQuery, printTraffic)
}

func printTraffic(env Env, rows []telemetry.TrafficRow) error {
	st := env.style()
	t := table{columns: []column{
		{head: "SERVICE", shrink: true}, {head: "ROUTE", shrink: true}, {head: "PRIORITY"},
		{head: "TOTAL", right: true}, {head: "BAD", right: true}, {head: "BAD %", right: true},
		{head: "SHED", right: true}, {head: "DEGR", right: true}, {head: "P50", right: true}, {head: "P99", right: true},
	}}
	for _, r := range rows {
		t.add(r.Service, dash(r.Route), r.Priority, strconv.FormatUint(r.Total, 10), strconv.FormatUint(r.Bad, 10),
			api.Percent(r.Bad, r.Total), strconv.FormatUint(r.Shed, 10), strconv.FormatUint(r.Degraded, 10), api.Latency(r.P50), api.Latency(r.P99))
	}
	return t.write(env.Stdout, st, env.columns())
}

// objective is slo.Status as it comes back: its spans are text by then.
type objective struct {
	slo.Status
	Window     string  `json:"window"`
	ExhaustsIn *string `json:"exhaustsIn"`
	Burn       []burn  `json:"burn"`
}

type burn struct {
	Tier      string  `json:"tier"`
	Long      string  `json:"long"`
	Short     string  `json:"short"`
	Threshold float64 `json:"threshold"`
	LongRate  float64 `json:"longRate"`
	ShortRate float64 `json:"shortRate"`
	Firing    bool    `json:"firing"`
}

func newSLO(env Env) *cobra.Command {
	cmd := newList(env, "slo", "Show the objectives, their error budgets and burn rates", "/slos",
		"no objectives; add a ServiceLevelObjective to the policies, then `seawall validate`",
		serviceQuery, printSLOs)
	cmd.Aliases = []string{"slos"}
	cmd.AddCommand(newPostmortems(env))
	return cmd
}

func printSLOs(env Env, slos []objective) error {
	st := env.style()
	t := table{columns: []column{
		{head: "NAME", shrink: true}, {head: "SERVICE", shrink: true}, {head: "OBJECTIVE", right: true}, {head: "ATTAINED", right: true},
		{head: "CONSUMED", right: true}, {head: "BUDGET", right: true}, {head: "STATE", paint: st.state},
	}}
	for _, o := range slos {
		t.add(o.Name, o.Service, strconv.FormatFloat(o.Objective*100, 'f', -1, 64)+"% "+o.Window,
			o.AttainedText(), o.ConsumedText(), o.RemainingText(), string(o.State))
	}
	if err := t.write(env.Stdout, st, env.columns()); err != nil {
		return err
	}
	var b strings.Builder
	for _, o := range slos {
		var notes []string
		for _, tier := range o.Burn {
			if tier.Firing {
				notes = append(notes, fmt.Sprintf("burning %.1f times too fast over %s and %.1f over %s (%s, fires above %.1f)",
					tier.LongRate, tier.Long, tier.ShortRate, tier.Short, tier.Tier, tier.Threshold))
			}
		}
		if len(notes) > 0 || o.State == slo.Exhausted {
			notes = append(notes, "as a total outage: "+o.DowntimeText()+" left")
		}
		if o.ExhaustsIn != nil && *o.ExhaustsIn != "0s" {
			notes = append(notes, "budget used up in "+*o.ExhaustsIn+" at this rate")
		}
		if len(o.Actions) > 0 {
			notes = append(notes, "actions: "+strings.Join(o.Actions, ", "))
		}
		if len(notes) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", st.title(oneLine(o.Name)))
		for _, n := range notes {
			b.WriteString(wrap(n, env.columns()) + "\n")
		}
	}
	_, err := fmt.Fprint(env.Stdout, b.String())
	return err
}
