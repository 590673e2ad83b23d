package alert_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/controlplane/alert"
)

// world is a clock, the alerts, and what holds.
type world struct {
	now    time.Time
	alerts []alert.Alert
	blind  bool
}

func (w *world) step(d time.Duration, holds ...alert.Condition) {
	w.now = w.now.Add(d)
	w.alerts = alert.Next(w.alerts, holds, w.blind, w.now)
}

// states are name and state of all, "!" where another one inhibits it.
func (w *world) states() (all []string) {
	for _, a := range w.alerts {
		s := a.Name + a.Labels[alert.LabelTier] + " " + string(a.State)
		if a.InhibitedBy != "" {
			s += "!"
		}
		all = append(all, s)
	}
	return all
}

func holds(name string, labels ...string) alert.Condition {
	c := alert.Condition{Name: name, Labels: map[string]string{}, Severity: alert.Page, Summary: name + " holds"}
	for i := 0; i < len(labels); i += 2 {
		c.Labels[labels[i]] = labels[i+1]
	}
	return c
}

func burns(tier string) alert.Condition {
	return holds(alert.ErrorBudgetBurn, alert.LabelSLO, "pay", alert.LabelTier, tier)
}

func TestAnAlertFiresOnceItHasHeldForLongEnough(t *testing.T) {
	t.Parallel()
	w := world{now: start}
	c := holds(alert.HighErrorRate)
	w.step(0, c)
	require.Equal(t, []string{"HighErrorRate pending"}, w.states())
	w.step(5*time.Minute-time.Second, c)
	require.Equal(t, []string{"HighErrorRate pending"}, w.states())
	require.Equal(t, start, w.alerts[0].Since)
	c.Summary = "worse"
	w.step(time.Second, c)
	require.Equal(t, []string{"HighErrorRate firing"}, w.states())
	a := w.alerts[0]
	require.Equal(t, start, a.Began)
	require.Equal(t, start.Add(5*time.Minute), a.Since)
	require.Equal(t, "worse", a.Summary)
	require.NotEmpty(t, a.Action)
}

func TestAConditionThatPausesStartsAgain(t *testing.T) {
	t.Parallel()
	w := world{now: start}
	w.step(0, holds(alert.HighErrorRate))
	w.step(4*time.Minute, holds(alert.HighErrorRate))
	w.step(time.Second)
	require.Empty(t, w.states())
	w.step(time.Second, holds(alert.HighErrorRate))
	w.step(4*time.Minute, holds(alert.HighErrorRate))
	require.Equal(t, []string{"HighErrorRate pending"}, w.states())
}

// One that comes and goes rings once, and has ended once.
func TestAFiringAlertDoesNotFlap(t *testing.T) {
	t.Parallel()
	w := world{now: start}
	w.step(0, burns("fast"))
	since := w.alerts[0].Since
	for range 20 {
		w.step(4 * time.Minute)
		require.Equal(t, []string{"ErrorBudgetBurnfast firing"}, w.states())
		w.step(10*time.Second, burns("fast"))
		require.Equal(t, since, w.alerts[0].Since)
	}
	w.step(5*time.Minute - time.Second)
	require.Equal(t, []string{"ErrorBudgetBurnfast firing"}, w.states())
	w.step(time.Second)
	require.Equal(t, []string{"ErrorBudgetBurnfast resolved"}, w.states())
	require.Equal(t, w.now, w.alerts[0].Since)
	w.step(alert.ResolvedFor - time.Second)
	require.Equal(t, []string{"ErrorBudgetBurnfast resolved"}, w.states())
	w.step(time.Second)
	require.Empty(t, w.states())
}

func TestAResolvedAlertMayFireAgain(t *testing.T) {
	t.Parallel()
	w := world{now: start}
	w.step(0, burns("fast"))
	w.step(time.Hour)
	require.Equal(t, []string{"ErrorBudgetBurnfast resolved"}, w.states())
	w.step(time.Minute, burns("fast"))
	require.Equal(t, []string{"ErrorBudgetBurnfast firing"}, w.states())
	require.Equal(t, w.now, w.alerts[0].Began)
}

// What cannot be seen neither begins nor ends; what can be seen does.
func TestStaleTelemetryFreezesWhatItMeasures(t *testing.T) {
	t.Parallel()
	w := world{now: start}
	w.step(0, burns("fast"), holds(alert.HighErrorRate), holds(alert.NodeGone))
	w.step(4*time.Minute, burns("fast"), holds(alert.HighErrorRate), holds(alert.NodeGone))
	w.blind = true
	w.step(time.Hour, holds(alert.TelemetryStale), holds(alert.DegradedMode))
	require.Equal(t, []string{"ErrorBudgetBurnfast firing", "TelemetryStale pending"}, w.states())
	w.blind = false
	w.step(4*time.Minute, holds(alert.HighErrorRate))
	require.Equal(t, []string{"ErrorBudgetBurnfast firing", "HighErrorRate pending"}, w.states(), "the blind time counts for neither")
	w.step(time.Minute, holds(alert.HighErrorRate))
	require.Equal(t, []string{"ErrorBudgetBurnfast resolved", "HighErrorRate pending"}, w.states())
	w.step(4*time.Minute, holds(alert.HighErrorRate))
	require.Equal(t, []string{"ErrorBudgetBurnfast resolved", "HighErrorRate firing"}, w.states())
}

func TestAFasterTierInhibits(t *testing.T) {
	t.Parallel()
	w := world{now: start}
	other := holds(alert.ErrorBudgetBurn, alert.LabelSLO, "other", alert.LabelTier, "chronic")
	w.step(0, burns("chronic"), burns("slow"), other)
	require.Equal(t, []string{"ErrorBudgetBurnchronic firing", "ErrorBudgetBurnchronic firing!", "ErrorBudgetBurnslow firing"}, w.states())
	w.step(time.Second, burns("chronic"), burns("slow"), burns("fast"), other)
	require.Equal(t, []string{"ErrorBudgetBurnchronic firing", "ErrorBudgetBurnchronic firing!", "ErrorBudgetBurnfast firing", "ErrorBudgetBurnslow firing!"}, w.states())
	require.Equal(t, "ErrorBudgetBurn/fast", w.alerts[1].InhibitedBy)
	w.step(6*time.Minute, burns("chronic"), burns("slow"), other)
	require.Equal(t, []string{"ErrorBudgetBurnchronic firing", "ErrorBudgetBurnchronic firing!", "ErrorBudgetBurnfast resolved", "ErrorBudgetBurnslow firing"}, w.states())
}

// A restart neither resolves what fires nor makes what was pending fire at once.
func TestAlertsGoOnAfterARestart(t *testing.T) {
	t.Parallel()
	w := world{now: start}
	w.step(0, burns("fast"), holds(alert.HighErrorRate))
	w.now = start.Add(3 * time.Hour)
	w.alerts = alert.Resume(w.alerts, w.now)
	w.step(time.Second, holds(alert.HighErrorRate))
	require.Equal(t, []string{"ErrorBudgetBurnfast firing", "HighErrorRate pending"}, w.states())
	w.step(time.Minute, holds(alert.HighErrorRate))
	require.Equal(t, []string{"ErrorBudgetBurnfast firing", "HighErrorRate firing"}, w.states())
	w.step(5*time.Minute, holds(alert.HighErrorRate))
	require.Equal(t, []string{"ErrorBudgetBurnfast resolved", "HighErrorRate firing"}, w.states())
}

// Whatever holds when: one alert per identity, sorted; none fires before its
// time or ends before it was quiet for long enough; time never runs back in it.
func TestNextKeepsItsPromises(t *testing.T) {
	t.Parallel()
	names := []string{alert.HighErrorRate, alert.CircuitBreakerOpen, alert.NodeGone, alert.ErrorBudgetExhausted}
	rapid.Check(t, func(rt *rapid.T) {
		w := world{now: start}
		held := map[string]time.Time{}     // when it held last, or could not be seen
		unbroken := map[string]time.Time{} // since when it holds
		was := map[string]alert.State{}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			w.blind = rapid.IntRange(0, 5).Draw(rt, "blind") == 0
			var now []alert.Condition
			step := rapid.SampledFrom([]time.Duration{3 * time.Second, time.Minute, 4 * time.Minute, 20 * time.Minute}).Draw(rt, "step")
			for _, n := range names {
				rule, _ := alert.RuleOf(n)
				hold := rapid.Bool().Draw(rt, n)
				if hold {
					now = append(now, holds(n))
				}
				switch frozen := w.blind && rule.Measured; {
				case frozen:
					held[n] = w.now.Add(step)
					delete(unbroken, n)
				case hold:
					held[n] = w.now.Add(step)
					if _, ok := unbroken[n]; !ok {
						unbroken[n] = w.now.Add(step)
					}
				default:
					delete(unbroken, n)
				}
			}
			w.step(step, now...)
			seen := map[string]alert.State{}
			last := ""
			for _, a := range w.alerts {
				require.Greater(rt, a.Key(), last)
				last = a.Key()
				rule, _ := alert.RuleOf(a.Name)
				require.False(rt, a.Since.After(w.now) || a.Began.After(a.Since))
				if a.State == alert.Firing && was[a.Name] != alert.Firing {
					require.GreaterOrEqual(rt, w.now.Sub(unbroken[a.Name]), rule.For)
				}
				if a.State == alert.Resolved && was[a.Name] == alert.Firing {
					require.GreaterOrEqual(rt, w.now.Sub(held[a.Name]), rule.Keep)
				}
				seen[a.Name] = a.State
			}
			for n, s := range was {
				require.False(rt, s == alert.Firing && seen[n] != alert.Firing && seen[n] != alert.Resolved, "%s vanished", n)
			}
			was = seen
		}
	})
}
