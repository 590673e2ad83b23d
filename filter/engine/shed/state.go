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
	Trial  uint8  // windows until it is; 0: none is
	Age    uint8  // windows since it
	Before uint32 // the limit to go back to where it was wrong, in thousandths
	Work   uint32 // work in flight before it, in thousandths
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

// longest is the longest call that is counted in full.
const longestNS = 60e9

// Answered takes a call that the service has answered as it should: neither a
// refusal nor a failure, which come sooner than an answer does. What cannot be
// (the clock was set) is left out.
func (s *Samples) Answered(slot uint8, ns int64) {
	if ns < 0 {
		return
	}
	slot %= Slots
	s.Done[slot]++
	s.DoneNS[slot] += uint64(min(ns, longestNS))
}

// TimedOut takes a call that got no answer in its time.
func (s *Samples) TimedOut(ns int64) {
	if ns < 0 {
		return
	}
	s.Late++
	s.LateNS += uint64(min(ns, longestNS))
}

// Dropped takes a request that Admit has dropped.
func (s *Samples) Dropped() { s.Shed++ }

// Load takes a load that the service has reported, in ppm of what it can bear.
func (s *Samples) Load(loadPPM uint32) {
	s.Reports++
	s.LoadPPM += uint64(min(loadPPM, maxLoadPPM))
}

// maxLoadPPM is the greatest load that is told from greater ones.
const maxLoadPPM = 10 * ppm

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
