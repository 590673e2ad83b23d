//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// accessLog is Envoy's own word on each request that reached it: the filter
// has no part in it but for the decision that it writes into an answer.
type accessLog struct {
	u     *up
	file  *bufio.Reader
	line  []byte // one that is not whole yet
	lines int    // so far
}

// sighting is one line of it.
type sighting struct {
	Call     string    `json:"userAgent"` // as the tests' clients name their calls
	Route    string    `json:"route"`
	Status   int       `json:"status"`
	Flags    string    `json:"flags"`
	Details  string    `json:"details"`
	Decision string    `json:"decision"`
	Start    time.Time `json:"timestamp"`
	TookMS   int64     `json:"durationMs"`
}

func (s sighting) end() time.Time { return s.Start.Add(time.Duration(s.TookMS) * time.Millisecond) }

// trapped is the outcome of a request whose VM died or was not back yet. The
// filter cannot count those.
const trapped = "trapped"

// outcome is the word that the request must be counted as.
func (s sighting) outcome() string {
	switch {
	case s.Decision != "":
		return s.Decision
	case s.Details == "wasm_fail_stream":
		return trapped
	case s.Status == 0:
		return "aborted"
	case s.Status == 200:
		return "ok"
	case s.Status >= 500 && s.Details == "via_upstream":
		return "5xx"
	case s.Status == 404 && s.Details == "direct_response":
		return "4xx"
	case s.Status == 504 && s.Flags == "UT":
		return "timeout"
	case s.Status == 503 && (strings.Contains(s.Flags, "UC") || strings.Contains(s.Flags, "UR")):
		return "reset"
	}
	return fmt.Sprintf("%d %s %s", s.Status, s.Flags, s.Details)
}

func (s sighting) key() string { return strings.TrimPrefix(s.Route, "shop/") + " " + s.outcome() }

// keepAccessLog takes the log out of the folder, where it would be cut when it
// is long. It is to be called before the first request.
func (u *up) keepAccessLog() *accessLog {
	u.t.Helper()
	kept := filepath.Join(u.t.TempDir(), "access.log")
	require.NoError(u.t, os.Rename(filepath.Join(u.cfg.data, "envoy", "access.log"), kept))
	file, err := os.Open(kept)
	require.NoError(u.t, err)
	u.t.Cleanup(func() { _ = file.Close() })
	return &accessLog{u: u, file: bufio.NewReader(file)}
}

// all waits until the log has all requests that Envoy has counted, which it
// writes within some ten seconds, and returns them.
func (l *accessLog) all() (all []sighting) {
	l.u.t.Helper()
	l.each(func(s sighting) { all = append(all, s) })
	return all
}

// each is all for a log that is too long to be kept.
func (l *accessLog) each(see func(sighting)) {
	t := l.u.t
	t.Helper()
	eventually(t, soon, func() (bool, string) {
		l.read(see)
		total, err := l.u.stat("http.seawall.downstream_rq_total")
		return err == nil && l.lines == total, fmt.Sprintf("%d lines of %d requests (%v)", l.lines, total, err)
	})
}

// read takes what the log has by now.
func (l *accessLog) read(see func(sighting)) {
	t := l.u.t
	t.Helper()
	for {
		line, err := l.file.ReadSlice('\n')
		l.line = append(l.line, line...)
		if errors.Is(err, io.EOF) {
			return
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			require.NoError(t, err)
			var s sighting
			require.NoError(t, json.Unmarshal(l.line, &s), "%s", l.line)
			see(s)
			l.line = l.line[:0]
			l.lines++
		}
	}
}
