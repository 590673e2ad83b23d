package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/api"
)

func newAlerts(env Env) *cobra.Command {
	return newList(env, "alerts", "Show what is alerted, and what to do about it", "/alerts",
		"no alerts: nothing is wrong that one is for",
		serviceQuery, printAlerts)
}

func printAlerts(env Env, alerts []alert.Alert) error {
	st, now := env.style(), env.Now()
	t := table{columns: []column{
		{head: "ALERT", shrink: true}, {head: "ABOUT", shrink: true}, {head: "SEVERITY", paint: st.state}, {head: "STATE", paint: st.state}, {head: "SINCE", right: true},
	}}
	for _, a := range alerts {
		t.add(a.Name, dash(a.Subject()), string(a.Severity), string(a.State), api.Age(now, &a.Since))
	}
	if err := t.write(env.Stdout, st, env.columns()); err != nil {
		return err
	}
	var b strings.Builder
	for _, a := range alerts {
		if a.State != alert.Firing {
			continue
		}
		action := a.Action
		if a.InhibitedBy != "" {
			action = "see " + a.InhibitedBy
		}
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n", st.title(oneLine(a.Name+" "+a.Subject())), wrap(a.Summary, env.columns()), wrap(action, env.columns()))
	}
	_, err := fmt.Fprint(env.Stdout, b.String())
	return err
}
