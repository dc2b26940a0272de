package mar

import (
	"cmp"
	"fmt"
	"math"
)

// Numbers of the format and of Mozilla's implementation of it.
const (
	// MaxFileSize is the size in bytes up to which Mozilla's tools and updater read, make and sign archives.
	MaxFileSize = 500 << 20
	// MaxSignatures is how many signatures Mozilla's reader accepts in one archive.
	MaxSignatures = 8
	// MaxSignatureSize is the length in bytes up to which Mozilla's reader verifies a signature.
	MaxSignatureSize = 2048
	// MaxChannel is the length in bytes up to which readers accept the channel of a product block.
	MaxChannel = 63
	// MaxVersion is the length in bytes up to which readers accept the version of a product block.
	MaxVersion = 31

	// maxNameLength is Linux' PATH_MAX less the final NUL: the updater copies names into buffers of that size.
	maxNameLength = 4095
	// maxDepth is far above what a release has (ten), and bounds what walking and extracting cost.
	maxDepth = 100
	// maxEntries is far above what a release has (a few hundred) and bounds what a hostile index costs.
	maxEntries = 1 << 17
	// maxIndexSize bounds the one buffer that is allocated for an index.
	maxIndexSize = 32 << 20
	// maxSections is far above the one section that is in use.
	maxSections = 64
)

// Limits bound what a reader accepts, so that a hostile file cannot make it work or allocate without end. A
// zero field means the default, which is what Mozilla's own reader accepts where it has a limit.
type Limits struct {
	FileSize      int64 // size of the archive in bytes, default MaxFileSize
	IndexSize     int64 // size of the index in bytes, default 32 MiB
	Entries       int   // entries in the index, default 131072
	NameLength    int   // length of a name in bytes, default 4095
	Depth         int   // elements of a name, default 100
	Signatures    int   // signatures, default MaxSignatures
	SignatureSize int   // length of a signature in bytes, default MaxSignatureSize
	Sections      int   // additional sections, default 64
}

// withDefaults fills in the defaults.
func (l Limits) withDefaults() (Limits, error) {
	if l.FileSize < 0 || l.IndexSize < 0 || l.Entries < 0 || l.NameLength < 0 || l.Depth < 0 || l.Signatures < 0 || l.SignatureSize < 0 || l.Sections < 0 {
		return l, fmt.Errorf("mar: negative limit in %+v", l)
	}
	if l.FileSize == 0 {
		l.FileSize = MaxFileSize
	}
	if l.IndexSize == 0 {
		l.IndexSize = maxIndexSize
	}
	l.IndexSize = min(l.IndexSize, math.MaxInt32) // one buffer, also where int has 32 bits
	l.Entries = cmp.Or(l.Entries, maxEntries)
	l.NameLength = cmp.Or(l.NameLength, maxNameLength)
	l.Depth = cmp.Or(l.Depth, maxDepth)
	l.Signatures = cmp.Or(l.Signatures, MaxSignatures)
	l.SignatureSize = cmp.Or(l.SignatureSize, MaxSignatureSize)
	l.Sections = cmp.Or(l.Sections, maxSections)
	return l, nil
}

// ReaderOptions loosen what a reader accepts. The zero value is strict.
type ReaderOptions struct {
	// Limits bound sizes and counts.
	Limits Limits
	// Allow lists the kinds of problems to accept; the comment on each code says whether it may be listed,
	// and which files need it.
	Allow []Code
}

func (o *ReaderOptions) resolve() (Limits, map[Code]bool, error) {
	if o == nil {
		l, err := Limits{}.withDefaults()
		return l, nil, err
	}
	l, err := o.Limits.withDefaults()
	if err != nil {
		return l, nil, err
	}
	var allow map[Code]bool
	for _, c := range o.Allow {
		if !allowable(c) {
			return l, nil, fmt.Errorf("mar: problem %q cannot be allowed", c)
		}
		if allow == nil {
			allow = make(map[Code]bool, len(o.Allow))
		}
		allow[c] = true
	}
	return l, allow, nil
}
