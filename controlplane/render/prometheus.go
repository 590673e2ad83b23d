package render

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/policy"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// The parts of what Prometheus and Alertmanager need.
const (
	PartRules        = "rules"        // a rule file
	PartTests        = "tests"        // its tests, for promtool test rules
	PartAlertmanager = "alertmanager" // inhibition, to be merged into alertmanager.yml
)

// RuleFile is the name by which the tests know the rule file.
const RuleFile = "seawall-rules.yaml"

// ControlPlaneDown is the alert that only somebody else can give.
const ControlPlaneDown = "ControlPlaneDown"

// controlPlaneDownFor is for how long it may be away: restarts take seconds.
const controlPlaneDownFor = 5 * time.Minute

// Prometheus writes one part: recording and alerting rules over what /metrics
// exposes, which say the same as the control plane's own alerts, but for the
// lower thresholds of increase-alerting. Rules need Prometheus 2.42.
func Prometheus(w io.Writer, part string, paths ...string) error {
	set, err := loadSet(paths)
	if err != nil {
		return err
	}
	p := newPrometheus(set)
	var file any
	switch part {
	case PartRules:
		file = p.rules()
	case PartTests:
		file = p.tests()
	case PartAlertmanager:
		file = inhibition()
	default:
		return fmt.Errorf("no such part: %q", part)
	}
	var text bytes.Buffer
	text.WriteString("# Written by `seawall render prometheus` from the policies: render again rather than edit.\n")
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	if err := enc.Encode(file); err != nil {
		return fmt.Errorf("%s for Prometheus: %w", part, err)
	}
	_, err = w.Write(text.Bytes())
	return err
}

// prometheus is what the policies ask of it.
type prometheus struct {
	objectives          []slo.Objective
	breakers, fallbacks bool
}

func newPrometheus(set *policy.Set) prometheus {
	p := prometheus{objectives: compile.Objectives(set)}
	for _, s := range set.Policies {
		for _, r := range s.Spec.Routes {
			p.breakers = p.breakers || r.Breaker != nil
			p.fallbacks = p.fallbacks || r.Fallback != nil
		}
	}
	return p
}

type ruleFile struct {
	Groups []ruleGroup `yaml:"groups"`
}

type ruleGroup struct {
	Name  string `yaml:"name"`
	Rules []rule `yaml:"rules"`
}

type rule struct {
	Record      string            `yaml:"record,omitempty"`
	Alert       string            `yaml:"alert,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Keep        string            `yaml:"keep_firing_for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

func (p prometheus) rules() ruleFile {
	f := ruleFile{[]ruleGroup{{Name: "seawall", Rules: p.general()}}}
	for _, o := range p.objectives {
		f.Groups = append(f.Groups, ruleGroup{Name: "seawall-slo-" + o.Name, Rules: objectiveRules(o)})
	}
	return f
}

// alerting is a rule with what the control plane's alert of that name has.
func alerting(name, summary, expr string) rule {
	r, _ := alert.RuleOf(name)
	out := rule{
		Alert: name, Expr: expr, Labels: map[string]string{alert.LabelSeverity: string(r.Severity)},
		Annotations: map[string]string{"summary": summary, "action": r.Action},
	}
	if r.For > 0 {
		out.For = duration(r.For)
	}
	if r.Keep > 0 {
		out.Keep = duration(r.Keep)
	}
	return out
}

// counted is what objectives and error rates count: DESIGN section 5.
const counted = `outcome!~"aborted|injected"`

func (p prometheus) general() []rule {
	window := duration(alert.Window)
	per := func(by, function, metric string) string {
		return fmt.Sprintf("sum by (%s) (%s(%s[%s]))", by, function, metric, window)
	}
	all := "seawall_requests_total{" + counted + "}"
	rules := []rule{
		// A degraded answer is good, whatever its cause.
		alerting(alert.HighErrorRate, fmt.Sprintf("more than %s of the requests to {{ $labels.service }} failed in the last %s", percent(alert.ErrorRateAbove), window),
			lines(
				per("service", "rate", `seawall_requests_total{outcome=~"`+strings.Join(slo.DefaultBad(), "|")+`"}`),
				"  - ("+per("service", "rate", "seawall_degraded_total")+" or 0 * "+per("service", "rate", all)+")",
				fmt.Sprintf("  > %s * %s", number(alert.ErrorRateAbove), per("service", "rate", all)),
				fmt.Sprintf("and %s >= %d", per("service", "increase", all), alert.MinRequests),
			)),
	}
	if p.breakers {
		rules = append(rules,
			alerting(alert.CircuitBreakerOpen, "the breaker of {{ $labels.service }}/{{ $labels.route }} is open",
				`min by (service, route) (seawall_breaker_state{state="closed"} unless on (service, route, node) (seawall_breaker_forced == 1)) == 0`),
			alerting(alert.CircuitBreakerFlapping, "the breaker of {{ $labels.service }}/{{ $labels.route }} opens again and again",
				fmt.Sprintf(`sum by (service, route) (increase(seawall_breaker_transitions_total{to="open"}[%s])) > %s * scalar(max(seawall_nodes{state="connected"}))`,
					duration(alert.FlappingWindow), number(alert.FlappingOpenings-0.5))))
	}
	if p.fallbacks {
		rules = append(rules, alerting(alert.DegradedMode,
			fmt.Sprintf("more than %s of the answers of {{ $labels.service }}/{{ $labels.route }} were fallbacks in the last %s", percent(alert.DegradedAbove), window),
			lines(
				per("service, route", "rate", "seawall_degraded_total"),
				fmt.Sprintf("  > %s * %s", number(alert.DegradedAbove), per("service, route", "rate", all)),
				fmt.Sprintf("and %s >= %d", per("service, route", "increase", all), alert.MinRequests),
			)))
	}
	down := rule{
		Alert: ControlPlaneDown, Expr: "absent(seawall_build_info)", For: duration(controlPlaneDownFor),
		Labels: map[string]string{alert.LabelSeverity: string(alert.Page)},
		Annotations: map[string]string{
			"summary": "no control plane of Seawall is scraped",
			"action":  "Envoys go on with the policies that they have, but nothing is counted, alerted or released. Start it again; its log says why it ended.",
		},
	}
	return append(rules,
		alerting(alert.NodeRejected, "an Envoy rejected the policies", `max(seawall_nodes{state="rejected"}) > 0`),
		alerting(alert.NodeGone, "fewer Envoys are connected than an hour ago", `max(seawall_nodes{state="connected"}) < max(max_over_time(seawall_nodes{state="connected"}[1h]))`),
		alerting(alert.TelemetryStale, "no Envoy reports what it counts", fmt.Sprintf("time() - max(seawall_last_batch_timestamp_seconds) > %s", number(telemetry.StaleAfter.Seconds()))),
		down)
}

// The series of an objective. Bad ones are compared with a share of all ones,
// never divided: without requests there is nothing, not NaN.
func recorded(what string, window slo.Span) string {
	return "slo:seawall_" + what + ":increase" + duration(time.Duration(window))
}

func objectiveRules(o slo.Objective) []rule {
	selector := `{slo="` + o.Name + `"}`
	var rules []rule
	done := map[slo.Span]bool{}
	tiers := reachableTiers(o)
	for _, t := range tiers {
		for _, window := range []slo.Span{t.Long, t.Short} {
			if done[window] {
				continue
			}
			done[window] = true
			for _, series := range []struct{ what, metric string }{{"requests", "seawall_slo_requests_total"}, {"bad_requests", "seawall_slo_bad_requests_total"}} {
				rules = append(rules, rule{
					Record: recorded(series.what, window),
					Expr:   fmt.Sprintf("sum by (slo, service) (increase(%s%s[%s]))", series.metric, selector, duration(time.Duration(window))),
				})
			}
		}
	}
	for _, t := range tiers {
		limit := number(t.Threshold) + " * " + number(budgetOf(o))
		above := func(window slo.Span) string {
			return fmt.Sprintf("%s%s > %s * %s%s", recorded("bad_requests", window), selector, limit, recorded("requests", window), selector)
		}
		r := alerting(alert.ErrorBudgetBurn, burnSummary("{{ $labels.slo }}", t), lines(
			above(t.Long),
			"and "+above(t.Short),
			// Three bad ones, as increase() estimates them, and enough requests that
			// the threshold means more than one.
			fmt.Sprintf("and %s%s > %s", recorded("bad_requests", t.Long), selector, number(slo.MinBadToFire-0.5)),
			fmt.Sprintf("and %s%s * %s >= 1", recorded("requests", t.Long), selector, limit),
		))
		r.Labels = map[string]string{alert.LabelSeverity: string(alert.TierSeverity(t.Tier)), alert.LabelTier: t.Tier}
		rules = append(rules, r)
	}
	return append(rules, alerting(alert.ErrorBudgetExhausted, "{{ $labels.slo }} has consumed all of its error budget",
		"max by (slo, service) (seawall_slo_budget_consumed_ratio"+selector+") >= 1"))
}

func burnSummary(name string, t slo.Burn) string {
	return fmt.Sprintf("%s burns its error budget more than %s times too fast over %s and %s", name, number(t.Threshold), duration(time.Duration(t.Long)), duration(time.Duration(t.Short)))
}

// reachableTiers are the burn alerts that can fire, with the windows that they
// have for this objective.
func reachableTiers(o slo.Objective) []slo.Burn {
	none := func(int64, int64) slo.Counts { return slo.Counts{} }
	never := slo.Unreachable(o.ObjectivePPM)
	return slices.DeleteFunc(slo.Evaluate(o, none, time.Unix(0, 0), slo.Freshness{}).Burn, func(b slo.Burn) bool {
		return slices.ContainsFunc(never, func(t slo.Tier) bool { return t.Name == b.Tier })
	})
}

// budgetOf is the share of requests that may be bad.
func budgetOf(o slo.Objective) float64 { return float64(slo.PPM-o.ObjectivePPM) / slo.PPM }

type inhibitFile struct {
	Rules []inhibitRule `yaml:"inhibit_rules"`
}

type inhibitRule struct {
	Source []string `yaml:"source_matchers"`
	Target []string `yaml:"target_matchers"`
	Equal  []string `yaml:"equal,flow"`
}

// inhibition lets the fastest tier of an objective speak alone, whether
// Prometheus or the control plane raised it.
func inhibition() inhibitFile {
	var f inhibitFile
	name := fmt.Sprintf("%s=%q", alert.LabelName, alert.ErrorBudgetBurn)
	tiers := alert.Tiers()
	for n, tier := range tiers[:len(tiers)-1] {
		f.Rules = append(f.Rules, inhibitRule{
			Source: []string{name, fmt.Sprintf("%s=%q", alert.LabelTier, tier)},
			Target: []string{name, fmt.Sprintf("%s=~%q", alert.LabelTier, strings.Join(tiers[n+1:], "|"))},
			Equal:  []string{alert.LabelSLO, alert.LabelService},
		})
	}
	return f
}

// duration is d as Prometheus writes it: 90d, 6h, 5m, in one unit.
func duration(d time.Duration) string {
	for _, u := range []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}} {
		if d >= u.unit && d%u.unit == 0 {
			return strconv.FormatInt(int64(d/u.unit), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}

func number(f float64) string  { return strconv.FormatFloat(f, 'f', -1, 64) }
func percent(f float64) string { return number(100*f) + " %" }

func lines(all ...string) string { return strings.Join(all, "\n") + "\n" }
