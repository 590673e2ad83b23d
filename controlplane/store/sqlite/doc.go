// Package sqlite is the embedded store: one SQLite file in WAL mode, written
// by modernc.org/sqlite (pure Go), durable at every commit.
//
// One connection writes; a small pool reads. The schema is brought up to date
// by numbered files in migrations/, counted by PRAGMA user_version; a file of a
// newer schema is refused. What an operator can do wrong with the file comes
// back from Open as an *OpenError that says what to do.
package sqlite
