package main

import (
	"io"
	"log/slog"

	"github.com/senbonzakura/senbonzakura/examples/internal/servicelog"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
)

// logger returns the log that the configuration asks for.
func logger(c *config.Config, w io.Writer) (*slog.Logger, error) {
	level, err := c.LogLevel()
	if err != nil {
		return nil, err
	}
	return servicelog.New(w, servicelog.Options{Program: "partiald", Host: c.Name, Format: c.Log.Format, Level: level})
}
