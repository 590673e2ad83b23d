package chaos_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/engine/chaos"
)

func fault(ppm int64) *chaos.Fault {
	return &chaos.Fault{Seed: chaos.Hash(0, []byte("brownout")), PPM: ppm, NotAfterNS: 1000, Status: 503}
}

func id(i int) []byte { return fmt.Appendf(nil, "4f1c2d3e-%04x-4abc-9def-0123456789ab", i) }

func TestASmallerCohortIsWithinALarger(t *testing.T) {
	t.Parallel()
	hits := map[int64]int{}
	for i := range 20_000 {
		before := false
		for _, ppm := range []int64{0, 10_000, 50_000, 100_000, 1_000_000} {
			hit := chaos.Decide(fault(ppm), 0, id(i), 1).Hit
			require.True(t, hit || !before, "request %d left the cohort at %d ppm", i, ppm)
			before = hit
			if hit {
				hits[ppm]++
			}
		}
	}
	require.Zero(t, hits[0])
	require.InDelta(t, 200, hits[10_000], 60)
	require.InDelta(t, 1000, hits[50_000], 130)
	require.InDelta(t, 2000, hits[100_000], 180)
	require.Equal(t, 20_000, hits[1_000_000])
}

func TestExperimentsHaveCohortsOfTheirOwn(t *testing.T) {
	t.Parallel()
	other := fault(500_000)
	other.Seed = chaos.Hash(0, []byte("latency"))
	both := 0
	for i := range 4000 {
		if chaos.Decide(fault(500_000), 0, id(i), 1).Hit && chaos.Decide(other, 0, id(i), 1).Hit {
			both++
		}
	}
	require.InDelta(t, 1000, both, 150)
}

func TestAFaultEndsByItself(t *testing.T) {
	t.Parallel()
	f := fault(1_000_000)
	require.True(t, chaos.Decide(f, 999, id(1), 1).Hit)
	require.Equal(t, chaos.Decision{}, chaos.Decide(f, 1000, id(1), 1))
	require.Equal(t, chaos.Decision{}, chaos.Decide(f, math.MaxInt64, id(1), 1))
}

func TestAFaultHitsSoManyTries(t *testing.T) {
	t.Parallel()
	f := fault(1_000_000)
	require.True(t, chaos.Decide(f, 0, id(1), 9).Hit, "0 is all")
	f.Tries = 2
	require.True(t, chaos.Decide(f, 0, id(1), 2).Hit)
	require.Equal(t, chaos.Decision{}, chaos.Decide(f, 0, id(1), 3))
}

func TestTheDelayLiesBetweenItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := fault(1_000_000)
		f.LatencyMinNS = rapid.Int64Range(0, 1e12).Draw(t, "min")
		f.LatencyMaxNS = f.LatencyMinNS + rapid.Int64Range(0, 1e12).Draw(t, "spread")
		raw := rapid.SliceOf(rapid.Byte()).Draw(t, "id")
		d := chaos.Decide(f, 0, raw, rapid.Uint32().Draw(t, "try"))
		require.GreaterOrEqual(t, d.DelayNS, f.LatencyMinNS)
		require.LessOrEqual(t, d.DelayNS, f.LatencyMaxNS)
		again := chaos.Hash(7, slices.Clone(raw))
		require.Equal(t, chaos.Hash(7, raw), again)
	})
}

// In a cohort of 1 % the delays cover their range all the same.
func TestDelaysOfASmallCohortAreSpread(t *testing.T) {
	t.Parallel()
	f := fault(10_000)
	f.LatencyMaxNS = 1000
	low, high := 0, 0
	for i := range 50_000 {
		if d := chaos.Decide(f, 0, id(i), 1); d.Hit && d.DelayNS < 500 {
			low++
		} else if d.Hit {
			high++
		}
	}
	require.InDelta(t, low, high, 120)
	require.NotZero(t, low)
}

func TestDecideAllocatesNothing(t *testing.T) {
	f, request := fault(500_000), id(1)
	require.Zero(t, testing.AllocsPerRun(100, func() { chaos.Decide(f, 0, request, 1) }))
}
