package envoy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

const (
	tailEvery   = 100 * time.Millisecond
	maxLogLine  = 16 << 10
	tailReadMax = 256 << 10

	// logFormat makes each record of Envoy's log a JSON document in one line; %j
	// is the message, escaped.
	logFormat = `{"time":"%Y-%m-%dT%T.%eZ","level":"%l","logger":"%n","message":"%j"}`
)

// logFile is an append-only file that Envoy writes and we bound. Envoy keeps it
// open (it must outlive us, so it is no pipe), hence copy and cut.
type logFile struct {
	path  string
	limit int64 // bytes
}

// rotate copies the file to PATH.1 and cuts it, once it is larger than its
// limit. What is written between the copy and the cut is lost: some lines at
// most, and only of the log.
func (f logFile) rotate() (bool, error) {
	info, err := os.Stat(f.path)
	if err != nil || info.Size() <= f.limit {
		return false, err
	}
	src, err := os.Open(f.path)
	if err != nil {
		return false, err
	}
	defer src.Close()
	dst, err := os.OpenFile(f.path+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return false, err
	}
	// While nobody rotated, the file may have grown far past the limit: the end
	// is what is worth keeping.
	if over := info.Size() - f.limit; over > f.limit {
		_, err = src.Seek(over, io.SeekStart)
	}
	if err == nil {
		_, err = io.Copy(dst, src)
	}
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return false, err
	}
	return true, os.Truncate(f.path, 0)
}

// append opens the file for a child's stdout or stderr. O_APPEND is what makes
// a cut safe.
func (f logFile) append() (*os.File, error) {
	return os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
}

// tail follows Envoy's log and hands it on as structured records.
type tail struct {
	file   logFile
	log    *slog.Logger
	offset int64
	part   []byte // an unfinished line
	ending bool   // Envoy is being stopped: what it says of that alarms nobody
	last   string // the last error or critical message
}

// size is where the file ends now, 0 if there is none.
func (f logFile) size() int64 {
	info, err := os.Stat(f.path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// step reads to the end of the file and cuts it where it is too long. It is not
// safe for concurrent use.
func (t *tail) step() error {
	if err := t.read(); err != nil {
		return err
	}
	cut, err := t.file.rotate()
	if cut {
		t.offset = 0
	}
	return err
}

func (t *tail) read() error {
	f, err := os.Open(t.file.path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < t.offset { // cut by somebody else
		t.offset = 0
	}
	if info.Size() == t.offset {
		return nil
	}
	buf := make([]byte, min(tailReadMax, info.Size()-t.offset))
	for {
		n, err := f.ReadAt(buf, t.offset)
		t.offset += int64(n)
		t.feed(buf[:n])
		if err != nil || n == 0 {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if t.offset >= info.Size() {
			return nil
		}
	}
}

// feed splits into lines. A line longer than maxLogLine is forwarded in pieces.
func (t *tail) feed(b []byte) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			t.part = append(t.part, b...)
			for len(t.part) > maxLogLine {
				t.line(t.part[:maxLogLine])
				t.part = append(t.part[:0], t.part[maxLogLine:]...)
			}
			return
		}
		if len(t.part) > 0 {
			t.part = append(t.part, b[:i]...)
			t.line(t.part)
			t.part = t.part[:0]
		} else {
			t.line(b[:i])
		}
		b = b[i+1:]
	}
}

// logRecord is a line of Envoy's log as logFormat writes it.
type logRecord struct {
	Level   string `json:"level"`
	Logger  string `json:"logger"`
	Message string `json:"message"`
}

// parseLogLine reads a line. What is not ours (a crash's backtrace, V8's last
// words) is an error record with the line as its message.
func parseLogLine(line []byte) logRecord {
	var rec logRecord
	if json.Unmarshal(line, &rec) != nil || rec.Level == "" {
		return logRecord{Level: "error", Logger: "stderr", Message: string(line)}
	}
	return rec
}

func (r logRecord) slogLevel() slog.Level {
	switch r.Level {
	case "trace", "debug":
		return slog.LevelDebug
	case "info":
		return slog.LevelInfo
	case "warning", "warn":
		return slog.LevelWarn
	default: // error, critical, off
		return slog.LevelError
	}
}

func (t *tail) line(line []byte) {
	line = bytes.TrimRight(line, "\r")
	if len(line) == 0 {
		return
	}
	rec := parseLogLine(line)
	level := rec.slogLevel()
	if level >= slog.LevelError {
		t.last = rec.Message
	} else if t.ending {
		level = slog.LevelDebug
	}
	t.log.Log(context.Background(), level, rec.Message, "envoy", true, "logger", rec.Logger)
}

func (l *Launcher) tailLoop(stop <-chan struct{}) {
	defer l.wg.Done()
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	var said string
	for {
		stopping := false
		select {
		case <-stop:
			stopping = true
		case <-tick.C:
		}
		l.tailMu.Lock()
		select {
		case <-l.stopping:
			l.tail.ending = true
		default:
		}
		err := l.tail.step()
		l.tailMu.Unlock()
		if _, aerr := l.access.rotate(); err == nil && !errors.Is(aerr, os.ErrNotExist) {
			err = aerr
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			l.log.Warn("envoy's log cannot be read or cut", "error", err)
		}
		if stopping {
			return
		}
	}
}

// lastError is the last error that Envoy logged, for a message about its exit.
func (l *Launcher) lastError() string {
	l.tailMu.Lock()
	defer l.tailMu.Unlock()
	_ = l.tail.read()
	return l.tail.last
}

func withLast(reason, last string) string {
	if last == "" {
		return reason
	}
	return fmt.Sprintf("%s: %s", reason, last)
}
