// Package servicelog makes the log of a service: lines for people on a terminal, JSON for programs, or what Mozilla's services log.
package servicelog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
	"github.com/senbonzakura/senbonzakura/examples/internal/mozlog"
)

// ErrFormat says that there is no such format.
var ErrFormat = errors.New("servicelog: no such format")

// Formats returns what a log may look like. "auto" is text on a terminal, else JSON.
func Formats() []string { return []string{"auto", "text", "json", "mozlog"} }

// Options say what is logged.
type Options struct {
	Program string // names the service in mozlog
	Host    string // names the machine; "" leaves it out
	Format  string // one of Formats; "" is auto
	Level   slog.Level
}

// New returns a log that is written to w. Time spans are milliseconds in what programs read: "took" becomes "took_ms".
func New(w io.Writer, o Options) (*slog.Logger, error) {
	if o.Format == "auto" || o.Format == "" {
		o.Format = "json"
		if cli.Terminal(w) {
			o.Format = "text"
		}
	}
	opts := &slog.HandlerOptions{Level: o.Level, ReplaceAttr: numbers}
	var log *slog.Logger
	switch o.Format {
	case "text":
		opts.ReplaceAttr = nil
		log = slog.New(slog.NewTextHandler(w, opts))
	case "json":
		log = slog.New(slog.NewJSONHandler(w, opts))
	case "mozlog":
		return slog.New(mozlog.New(w, mozlog.Options{Logger: o.Program, Hostname: o.Host, Level: o.Level, ReplaceAttr: numbers})), nil
	default:
		return nil, fmt.Errorf("%w: %q (formats: %q)", ErrFormat, o.Format, Formats())
	}
	if o.Host != "" {
		log = log.With("host", o.Host)
	}
	return log, nil
}

// numbers writes time spans as milliseconds, which is what programs that read logs can compare.
func numbers(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindDuration {
		return a
	}
	ms := float64(a.Value.Duration()) / float64(time.Millisecond)
	return slog.Float64(a.Key+"_ms", math.Round(ms*1000)/1000)
}
