// Package match finds, for a new file, the places of an old file that its parts were made from.
package match

// Triple is one step of a patch: Add bytes of the new file are the old file's next bytes plus a
// difference, the Copy bytes after them are given as they are, and then the place in the old file moves
// by Seek. Add and Copy are never negative.
type Triple struct {
	Add, Copy, Seek int32
}

// Options say how a search is done, never what it finds.
type Options struct {
	// Workers is the number of goroutines that search; zero means one for each CPU.
	Workers int
	// Progress, if not nil, is told from time to time how many units of work of how many are done.
	// Calls do not overlap.
	Progress func(done, total int64)
}
