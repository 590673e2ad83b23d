// Package chaos decides what faults a request gets.
//
// Whether a request is in an experiment's cohort follows from its id alone: a
// hash gives it a place among a million, and the cohort is the places below
// the experiment's share. So it is the same on every try and every worker, and
// a share that grows takes nobody out: the cohort of 1 % lies within that of
// 5 %. A fault ends by itself at NotAfterNS, whoever is there to end it.
package chaos
