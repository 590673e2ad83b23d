// Package cli is the seawall command: its commands, flags, printers and exit
// codes. Everything outside it comes in by an Env, the control plane and the
// demo included, so that a test of a command is a function call:
//
//	code := cli.Main(cli.Env{Args: []string{"status"}, Stdout: &out, …})
//
// Commands that ask a running control plane know only its admin API; the
// commands that are one (up, demo) are functions that main wires in.
//
// Rules: results to stdout, progress and logs to stderr; tables fit 80 columns;
// colour only on a terminal and without NO_COLOR; an empty result says so and
// names the next command; an error is one line on stderr, "seawall: …", and
// perhaps a hint. What an error exits with is decided in errors.go alone.
package cli
