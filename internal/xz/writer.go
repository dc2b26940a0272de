package xz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"
	"runtime"
	"slices"
	"sync/atomic"

	ulzma "github.com/ulikunitz/xz/lzma"

	"github.com/senbonzakura/senbonzakura/internal/lzma"
)

// Level says how hard the encoder tries.
type Level string

// The levels. They are names, not a scale: what they stand for may get better, and ID changes when it does.
const (
	Fast    Level = "fast"    // for results that are not kept
	Level6  Level = "6"       // for full members: about the strength of the xz program's level 6
	Best    Level = "best"    // for patches: longest matches, optimal parsing
	Extreme Level = "extreme" // as Best, but patches become half a percent smaller in up to twice the time
)

// Dictionary sizes: the default is that of the xz program's level 6.
const (
	defaultDict = 8 << 20
	minDict     = 4 << 10
	minFastDict = 256 << 10 // its encoder fails with less where data does not compress
)

// maxHeld is how many bytes are held back before the encoder is made.
const maxHeld = 1 << 20

// Names of the encoders, for ID. A change to an encoder that changes what it writes must change its name: what is kept
// under the old one would be taken for the same.
const (
	fastEncoderID = "ulikunitz-0.5.17"
	ownEncoderID  = "lzma-2"
)

// Encoder writes raw LZMA2: chunks, and the end marker when it is closed.
type Encoder interface {
	io.WriteCloser
	// SetProps sets the numbers of literal context bits, literal position bits and position bits for all that is
	// written afterwards. lc+lp is at most 4, each and pb at most 4.
	SetProps(lc, lp, pb int) error
}

// Block is a range of what is written that is compressed with LZMA2 properties of its own: literal context bits,
// literal position bits and position bits. LC+LP is at most 4, PB at most 4. The dictionary goes on over all ranges.
type Block struct {
	Size       int64
	LC, LP, PB int
}

// plain are the properties that the xz program has for everything.
var plain = Block{LC: 3, LP: 0, PB: 2}

// tried are the properties of which content of at most maxHeld bytes gets the best. Without position bits some
// code and some text become smaller.
var tried = []Block{plain, {LC: 3, LP: 0, PB: 0}}

// WriterOptions say how a Writer compresses. The zero value is level Fast, CRC64, no filter, 8 MiB.
type WriterOptions struct {
	Level    Level
	Filter   Filter
	Check    Check
	DictSize int // in bytes; 0 means 8 MiB. Rounded up to what the level and the format can do
	// Blocks are consecutive ranges from the start; what comes behind them has LC 3, LP 0, PB 2. Not with level
	// Fast, which cannot change properties, and not with a filter.
	Blocks []Block
	// Patch gives the three blocks of a patch, which the writer recognises by its first 32 bytes as MBDIFF10, the properties
	// that suit each. Everything else, and everything at level Fast, is written as without it. Not with a filter or
	// Blocks.
	Patch bool
	// Workers is how many goroutines compress a patch, at any level but Fast; 0 means one for each CPU, but no more than
	// pay. It does not change the bytes.
	Workers int
}

// maxWorkers is how many workers there are at most where nobody says how many: the largest patches have not many more
// parts than that, and each worker takes memory.
const maxWorkers = 8

// ID names the encoder and every setting that changes what is written.
func (o WriterOptions) ID() string {
	o = o.filled()
	encoder := ownEncoderID
	if o.Level == Fast {
		encoder = fastEncoderID
	}
	id := fmt.Sprintf("xz/%s:%s/%s/%s/%d", encoder, o.Level, o.Filter, o.Check, o.DictSize)
	for _, b := range o.Blocks {
		id += fmt.Sprintf("/%d:%d%d%d", b.Size, b.LC, b.LP, b.PB)
	}
	if o.Patch {
		id += "/patch:" + patchID
	}
	return id
}

func (o WriterOptions) filled() WriterOptions {
	if o.Level == "" {
		o.Level = Fast
	}
	if o.DictSize == 0 {
		o.DictSize = defaultDict
	}
	if o.Workers == 0 {
		o.Workers = min(runtime.GOMAXPROCS(0), maxWorkers)
	}
	if o.Level == Fast && o.DictSize >= minDict {
		o.DictSize = max(o.DictSize, minFastDict)
	}
	if o.DictSize >= minDict && o.DictSize <= lzma.MaxDictSize {
		o.DictSize = int(dictSize(dictByte(int64(o.DictSize))))
	}
	return o
}

func (o WriterOptions) valid() error {
	switch {
	case o.Level != Fast && o.Level != Level6 && o.Level != Best && o.Level != Extreme:
		return fmt.Errorf("xz: no level %q", string(o.Level))
	case int(o.Filter) >= len(filterNames):
		return fmt.Errorf("xz: no filter %d", o.Filter)
	case o.Check > CheckNone:
		return fmt.Errorf("xz: no check %d", o.Check)
	case o.DictSize < minDict || o.DictSize > lzma.MaxDictSize:
		return fmt.Errorf("xz: a dictionary of %d bytes, not between 4 KiB and 64 MiB", o.DictSize)
	case o.Filter != None && (o.Patch || len(o.Blocks) > 0):
		return errors.New("xz: a filter goes neither with Blocks nor with Patch")
	case o.Workers < 0:
		return fmt.Errorf("xz: %d workers", o.Workers)
	case o.Patch && len(o.Blocks) > 0:
		return errors.New("xz: Blocks do not go with Patch")
	case o.Level == Fast && len(o.Blocks) > 0:
		return errors.New("xz: level fast has no Blocks")
	}
	for _, b := range o.Blocks {
		if b.Size < 0 || b.LC < 0 || b.LP < 0 || b.PB < 0 || b.LC+b.LP > 4 || b.PB > 4 {
			return fmt.Errorf("xz: block of %d bytes with lc=%d, lp=%d, pb=%d", b.Size, b.LC, b.LP, b.PB)
		}
	}
	return nil
}

// Writer compresses into one stream of one block. Everything streams: the memory it needs depends on the level
// and the dictionary, not on what is written. The same bytes and options always give the same file, however
// they are cut into writes. It is not safe for concurrent use.
type Writer struct {
	w       io.Writer
	o       WriterOptions
	off     int64
	enc     Encoder
	filter  *convertWriter
	in      io.Writer // filter or enc
	held    []byte    // the first bytes, while they may be all: with few, the encoder needs little memory
	holding bool
	window  int      // of the encoder; the header says DictSize
	most    int64    // how much is to be compressed at most
	patch   bool     // it is one, and Patch is set
	blocks  []Block  // that are still to come, the current one first, its Size what is left of it
	outline *outline // of a Zucchini patch, of which blocks has the current one only
	digest  hash.Hash
	plain   int64
	err     error
	stop    atomic.Bool
}

var errWriterClosed = errors.New("xz: write after Close")

// ErrStopped is the error of a Writer that was stopped.
var ErrStopped = lzma.ErrStopped

// PatchMemory returns how many bytes a Writer with these options holds at most while it compresses a patch of at most n bytes.
func (o WriterOptions) PatchMemory(n int64) int64 {
	o = o.filled()
	if o.Level == Fast {
		return 14*int64(o.DictSize) + 4<<20
	}
	e := encoderOptions(o.Level, int(min(int64(o.DictSize), max(n, minDict))), plain, blockPatch)
	return lzma.ParallelMemory(e, o.Workers, n) + 2*maxHeld
}

// NewWriter returns a Writer to w and writes the stream header. opts may be nil. Close must be called to end
// the file; without it the file is cut off and no reader takes it. Where a patch is compressed, goroutines may be at
// work until then: who gives up calls Stop and then Close.
func NewWriter(w io.Writer, opts *WriterOptions) (*Writer, error) {
	if opts == nil {
		opts = &WriterOptions{}
	}
	z := &Writer{w: w, o: opts.filled()}
	if err := z.o.valid(); err != nil {
		return nil, err
	}
	z.digest = z.o.Check.digest()
	z.blocks = slices.Clone(z.o.Blocks)
	z.holding = true
	if err := z.emit(z.streamHeader()); err != nil {
		return nil, err
	}
	return z, nil
}

// emit writes finished bytes and counts them.
func (z *Writer) emit(b []byte) error {
	n, err := z.w.Write(b)
	z.off += int64(n)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write xz data at offset %d: %w", z.off, err)
	}
	return nil
}

// emitter is what the encoder writes to.
type emitter struct{ z *Writer }

func (e emitter) Write(p []byte) (int, error) {
	if err := e.z.emit(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (z *Writer) streamHeader() []byte {
	flags := []byte{0, z.o.Check.id()}
	b := append([]byte(headerMagic), flags...)
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(flags))
}

// blockHeader has no sizes: they are not known yet.
func (z *Writer) blockHeader() []byte {
	b := []byte{0, 0}
	if z.o.Filter != None {
		b[1] = 1
		b = append(b, byte(z.o.Filter.id()), 0)
	}
	b = append(b, idLZMA2, 1, dictByte(int64(z.o.DictSize)))
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	b[0] = byte(len(b) / 4)
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// start begins the block, with the first byte that is written: a file of no bytes has no block.
func (z *Writer) start() error {
	if err := z.emit(z.blockHeader()); err != nil {
		return err
	}
	first := plain
	if len(z.blocks) > 0 {
		first = z.blocks[0]
	}
	var enc Encoder
	var err error
	if z.patch {
		size := int64(0)
		for _, b := range z.blocks {
			size += b.Size
		}
		enc, err = lzma.NewParallel(emitter{z}, lzma.ParallelOptions{
			EncoderOptions: encoderOptions(z.o.Level, z.window, first, blockPatch),
			Workers:        z.o.Workers, Size: min(size, z.most), Stop: &z.stop,
		})
	} else if z.outline != nil {
		enc, err = lzma.NewEncoder(emitter{z}, encoderOptions(z.o.Level, z.window, first, listPatch))
	} else {
		enc, err = newEncoder(emitter{z}, z.o.Level, z.window, first)
	}
	if err != nil {
		return err
	}
	z.enc, z.in = enc, enc
	if z.o.Filter != None {
		z.filter = newConvertWriter(enc, newCode(z.o.Filter, true))
		z.in = z.filter
	}
	return nil
}

// Write compresses p. After an error every further call fails with it.
func (z *Writer) Write(p []byte) (int, error) {
	if z.err == nil && z.stop.Load() {
		z.err = ErrStopped
	}
	if z.err != nil {
		return 0, z.err
	}
	n := 0
	if z.holding {
		n = min(maxHeld-len(z.held), len(p))
		z.held = append(z.held, p[:n]...)
		if n == len(p) {
			return n, nil
		}
		if z.err = z.begin(z.o.DictSize, math.MaxInt64); z.err != nil {
			return 0, z.err
		}
	}
	m, err := z.write(p[n:])
	z.err = err
	return n + m, err
}

// begin compresses the bytes held back, by which the blocks of a patch are known. In all there will be at most that many.
func (z *Writer) begin(window int, most int64) error {
	z.window, z.most = window, most
	z.holding = false
	if z.o.Patch && z.o.Level != Fast {
		if b := patchBlocks(z.held); b != nil {
			z.blocks, z.patch = b, true
		} else if isZucchini(z.held) {
			z.outline = new(outline)
			n, _ := z.outline.next()
			z.blocks = []Block{{Size: n, LC: plain.LC, LP: plain.LP, PB: plain.PB}}
		}
	}
	_, err := z.write(z.held)
	z.held = nil
	return err
}

// write compresses p, block by block.
func (z *Writer) write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		for len(z.blocks) > 0 && z.blocks[0].Size == 0 {
			z.blocks = z.blocks[1:]
			if z.outline != nil {
				if err := z.nextList(); err != nil {
					return done, err
				}
				continue
			}
			next := plain
			if len(z.blocks) > 0 {
				next = z.blocks[0]
			}
			if z.enc == nil {
				continue
			}
			var err error
			if c, ok := z.enc.(chooser); ok && z.patch && len(z.blocks) > 0 {
				err = chooseProps(c, len(z.blocks))
			} else {
				err = z.enc.SetProps(next.LC, next.LP, next.PB)
			}
			if err != nil {
				return done, err
			}
		}
		if z.enc == nil {
			if err := z.start(); err != nil {
				return done, err
			}
		}
		part := p[done:]
		if len(z.blocks) > 0 {
			part = part[:min(int64(len(part)), z.blocks[0].Size)]
		}
		n, err := z.in.Write(part)
		if z.digest != nil {
			z.digest.Write(part[:n])
		}
		if z.outline != nil {
			z.outline.see(part[:n])
		}
		z.plain += int64(n)
		done += n
		if len(z.blocks) > 0 {
			z.blocks[0].Size -= int64(n)
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// nextList goes on with the next block of a Zucchini patch. Behind the last one nothing changes any more.
func (z *Writer) nextList() error {
	n, props := z.outline.next()
	if n < 0 {
		return nil
	}
	z.blocks = []Block{{Size: n}}
	if c, ok := z.enc.(chooser); ok && props != nil {
		return c.ChooseProps(props...)
	}
	return nil
}

// Close ends the file. It does not close the underlying writer. A second call does nothing.
func (z *Writer) Close() error {
	if errors.Is(z.err, errWriterClosed) {
		return nil
	}
	if z.err == nil && z.stop.Load() {
		z.err = ErrStopped
	}
	if z.err == nil {
		z.err = z.finish()
	}
	if z.err != nil {
		if p, ok := z.enc.(*lzma.Parallel); ok { // wait for what is under work
			z.stop.Store(true)
			_ = p.Close() // it says what is known already
		}
		return z.err
	}
	z.err = errWriterClosed
	return nil
}

// Stop makes calls of Write and Close, also one under way, fail soon. Close must still be called, and waits for
// everything that the Writer does. It may be called at any time from any goroutine; after Close it does nothing.
func (z *Writer) Stop() { z.stop.Store(true) }

func (z *Writer) finish() error {
	if z.holding && len(z.held) > 0 {
		if err := z.whole(); err != nil {
			return err
		}
	}
	index := []byte{0}
	if z.plain == 0 {
		index = appendVLI(index, 0)
	} else {
		if z.filter != nil {
			if err := z.filter.flush(); err != nil {
				return err
			}
		}
		if z.enc != nil {
			if err := z.enc.Close(); err != nil {
				return err
			}
		}
		unpadded := z.off - edgeSize + int64(z.o.Check.size())
		tail := make([]byte, padding(z.off))
		if err := z.emit(append(tail, z.o.Check.sum(z.digest)...)); err != nil {
			return err
		}
		index = appendVLI(index, 1)
		index = appendVLI(index, uint64(unpadded))
		index = appendVLI(index, uint64(z.plain))
	}
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	index = binary.LittleEndian.AppendUint32(index, crc32.ChecksumIEEE(index))
	foot := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1))
	foot = append(foot, 0, z.o.Check.id())
	index = binary.LittleEndian.AppendUint32(index, crc32.ChecksumIEEE(foot))
	index = append(index, foot...)
	return z.emit(append(index, footerMagic...))
}

// whole compresses content that has been held back completely.
func (z *Writer) whole() error {
	window := max(len(z.held), minDict)
	if z.o.Level == Fast {
		window = max(window, minFastDict)
	}
	window = min(window, z.o.DictSize)
	if z.o.Level == Fast || len(z.blocks) > 0 || z.o.Patch && (patchBlocks(z.held) != nil || isZucchini(z.held) && len(z.held) >= smallPatch) {
		return z.begin(window, int64(len(z.held)))
	}
	// There is time to look which properties suit it.
	if z.digest != nil {
		z.digest.Write(z.held)
	}
	z.plain = int64(len(z.held))
	if z.o.Filter != None {
		newCode(z.o.Filter, true).convert(z.held)
	}
	var best []byte
	for i, props := range tried {
		var packed bytes.Buffer
		enc, err := newEncoder(&packed, z.o.Level, window, props)
		if err != nil {
			return err
		}
		if _, err := enc.Write(z.held); err != nil {
			return err
		}
		if err := enc.Close(); err != nil {
			return err
		}
		if i == 0 || packed.Len() < len(best) {
			best = packed.Bytes()
		}
	}
	z.held = nil
	if err := z.emit(z.blockHeader()); err != nil {
		return err
	}
	return z.emit(best)
}

// newEncoder makes the encoder of a level for anything but a patch.
func newEncoder(w io.Writer, level Level, window int, first Block) (Encoder, error) {
	if level == Fast {
		enc, err := ulzma.Writer2Config{DictCap: window}.NewWriter2(w)
		if err != nil {
			return nil, fmt.Errorf("make an LZMA2 encoder: %w", err)
		}
		return fastEncoder{enc}, nil
	}
	return lzma.NewEncoder(w, encoderOptions(level, window, first, noPatch))
}

// content is what is compressed.
type content uint8

const (
	noPatch    content = iota
	blockPatch         // MBDIFF10: three blocks, of which one is nearly all zeros
	listPatch          // Zucchini: lists of numbers
)

// encoderOptions returns the settings of a level other than Fast.
func encoderOptions(level Level, window int, first Block, what content) lzma.EncoderOptions {
	e := lzma.EncoderOptions{
		DictSize: window, LC: first.LC, LP: first.LP, PB: first.PB,
		NiceLen: 273, Extreme: level == Extreme,
	}
	if level == Level6 {
		e.NiceLen = 64
	}
	switch {
	case what == listPatch && level == Extreme:
		e.MinRun = 273
	case what != blockPatch:
		e.MinRun = 16 // in code, and more so in tables and lists, the insides of short runs matter
	}
	return e
}

// fastEncoder keeps lc 3, lp 0, pb 2.
type fastEncoder struct{ *ulzma.Writer2 }

func (fastEncoder) SetProps(lc, lp, pb int) error {
	if lc != 3 || lp != 0 || pb != 2 {
		return errors.New("xz: level fast cannot change lc, lp and pb")
	}
	return nil
}
