package slo

import (
	"math"
	"slices"
	"time"
)

// State is an objective's condition: the first of stale, exhausted, burning,
// insufficient-data and ok that holds.
type State string

// The states, in the order in which they are tried.
const (
	Stale            State = "stale"             // no telemetry for Freshness.MaxAge: nothing here may be trusted
	Exhausted        State = "exhausted"         // all of the budget is consumed
	Burning          State = "burning"           // a burn tier fires
	InsufficientData State = "insufficient-data" // so few requests that the budget does not allow one bad one
	OK               State = "ok"
)

// Status is an objective's budget at one moment: a member of GET slos. Ratios
// are numbers (0.999), Allowed and Remaining are requests.
type Status struct {
	Name       string   `json:"name"`
	Service    string   `json:"service"`
	Objective  float64  `json:"objective"`
	Window     Span     `json:"window"`
	Total      uint64   `json:"total"`
	Bad        uint64   `json:"bad"`
	Attained   *float64 `json:"attained"` // nil when Total is 0
	Budget     Budget   `json:"budget"`
	Burn       []Burn   `json:"burn"`
	ExhaustsIn *Span    `json:"exhaustsIn"` // 0 when exhausted; nil when the present burn never exhausts it
	State      State    `json:"state"`
	Actions    []string `json:"actions"` // of all steps reached, in the policy's order, each once

	Degraded  uint64 `json:"degraded"`  // in Total: answered by a fallback
	Aborted   uint64 `json:"aborted"`   // outside of Total, but for slow ones of a latency objective
	Injected  uint64 `json:"injected"`  // outside of Total: chaos
	Synthetic uint64 `json:"synthetic"` // outside of Total: tests, however they ended
}

// Budget is what may go wrong and what has, in requests, and the same as
// minutes of a total outage at an even load.
type Budget struct {
	Allowed   float64  `json:"allowed"`   // Total × (1 - Objective), may be a fraction
	Remaining float64  `json:"remaining"` // Allowed - Bad, may be negative
	Consumed  *float64 `json:"consumed"`  // Bad ÷ Allowed; nil when Total is 0

	AllowedMinutes   float64  `json:"allowedMinutes"`   // Window × (1 - Objective)
	RemainingMinutes *float64 `json:"remainingMinutes"` // AllowedMinutes × (1 - Consumed), may be negative; nil when Total is 0
}

// Burn is one tier: how many times faster than allowed the budget is being
// spent. It fires when both windows exceed the threshold, the long one holds
// at least three bad requests, and enough requests that the threshold means
// more than one of them.
type Burn struct {
	Tier      string  `json:"tier"` // fast | medium | slow | chronic
	Long      Span    `json:"long"`
	Short     Span    `json:"short"`
	Threshold float64 `json:"threshold"`
	LongRate  float64 `json:"longRate"`  // 0 without requests
	ShortRate float64 `json:"shortRate"` // 0 without requests
	Firing    bool    `json:"firing"`

	LongTotal  uint64 `json:"longTotal"`
	LongBad    uint64 `json:"longBad"`
	ShortTotal uint64 `json:"shortTotal"`
	ShortBad   uint64 `json:"shortBad"`
}

// Fires reports whether a tier of s fires as it is, or with its threshold
// lowered to so many percent, but not below a burn of 1, at which a budget just
// lasts. A lower threshold asks for more requests.
func (s Status) Fires(b Burn, percent uint64) bool {
	ppm := max(1, uint64(math.Round((1-s.Objective)*PPM)))
	tenths := max(10, uint64(math.Round(b.Threshold*10))*percent/100)
	return b.Firing || fires(Counts{Total: b.LongTotal, Bad: b.LongBad}, Counts{Total: b.ShortTotal, Bad: b.ShortBad}, tenths, ppm)
}

func fires(long, short Counts, tenths, ppm uint64) bool {
	// total ≥ 1 ÷ (threshold × budget): below, a single bad request exceeds it.
	enough := long.Bad >= MinBadToFire && !less(long.Total, tenths*ppm, 10, PPM)
	return enough && exceeds(long.Bad, long.Total, tenths, ppm) && exceeds(short.Bad, short.Total, tenths, ppm)
}

// Freshness says when telemetry was last heard of.
type Freshness struct {
	LastBatch time.Time     // zero: never
	MaxAge    time.Duration // older than this is stale
}

func (f Freshness) stale(now time.Time) bool {
	return f.LastBatch.IsZero() || now.Sub(f.LastBatch) > f.MaxAge
}

// Evaluate is the objective's status at now. counts must return what was
// counted from one Unix minute to another, both included; it is asked only for
// stretches that end with the current minute and reach back by one of
// o.Windows(): a window is that many whole minutes and the current one.
func Evaluate(o Objective, counts func(fromMinute, toMinute int64) Counts, now time.Time, fresh Freshness) Status {
	minute := now.Unix() / 60
	back := func(minutes int64) Counts { return counts(minute-minutes, minute) }
	c := back(o.minutes())
	s := Status{
		Name: o.Name, Service: o.Service,
		Objective: float64(o.ObjectivePPM) / PPM,
		Window:    Span(o.Window),
		Total:     c.Total, Bad: c.Bad,
		Degraded: c.Degraded, Aborted: c.Aborted, Injected: c.Injected, Synthetic: c.Synthetic,
		Actions: []string{},
	}
	exhausted := o.Reached(c.Bad, c.Total, PPM)
	s.Budget.Allowed = float64(c.Total) * float64(o.budgetPPM()) / PPM
	s.Budget.Remaining = s.Budget.Allowed - float64(c.Bad)
	s.Budget.AllowedMinutes = o.Window.Minutes() * float64(o.budgetPPM()) / PPM
	if c.Total > 0 {
		attained := float64(c.Total-min(c.Bad, c.Total)) / float64(c.Total)
		consumed := rate(c, o.divisorPPM())
		if exhausted {
			consumed = max(consumed, 1) // also of a budget of nothing
		}
		minutes := s.Budget.AllowedMinutes * (1 - consumed)
		s.Attained, s.Budget.Consumed, s.Budget.RemainingMinutes = &attained, &consumed, &minutes
	}
	for _, t := range tiers {
		long, short := t.scaled(o.Window)
		s.Burn = append(s.Burn, o.burn(t, back(long), back(short)))
	}
	s.ExhaustsIn = o.forecast(s, exhausted)
	s.State = o.state(s, exhausted, fresh.stale(now))
	s.Actions = append(s.Actions, o.actions(c)...)
	return s
}

func (o Objective) burn(t tier, long, short Counts) Burn {
	ppm := o.divisorPPM()
	longMinutes, shortMinutes := t.scaled(o.Window)
	return Burn{
		Tier:      t.name,
		Long:      Span(time.Duration(longMinutes) * time.Minute),
		Short:     Span(time.Duration(shortMinutes) * time.Minute),
		Threshold: float64(t.tenths) / 10,
		LongRate:  rate(long, ppm),
		ShortRate: rate(short, ppm),
		Firing:    fires(long, short, t.tenths, ppm),
		LongTotal: long.Total, LongBad: long.Bad, ShortTotal: short.Total, ShortBad: short.Bad,
	}
}

// rate is the share of bad requests over the share that is allowed.
func rate(c Counts, ppm uint64) float64 {
	if c.Total == 0 {
		return 0
	}
	return float64(c.Bad) * PPM / (float64(c.Total) * float64(ppm))
}

// forecast is the time until the budget is spent at the present burn: the
// highest of the firing tiers, else that of the second tier's long window,
// which is long enough not to jump about. At a burn of 1 or less a rolling
// window never runs out. Bad requests that leave the window meanwhile are not
// credited, so it errs on the early side.
func (o Objective) forecast(s Status, exhausted bool) *Span {
	if exhausted {
		return new(Span)
	}
	if s.Budget.Consumed == nil {
		return nil
	}
	burn := s.Burn[1].LongRate
	for _, b := range s.Burn {
		if b.Firing {
			burn = max(burn, b.LongRate)
		}
	}
	if burn <= 1 {
		return nil
	}
	left := float64(o.Window) * (1 - *s.Budget.Consumed) / burn
	span := Span(max(time.Duration(left).Round(time.Minute), time.Minute))
	return &span
}

func (o Objective) state(s Status, exhausted, stale bool) State {
	switch {
	case stale:
		return Stale
	case exhausted:
		return Exhausted
	case slices.ContainsFunc(s.Burn, func(b Burn) bool { return b.Firing }):
		return Burning
	// Total × budget < 1 request.
	case less(s.Total, o.divisorPPM(), 1, PPM):
		return InsufficientData
	}
	return OK
}

// Reached reports whether that share of the budget is consumed, in parts per
// million, exactly. Without a bad request nothing is.
func (o Objective) Reached(bad, total uint64, sharePPM int64) bool {
	return bad > 0 && reaches(bad, total, sharePPM, o.budgetPPM())
}

func (o Objective) actions(c Counts) []string {
	var all []string
	for _, step := range o.BudgetPolicy {
		if !o.Reached(c.Bad, c.Total, step.ConsumedPPM) {
			continue
		}
		for _, a := range step.Actions {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}
