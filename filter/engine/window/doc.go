// Package window counts calls over a sliding time window, in whole numbers and
// a fixed size: ten buckets, each a tenth of the window. What is asked of it
// is the whole count and how many of those were hits, never a rounded rate.
//
// It imports nothing.
package window
