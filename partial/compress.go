package partial

import (
	"bytes"
	"fmt"
	"io"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/internal/xz"
)

// Content says what a Compressor is given.
type Content struct {
	Kind ContentKind
	Size int64  // in bytes, or -1 where it is not known beforehand; of a patch, the size of the new file
	Arch string // of the recipe: decides which filter suits executables
}

// A ContentKind is a sort of content.
type ContentKind string

// The sorts of content.
const (
	ContentFile     ContentKind = "file"     // a whole file
	ContentManifest ContentKind = "manifest" // an update's manifest
	ContentPatch    ContentKind = "patch"    // a patch, which no filter makes smaller
)

// A Compressor compresses members. What it writes must be readable by the updater that the recipe is for, and
// must be the same for the same content; Build checks the first for everything that goes into an archive.
// Implementations must be safe for concurrent use.
type Compressor interface {
	// ID names the program, its version and every setting that changes the bytes it writes.
	ID() string
	// NewWriter returns a writer that compresses to w what is written to it. Close ends the member and must not
	// close w. A writer that is not closed must hold nothing that the garbage collector does not free, unless it has
	// a method Stop(): where a member is given up, or the context ends, that is called, perhaps during another call, after
	// Close, and from another goroutine, and must make Write and Close fail soon. Then Close is called, and what it returns does
	// not matter.
	NewWriter(w io.Writer, c Content) (io.WriteCloser, error)
}

// A stopper is a writer of a Compressor that does something beside, and can be stopped.
type stopper interface{ Stop() }

// A compressor that knows how much memory one of its writers holds, in bytes.
type memoryCompressor interface {
	PeakMemory(c Content) int64
}

// A Level says how hard XZ tries.
type Level string

// The levels of XZ.
const (
	LevelFast Level = "fast" // for results that are not kept
	Level6    Level = "6"    // about the strength of the xz program's level 6, which Mozilla ships
	LevelBest Level = "best" // small, in reasonable time
	// LevelExtreme is LevelBest with patches half a percent smaller in up to twice the time.
	LevelExtreme Level = "extreme"
)

// XZ compresses as Mozilla's scripts do: one stream, one block, CRC64; files and manifests behind the filter of
// the architecture (x86 for x86 and x86_64, none for others), patches behind none. From LevelBest on a patch's blocks are
// compressed each with the properties that suit it, within what every updater since Firefox 56 takes.
type XZ struct {
	Level Level // "" means LevelBest
}

func (x XZ) options(c Content) xz.WriterOptions {
	o := xz.WriterOptions{Level: xz.Level(x.Level), DictSize: xzDict}
	if x.Level == "" {
		o.Level = xz.Best
	}
	if c.Kind == ContentPatch {
		o.Patch = o.Level == xz.Best || o.Level == xz.Extreme
	} else {
		o.Filter = filterFor(c.Arch)
	}
	if c.Size >= 0 {
		// More than there is would only take memory, here and in the updater. A patch is longer than the new file by
		// its control block.
		n := c.Size
		if c.Kind == ContentPatch {
			n += n/2 + 4<<10
		}
		o.DictSize = int(min(max(n, 4<<10), xzDict))
	}
	return o
}

// xzDict is the dictionary of the xz program's level 6. A larger one hardly makes patches smaller.
const xzDict = 8 << 20

// filterFor returns the filter that suits an architecture's executables, as the scripts choose it.
func filterFor(arch string) xz.Filter {
	switch arch {
	case "x86", "x86_64":
		return xz.X86
	}
	return xz.None
}

// ID names the encoder, its level and settings, and the rule by which small content gets a smaller dictionary.
func (x XZ) ID() string { return x.options(Content{Kind: ContentPatch, Size: -1}).ID() + "/size-1" }

// NewWriter returns a writer of one xz stream.
func (x XZ) NewWriter(w io.Writer, c Content) (io.WriteCloser, error) {
	o := x.options(c)
	z, err := xz.NewWriter(w, &o)
	if err != nil {
		return nil, fmt.Errorf("compress with xz: %w", err)
	}
	return z, nil
}

// PeakMemory returns how many bytes a writer holds at most.
func (x XZ) PeakMemory(c Content) int64 {
	o := x.options(c)
	if c.Kind == ContentPatch && c.Size >= 0 {
		return o.PatchMemory(c.Size + c.Size/2)
	}
	// window, binary tree and hash tables for each byte of the dictionary
	return 14*int64(o.DictSize) + 4<<20
}

// Bzip2 compresses for updaters before Firefox 56.
type Bzip2 struct{}

// ID names the encoder.
func (Bzip2) ID() string { return "bzip2/dsnet-9" }

// NewWriter returns a writer of one bzip2 stream.
func (Bzip2) NewWriter(w io.Writer, _ Content) (io.WriteCloser, error) {
	z, err := xz.NewBzip2Writer(w)
	if err != nil {
		return nil, fmt.Errorf("compress with bzip2: %w", err)
	}
	return z, nil
}

// PeakMemory returns how many bytes a writer holds at most.
func (Bzip2) PeakMemory(Content) int64 { return 16 << 20 }

// Compression says how members are compressed, and with what. The zero value leaves all of it to the client.
type Compression struct {
	// Format of members; "" means what FROM's updater reads. Members of TO that are in another one are compressed
	// again.
	Format updater.MemberFormat
	// Level is how hard the compressors of xz try that are left to the client; "" means LevelBest.
	Level Level
	// Patches compresses patches, Files whole files (where TO's own member cannot be taken) and manifests; nil means XZ
	// at Level, or Bzip2, as Format says.
	Patches, Files Compressor
}

// filled returns c with the compressors of its format.
func (c Compression) filled() Compression {
	for _, p := range []*Compressor{&c.Patches, &c.Files} {
		if *p == nil {
			if *p = (XZ{Level: c.Level}); c.Format == updater.FormatBzip2 {
				*p = Bzip2{}
			}
		}
	}
	return c
}

// id names a compressor of c, which may be left to the client.
func (c Compression) id(of Compressor) string {
	switch {
	case of != nil:
		return of.ID()
	case c.Format != "":
		return c.filled().Files.ID()
	case c.Level != "":
		return ofClient + "-" + string(c.Level)
	}
	return ofClient
}

// peakMemory asks a compressor what it needs.
func peakMemory(c Compressor, content Content) int64 {
	if m, ok := c.(memoryCompressor); ok {
		return m.PeakMemory(content)
	}
	return 64 << 20
}

// compress compresses data in one go.
func compress(c Compressor, content Content, data []byte) ([]byte, error) {
	var buf bytes.Buffer
	content.Size = int64(len(data))
	w, err := c.NewWriter(&buf, content)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
