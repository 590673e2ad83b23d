package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unicode"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// The exit codes of DESIGN section 5.
const (
	ExitOK           = 0
	ExitFindings     = 1 // also every failure that has no code of its own
	ExitUsage        = 2
	ExitUnauthorised = 3
	ExitUnreachable  = 4
	ExitConflict     = 5
	ExitDeny         = 10
	ExitUnknown      = 20
	ExitInterrupted  = 130 // by the shell's convention: 128 + SIGINT
)

// Error is an error that knows its exit code and perhaps what to do about it.
// Without Err nothing is printed: the command has said it all.
type Error struct {
	Code int
	Err  error
	Hint string
}

// Error is the text of Err, or the code where the command has said it all.
func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap is the error without its code.
func (e *Error) Unwrap() error { return e.Err }

func usageErrorf(hint, format string, args ...any) *Error {
	return &Error{Code: ExitUsage, Err: fmt.Errorf(format, args...), Hint: hint}
}

// Errors from other packages may say more by these methods; they need not know
// this package for it.
type (
	hinter    interface{ Hint() string }
	coder     interface{ ExitCode() int }
	diagnoser interface{ Diagnostics() diag.List }
)

// report prints err for people and returns its exit code. It is the only place
// that maps errors to codes.
func report(env Env, err error) int {
	if err == nil {
		return ExitOK
	}
	code, hint := ExitFindings, ""
	var own *Error
	var coded coder
	var hinted hinter
	var diagnosed diagnoser
	switch {
	case errors.As(err, &own):
		code, hint = own.Code, own.Hint
		if own.Err == nil {
			return code
		}
	case errors.As(err, &coded):
		code = coded.ExitCode()
	case errors.Is(err, context.Canceled) && env.Context.Err() != nil:
		return ExitInterrupted
	}
	if hint == "" {
		if errors.As(err, &hinted) {
			hint = hinted.Hint()
		} else {
			hint = systemHint(err)
		}
	}
	if errors.As(err, &diagnosed) {
		diag.WriteText(env.Stderr, diagnosed.Diagnostics())
	}
	fmt.Fprintf(env.Stderr, "seawall: %s\n", oneLine(err.Error()))
	if hint != "" {
		fmt.Fprintf(env.Stderr, "  hint: %s\n", oneLine(hint))
	}
	return code
}

// systemHint says what to do about what the operating system refused.
func systemHint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "something else listens there: stop it, or choose another address with --listen, --admin, --xds or --telemetry"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no such address: use 127.0.0.1 or one that `ip addr` lists"
	case errors.Is(err, syscall.EROFS), errors.Is(err, os.ErrPermission):
		return "give the folder or file to this user, or choose another folder with --data"
	case errors.Is(err, syscall.ENOSPC):
		return "free some space, or choose another folder with --data"
	}
	return ""
}

// oneLine makes text from elsewhere fit for one line of a terminal: no line
// breaks, no control characters that would steer it.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}
