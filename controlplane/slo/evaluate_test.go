package slo

import (
	"encoding/json"
	"math"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 24, 12, 0, 30, 0, time.UTC)

const day = 24 * time.Hour

func monthly() Objective {
	return Objective{
		Name: "payments-availability", Service: "payments", ObjectivePPM: 999_000, Window: 30 * day,
		BudgetPolicy: []BudgetStep{
			{500_000, []string{"increase-alerting"}},
			{750_000, []string{"limit-releases", "halt-chaos"}},
			{1_000_000, []string{"freeze-releases", "halt-chaos", "shed-low"}},
		},
	}
}

var fresh = Freshness{LastBatch: noon.Add(-time.Second), MaxAge: time.Minute}

// timeline answers from counts by minutes back from now.
func timeline(back map[int64]Counts) func(from, to int64) Counts {
	now := noon.Unix() / 60
	return func(from, to int64) (sum Counts) {
		for ago, c := range back {
			if m := now - ago; m >= from && m <= to {
				sum = sum.Add(c)
			}
		}
		return sum
	}
}

func TestTheBudgetOfTenMillionRequests(t *testing.T) {
	s := Evaluate(monthly(), timeline(map[int64]Counts{10 * 1440: {Total: 10_000_000, Bad: 15_000}}), noon, fresh)
	require.EqualValues(t, 10_000_000, s.Total)
	require.EqualValues(t, 15_000, s.Bad)
	require.InDelta(t, 0.999, s.Objective, 0)
	require.InDelta(t, 0.9985, *s.Attained, 0)
	require.InDelta(t, 10_000.0, s.Budget.Allowed, 0)
	require.InDelta(t, -5_000.0, s.Budget.Remaining, 0)
	require.InDelta(t, 1.5, *s.Budget.Consumed, 0)
	require.Equal(t, "99.850 %", s.AttainedText())
	require.Equal(t, "150.0 %", s.ConsumedText())
	require.Equal(t, "5,000 over", s.RemainingText())
	require.InDelta(t, 43.2, s.Budget.AllowedMinutes, 1e-9)
	require.InDelta(t, -21.6, *s.Budget.RemainingMinutes, 1e-9)
	require.Equal(t, "-21.6 of 43.2 min", s.DowntimeText())
	require.Equal(t, Exhausted, s.State)
	require.Equal(t, Span(0), *s.ExhaustsIn)
	require.Equal(t, []string{"increase-alerting", "limit-releases", "halt-chaos", "freeze-releases", "shed-low"}, s.Actions)
}

func TestState(t *testing.T) {
	hour := int64(60)
	for name, tc := range map[string]struct {
		objective Objective
		back      map[int64]Counts
		fresh     Freshness
		want      State
		firing    []string
	}{
		"never heard of anything": {monthly(), nil, Freshness{MaxAge: time.Minute}, Stale, nil},
		"silent for too long, whatever else holds": {
			monthly(), map[int64]Counts{0: {Total: 1000, Bad: 1000}},
			Freshness{LastBatch: noon.Add(-61 * time.Second), MaxAge: time.Minute}, Stale, []string{"fast", "medium", "slow", "chronic"},
		},
		"silent for just as long as is allowed": {
			monthly(), map[int64]Counts{0: {Total: 10_000}},
			Freshness{LastBatch: noon.Add(-time.Minute), MaxAge: time.Minute}, OK, nil,
		},
		"no requests":       {monthly(), nil, fresh, InsufficientData, nil},
		"fewer than 1/B":    {monthly(), map[int64]Counts{0: {Total: 999}}, fresh, InsufficientData, nil},
		"just enough":       {monthly(), map[int64]Counts{0: {Total: 1000}}, fresh, OK, nil},
		"one bad of enough": {monthly(), map[int64]Counts{0: {Total: 10_000, Bad: 1}}, fresh, OK, nil},
		"budget spent to the last request": {
			monthly(), map[int64]Counts{20 * 1440: {Total: 10_000, Bad: 10}}, fresh, Exhausted, nil,
		},
		"one request of the budget left": {
			monthly(), map[int64]Counts{20 * 1440: {Total: 10_000, Bad: 9}}, fresh, OK, nil,
		},
		"a fast burn": {
			monthly(), map[int64]Counts{20 * 1440: {Total: 10_000_000}, 1: {Total: 1000, Bad: 100}}, fresh,
			Burning, []string{"fast", "medium", "slow", "chronic"},
		},
		"a burn that has ended does not fire fast or medium": {
			monthly(), map[int64]Counts{20 * 1440: {Total: 10_000_000}, hour - 1: {Total: 1000, Bad: 100}, 0: {Total: 100}}, fresh,
			Burning, []string{"slow", "chronic"},
		},
		"exhausted comes before burning": {
			monthly(), map[int64]Counts{20 * 1440: {Total: 10_000}, 1: {Total: 1000, Bad: 100}}, fresh,
			Exhausted, []string{"fast", "medium", "slow", "chronic"},
		},
		"and before insufficient data": {monthly(), map[int64]Counts{0: {Total: 10, Bad: 1}}, fresh, Exhausted, nil},
		"two bad requests are no burn": {
			monthly(), map[int64]Counts{20 * 1440: {Total: 10_000_000}, 1: {Total: 70, Bad: 2}}, fresh, OK, nil,
		},
		"exactly the threshold is not above it": {
			monthly(), map[int64]Counts{20 * 1440: {Total: 10_000_000}, 1: {Total: 10_000, Bad: 10}}, fresh, OK, nil,
		},
		"one more is": {
			monthly(), map[int64]Counts{20 * 1440: {Total: 10_000_000}, 1: {Total: 10_000, Bad: 11}}, fresh, Burning, []string{"chronic"},
		},
		"an objective of 100 % without failures": {
			Objective{ObjectivePPM: PPM, Window: day}, map[int64]Counts{0: {Total: 2_000_000}}, fresh, OK, nil,
		},
		"an objective of 100 % with one": {
			Objective{ObjectivePPM: PPM, Window: day}, map[int64]Counts{1000: {Total: 2_000_000, Bad: 1}}, fresh, Exhausted, nil,
		},
		// A threshold above 1 ÷ budget can never be reached.
		"all is bad against 90 %: 14.4 cannot fire": {
			Objective{ObjectivePPM: 900_000, Window: 30 * day}, map[int64]Counts{20 * 1440: {Total: 10_000}, 1: {Total: 100, Bad: 100}}, fresh,
			Burning, []string{"medium", "slow", "chronic"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := Evaluate(tc.objective, timeline(tc.back), noon, tc.fresh)
			require.Equal(t, tc.want, s.State)
			var firing []string
			for _, b := range s.Burn {
				if b.Firing {
					firing = append(firing, b.Tier)
				}
			}
			require.Equal(t, tc.firing, firing)
			require.NotNil(t, s.Actions)
		})
	}
}

func TestWindowEdges(t *testing.T) {
	o := monthly()
	for name, tc := range map[string]struct {
		ago   int64
		total uint64
	}{
		"the current minute":     {0, 1},
		"the oldest minute":      {30 * 1440, 1},
		"a minute before that":   {30*1440 + 1, 0},
		"a minute in the future": {-1, 0},
	} {
		s := Evaluate(o, timeline(map[int64]Counts{tc.ago: {Total: 1}}), noon, fresh)
		require.Equal(t, tc.total, s.Total, name)
	}
}

func TestTiersScaleWithTheWindow(t *testing.T) {
	for name, tc := range map[string]struct {
		window      time.Duration
		long, short []string
	}{
		"30 days": {30 * day, []string{"1h", "6h", "1d", "3d"}, []string{"5m", "30m", "2h", "6h"}},
		"7 days":  {7 * day, []string{"14m", "1h24m", "5h36m", "16h48m"}, []string{"1m", "7m", "28m", "1h24m"}},
		"1 day":   {day, []string{"2m", "12m", "48m", "2h24m"}, []string{"1m", "1m", "4m", "12m"}},
		"90 days": {90 * day, []string{"3h", "18h", "3d", "9d"}, []string{"15m", "1h30m", "6h", "18h"}},
	} {
		o := Objective{ObjectivePPM: 999_000, Window: tc.window}
		s := Evaluate(o, timeline(nil), noon, fresh)
		var long, short []string
		var thresholds []float64
		for _, b := range s.Burn {
			long, short = append(long, b.Long.String()), append(short, b.Short.String())
			thresholds = append(thresholds, b.Threshold)
		}
		require.Equal(t, tc.long, long, name)
		require.Equal(t, tc.short, short, name)
		require.Equal(t, []float64{14.4, 6, 3, 1}, thresholds, name)
	}
}

func TestExhaustsIn(t *testing.T) {
	// 10 % of the budget is consumed, and it burns at 20 in the last hour.
	s := Evaluate(monthly(), timeline(map[int64]Counts{20 * 1440: {Total: 990_000, Bad: 0}, 2: {Total: 5_000, Bad: 100}}), noon, fresh)
	require.InDelta(t, 20.0, s.Burn[0].LongRate, 0)
	require.InDelta(t, 0.1005, *s.Budget.Consumed, 0.0001)
	require.Equal(t, "1d8h23m", s.ExhaustsIn.String())

	require.Nil(t, Evaluate(monthly(), timeline(nil), noon, fresh).ExhaustsIn, "no requests")
	slow := map[int64]Counts{0: {Total: 100_000, Bad: 50}}
	require.Nil(t, Evaluate(monthly(), timeline(slow), noon, fresh).ExhaustsIn, "at half the allowed rate it never ends")
}

func TestJSON(t *testing.T) {
	s := Evaluate(monthly(), timeline(nil), noon, fresh)
	s.Burn = s.Burn[:1]
	text, err := json.Marshal(s)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"name": "payments-availability", "service": "payments", "objective": 0.999, "window": "30d", "total": 0, "bad": 0,
		"attained": null, "budget": {"allowed": 0, "remaining": 0, "consumed": null, "allowedMinutes": 43.2, "remainingMinutes": null},
		"burn": [{"tier": "fast", "long": "1h", "short": "5m", "threshold": 14.4, "longRate": 0, "shortRate": 0, "firing": false,
			"longTotal": 0, "longBad": 0, "shortTotal": 0, "shortBad": 0}],
		"exhaustsIn": null, "state": "insufficient-data", "actions": [], "degraded": 0, "aborted": 0, "injected": 0, "synthetic": 0
	}`, string(text))
	var back Status
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, s, back)
}

// TestEvaluateAgainstExactArithmetic compares every decision and every number
// with fractions of unlimited size.
func TestEvaluateAgainstExactArithmetic(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := Objective{
			ObjectivePPM: rapid.OneOf(rapid.Int64Range(1, PPM), rapid.Int64Range(990_000, PPM)).Draw(rt, "objective"),
			Window:       time.Duration(rapid.IntRange(1, 90).Draw(rt, "days")) * day,
			BudgetPolicy: []BudgetStep{{rapid.Int64Range(1, 2*PPM).Draw(rt, "step"), []string{"reached"}}},
		}
		back := map[int64]Counts{}
		for range rapid.IntRange(0, 6).Draw(rt, "minutes") {
			total := rapid.OneOf(rapid.Uint64Range(0, 50), rapid.Uint64Range(0, 1_000_000_000_000)).Draw(rt, "total")
			bad := rapid.OneOf(rapid.Uint64Range(0, total), rapid.Uint64Range(0, min(total, 5)), rapid.Uint64Range(0, total/900)).Draw(rt, "bad")
			back[rapid.OneOf(rapid.Int64Range(0, 400), rapid.Int64Range(0, 91*1440)).Draw(rt, "ago")] = Counts{Total: total, Bad: bad}
		}
		at := timeline(back)
		s := Evaluate(o, at, noon, fresh)

		now := noon.Unix() / 60
		budget := big.NewRat(max(1, PPM-o.ObjectivePPM), PPM)
		burn := func(c Counts) *big.Rat {
			if c.Total == 0 {
				return new(big.Rat)
			}
			share := new(big.Rat).SetFrac(new(big.Int).SetUint64(c.Bad), new(big.Int).SetUint64(c.Total))
			return share.Quo(share, budget)
		}
		all := at(now-int64(o.Window/time.Minute), now)
		require.Equal(rt, all.Total, s.Total)
		require.Equal(rt, all.Bad, s.Bad)
		near := func(want *big.Rat, got float64) {
			w, _ := want.Float64()
			require.InEpsilon(rt, 1+w, 1+got, 1e-9)
		}
		for n, b := range s.Burn {
			long := at(now-int64(time.Duration(b.Long)/time.Minute), now)
			short := at(now-int64(time.Duration(b.Short)/time.Minute), now)
			threshold := big.NewRat(int64(tiers[n].tenths), 10)
			near(burn(long), b.LongRate)
			near(burn(short), b.ShortRate)
			// total ≥ 1/(threshold × budget)
			volume := new(big.Rat).SetInt(new(big.Int).SetUint64(long.Total))
			volume.Mul(volume, threshold).Mul(volume, budget)
			want := burn(long).Cmp(threshold) > 0 && burn(short).Cmp(threshold) > 0 && long.Bad >= 3 && volume.Cmp(big.NewRat(1, 1)) >= 0
			require.Equal(rt, want, b.Firing, b.Tier)
			require.Equal(rt, want, s.Fires(b, 100), b.Tier)
			require.True(rt, !want || s.Fires(b, 50), "a lower threshold does not silence")
		}
		if all.Total == 0 {
			require.Nil(rt, s.Attained)
			require.Nil(rt, s.Budget.Consumed)
			require.Empty(rt, s.Actions)
		} else {
			consumed := burn(all)
			if o.ObjectivePPM == PPM && all.Bad > 0 && consumed.Cmp(big.NewRat(1, 1)) < 0 {
				consumed = big.NewRat(1, 1) // any bad request overspends a budget of nothing
			}
			near(consumed, *s.Budget.Consumed)
			reached := consumed.Cmp(big.NewRat(o.BudgetPolicy[0].ConsumedPPM, PPM)) >= 0 || (o.ObjectivePPM == PPM && all.Bad > 0)
			require.Equal(rt, reached, len(s.Actions) == 1)
			require.Equal(rt, all.Bad > 0 && consumed.Cmp(big.NewRat(1, 1)) >= 0, s.State == Exhausted)
			require.True(rt, *s.Attained >= 0 && *s.Attained <= 1)
			for _, f := range []float64{*s.Attained, *s.Budget.Consumed, s.Budget.Allowed, s.Budget.Remaining, *s.Budget.RemainingMinutes} {
				require.False(rt, math.IsNaN(f) || math.IsInf(f, 0))
			}
		}
		for _, b := range s.Burn { // a rate above the threshold of a tier that cannot fire is impossible
			if slices.ContainsFunc(Unreachable(o.ObjectivePPM), func(u Tier) bool { return u.Name == b.Tier }) {
				require.False(rt, b.Firing)
			}
		}
		_, err := json.Marshal(s)
		require.NoError(rt, err)
		if s.Bad > 0 {
			require.NotEqual(rt, "100.000 %", s.AttainedText())
		}
		if s.ExhaustsIn != nil {
			require.GreaterOrEqual(rt, *s.ExhaustsIn, Span(0))
			require.LessOrEqual(rt, time.Duration(*s.ExhaustsIn), o.Window)
		}
	})
}

// TestUnreachable: the limits are 1 - 1/threshold.
func TestUnreachable(t *testing.T) {
	for name, tc := range map[string]struct {
		ppm   int64
		never []string
	}{
		"99.9 %":                        {999_000, nil},
		"just above 93.06 %":            {930_556, nil},
		"just below":                    {930_555, []string{"fast"}},
		"exactly 1/6 of all may be bad": {833_333, []string{"fast", "medium"}},
		"half":                          {500_000, []string{"fast", "medium", "slow"}},
		"100 %":                         {PPM, nil},
	} {
		var never []string
		for _, tier := range Unreachable(tc.ppm) {
			never = append(never, tier.Name)
			// And when everything is bad it does not fire.
			s := Evaluate(Objective{ObjectivePPM: tc.ppm, Window: 30 * day}, func(int64, int64) Counts { return Counts{Total: 1_000_000, Bad: 1_000_000} }, noon, fresh)
			require.False(t, s.Burn[slices.IndexFunc(s.Burn, func(b Burn) bool { return b.Tier == tier.Name })].Firing, name)
		}
		require.Equal(t, tc.never, never, name)
	}
}

func TestFiresWithALowerThreshold(t *testing.T) {
	// 8 times too fast, over all windows.
	s := Evaluate(monthly(), func(int64, int64) Counts { return Counts{Total: 1000, Bad: 8} }, noon, fresh)
	fast := s.Burn[0]
	require.False(t, s.Fires(fast, 100))
	require.True(t, s.Fires(fast, 50))
	// 0.8: half of the chronic threshold, but within the budget.
	s = Evaluate(monthly(), func(int64, int64) Counts { return Counts{Total: 10_000, Bad: 8} }, noon, fresh)
	require.False(t, s.Fires(s.Burn[3], 50))
	// What fires as it is does so with a lower threshold, which asks for more requests.
	s = Evaluate(monthly(), func(int64, int64) Counts { return Counts{Total: 70, Bad: 3} }, noon, fresh)
	require.True(t, s.Burn[0].Firing)
	require.True(t, s.Fires(s.Burn[0], 50))
	// Two bad requests are no burn at any threshold.
	s = Evaluate(monthly(), func(int64, int64) Counts { return Counts{Total: 200, Bad: 2} }, noon, fresh)
	require.False(t, s.Fires(s.Burn[0], 50))
}
