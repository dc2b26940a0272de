package engine

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/fetch"
	"github.com/senbonzakura/senbonzakura/plugins"
)

// Callers do not get to know the machine that the service runs on, nor what the authors of plugins write into errors.
// What they are told of an error has neither; the service's own log has it all.

// public returns the text of an error without the addresses that fetch.Public leaves out, without the names of files of
// this machine, and without what plugins say.
func public(err error) string {
	text := fetch.Public(err)
	private(err, func(found, instead string) {
		if found != "" {
			text = strings.ReplaceAll(text, found, instead)
		}
	})
	return text
}

// private tells about every text of an error that is not for callers, and what stands for it, from the outside to the
// inside.
func private(err error, tell func(found, instead string)) {
	switch e := err.(type) { //nolint:errorlint // every error of the tree is looked at
	case *plugins.Error:
		tell(e.Error(), "the plugin says "+strings.ToLower(strings.ReplaceAll(string(e.Reason), "_", " ")))
	case *fs.PathError:
		tell(e.Error(), e.Op+": "+e.Err.Error())
		tell(e.Path, aFile)
	case *os.LinkError:
		tell(e.Error(), e.Op+": "+e.Err.Error())
		tell(e.Old, aFile)
		tell(e.New, aFile)
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			private(inner, tell)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			private(inner, tell)
		}
	}
}

const aFile = "(a file)"

// paths are what looks like a file of this machine: errors that were made to texts on their way have such.
var paths = regexp.MustCompile(`(^|[\s"'(=\[])(/[^/\s"'():,;\]][^\s"'():,;\]]*|[A-Za-z]:\\[^\s"'():,;\]]*|\\\\[^\s"'():,;\]]+)`)

// pathless takes them out.
func pathless(text string) string { return paths.ReplaceAllString(text, "${1}"+aFile) }

// told makes an error for callers of one.
func told(code job.Code, err error) *job.Error {
	text := public(err)
	if code.Fault() == job.FaultService {
		// What they can do nothing about needs no more than a word. A plugin's text may have come by way of others.
		var plugin *plugins.Error
		if text = pathless(text); errors.As(err, &plugin) && plugin.Message != "" && strings.Contains(text, plugin.Message) {
			text = strings.ReplaceAll(text, plugin.Message, "…")
		}
	}
	return job.Errorf(code, "%s", text)
}
