// Package delta compares two policy sets by what they mean: defaults are
// filled in, spelling, order of files and comments do not count. It tells of
// each difference whether it loosens or tightens, and which routes it reaches.
//
// To loosen is to let more through, or for longer, or more often; to tighten is
// the reverse. What does neither, such as another address, changes.
//
//	report := delta.Compare(delta.Side{Set: old, Root: "old/"}, delta.Side{Set: new, Root: "new/"})
//
// It imports policy and nothing else of the project.
package delta
