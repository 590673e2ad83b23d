// Package budget decides which actions of the objectives' budget policies are
// in force, and keeps them: an action enters at its step, leaves once a tenth
// less than that is consumed, stays as it is while telemetry is stale, and
// outlives a restart. Each coming and going is in the audit log.
//
// What acts on them lies elsewhere: package gate answers for releases, package
// alert lowers its thresholds by AlertFactor, experiments ask for halt-chaos. A
// mandatory post-mortem is an item that stays open until a person closes it,
// however the budget recovers.
//
// Next is pure; Keeper is what remembers.
package budget
