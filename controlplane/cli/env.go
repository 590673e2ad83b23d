package cli

import (
	"context"
	"io"
	"log/slog"
	"time"
)

// Env is everything that the commands need of the world. Context, Args, the
// three streams, Getenv and Now are required.
type Env struct {
	Context context.Context // ends at SIGINT or SIGTERM; part of the world like the rest
	Args    []string        // without the program's name
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Getenv  func(string) string
	Now     func() time.Time

	StdoutTTY bool // Stdout is a terminal: colour is welcome
	StderrTTY bool // Stderr is a terminal: logs are text, else JSON
	Columns   int  // width of the terminal in characters; 0 or less than 80 means 80

	Version    string // of this binary
	FilterHash string // SHA-256 of the filter module in this binary, 64 hex digits; "" if there is none

	// Up runs a control plane with a data plane until its context ends; nil
	// where the binary is built without.
	Up func(context.Context, UpOptions) error
	// Serve runs a control plane, Edge a data plane, until their contexts end; nil
	// where the binary is built without.
	Serve func(context.Context, ServeOptions) error
	Edge  func(context.Context, EdgeOptions) error
	// Demo runs the demonstration; nil where the binary is built without.
	Demo func(context.Context, DemoOptions) error
	// Render writes a generated file to its Stdout; nil where the binary is
	// built without.
	Render func(context.Context, RenderOptions) error
}

// UpOptions is what `seawall up` was asked for, checked.
type UpOptions struct {
	PolicyPaths []string
	DataPlane   string // auto | envoy
	Listen      string // host:port, each of them
	ListenAsked bool   // the user named it
	Admin       string
	XDS         string
	Telemetry   string
	DataDir     string
	ConfigFile  string // "" = none
	Workers     int    // 0: as many as Envoy chooses
	Log         *slog.Logger
	Stdout      io.Writer
	Version     string
}

// ServeOptions is what `seawall serve` was asked for, checked.
type ServeOptions struct {
	PolicyPaths []string
	Listen      string // host:port, each of them
	ListenAsked bool   // the user named it
	Admin       string
	XDS         string
	Telemetry   string
	DataDir     string
	ConfigFile  string // "" = none
	Log         *slog.Logger
	Stdout      io.Writer
	Version     string
}

// EdgeOptions is what `seawall edge` was asked for, checked.
type EdgeOptions struct {
	XDS         string // host:port, both
	Telemetry   string
	NodeID      string
	NodeCluster string
	DataDir     string
	Workers     int // 0: as many as Envoy chooses
	Log         *slog.Logger
	Stdout      io.Writer
	Version     string
}

// DemoOptions is what `seawall demo` was asked for, checked.
type DemoOptions struct {
	Keep      bool   // go on serving after the last act
	DataPlane string // auto | envoy
	Colour    bool   // Stdout understands ANSI colours
	Log       *slog.Logger
	Stdout    io.Writer
	Version   string
}

// RenderOptions is what `seawall render` was asked for.
type RenderOptions struct {
	What   string // bootstrap | envoy | prometheus
	Part   string // of prometheus: rules | tests | alertmanager
	Paths  []string
	Stdout io.Writer
}

const minColumns = 80

func (e Env) columns() int { return max(e.Columns, minColumns) }

// style is how results are coloured on this Env's stdout.
func (e Env) style() style {
	return style{on: e.StdoutTTY && e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb"}
}
