package shed

// Share is what one VM has of the requests in flight. The sum of all VMs is a
// process-wide gauge, which a VM is slow to tell of small changes, so that most
// requests touch nothing that is shared.
type Share struct {
	Out  uint32 // requests of this VM that are out
	Told uint32 // of these, how many are in the gauge
}

// Enter takes a request that was admitted.
func (h *Share) Enter() { h.Out = add32(h.Out, 1) }

// Leave takes the end of one.
func (h *Share) Leave() { h.Out -= min(h.Out, 1) }

// Tell is what to add to the gauge now, 0 while it is not worth it: the gauge
// is off by slack at most for each VM.
func (h *Share) Tell(slack uint32) (delta int64) {
	delta = int64(h.Out) - int64(h.Told)
	if max(delta, -delta) <= int64(slack) {
		return 0
	}
	h.Told = h.Out
	return delta
}

// Total is the requests in flight by what the gauge says, with this VM's own
// counted exactly.
func (h *Share) Total(gauge uint64) uint32 {
	return uint32(min(max(int64(min(gauge, 1<<31))+int64(h.Out)-int64(h.Told), 0), 1<<32-1))
}

// Slack is how far each VM's part of the gauge may be off: a 128th of the
// limit, so nothing below 128.
func (s *State) Slack(p *Params) uint32 { return s.limit(p) / milli / 128 }
