package plugin

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// At start the main thread's VM has posted its first batch for the listener's
// fallback when the plan comes: the answer went away with that context, and the
// node counted as synced 2.5 s later than it was.
func TestAPushDoesNotWaitForAnAnswerThatNeverComes(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.request("pay/charge", status(200))
	w.tick()
	require.Len(t, w.posts, 1)
	first := string(w.posts[0].body)
	w.posts = nil // its context ends before the answer
	plan := testPlan()
	plan.Hash = "00000000000000a2"
	w.configure(plan)
	w.now += 200e6
	w.tick()
	require.Len(t, w.posts, 1)
	require.Equal(t, first, string(w.posts[0].body), "the same batch again")
	w.reply(200)
	w.now += 200e6
	w.tick()
	require.Len(t, w.posts, 1)
	b := w.reply(200)
	require.Equal(t, plan.Hash, b.Plan)
	require.EqualValues(t, 2, b.Seq)
}
