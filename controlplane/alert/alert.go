package alert

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// State is what an alert does.
type State string

// The states.
const (
	Pending  State = "pending"  // holds, not for long enough yet
	Firing   State = "firing"   // tells people
	Resolved State = "resolved" // has ended lately
)

// resolvedFor is how long an alert that has ended is shown, and told to an
// Alertmanager that could not be reached.
const resolvedFor = 15 * time.Minute

// restartGrace is how long a pending alert must still hold after a restart:
// whether it held while nobody looked is not known.
const restartGrace = time.Minute

// Alert is a member of GET alerts.
type Alert struct {
	Name        string            `json:"name"`
	State       State             `json:"state"`
	Severity    Severity          `json:"severity"`
	Since       time.Time         `json:"since"` // when it entered State
	Labels      map[string]string `json:"labels"`
	Summary     string            `json:"summary"`     // what is wrong, with figures
	Action      string            `json:"action"`      // what to do
	InhibitedBy string            `json:"inhibitedBy"` // what says more of the same; webhooks are not told then
	Began       time.Time         `json:"began"`       // when its condition began to hold

	Told bool      `json:"-"` // webhooks know that it fires
	Held time.Time `json:"-"` // when its condition held last; not stored
}

// key identifies an alert. Labels hold no control characters: they are names of
// policies and Envoy's node ids.
func key(name string, labels map[string]string) string {
	var b strings.Builder
	b.WriteString(name)
	for _, l := range slices.Sorted(maps.Keys(labels)) {
		b.WriteByte(0)
		b.WriteString(l)
		b.WriteByte(1)
		b.WriteString(labels[l])
	}
	return b.String()
}

// sorted sorts by keys, each of which is made once.
func sorted[T any](all []T, key func(T) string) []T {
	type keyed struct {
		key  string
		item T
	}
	with := make([]keyed, len(all))
	for i, item := range all {
		with[i] = keyed{key(item), item}
	}
	slices.SortFunc(with, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	for i := range with {
		all[i] = with[i].item
	}
	return all
}

// Key identifies the alert, whatever its state.
func (a Alert) Key() string { return key(a.Name, a.Labels) }

// Subject is what the alert is about, in its labels' words; "" for the whole.
func (a Alert) Subject() string {
	l := a.Labels
	switch {
	case l[LabelTier] != "":
		return l[LabelSLO] + "/" + l[LabelTier]
	case l[LabelSLO] != "":
		return l[LabelSLO]
	case l[LabelRoute] != "":
		return l[LabelService] + "/" + l[LabelRoute]
	case l[LabelService] != "":
		return l[LabelService]
	}
	return l[LabelNode]
}

// Next is the alerts after conditions were seen to hold at now, sorted by name
// and labels. Where unjudged, alerts of a Measured rule that fire go on, and none
// begins.
func Next(before []Alert, conditions []Condition, unjudged bool, now time.Time) []Alert {
	old := make(map[string]Alert, len(before))
	for _, a := range before {
		old[a.Key()] = a
	}
	var after []Alert
	for _, c := range conditions {
		rule, _ := RuleOf(c.Name)
		if unjudged && rule.Measured {
			continue
		}
		k := key(c.Name, c.Labels)
		a, ok := old[k]
		delete(old, k)
		if !ok || a.State == Resolved {
			a = Alert{Name: c.Name, Labels: c.Labels, State: Pending, Began: now, Since: now, Action: rule.Action}
		}
		a.Severity, a.Summary, a.Held = c.Severity, c.Summary, now
		if a.State == Pending && now.Sub(a.Began) >= rule.For {
			a.State, a.Since = Firing, now
		}
		after = append(after, a)
	}
	for _, a := range old {
		rule, known := RuleOf(a.Name)
		switch {
		case a.State == Resolved && now.Sub(a.Since) >= resolvedFor:
			continue
		case a.State == Resolved:
		case a.State == Pending:
			continue
		case unjudged && rule.Measured:
			a.Held = now // the time that it has to be quiet for starts again
		case !known || now.Sub(a.Held) >= rule.Keep:
			a.State, a.Since = Resolved, now
		}
		after = append(after, a)
	}
	inhibit(after)
	return sorted(after, Alert.Key)
}

// inhibit marks the burn alerts of an objective whose faster tier fires.
func inhibit(all []Alert) {
	fastest := map[string]int{}
	rank := func(a *Alert) int { return slices.Index(Tiers(), a.Labels[LabelTier]) }
	burns := func(a *Alert) bool { return a.Name == ErrorBudgetBurn && a.State == Firing }
	for i := range all {
		all[i].InhibitedBy = ""
		if a := &all[i]; burns(a) {
			if best, ok := fastest[a.Labels[LabelSLO]]; !ok || rank(a) < best {
				fastest[a.Labels[LabelSLO]] = rank(a)
			}
		}
	}
	for i := range all {
		if a := &all[i]; burns(a) && rank(a) > fastest[a.Labels[LabelSLO]] {
			a.InhibitedBy = ErrorBudgetBurn + "/" + Tiers()[fastest[a.Labels[LabelSLO]]]
		}
	}
}

// resume makes what an earlier run kept fit to go on with at now: nobody knows
// what held in between.
func resume(stored []Alert, now time.Time) []Alert {
	for i := range stored {
		a := &stored[i]
		a.Held = now
		rule, _ := RuleOf(a.Name)
		if earliest := now.Add(min(restartGrace, rule.For) - rule.For); a.State == Pending && a.Began.Before(earliest) {
			a.Began = earliest
		}
	}
	return stored
}

// untold are the alerts that began or ceased to fire since webhooks were told
// last; it marks them as told.
func untold(all []Alert) (out []Alert) {
	for i := range all {
		switch a := &all[i]; {
		case a.State == Firing && !a.Told && a.InhibitedBy == "":
			a.Told = true
			out = append(out, *a)
		case a.State == Resolved && a.Told:
			a.Told = false
			out = append(out, *a)
		}
	}
	return out
}
