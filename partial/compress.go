package partial

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/senbonzakura/senbonzakura/partial/updater"

	"github.com/senbonzakura/senbonzakura/internal/member"
)

// Content says what a Compressor is given.
type Content struct {
	Kind ContentKind // whole file, patch or manifest
	Size int64       // in bytes, or -1 where it is not known beforehand; of a patch, the size of the new file
	Arch string      // of the recipe: decides which filter suits executables
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
	// close w. Once ctx has ended, Write and Close, also calls under way, must fail soon with its error, and stop what was
	// started for them. Close is called in any case, also after an error and where the member is given up: then ctx has
	// ended, and what Close returns does not matter.
	NewWriter(ctx context.Context, w io.Writer, c Content) (io.WriteCloser, error)
}

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

func (x XZ) writer() member.Writer { return member.XZ{}.Writer(string(x.Level)) }

// Architectures returns those that recipes know, as Mozilla's scripts spell them.
func Architectures() []string { return []string{"x86", "x86_64", "aarch64", "macos-x86_64-aarch64"} }

// of says to a format what content is.
func (c Content) of() member.Content {
	return member.Content{Patch: c.Kind == ContentPatch, Size: c.Size, Arch: c.Arch}
}

// ID names the encoder, its level and settings, and the rule by which small content gets a smaller dictionary.
func (x XZ) ID() string { return x.writer().ID() }

// NewWriter returns a writer of one xz stream.
func (x XZ) NewWriter(ctx context.Context, w io.Writer, c Content) (io.WriteCloser, error) {
	return formatCompressor{x.writer()}.NewWriter(ctx, w, c)
}

// PeakMemory returns how many bytes a writer holds at most.
func (x XZ) PeakMemory(c Content) int64 { return x.writer().Memory(c.of()) }

// Bzip2 compresses for updaters before Firefox 56.
type Bzip2 struct{}

// ID names the encoder.
func (Bzip2) ID() string { return member.Bzip2{}.Writer("").ID() }

// NewWriter returns a writer of one bzip2 stream.
func (Bzip2) NewWriter(ctx context.Context, w io.Writer, c Content) (io.WriteCloser, error) {
	return formatCompressor{member.Bzip2{}.Writer("")}.NewWriter(ctx, w, c)
}

// PeakMemory returns how many bytes a writer holds at most.
func (Bzip2) PeakMemory(c Content) int64 { return member.Bzip2{}.Writer("").Memory(c.of()) }

// A formatCompressor is a Compressor for any format that updaters read.
type formatCompressor struct{ w member.Writer }

func (f formatCompressor) ID() string { return f.w.ID() }

func (f formatCompressor) NewWriter(ctx context.Context, w io.Writer, c Content) (io.WriteCloser, error) {
	z, err := f.w.NewWriter(ctx, w, c.of())
	if err != nil {
		return nil, fmt.Errorf("compress with %s: %w", f.ID(), err)
	}
	return z, nil
}

func (f formatCompressor) PeakMemory(c Content) int64 { return f.w.Memory(c.of()) }

// Compression says how members are compressed, and with what. The zero value leaves all of it to the client.
type Compression struct {
	// Format of members; "" means what FROM's updater reads. Members of TO that are in another one are compressed
	// again.
	Format updater.MemberFormat
	// Level is how hard the compressors of xz try that are left to the client; "" means LevelBest.
	Level Level
	// Patches compresses patches, Files whole files (where TO's own member cannot be taken) and manifests; nil means what
	// suits Format, for xz XZ at Level.
	Patches, Files Compressor
}

// filled returns c with the compressors of its format.
func (c Compression) filled() Compression {
	if f, ok := member.Named(string(c.Format)); ok {
		for _, p := range []*Compressor{&c.Patches, &c.Files} {
			if *p == nil {
				*p = formatCompressor{f.Writer(string(c.Level))}
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
func compress(ctx context.Context, c Compressor, content Content, data []byte) ([]byte, error) {
	var buf bytes.Buffer
	content.Size = int64(len(data))
	err := compressTo(ctx, c, &buf, content, func(_ context.Context, w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// compressTo compresses to out what fill writes.
func compressTo(ctx context.Context, c Compressor, out io.Writer, content Content, fill func(ctx context.Context, w io.Writer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := c.NewWriter(ctx, out, content)
	if err != nil {
		return err
	}
	if err := fill(ctx, w); err != nil {
		cancel()
		w.Close() // the member is given up
		return err
	}
	return w.Close()
}
