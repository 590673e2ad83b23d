// Package policies holds the example policies. They are read by people, by the
// tests and, embedded, by `seawall demo`.
package policies

import "embed"

// FS holds one folder per example.
//
//go:embed gateway payments reports
var FS embed.FS
