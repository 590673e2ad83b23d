package plugin

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seawall-mesh/seawall/filter/contract"
)

func TestABatchLeavesEachSecondEvenWhenIdle(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	var at []int64
	for range 30 {
		w.tick()
		if len(w.posts) > 0 {
			require.Equal(t, Post{Cluster: "seawall-telemetry", Authority: "telemetry", Path: "/v1/batches", Body: w.posts[0].to.Body, TimeoutMS: 2000}, w.posts[0].to)
			require.EqualValues(t, len(at)+1, w.reply(200).Seq, "no gaps")
			at = append(at, w.now)
		}
		w.now += 200e6
	}
	require.Len(t, at, 6)
	for i := 1; i < len(at); i++ {
		require.Equal(t, sec, at[i]-at[i-1])
	}
}

func TestANewPlanIsAnnouncedOnTheNextTick(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.batch()
	plan := testPlan()
	plan.Hash = "00000000000000a2"
	w.configure(plan)
	w.tick()
	require.Equal(t, "00000000000000a2", w.reply(200).Plan)
}

func TestAFrozenBatchKeepsItsBytes(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.request("pay/charge", status(200))
	w.tick()
	first := w.posts[0].body
	for _, s := range []int{503, 0, 404, 429, 401} {
		w.reply(s)
		w.request("pay/charge", status(200))
		before := w.now
		for len(w.posts) == 0 {
			w.now += 200e6
			w.tick()
			require.Less(t, w.now-before, 3*sec, "it backs off no longer than two seconds")
		}
		require.Equal(t, string(first), string(w.posts[0].body))
	}
	w.posts = nil // the context that sent it is gone: no answer ever comes
	for range 25 {
		w.now += 200e6
		w.tick()
	}
	require.Equal(t, string(first), string(w.posts[0].body))
	w.postFail = true
	w.reply(503)
	w.now += 5 * sec
	w.tick()
	require.Empty(t, w.posts)
	w.postFail = false
	w.now += 2 * sec
	w.tick()
	require.Equal(t, string(first), string(w.posts[0].body))
	require.Equal(t, map[string]uint64{"pay/charge ok": 1}, counts(w.reply(202)))
	b := w.batch()
	require.EqualValues(t, 2, b.Seq)
	require.Equal(t, map[string]uint64{"pay/charge ok": 5}, counts(b))
}

func TestARefusedBatchIsDroppedAndCounted(t *testing.T) {
	t.Parallel()
	for _, s := range []int{400, 413, 422} {
		w := workers(t, 1)[0]
		w.request("pay/charge", status(200))
		w.tick()
		w.reply(s)
		b := w.batch()
		require.EqualValues(t, 2, b.Seq)
		require.EqualValues(t, 1, b.Counters.Rejected)
		require.Empty(t, counts(b))
	}
}

func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	plan := testPlan()
	plan.Routes = nil
	for i := range 2500 {
		name := string([]byte{'a' + byte(i/676), 'a' + byte(i/26%26), 'a' + byte(i%26)})
		plan.Routes = append(plan.Routes, contract.Route{Name: "s/" + name, Service: "s", Route: name, Priority: "low"})
	}
	w := newProxy(t).worker(plan)
	for _, r := range plan.Routes {
		w.request(r.Name, status(200))
	}
	var sizes []int
	for range 3 {
		sizes = append(sizes, len(w.batch().Rows))
		w.now += sec
	}
	require.Equal(t, []int{1000, 1000, 500}, sizes)
}

func TestAnOutageKeepsItsMinutes(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	for range 90 {
		w.request("pay/charge", status(200))
		w.tick()
		for len(w.posts) > 0 {
			w.reply(0)
		}
		w.now += 60 * sec
	}
	var batches []contract.Batch
	for range 3 {
		batches = append(batches, w.batch())
		w.now += sec
	}
	minutes := map[int64]uint64{}
	coarseN := uint64(0)
	for _, b := range batches {
		for _, r := range b.Rows {
			minutes[r.Minute] += r.Counts[0].N
			if r.Coarse {
				coarseN += r.Counts[0].N
			}
		}
		require.Zero(t, b.Counters.DroppedRows)
	}
	require.Equal(t, map[string]uint64{"pay/charge ok": 90}, counts(batches...))
	require.EqualValues(t, 29, coarseN)
	require.GreaterOrEqual(t, len(minutes), keptMinutes)
}

func TestATrapLosesOneTickAtMost(t *testing.T) {
	t.Parallel()
	ws := workers(t, 2)
	w, other := ws[0], ws[1]
	other.batch()
	w.tick() // its first batch, unanswered: the control plane is away
	var died string
	for range 10 {
		w.request("pay/charge", status(200))
		w.now += 200e6
		w.tick()
		died = w.vm.out.vm
	}
	w.request("pay/charge", status(200)) // after the last tick: this one is lost
	w.boot()
	w.configure(testPlan())
	w.now += 16 * sec
	got := map[string][]uint64{}
	var all []contract.Batch
	for range 40 {
		w.tick()
		other.tick()
		for _, x := range ws {
			for len(x.posts) > 0 {
				b := x.reply(202)
				got[b.VM] = append(got[b.VM], b.Seq)
				all = append(all, b)
			}
		}
		w.now += 200e6
	}
	require.Equal(t, []uint64{1, 2}, got[died], "adopted, delivered under its own name, in order")
	require.Equal(t, map[string]uint64{"pay/charge ok": 10}, counts(all...))
	require.NotEqual(t, died, w.vm.out.vm)
}

func TestWhatIsOutIsParkedWithTheSameBytes(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.batch()
	w.request("pay/charge", status(200))
	for len(w.posts) == 0 { // it is staged for a while, then frozen without anything new
		w.now += 200e6
		w.tick()
	}
	batches, ok := slotBatches(w.shared[w.vm.slot.key].value)
	require.True(t, ok)
	require.Len(t, batches, 1)
	require.Equal(t, string(w.posts[0].body), string(batches[0]))
}

func TestAnOwnerThatLostItsSlotStartsAnew(t *testing.T) {
	t.Parallel()
	ws := workers(t, 2)
	w, other := ws[0], ws[1]
	w.request("pay/charge", status(200))
	w.tick()
	was := w.vm.out.vm
	w.now += 20 * sec // w is stopped, other is not
	var all []contract.Batch
	for range 40 {
		other.tick()
		for len(other.posts) > 0 {
			all = append(all, other.reply(202))
		}
		w.now += 200e6
	}
	require.Equal(t, map[string]uint64{"pay/charge ok": 1}, counts(all...))
	w.posts = nil
	w.request("pay/charge", status(200))
	b := w.batch()
	require.NotEqual(t, was, b.VM)
	require.EqualValues(t, 1, b.Seq)
	require.Equal(t, map[string]uint64{"pay/charge ok": 1}, counts(b), "what was parked is not sent twice")
}

func TestMoreVMsThanSlots(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	for range slots + 2 {
		p.worker(testPlan())
	}
	held := 0
	for _, w := range p.workers {
		w.request("pay/charge", status(200))
		require.Equal(t, map[string]uint64{"pay/charge ok": 1}, counts(w.batch()))
		if w.vm.slot.held {
			held++
		}
	}
	require.Equal(t, slots, held)
}

func TestWithoutTelemetryNothingIsSent(t *testing.T) {
	t.Parallel()
	plan := testPlan()
	plan.Telemetry = contract.Telemetry{}
	w := newProxy(t).worker(plan)
	for range 20 {
		w.request("pay/charge", status(200))
		w.tick()
		w.now += 60 * sec
	}
	require.Empty(t, w.posts)
}

func FuzzSlot(f *testing.F) {
	f.Add(encodeSlot([16]byte{1}, 5, [][]byte{[]byte("a"), nil}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if batches, ok := slotBatches(data); ok {
			require.Equal(t, data, encodeSlot(slotOwner(data), int64(get64(data[17:])), batches))
		}
	})
}

// sink is the control plane: it takes each (vm, seq) once, and insists that it
// always has the same bytes.
type sink struct {
	t       *rapid.T
	batches map[string]string
	total   uint64
}

func (s *sink) take(body []byte) {
	var b contract.Batch
	require.NoError(s.t, json.Unmarshal(body, &b))
	id := b.VM + string(rune(b.Seq))
	if have, ok := s.batches[id]; ok {
		require.Equal(s.t, have, string(body), "a batch once sent is frozen")
		return
	}
	s.batches[id] = string(body)
	for _, n := range counts(b) {
		s.total += n
	}
}

// Whatever fails, no request is counted twice, and none is lost but those that
// a VM has counted since its last tick when it traps.
func TestNoCountIsLostOrDoubled(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := newProxy(t)
		for range rapid.IntRange(1, 3).Draw(t, "workers") {
			p.worker(testPlan())
		}
		s := &sink{t: t, batches: map[string]string{}}
		sent, atRisk := uint64(0), map[*worker]uint64{}
		lost := uint64(0)
		draw := func(t *rapid.T) *worker { return rapid.SampledFrom(p.workers).Draw(t, "worker") }
		answer := func(t *rapid.T, w *worker, how string) {
			if len(w.posts) == 0 {
				return
			}
			switch how {
			case "taken":
				s.take(w.posts[0].body)
				w.reply(202)
			case "taken, answer lost":
				s.take(w.posts[0].body)
				w.reply(0)
			case "refused connection":
				w.reply(503)
			case "never answered":
				w.posts = w.posts[1:]
			case "taken, never answered":
				s.take(w.posts[0].body)
				w.posts = w.posts[1:]
			}
		}
		all := func(do func(w *worker)) {
			for _, w := range p.workers {
				do(w)
			}
		}
		tick := func(w *worker) { w.tick(); atRisk[w] = 0 }
		t.Repeat(map[string]func(*rapid.T){
			"request": func(t *rapid.T) {
				w := draw(t)
				for range rapid.IntRange(1, 3).Draw(t, "n") {
					w.request(rapid.SampledFrom([]string{"pay/charge", "pay/offers", "pay/"}).Draw(t, "route"), status(200))
					sent++
					atRisk[w]++
				}
			},
			"tick": func(t *rapid.T) { tick(draw(t)) },
			"time": func(t *rapid.T) {
				for range rapid.IntRange(1, 30).Draw(t, "ticks") {
					p.now += 200e6
					all(tick)
				}
			},
			"answer": func(t *rapid.T) {
				answer(t, draw(t), rapid.SampledFrom([]string{"taken", "taken, answer lost", "refused connection", "never answered", "taken, never answered"}).Draw(t, "how"))
			},
			"trap": func(t *rapid.T) {
				w := draw(t)
				lost += atRisk[w]
				atRisk[w] = 0
				w.boot()
				w.configure(testPlan())
			},
			"stall of one": func(t *rapid.T) {
				stopped := draw(t)
				for range 80 {
					p.now += 200e6
					all(func(w *worker) {
						if w != stopped {
							tick(w)
						}
					})
				}
			},
			"": func(t *rapid.T) { require.LessOrEqual(t, s.total, sent, "counted twice") },
		})
		for range 1000 { // three minutes of calm
			p.now += 200e6
			all(func(w *worker) {
				tick(w)
				for len(w.posts) > 0 {
					answer(t, w, "taken")
				}
			})
		}
		require.Equal(t, sent-lost, s.total)
	})
}

// A VM whose last plan context ends never ticks again: what it has counted
// since its last tick another one delivers, at its next look.
func TestTheLastWordsOfAVMAreDelivered(t *testing.T) {
	t.Parallel()
	ws := workers(t, 2)
	old, next := ws[0], ws[1]
	next.batch()
	old.request("pay/charge", status(200)) // no tick since
	old.vm.StreamDone(old.root)
	for range 60 {
		next.tick()
		next.now += 100e6
		if len(next.posts) == 0 {
			continue
		}
		if b := next.reply(202); len(b.Rows) > 0 {
			require.EqualValues(t, 1, b.Rows[0].Counts[0].N)
			require.Equal(t, "charge", b.Rows[0].Route)
			return
		}
	}
	require.Fail(t, "not within six seconds")
}
