package plugin

// records are the shared data as one VM sees them.
type records struct {
	host   Host
	issued uint32 // the highest version that this VM knows to have been given to some record, 0: none yet
}

// get reads a record, and its version for set.
func (r *records) get(key string) (value []byte, version uint32, ok bool) {
	value, version, ok = r.host.SharedGet(key)
	if ok {
		r.note(version)
	}
	return value, version, ok
}

// set writes a record if its version is still the one given, or, with Absent,
// if there is none. next is the version that it has now if nobody has written
// any record since this VM last looked, and else a version that it will never
// have: versions are one rising sequence over all records, and this write's is
// above all that were known before it. So who sets with next need not read
// first; at worst it fails.
func (r *records) set(key string, value []byte, version uint32) (next uint32, ok bool) {
	if !r.host.SharedSet(key, value, version) {
		return 0, false
	}
	if version != Absent {
		r.note(version) // it was the record's
	}
	next = r.issued + 1
	if next == 0 || next == Absent { // neither is ever a record's
		next = 1
	}
	if r.issued != 0 { // else nothing is known of where the sequence is
		r.note(next)
	}
	return next, true
}

// note keeps the highest, in the order of a sequence that wraps. The first that
// is seen is the highest so far, wherever the sequence is.
func (r *records) note(version uint32) {
	if r.issued == 0 || int32(version-r.issued) > 0 { //nolint:gosec // the wrap is meant
		r.issued = version
	}
}
