package render

import (
	"fmt"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/slo"
)

// What the rule tests simulate.
const (
	step   = 15 * time.Second // between scrapes
	steps  = 72               // for 18 minutes
	ofEach = 1_000_000        // requests in a step: then a share in parts per million is a whole number
)

type testFile struct {
	RuleFiles []string   `yaml:"rule_files,flow"`
	Every     string     `yaml:"evaluation_interval"`
	Tests     []ruleTest `yaml:"tests"`
}

type ruleTest struct {
	Name     string        `yaml:"name"`
	Interval string        `yaml:"interval"`
	Series   []inputSeries `yaml:"input_series"`
	Alerts   []alertTest   `yaml:"alert_rule_test"`
}

type inputSeries struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
}

type alertTest struct {
	At     string          `yaml:"eval_time"`
	Alert  string          `yaml:"alertname"`
	Expect []expectedAlert `yaml:"exp_alerts"`
}

type expectedAlert struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

// tests prove the rules in promtool: they fire when they should, for what they
// should, and are silent below, without requests and with too few.
func (p prometheus) tests() testFile {
	f := testFile{RuleFiles: []string{RuleFile}, Every: duration(step), Tests: p.generalTests()}
	for _, o := range p.objectives {
		f.Tests = append(f.Tests, objectiveTests(o)...)
	}
	return f
}

func newTest(name string, series ...inputSeries) ruleTest {
	return ruleTest{Name: name, Interval: duration(step), Series: series}
}

func (t ruleTest) expect(at time.Duration, name string, alerts ...expectedAlert) ruleTest {
	if alerts == nil {
		alerts = []expectedAlert{}
	}
	t.Alerts = append(t.Alerts, alertTest{duration(at), name, alerts})
	return t
}

// expected is an alert of a rule, with the summary as it reads.
func expected(name, summary string, severity alert.Severity, labels map[string]string) expectedAlert {
	r, _ := alert.RuleOf(name)
	labels[alert.LabelSeverity] = string(severity)
	return expectedAlert{labels, map[string]string{"summary": summary, "action": r.Action}}
}

// rising is a counter that rises by so much in each step, constant a gauge.
func rising(series string, by int64) inputSeries {
	return inputSeries{series, fmt.Sprintf("0+%dx%d", by, steps)}
}

func constant(series string, value int) inputSeries {
	return inputSeries{series, fmt.Sprintf("%d+0x%d", value, steps)}
}

func (p prometheus) generalTests() []ruleTest {
	requests := func(outcome string, by int64) inputSeries {
		return rising(`seawall_requests_total{service="shop",route="buy",priority="high",outcome="`+outcome+`"}`, by)
	}
	failing := func() expectedAlert {
		return expected(alert.HighErrorRate, "more than 5 % of the requests to shop failed in the last 5m", alert.Page, map[string]string{alert.LabelService: "shop"})
	}
	const soon, late = 4 * time.Minute, 12 * time.Minute
	all := []ruleTest{
		newTest("a tenth of the requests fails", requests("ok", 90), requests("5xx", 10)).
			expect(soon, alert.HighErrorRate).expect(late, alert.HighErrorRate, failing()),
		newTest("a twentieth fails", requests("ok", 95), requests("timeout", 5)).expect(late, alert.HighErrorRate),
		newTest("clients err, leave and are injected", requests("4xx", 50), requests("aborted", 500), requests("injected", 500)).expect(late, alert.HighErrorRate),
		newTest("an experiment hides nothing", requests("ok", 90), requests("5xx", 10), requests("injected", 900)).expect(late, alert.HighErrorRate, failing()),
		newTest("fallbacks hide what fails", requests("5xx", 100), rising(`seawall_degraded_total{service="shop",route="buy",priority="high"}`, 99)).expect(late, alert.HighErrorRate),
		newTest("all of very few fail", inputSeries{`seawall_requests_total{service="shop",route="buy",priority="high",outcome="5xx"}`, fmt.Sprintf("0+0x10 9+0x%d", steps)}).
			expect(5*time.Minute, alert.HighErrorRate).expect(late, alert.HighErrorRate),
		newTest("an Envoy rejects the policies", constant(`seawall_nodes{state="rejected"}`, 1)).
			expect(soon, alert.NodeRejected, expected(alert.NodeRejected, "an Envoy rejected the policies", alert.Ticket, map[string]string{})),
		newTest("one of two Envoys goes", inputSeries{`seawall_nodes{state="connected"}`, fmt.Sprintf("2+0x20 1+0x%d", steps)}).
			expect(soon, alert.NodeGone).
			expect(late, alert.NodeGone, expected(alert.NodeGone, "fewer Envoys are connected than an hour ago", alert.Ticket, map[string]string{})),
		newTest("telemetry comes", rising("seawall_last_batch_timestamp_seconds", int64(step/time.Second))).expect(late, alert.TelemetryStale),
		newTest("telemetry has stopped", constant("seawall_last_batch_timestamp_seconds", 0)).
			expect(time.Minute, alert.TelemetryStale).
			expect(soon, alert.TelemetryStale, expected(alert.TelemetryStale, "no Envoy reports what it counts", alert.Page, map[string]string{})),
		newTest("the control plane runs", constant(`seawall_build_info{version="1",filter="f"}`, 1)).expect(late, ControlPlaneDown),
	}
	route := func() map[string]string {
		return map[string]string{alert.LabelService: "shop", alert.LabelRoute: "buy"}
	}
	if p.breakers {
		closed := func(node string, value int) inputSeries {
			return constant(`seawall_breaker_state{service="shop",route="buy",node="`+node+`",state="closed"}`, value)
		}
		forced := constant(`seawall_breaker_forced{service="shop",route="buy",node="b"}`, 1)
		open := expected(alert.CircuitBreakerOpen, "the breaker of shop/buy is open", alert.Page, route())
		all = append(all,
			newTest("a breaker is open in one of two Envoys", closed("a", 1), closed("b", 0)).
				expect(soon, alert.CircuitBreakerOpen).expect(late, alert.CircuitBreakerOpen, open),
			newTest("a breaker is forced open", closed("a", 1), closed("b", 0), forced).expect(late, alert.CircuitBreakerOpen),
			newTest("a breaker opens each five minutes", constant(`seawall_nodes{state="connected"}`, 1),
				inputSeries{`seawall_breaker_transitions_total{service="shop",route="buy",to="open"}`, "0+0x20 1+0x20 2+0x20 3+0x20"}).
				expect(10*time.Minute, alert.CircuitBreakerFlapping).
				expect(16*time.Minute, alert.CircuitBreakerFlapping, expected(alert.CircuitBreakerFlapping, "the breaker of shop/buy opens again and again", alert.Ticket, route())))
	}
	if p.fallbacks {
		all = append(all, newTest("clients get fallbacks", requests("ok", 90), requests("5xx", 10),
			rising(`seawall_degraded_total{service="shop",route="buy",priority="high"}`, 10)).
			expect(soon, alert.DegradedMode).
			expect(16*time.Minute, alert.DegradedMode, expected(alert.DegradedMode, "more than 5 % of the answers of shop/buy were fallbacks in the last 5m", alert.Ticket, route())))
	}
	return all
}

func objectiveTests(o slo.Objective) []ruleTest {
	labels := fmt.Sprintf(`{slo="%s",service="%s"}`, o.Name, o.Service)
	counted := func(bad int64) []inputSeries {
		return []inputSeries{rising("seawall_slo_requests_total"+labels, ofEach), rising("seawall_slo_bad_requests_total"+labels, bad)}
	}
	tiers := reachableTiers(o)
	fires := func(burn float64) (all []expectedAlert) {
		for _, t := range tiers {
			if t.Threshold < burn {
				all = append(all, expected(alert.ErrorBudgetBurn, burnSummary(o.Name, t), alert.TierSeverity(t.Tier),
					map[string]string{alert.LabelSLO: o.Name, alert.LabelService: o.Service, alert.LabelTier: t.Tier}))
			}
		}
		return all
	}
	budget := slo.PPM - o.ObjectivePPM
	const late = 10 * time.Minute // the share is the same in all windows, however short the history is
	all := []ruleTest{
		newTest(o.Name+": every request fails", counted(ofEach)...).expect(late, alert.ErrorBudgetBurn, fires(1/budgetOf(o))...),
		newTest(o.Name+": half of what is allowed fails", counted(budget/2)...).expect(late, alert.ErrorBudgetBurn),
		newTest(o.Name+": nobody asks", counted(0)[1:]...).expect(late, alert.ErrorBudgetBurn),
		newTest(o.Name+": the only two requests fail", constantAfter("seawall_slo_requests_total"+labels, 2), constantAfter("seawall_slo_bad_requests_total"+labels, 2)).
			expect(time.Minute, alert.ErrorBudgetBurn).expect(late, alert.ErrorBudgetBurn),
		newTest(o.Name+": the budget is used up", constant("seawall_slo_budget_consumed_ratio"+labels, 1)).
			expect(time.Minute, alert.ErrorBudgetExhausted, expected(alert.ErrorBudgetExhausted, o.Name+" has consumed all of its error budget", alert.Ticket,
				map[string]string{alert.LabelSLO: o.Name, alert.LabelService: o.Service})),
	}
	// Between two tiers, the slower ones fire alone.
	for _, times := range []int64{2, 4, 8} {
		if times*budget <= slo.PPM {
			all = append(all, newTest(fmt.Sprintf("%s: %d times what is allowed fails", o.Name, times), counted(times*budget)...).
				expect(late, alert.ErrorBudgetBurn, fires(float64(times))...))
		}
	}
	return all
}

// constantAfter is a counter that rises once, from 0.
func constantAfter(series string, value int) inputSeries {
	return inputSeries{series, fmt.Sprintf("0 %d+0x%d", value, steps)}
}
