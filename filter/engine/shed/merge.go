package shed

const (
	// WindowNS is the shortest window. A VM hands over its samples about as
	// often.
	WindowNS = 250e6
	// enough is how many calls must have ended in a window that says anything;
	// few do where many others are out. Until then it goes on, to
	// longestWindowNS at most.
	enough, few     = 32, 8
	longestWindowNS = 10e9
	// staleNS is for how long a load that was reported is believed.
	staleNS = 10e9
)

// The numbers of the law. bench/overload shows what they do.
const (
	// A call is stretched from 3/2 of its base on: below, it is noise, and what
	// a service shows near its capacity. Below 9/8, nothing waits at all.
	stretchNum, stretchDen = 3, 2
	calmNum, calmDen       = 9, 8
	// From this on one window is enough, else it takes two in a row.
	stretchAtOnce = 3
	// The limit is 3/2 of the work that the service does at once, and its root
	// for what is chance. Of that, Low may fill 70 %, more than the service can
	// do, so that it never idles.
	roomNum, roomDen = 3, 2
	// A cut is by a quarter at least, so that it shows whether it helps.
	cutNum, cutDen = 3, 4
	// A cut is judged by windows of so long, or up to twice that for so many
	// calls: long against how far apart in time the VMs hand over.
	trialNS, trialEnough = 1e9, 128
	// After so many windows it is no longer judged.
	trialAge = 6
	// Work that fell below 7/8 fell with the limit.
	fellNum, fellDen = 7, 8
	// After so many windows with requests dropped the limit is tried anew.
	retrial = 192
	// How fast a base follows a full window, down and up.
	baseDown, baseUp = 8, 32
	// A base is the mean of its first calls until there were so many.
	baseSure = 128
	// A base that was wrong is so many times longer or shorter at most, at once.
	baseJump = 4
	// How fast a limit rises while nothing waits: by an 8th of itself per window
	// where requests are dropped, by a 64th where none are.
	limitUp, limitRest = 8, 64
)

// Merge takes what one VM has seen since it last handed over, at now (Unix ns),
// with so many requests in flight in all VMs. closed: the window is over, and
// what it said is in the State. in is not changed: a caller that could not
// store the State merges it into what is there now.
func (s *State) Merge(p *Params, now int64, in *Samples, inflight uint32) (closed bool) {
	s.Window.add(in)
	s.Window.Merges, s.Window.Out = add32(s.Window.Merges, 1), add64(s.Window.Out, uint64(inflight))
	length := now - s.Since
	if s.Since == 0 || length < -WindowNS || length > longestWindowNS {
		// The first, too few calls, or the clock was set. What the service said
		// is as good as ever; a limit that binds nobody is forgotten by and by.
		s.report(p, now, 1)
		if s.Limit != 0 && s.Window.Shed == 0 {
			s.Limit = p.clamp(s.limit(p) * 2)
		}
		s.High, s.Busy, s.Work = 0, 0, 0
		s.next(now)
		return true
	}
	if length < WindowNS {
		return false
	}
	if p.Signal == Adaptive {
		n := s.Window.ended()
		piled := n >= few && n+uint64(inflight) >= enough
		if (n < enough && !piled) || (s.Work != 0 && (length < trialNS || n < trialEnough && length < 2*trialNS)) {
			return false
		}
		s.learn(p, uint64(length))
	} else {
		s.report(p, now, min(uint32(length/WindowNS), shareSteps))
	}
	s.next(now)
	return true
}

func (s *State) next(now int64) {
	s.Since, s.Window = now, Samples{}
}

// ended is how many calls came to an end.
func (s *Samples) ended() (n uint64) {
	for _, d := range s.Done {
		n += uint64(d)
	}
	return n + uint64(s.Late)
}

// honest reports whether so few calls timed out that the others say how long
// calls take.
func (s *Samples) honest() bool { return uint64(s.Late)*8 < s.ended() }

// learn is the law of the adaptive limit, at the end of a window of length ns.
func (s *State) learn(p *Params, length uint64) {
	w := &s.Window
	took, base := w.LateNS, uint64(0) // of all calls together, as they were and as they would be
	for i, n := range w.Done {
		if n != 0 {
			s.begin(i)
			took, base = add64(took, w.DoneNS[i]), add64(base, mulDiv(uint64(n), s.BaseNS[i], 1))
		}
	}
	work := thousandths(mulDiv(base, milli, length))
	room := p.clamp(thousandths(mulDiv(uint64(work), roomNum, roomDen) + root(uint64(work)*milli)))
	out := thousandths(mulDiv(w.Out, milli, uint64(w.Merges)))

	if s.Work != 0 && !s.judge(p, room, work, out) {
		return
	}
	if w.Shed == 0 {
		s.Busy = 0
	} else {
		s.Busy++
	}
	stretched := stretches(took, base, stretchNum, stretchDen)
	if !stretched {
		s.High = 0
	} else if s.High++; s.High < 2 && !stretches(took, base, stretchAtOnce, 1) {
		return // may be chance
	}
	limit := s.limit(p)
	switch {
	case s.Busy >= retrial, stretched && room < limit/cutDen*cutNum:
		s.cut(p, room, work, out)
		return
	case stretched:
		s.Limit, s.High = min(limit, room), 1
		return
	case w.Shed == 0:
		limit += limit / limitRest
	case !stretches(took, base, calmNum, calmDen):
		limit += limit / limitUp
	case room > limit:
		limit += (room - limit) / 2
	}
	s.Limit = p.clamp(limit)
	s.follow()
}

// cut lowers the limit to one that was found, or by a quarter, and has that
// judged. Where calls timed out it goes to half at most, by what is out: the
// work of a window in which all did is 0.
func (s *State) cut(p *Params, to, work, out uint32) {
	limit := s.limit(p)
	to = min(to, limit/cutDen*cutNum)
	if !s.Window.honest() {
		to = max(to, min(limit, out)/2)
	}
	s.Before, s.Work, s.Out, s.Age, s.Busy = min(limit, thousandths(uint64(out)*2)), max(work, 1), out, 0, 0
	s.Limit = p.clamp(to)
}

// judge looks at what a cut has done. true: the window may be learnt from.
func (s *State) judge(p *Params, room, work, out uint32) bool {
	limit, w, honest := s.limit(p), &s.Window, s.Window.honest()
	lessWork, lessOut := fell(work, s.Work, w.ended()), fell(out, s.Out, enough*enough)
	s.Age++
	switch {
	case w.Shed == 0:
		s.Work = 0 // the load is gone
		return true
	case s.Age > trialAge && (lessOut || !honest || uint64(out)*fellNum > uint64(s.Out)*fellDen):
		s.Work = 0 // what is never dropped keeps more out than the limit, and waits
		return true
	case s.Age > trialAge, lessWork && lessOut && honest:
		// Nothing waits: with less in flight calls take as long, or so they do
		// though all is dropped that can be, and no more pile up.
		s.rebase()
		s.Limit, s.Work, s.High = p.clamp(max(limit, s.Before)), 0, 0
	case lessWork: // with as much in flight: the service can do less than it did
		s.Work, s.Out = max(work, 1), out
	case out > limit+limit/8:
		// not there yet
	case lessOut:
		s.cut(p, room, work, out) // it did as much with less: try less
	default:
		s.Limit, s.Work = p.clamp(max(limit, s.Before)), 0
	}
	return false
}

// stretches reports whether calls took num/den of their bases or more.
func stretches(took, base, num, den uint64) bool {
	return took/num >= base/den && took != 0
}

// begin learns the base of calls of which few have been seen.
func (s *State) begin(i int) {
	n, seen := uint64(s.Window.Done[i]), uint64(s.Seen[i])
	if seen == baseSure {
		return
	}
	total := mulDiv(s.BaseNS[i], seen, 1)
	s.BaseNS[i] = max(add64(total, s.Window.DoneNS[i])/(seen+n), 1)
	s.Seen[i] = uint8(min(seen+n, baseSure))
}

// follow moves the bases towards how long calls took in a window in which
// they were not stretched.
func (s *State) follow() {
	for i, n := range s.Window.Done {
		if n == 0 {
			continue
		}
		b, mean, weight := s.BaseNS[i], s.Window.DoneNS[i]/uint64(n), uint64(min(n, enough))
		switch {
		case mean < b:
			b -= (b - mean) * weight / (enough * baseDown)
		case s.Window.Shed == 0:
			b += (mean - b) * weight / (enough * baseUp)
		}
		s.BaseNS[i] = max(b, 1)
	}
}

// rebase takes the bases anew from a window in which calls did not wait.
func (s *State) rebase() {
	for i, n := range s.Window.Done {
		if n != 0 {
			b := s.BaseNS[i]
			s.BaseNS[i] = min(max(s.Window.DoneNS[i]/uint64(n), b/baseJump, 1), b*baseJump)
		}
	}
}

// The law of the shares, by which classes are dropped where the service
// reports its load.
const (
	// A class is dropped wholly at so much above its threshold; the nearer to
	// it, the more slowly its share changes.
	bandPPM = 50_000
	// At its threshold itself a tenth of what is left is dropped each window, so
	// that none of it is left where the load stays.
	atPPM = bandPPM / 10
	// A class that is admitted again is so wholly after so many windows (4 s).
	shareSteps = 16
)

// report closes a window of the signal Reported, of so many times WindowNS.
func (s *State) report(p *Params, now int64, steps uint32) {
	if p.Signal != Reported {
		return
	}
	load := uint32(0)
	switch w := &s.Window; {
	case w.Reports != 0:
		load = uint32(w.LoadPPM / uint64(w.Reports))
		s.LoadPPM, s.LoadAt = load, now
	case now-s.LoadAt <= staleNS && now >= s.LoadAt:
		return // nothing new
	default:
		s.LoadPPM = 0
	}
	for c := High; c <= Low; c++ {
		threshold := uint32(p.threshold(c))
		if threshold == 0 {
			s.DropPPM[c] = 0
			continue
		}
		s.DropPPM[c] = share(s.DropPPM[c], load, threshold, steps)
	}
}

// share is what part of a class to drop, after so many windows with a load.
func share(drop, load, threshold, steps uint32) uint32 {
	if load >= threshold {
		off := uint64(min(load-threshold+atPPM, bandPPM))
		return drop + uint32(uint64(ppm-drop)*off/bandPPM)
	}
	off := uint64(min(threshold-load, bandPPM))
	up := uint32(ppm * off / bandPPM / shareSteps)
	return drop - min(drop, up*steps)
}
