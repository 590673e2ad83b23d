package shed

const (
	// WindowNS is the shortest window. A VM hands over its samples about as
	// often.
	WindowNS = 250e6
	// enough is how many calls must have ended in a window that says anything.
	// Until then it goes on, to longestWindowNS at most.
	enough          = 32
	longestWindowNS = 10e9
	// staleNS is for how long a load that was reported is believed.
	staleNS = 10e9
)

// The numbers of the law. bench/overload shows what they do.
const (
	// A call is stretched from 3/2 of its base on: below, it is noise, and what
	// a service shows near its capacity.
	stretchNum, stretchDen = 3, 2
	// From this on one window is enough, else it takes two in a row.
	stretchAtOnce = 3
	// The limit is 8/5 of the work that the service does at once. Of that, Low
	// may fill 70 %: 1.12 of what it can do, so that it never idles.
	roomNum, roomDen = 8, 5
	// Work that fell below 7/8 fell with the limit.
	fellNum, fellDen = 7, 8
	// How fast a base follows a full window: down by a quarter, up by a 64th,
	// and down by a 128th of itself while requests are dropped.
	baseDown, baseUp, baseDrift = 4, 64, 128
	// A base that was wrong is at most so many times longer at once.
	baseJump = 4
	// How fast a limit rises that nothing stretches: a quarter of the way per
	// window where requests are dropped, by a 64th of itself where none are.
	limitUp, limitRest = 4, 64
)

// Merge takes what one VM has seen since it last handed over, at now (Unix ns),
// with so many requests in flight in all VMs. closed: the window is over, and
// what it said is in the State. in is not changed: a caller that could not
// store the State merges it into what is there now.
func (s *State) Merge(p *Params, now int64, in *Samples, inflight uint32) (closed bool) {
	s.Window.add(in)
	length := now - s.Since
	if s.Since == 0 || length < -WindowNS || length > longestWindowNS {
		// The first, after a pause, or the clock was set: nobody knows how long
		// this took. What the service said is as good as ever.
		s.report(p, now, 1)
		s.next(now)
		return true
	}
	if length < WindowNS {
		return false
	}
	if p.Signal == Adaptive {
		if s.Window.ended() < enough {
			return false
		}
		s.learn(p, uint64(length), inflight)
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

// learn is the law of the adaptive limit, at the end of a window of length ns.
func (s *State) learn(p *Params, length uint64, inflight uint32) {
	w := &s.Window
	took, base := w.LateNS, uint64(0) // of all calls together
	for i, n := range w.Done {
		if n == 0 {
			continue
		}
		if s.BaseNS[i] == 0 {
			s.BaseNS[i] = max(w.DoneNS[i]/uint64(n), 1)
		}
		took = add64(took, w.DoneNS[i])
		base = add64(base, mulDiv(uint64(n), s.BaseNS[i], 1))
	}
	work := thousandths(mulDiv(base, milli, length))
	stretched := stretches(took, base, stretchNum, stretchDen)
	room := p.clamp(thousandths(mulDiv(uint64(work), roomNum, roomDen)))
	limit, out := s.limit(p), thousandths(uint64(inflight)*milli)

	switch {
	case s.Work != 0 && w.Shed != 0 && out <= limit && uint64(work)*fellDen < uint64(s.Work)*fellNum:
		s.rebase()
		s.Limit, s.Work, s.High = p.clamp(max(limit, s.Before)), 0, 0
		return
	case stretched:
		s.High = min(s.High+1, 2)
		if s.High == 2 || stretches(took, base, stretchAtOnce, 1) {
			// Never to less than half at once, by what is out: the work of a
			// window in which all timed out is 0.
			if room = max(room, p.clamp(min(limit, out)/2)); room < limit {
				s.Before, s.Work, s.Limit = min(limit, thousandths(uint64(out)*2)), max(work, 1), room
			}
		}
		return
	case w.Shed != 0:
		if room > limit {
			limit += max((room-limit)/limitUp, 1)
		}
	default:
		s.Work = 0
		limit = p.clamp(limit + limit/limitRest)
	}
	s.Limit, s.High = limit, 0
	s.follow(w.Shed != 0)
}

// stretches reports whether calls took num/den of their bases or more.
func stretches(took, base, num, den uint64) bool {
	return took/num >= base/den && took != 0
}

// follow moves the bases towards how long calls took in a window in which
// they were not stretched.
func (s *State) follow(shed bool) {
	for i, n := range s.Window.Done {
		b := s.BaseNS[i]
		if n == 0 {
			continue
		}
		mean, weight := s.Window.DoneNS[i]/uint64(n), uint64(min(n, enough))
		switch {
		case mean < b:
			b -= (b - mean) * weight / (enough * baseDown)
		case !shed:
			b += (mean - b) * weight / (enough * baseUp)
		}
		if shed {
			b -= b / baseDrift
		}
		s.BaseNS[i] = max(b, 1)
	}
}

// rebase takes the bases anew from a window in which calls did not wait.
func (s *State) rebase() {
	for i, n := range s.Window.Done {
		if n != 0 {
			b := s.BaseNS[i]
			s.BaseNS[i] = max(b, min(s.Window.DoneNS[i]/uint64(n), b*baseJump))
		}
	}
}

// thousandths bounds a limit or work, so that sums of two of them fit.
func thousandths(n uint64) uint32 { return uint32(min(n, MaxLimit*milli)) }

// The law of the shares, by which classes are dropped where the service
// reports its load.
const (
	// A class is dropped wholly at so much above its threshold; the nearer to
	// it, the more slowly its share changes.
	bandPPM = 50_000
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
		off := uint64(min(load-threshold, bandPPM))
		return drop + uint32(uint64(ppm-drop)*off/bandPPM)
	}
	off := uint64(min(threshold-load, bandPPM))
	up := uint32(ppm * off / bandPPM / shareSteps)
	return drop - min(drop, up*steps)
}
