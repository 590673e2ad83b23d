package cli

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// logFlags are the flags of commands that log.
type logFlags struct{ level, format string }

func (l *logFlags) add(cmd *cobra.Command) {
	if l.level == "" {
		l.level = "info"
	}
	cmd.Flags().StringVar(&l.level, "log-level", l.level, "debug, info, warn or error")
	cmd.Flags().StringVar(&l.format, "log-format", "auto", "auto, text or json; auto: text on a terminal, else json")
}

func (l *logFlags) logger(env Env) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, usageErrorf("", "--log-level %q is none of debug, info, warn, error", l.level)
	}
	text := env.StderrTTY
	switch l.format {
	case "auto":
	case "text", "json":
		text = l.format == "text"
	default:
		return nil, usageErrorf("", "--log-format %q is none of auto, text, json", l.format)
	}
	colour := env.StderrTTY && env.Getenv("NO_COLOR") == ""
	return NewLogger(env.Stderr, level, text, colour), nil
}

// loggerKey is the attribute that names a part of the program: parts call
// log.With("logger", "xds").
const loggerKey = "logger"

// NewLogger makes a logger that writes to w: one JSON object per line with the
// members timestamp, level, logger and message first, or one line of text for
// people.
func NewLogger(w io.Writer, level slog.Level, text, colour bool) *slog.Logger {
	h := &logHandler{name: "seawall", level: level}
	if text {
		h.sink = &textSink{out: w, style: style{on: colour}}
	} else {
		h.json = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: renameAttr})
	}
	return slog.New(h)
}

// renameAttr gives the built-in members the names that log pipelines expect,
// and durations their unit.
func renameAttr(groups []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration { // bare nanoseconds tell nobody anything
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String("timestamp", a.Value.Time().UTC().Format(time.RFC3339Nano))
	case slog.LevelKey:
		return slog.String("level", strings.ToLower(a.Value.String()))
	case slog.MessageKey:
		a.Key = "message"
	}
	return a
}

// logHandler keeps the logger's name apart from the other attributes, so that
// each record has it once, in its place.
type logHandler struct {
	name  string
	level slog.Level
	json  slog.Handler // JSON, else nil

	sink  *textSink // text, else nil
	steps []func(slog.Handler) slog.Handler
	group bool // a group is open: its attributes cannot clash with the members
}

// ours puts attrs' names out of the way of the record's own members: two
// members of one name are not JSON.
func (h *logHandler) ours(a slog.Attr) slog.Attr {
	if !h.group {
		switch a.Key {
		case slog.TimeKey, slog.LevelKey, slog.MessageKey, "timestamp", "message":
			a.Key = "attr." + a.Key
		}
	}
	return a
}

// Enabled reports whether records of that level are written.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// WithAttrs takes the name out of attrs.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	rest := make([]slog.Attr, 0, len(attrs))
	for _, a := range attrs {
		if a.Key == loggerKey && a.Value.Kind() == slog.KindString {
			next.name = a.Value.String()
			continue
		}
		rest = append(rest, h.ours(a))
	}
	return next.with(func(s slog.Handler) slog.Handler { return s.WithAttrs(rest) })
}

// WithGroup opens a group.
func (h *logHandler) WithGroup(name string) slog.Handler {
	next := *h
	next.group = next.group || name != ""
	return next.with(func(s slog.Handler) slog.Handler { return s.WithGroup(name) })
}

func (h *logHandler) with(step func(slog.Handler) slog.Handler) slog.Handler {
	h.steps = append(slices.Clip(h.steps), step)
	return h
}

// Handle writes one record.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	name := h.name
	rest := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == loggerKey && a.Value.Kind() == slog.KindString {
			name = a.Value.String()
		} else {
			rest.AddAttrs(h.ours(a))
		}
		return true
	})
	if h.json != nil {
		// The name goes in first, outside of any group.
		out := h.json.WithAttrs([]slog.Attr{slog.String(loggerKey, name)})
		for _, step := range h.steps {
			out = step(out)
		}
		return out.Handle(ctx, rest)
	}
	return h.sink.write(ctx, name, rest, h.steps)
}

// textSink writes records as lines for people.
type textSink struct {
	mu    sync.Mutex
	out   io.Writer
	style style
}

func (s *textSink) write(ctx context.Context, name string, r slog.Record, steps []func(slog.Handler) slog.Handler) error {
	var attrs bytes.Buffer
	var rest slog.Handler = slog.NewTextHandler(&attrs, &slog.HandlerOptions{
		Level: slog.LevelDebug - 100, // the caller has filtered
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return a
		},
	})
	for _, step := range steps {
		rest = step(rest)
	}
	if err := rest.Handle(ctx, r); err != nil {
		return err
	}
	level := r.Level.String()
	paint := s.style.dim
	switch {
	case r.Level >= slog.LevelError:
		paint = s.style.bad
	case r.Level >= slog.LevelWarn:
		paint = s.style.warn
	}
	line := s.style.dim(r.Time.Format(time.TimeOnly)) + " " + paint(pad(level, 5)) + " " + pad(name, 9) + " " + oneLine(r.Message)
	if a := strings.TrimSpace(attrs.String()); a != "" {
		line += "  " + s.style.dim(a)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := io.WriteString(s.out, line+"\n")
	return err
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-len(s)))
}
