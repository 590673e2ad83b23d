package shed

// Slots is how many kinds of calls are told apart by their base. Which slot a
// route has is the caller's choice.
const Slots = 16

// State is what the VMs of one Envoy know together about a service. The zero
// value knows nothing: the limit is the greatest.
type State struct {
	Since int64  // start of the window, Unix ns; 0: none yet
	Limit uint32 // learnt limit, in thousandths of a request; 0: none
	High  uint8  // windows in a row with stretched calls
	Busy  uint8  // windows with requests dropped since the last cut

	// The last cut of the limit, while it is judged.
	Age    uint8  // windows since it
	Before uint32 // the limit to go back to where it was wrong, in thousandths
	Work   uint32 // work in flight before it, in thousandths; 0: none is judged
	Out    uint32 // requests in flight before it, in thousandths

	BaseNS [Slots]uint64 // how long a call takes when nothing waits, by slot
	Seen   [Slots]uint8  // of how many calls that is known, to baseSure

	LoadPPM uint32          // last load that the service reported
	LoadAt  int64           // when, Unix ns
	DropPPM [Classes]uint32 // share of each class that is dropped, of Reported

	Window Samples // what was handed over since Since
}

// Samples is what was seen in a part of a window. The zero value is empty.
type Samples struct {
	Done    [Slots]uint32 // calls that the service answered
	DoneNS  [Slots]uint64 // how long they took, together
	Late    uint32        // calls that timed out
	LateNS  uint64
	Shed    uint32 // requests that were dropped
	Reports uint32 // loads that the service reported
	LoadPPM uint64 // their sum
	Merges  uint32 // by Merge: how often it was called
	Out     uint64 // by Merge: requests in flight, added up over these
}

// longestNS is the longest call that is counted in full.
const longestNS = 60e9

// Answered takes a call that the service has answered as it should: neither a
// refusal nor a failure, which come sooner than an answer does. What cannot be
// (the clock was set) is left out.
func (s *Samples) Answered(slot uint8, ns int64) {
	if ns < 0 {
		return
	}
	slot %= Slots
	s.Done[slot] = add32(s.Done[slot], 1)
	s.DoneNS[slot] = add64(s.DoneNS[slot], uint64(min(ns, longestNS)))
}

// TimedOut takes a call that got no answer in its time.
func (s *Samples) TimedOut(ns int64) {
	if ns < 0 {
		return
	}
	s.Late = add32(s.Late, 1)
	s.LateNS = add64(s.LateNS, uint64(min(ns, longestNS)))
}

// Dropped takes a request that Admit has dropped.
func (s *Samples) Dropped() { s.Shed = add32(s.Shed, 1) }

// Load takes a load that the service has reported, in ppm of what it can bear.
func (s *Samples) Load(loadPPM uint32) {
	s.Reports = add32(s.Reports, 1)
	s.LoadPPM = add64(s.LoadPPM, uint64(min(loadPPM, maxLoadPPM)))
}

// maxLoadPPM is the greatest load that is told from greater ones.
const maxLoadPPM = 10 * ppm

// Valid reports whether steps can have made s, of what was read from outside:
// no number is so great that a step would get it wrong.
func (s *State) Valid() bool {
	w := &s.Window
	ok := max(s.Limit, s.Before, s.Work, s.Out) <= MaxLimit*milli &&
		max(s.DropPPM[High], s.DropPPM[Medium], s.DropPPM[Low]) <= ppm && s.DropPPM[Critical] == 0 &&
		s.LoadPPM <= maxLoadPPM && within(w.LateNS, w.Late, longestNS) && within(w.LoadPPM, w.Reports, maxLoadPPM)
	for i := range s.BaseNS {
		ok = ok && s.BaseNS[i] <= longestNS && s.Seen[i] <= baseSure && within(w.DoneNS[i], w.Done[i], longestNS)
	}
	return ok
}

// within reports whether n numbers of up to most can have that sum.
func within(sum uint64, n uint32, most uint64) bool { return sum <= mulDiv(uint64(n), most, 1) }

// add adds what another VM has seen. Numbers stay at their greatest value
// rather than wrap.
func (s *Samples) add(o *Samples) {
	for i := range s.Done {
		s.Done[i] = add32(s.Done[i], o.Done[i])
		s.DoneNS[i] = add64(s.DoneNS[i], o.DoneNS[i])
	}
	s.Late, s.LateNS = add32(s.Late, o.Late), add64(s.LateNS, o.LateNS)
	s.Shed = add32(s.Shed, o.Shed)
	s.Merges, s.Out = add32(s.Merges, o.Merges), add64(s.Out, o.Out)
	s.Reports, s.LoadPPM = add32(s.Reports, o.Reports), add64(s.LoadPPM, o.LoadPPM)
}

func add32(a, b uint32) uint32 {
	if c := a + b; c >= a {
		return c
	}
	return ^uint32(0)
}

func add64(a, b uint64) uint64 {
	if c := a + b; c >= a {
		return c
	}
	return ^uint64(0)
}
