// Package sqlite is the embedded store: one SQLite file in WAL mode, written
// by modernc.org/sqlite (pure Go), durable at every commit.
//
// Counts are kept by series (service, route, priority) and by spans of 1, 10, 60
// and 1,440 minutes, one row each, whose counters are packed (pack.go). Longer
// spans repeat the sum of the shorter ones and are kept for longer, so a window
// is read as few rows and a year takes a bounded space.
//
// One connection writes; a small pool reads. The schema is brought up to date
// by numbered files in migrations/, counted by PRAGMA user_version; a file of a
// newer schema is refused. What an operator can do wrong with the file comes
// back from Open as an *OpenError that says what to do.
package sqlite
