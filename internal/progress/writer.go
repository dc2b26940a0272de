package progress

import "io"

// A Writer is a writer of a patch that also wants to know how far the work is.
//
// Progress goes with the writer, and not with a second method of the differ: a differ that embeds another one and has a
// Diff of its own would have that second method as well, and its own Diff would never be called.
type Writer interface {
	io.Writer
	Progress(done, total int64)
}

// To returns what is to be told about the work on a patch that is written to w: own, unless nil, and w if it is a
// [Writer]. It is nil where nobody wants to know.
func To(w io.Writer, own func(done, total int64)) func(done, total int64) {
	pw, ok := w.(Writer)
	switch {
	case !ok:
		return own
	case own == nil:
		return pw.Progress
	}
	return func(done, total int64) {
		own(done, total)
		pw.Progress(done, total)
	}
}
