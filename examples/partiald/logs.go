package main

import (
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
	"github.com/senbonzakura/senbonzakura/examples/internal/mozlog"
)

// logger returns the log that the configuration asks for.
func logger(c *config.Config, w io.Writer) (*slog.Logger, error) {
	level, err := c.LogLevel()
	if err != nil {
		return nil, err
	}
	format := c.Log.Format
	if format == "auto" {
		format = "json"
		if terminal(w) {
			format = "text"
		}
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: numbers}
	switch format {
	case "text":
		opts.ReplaceAttr = nil
		return slog.New(slog.NewTextHandler(w, opts)).With("host", c.Name), nil
	case "mozlog":
		return slog.New(mozlog.New(w, mozlog.Options{Logger: "partiald", Hostname: c.Name, Level: level, ReplaceAttr: numbers})), nil
	}
	return slog.New(slog.NewJSONHandler(w, opts)).With("host", c.Name), nil
}

// numbers writes time spans as milliseconds, which is what programs that read logs can compare: "took" becomes
// "took_ms".
func numbers(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindDuration {
		return a
	}
	ms := float64(a.Value.Duration()) / float64(time.Millisecond)
	return slog.Float64(a.Key+"_ms", math.Round(ms*1000)/1000)
}
