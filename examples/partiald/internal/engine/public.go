package engine

import (
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
	each(err, func(err error) {
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
	})
}

// each looks at an error and all that it wraps, from the outside to the inside.
func each(err error, look func(error)) {
	look(err)
	switch e := err.(type) { //nolint:errorlint // every error of the tree is looked at
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			each(inner, look)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			each(inner, look)
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
	if code.Fault() == job.FaultService { // what they can do nothing about needs no more than a word
		return job.Errorf(code, "%s", bare(err))
	}
	return job.Errorf(code, "%s", public(err))
}

// bare is public without anything that looks like a file, and without what plugins say, where these came into the texts of
// other errors.
func bare(err error) string {
	text := public(err)
	each(err, func(err error) {
		if plugin, ok := err.(*plugins.Error); ok && plugin.Message != "" { //nolint:errorlint // each of the tree
			text = strings.ReplaceAll(text, plugin.Message, "…")
		}
	})
	return pathless(text)
}
