package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// maxRows bounds each table of the overview; the rest is a link away.
const maxRows = 200

// The overview shows these, in Envoy's order of application.
var resourceKinds = []fleet.Kind{fleet.LDS, fleet.RDS, fleet.CDS, fleet.EDS, fleet.ECDS}

// overviewView is the overview page, ready to print: every string is as it is
// shown, so that the template decides nothing.
type overviewView struct {
	Ready      bool
	Tiles      []tile
	Refused    *refusedView
	Rejections []rejectionView
	Alerts     panel[alertView] // those that fire; not shown without rows
	SLOs       panel[sloView]
	Traffic    panel[trafficView]
	Breakers   panel[breakerView]
	Pools      panel[poolView] // not shown without rows
	Nodes      panel[nodeView]

	Window  string
	Windows []link
	Refresh []link
}

type tile struct{ Label, Value, Note, Tone string } // Tone: good, warn, bad or ""

type link struct {
	Text, URL string
	Current   bool
}

// panel is a table with its states: rows, none, or not readable just now.
type panel[T any] struct {
	Rows    []T
	More    int  // rows that are left out
	Failed  bool // the source could not be read
	Command string
	JSON    string
}

func newPanel[T any](rows []T, err error, command, path string) panel[T] {
	p := panel[T]{Rows: rows, Failed: err != nil, Command: command, JSON: "/api/v1" + path}
	if len(rows) > maxRows {
		p.Rows, p.More = rows[:maxRows], len(rows)-maxRows
	}
	return p
}

// caption is a panel's head: what it shows, and how else to get it.
type caption struct{ ID, Title, Command, JSON string }

// Caption names the panel; the template calls it.
func (p panel[T]) Caption(id, title string) caption { return caption{id, title, p.Command, p.JSON} }

type refusedView struct {
	Age      string
	Errors   int
	Findings []Finding
	More     int
}

type rejectionView struct{ Node, Kind, Message string }

type alertView struct{ Name, Subject, Severity, Since, Summary, Action, Tone string }

type sloView struct {
	Name, Service, Objective, Window, Attained, Consumed, Budget, Downtime, ExhaustsIn, State, Tone string
	Left                                                                                            int // of the budget, percent, 0 to 100
	Actions                                                                                         string
}

type trafficView struct{ Service, Route, Priority, Total, Bad, BadShare, Shed, Degraded, P50, P95, P99, Tone string }

type breakerView struct{ Service, Route, Node, State, Since, Probes, Cause, Tone string }

type poolView struct{ Service, Pool, Node, Held, Waiting, Granted, Full, TimedOut, Longest, Tone string }

type nodeView struct {
	ID, Cluster, State, Reason, Plan, Filter, Workers, LastSeen, Tone string
	Resources                                                         []cell
}

type cell struct{ Text, Title, Tone string }

// overviewQuery reads the page's own parameters; its URL holds its state.
func overviewQuery(r *http.Request) (q query, refresh int, err error) {
	values, err := parseRawQuery(r.URL.RawQuery)
	if err != nil {
		return q, 0, err
	}
	if v := values.Get("refresh"); v != "" {
		refresh, err = strconv.Atoi(v)
		if err != nil || refresh < 1 || refresh > 3600 {
			return q, 0, problemf(typeBadQuery, "refresh %q is not a number of seconds from 1 to 3600", shorten(v, 50))
		}
	}
	values.Del("refresh")
	q, err = parseQuery(values, []param{paramWindow})
	return q, refresh, err
}

func (s *Server) overview(ctx context.Context, q query, refresh int) overviewView {
	src, now := s.cfg.Source, s.cfg.Now()
	status := s.status()
	nodes, breakers := src.Nodes(), src.Breakers()
	traffic, trafficErr := src.Traffic(ctx, q.window)
	slos, slosErr := src.SLOs(ctx)
	for _, err := range []error{trafficErr, slosErr} {
		if err != nil {
			s.cfg.Log.Error("overview is incomplete", "requestId", requestID(ctx), "error", err)
		}
	}
	sortForReaders(nodes, breakers, traffic, slos)

	v := overviewView{Ready: status.Ready, Window: slo.Span(q.window).String()}
	v.Tiles = tiles(status, breakers, slos, Age(now, status.LoadedAt))
	if load := src.Diagnostics(); load != nil {
		v.Refused = &refusedView{Age: Age(now, &load.At), Errors: status.Refused.Errors, Findings: findings(load)}
		if n := len(v.Refused.Findings) - maxRows; n > 0 {
			v.Refused.Findings, v.Refused.More = v.Refused.Findings[:maxRows], n
		}
	}
	for _, n := range nodes {
		for _, kind := range resourceKinds {
			if r := n.Resources[kind]; r.State == fleet.Rejected && len(v.Rejections) < maxRows {
				v.Rejections = append(v.Rejections, rejectionView{n.ID, string(kind), r.Message})
			}
		}
	}
	v.Alerts = newPanel(firing(now, src.Alerts()), nil, "seawall alerts", "/alerts")
	v.SLOs = newPanel(each(slos, viewSLO), slosErr, "seawall slo", "/slos")
	v.Traffic = newPanel(each(traffic, viewTraffic), trafficErr, "seawall traffic --window "+v.Window, "/traffic?window="+v.Window)
	v.Breakers = newPanel(each(breakers, func(b telemetry.Breaker) breakerView {
		return viewBreaker(now, b)
	}), nil, "seawall breakers", "/breakers")
	pools := src.Pools()
	slices.SortFunc(pools, func(a, b telemetry.Pool) int {
		return strings.Compare(sortKey(a.Service, a.Pool, a.Node), sortKey(b.Service, b.Pool, b.Node))
	})
	v.Pools = newPanel(each(pools, viewPool), nil, "seawall pools", "/pools")
	v.Nodes = newPanel(each(nodes, func(n fleet.Node) nodeView {
		return nodeView{
			ID: n.ID, Cluster: dash(n.Cluster), State: string(n.State), Reason: n.Reason, Plan: short(n.PlanHash), Filter: short(n.FilterHash),
			Workers: workers(n), LastSeen: Age(now, &n.LastSeen), Tone: tone(string(n.State)), Resources: resourceCells(n),
		}
	}), nil, "seawall nodes", "/nodes")

	for _, w := range []string{"5m", "1h", "1d", "7d"} {
		v.Windows = append(v.Windows, link{w, pageURL(w, refresh), w == v.Window})
	}
	v.Refresh = []link{{"off", pageURL(v.Window, 0), refresh == 0}, {"5s", pageURL(v.Window, 5), refresh == 5}, {"30s", pageURL(v.Window, 30), refresh == 30}}
	return v
}

func pageURL(window string, refresh int) string {
	u := "/?window=" + window
	if refresh > 0 {
		u += "&refresh=" + strconv.Itoa(refresh)
	}
	return u
}

func viewBreaker(now time.Time, b telemetry.Breaker) breakerView {
	v := breakerView{b.Service, b.Route, dash(b.Node), b.State, Age(now, b.Since), Until(now, b.RetryAt), dash(b.Cause), breakerTone(b)}
	if !b.Forced {
		return v
	}
	v.Cause, v.Probes = "forced by an operator", "-"
	if b.Until != nil {
		v.Cause += ", ends " + Until(now, b.Until)
	}
	if b.Reason != "" {
		v.Cause += ": " + shorten(b.Reason, 100)
	}
	return v
}

// firing are the alerts that call people, pages first.
func firing(now time.Time, alerts []alert.Alert) (rows []alertView) {
	for _, severity := range []alert.Severity{alert.Page, alert.Ticket} {
		for _, a := range alerts {
			if a.State == alert.Firing && a.Severity == severity && a.InhibitedBy == "" {
				rows = append(rows, alertView{a.Name, dash(a.Subject()), string(severity), Age(now, &a.Since), a.Summary, a.Action, tone(string(severity))})
			}
		}
	}
	return rows
}

func viewPool(p telemetry.Pool) poolView {
	v := poolView{
		Service: p.Service, Pool: p.Pool, Node: dash(p.Node), Held: fmt.Sprintf("%d / %d", p.Held, p.Limit), Waiting: number(uint64(p.Waiting)),
		Granted: number(p.Granted), Full: number(p.Full), TimedOut: number(p.TimedOut), Longest: Latency(&p.MaxWait),
	}
	switch {
	case p.Limit == 0:
		v.Held = fmt.Sprintf("%d / gone", p.Held)
	case p.Held >= p.Limit:
		v.Tone = "warn"
	}
	return v
}

// breakerTone never takes a breaker that is held closed for a healthy one.
func breakerTone(b telemetry.Breaker) string {
	if b.Forced && tone(b.State) == "good" {
		return "warn"
	}
	return tone(b.State)
}

// sortForReaders puts what needs a look first, then goes by name.
func sortForReaders(nodes []fleet.Node, breakers []telemetry.Breaker, traffic []telemetry.TrafficRow, slos []slo.Status) {
	slices.SortFunc(nodes, func(a, b fleet.Node) int {
		return cmp.Or(urgency(string(a.State))-urgency(string(b.State)), strings.Compare(a.ID, b.ID))
	})
	slices.SortFunc(breakers, func(a, b telemetry.Breaker) int {
		return cmp.Or(toneRank(breakerTone(a))-toneRank(breakerTone(b)), strings.Compare(sortKey(a.Service, a.Route, a.Node), sortKey(b.Service, b.Route, b.Node)))
	})
	slices.SortFunc(traffic, func(a, b telemetry.TrafficRow) int {
		return strings.Compare(sortKey(a.Service, a.Route, a.Priority), sortKey(b.Service, b.Route, b.Priority))
	})
	consumed := func(s slo.Status) float64 {
		if s.Budget.Consumed == nil {
			return 0
		}
		return *s.Budget.Consumed
	}
	slices.SortFunc(slos, func(a, b slo.Status) int {
		return cmp.Or(cmp.Compare(consumed(b), consumed(a)), strings.Compare(a.Name, b.Name))
	})
}

// tone is what a state means for the reader: good, warn or bad.
func tone(state string) string {
	switch state {
	case "closed", "synced", "ok":
		return "good"
	case "open", "rejected", "exhausted", "disconnected", string(alert.Page):
		return "bad"
	case "half-open", "burning", "stale", "insufficient-data", "unknown", string(alert.Ticket):
		return "warn"
	}
	return ""
}

func urgency(state string) int { return toneRank(tone(state)) }

func toneRank(tone string) int { return slices.Index([]string{"bad", "warn", "", "good"}, tone) }

func tiles(st Status, breakers []telemetry.Breaker, slos []slo.Status, loaded string) []tile {
	policy := tile{"Policy", short(st.PolicyHash), counted(st.Services, "service") + ", loaded " + loaded, ""}
	switch {
	case st.Refused != nil:
		policy.Tone, policy.Note = "bad", "last load refused, this one stays in force"
	case st.PolicyHash == "":
		policy.Value, policy.Note, policy.Tone = "none", "no accepted load yet", "bad"
	}

	nodes := tile{"Nodes", strconv.Itoa(st.Nodes.Synced) + " / " + strconv.Itoa(st.Nodes.Connected), "synced of connected", "good"}
	switch {
	case st.Nodes.Rejected > 0:
		nodes.Tone, nodes.Note = "bad", counted(st.Nodes.Rejected, "node")+" rejected a push"
	case st.Nodes.Connected == 0:
		nodes.Tone, nodes.Note = "warn", "none has connected yet"
	case st.Nodes.Synced < st.Nodes.Connected:
		nodes.Tone = "warn"
	}

	open, forced := 0, 0
	for _, b := range breakers {
		if b.State != "closed" {
			open++
		}
		if b.Forced {
			forced++
		}
	}
	breaker := tile{"Breakers", strconv.Itoa(open) + " not closed", "of " + strconv.Itoa(len(breakers)), "good"}
	switch {
	case len(breakers) == 0:
		breaker = tile{"Breakers", "none", "no route in force has one", ""}
	case open == 0:
		breaker.Value = "all closed"
	default:
		breaker.Tone = "bad"
	}
	if forced > 0 {
		breaker.Note += ", " + strconv.Itoa(forced) + " forced by hand"
		if breaker.Tone == "good" {
			breaker.Tone = "warn"
		}
	}

	objective := tile{"Worst objective", "none", "no ServiceLevelObjective in force", ""}
	if len(slos) > 0 {
		w := slos[0]
		objective = tile{"Worst objective", w.ConsumedText(), "of the budget of " + w.Name + " consumed", tone(string(w.State))}
	}
	return []tile{policy, nodes, breaker, objective}
}

func viewSLO(s slo.Status) sloView {
	v := sloView{
		Name: s.Name, Service: s.Service, Objective: strconv.FormatFloat(s.Objective*100, 'f', -1, 64) + " %", Window: s.Window.String(),
		Attained: s.AttainedText(), Consumed: s.ConsumedText(), Budget: s.RemainingText(), Downtime: s.DowntimeText(), ExhaustsIn: "-",
		State: string(s.State), Tone: tone(string(s.State)), Left: 100, Actions: strings.Join(s.Actions, ", "),
	}
	if s.ExhaustsIn != nil && s.State != slo.Exhausted {
		v.ExhaustsIn = "in " + s.ExhaustsIn.String()
	}
	if s.Budget.Consumed != nil {
		v.Left = int(100 * min(max(1-*s.Budget.Consumed, 0), 1))
	}
	return v
}

func viewTraffic(t telemetry.TrafficRow) trafficView {
	v := trafficView{
		Service: t.Service, Route: dash(t.Route), Priority: t.Priority, Total: number(t.Total), Bad: number(t.Bad), BadShare: Percent(t.Bad, t.Total),
		Shed: number(t.Shed), Degraded: number(t.Degraded), P50: Latency(t.P50), P95: Latency(t.P95), P99: Latency(t.P99),
	}
	if t.Bad > 0 {
		v.Tone = "bad"
	}
	return v
}

func workers(n fleet.Node) string {
	text := strconv.Itoa(len(n.Workers))
	if n.WorkerCount > 0 {
		text += " of " + strconv.Itoa(n.WorkerCount)
	}
	return text
}

func resourceCells(n fleet.Node) []cell {
	var cells []cell
	for _, kind := range resourceKinds {
		if r, known := n.Resources[kind]; known {
			cells = append(cells, cell{string(kind), strings.TrimSpace(string(r.State) + " " + r.Version + " " + r.Message), tone(string(r.State))})
		}
	}
	return cells
}

func each[T, V any](items []T, view func(T) V) []V {
	out := make([]V, len(items))
	for i, it := range items {
		out[i] = view(it)
	}
	return out
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// number writes n with thousands separated, as "12,345".
func number(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func short(hash string) string {
	if len(hash) > 12 {
		return hash[:12]
	}
	return dash(hash)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
